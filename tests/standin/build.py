"""Builds the app's own Kotlin for the JVM, unmodified, with the stand-in's android.* and LiteRT classes in the place of
the phone's; run by itself it prints where the build is.

Kotlin's compiler comes from npm, JNA, org.json and JUnit from Debian's packages, all unpacked under the cache folder
and nowhere else. A build is kept by the content of its sources.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from harness.devices.cache import cache_folder
from tests.parts import MissingPart, NpmPackage, fetched, only_one, run, tool

HERE = Path(__file__).parent
ANDROID_APP = HERE.parent.parent / "android_app"
APK_PACKAGES = (
    *("apksigner", "libapksig-java"),
    *("libsmali-java", "libantlr3-runtime-java", "libguava-java", "libjcommander-java"),
)
PACKAGES = ("libjna-java", "libjna-jni", "libandroid-json-java", "junit4", "libhamcrest-java")
COMPILER_JARS = ("kotlin-compiler", "kotlin-stdlib", "kotlin-script-runtime", "kotlin-reflect", "annotations-13.0")
WARNINGS = ("-Werror",) if os.environ.get("HARNESS_STRICT") else ()
"""A newer Java deprecates more; that must not stop the tests of who has one."""
COMPILE_SECONDS = 300
WHOSE = "The phone's stand-in"
JRE = "apt-get install openjdk-17-jre-headless"


@dataclass(frozen=True)
class Build:
    """A finished build: class paths for the app and for the tests of its protocol."""

    folder: Path
    libraries: tuple[Path, ...]
    test_libraries: tuple[Path, ...]

    @property
    def app(self) -> str:
        """Class path of the app on the JVM."""
        return os.pathsep.join(map(str, (self.folder / "app.jar", self.folder / "protocol.jar", *self.libraries)))

    @property
    def tests(self) -> str:
        """Class path of the protocol's own tests."""
        jars = (self.folder / "tests.jar", self.folder / "protocol.jar", *self.libraries, *self.test_libraries)
        return os.pathsep.join(map(str, jars))


def kotlin_version() -> str:
    """The version that the Gradle project's catalog names."""
    catalog = tomllib.loads((ANDROID_APP / "gradle" / "libs.versions.toml").read_text("utf-8"))
    return str(catalog["versions"]["kotlin"])


def app_version() -> str:
    """The app's version, from the Gradle properties."""
    found = re.search(r"^appVersion=(.+)$", (ANDROID_APP / "gradle.properties").read_text("utf-8"), re.M)
    assert found, "gradle.properties has no appVersion"
    return found[1].strip()


def build() -> Build:
    """The build for the sources as they are, made now if it is not there.

    Raises:
        MissingPart: Java, npm, apt or the network is not here. AssertionError: the sources do not compile.
    """
    home = cache_folder() / "standin"
    home.mkdir(parents=True, exist_ok=True)
    with only_one(home / "lock"):
        compiler, libraries, test_libraries = _parts(home)
        sources = {
            "protocol": _kotlin(ANDROID_APP / "protocol" / "src" / "main"),
            "app": [*_kotlin(ANDROID_APP / "app" / "src" / "main"), *_kotlin(HERE / "jvm")],
            "tests": _kotlin(ANDROID_APP / "protocol" / "src" / "test"),
        }
        folder = home / f"build-{_digest(sources)}"
        if not folder.exists():
            partial = home / "build.part"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            generated = partial / "BuildConfig.kt"
            generated.write_text(_build_config(), "utf-8")
            protocol = partial / "protocol.jar"
            _compile(compiler, sources["protocol"], protocol, libraries)
            _compile(compiler, [*sources["app"], generated], partial / "app.jar", (protocol, *libraries))
            # The tests see what is internal, as they do under Gradle.
            friends = (f"-Xfriend-paths={protocol}",)
            _compile(
                compiler, sources["tests"], partial / "tests.jar", (protocol, *libraries, *test_libraries), friends
            )
            partial.rename(folder)
    return Build(folder, libraries, test_libraries)


def framework() -> Path:
    """Android's own resources, which aapt2 links against; from Debian's package. Raises MissingPart."""
    return (
        _debian("framework", "android-framework-res") / "usr" / "share" / "android-framework-res" / "framework-res.apk"
    )


def apk_jars() -> Path:
    """Where the jars are that assemble smali and sign an APK, from Debian's packages. Raises MissingPart."""
    return _debian("apk-tools", *APK_PACKAGES) / "usr" / "share" / "java"


def _debian(name: str, *packages: str) -> Path:
    home = cache_folder() / "standin"
    home.mkdir(parents=True, exist_ok=True)
    with only_one(home / "lock"):
        return fetched(home / name, lambda folder: _fetch_packages(folder, *packages))


def java() -> str:
    """The Java launcher. Raises MissingPart."""
    return tool("java", JRE, WHOSE)


def keytool() -> str:
    """Java's own maker of keys, which every JRE has. Raises MissingPart."""
    return tool("keytool", JRE, WHOSE)


def _kotlin(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.kt"))


def _digest(sources: dict[str, list[Path]]) -> str:
    digest = hashlib.sha256(f"{kotlin_version()} {_build_config()} {WARNINGS}".encode())
    for path in sorted(path for paths in sources.values() for path in paths):
        digest.update(f"{path.relative_to(ANDROID_APP.parent)}\0".encode() + path.read_bytes() + b"\0")
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:16]


def _build_config() -> str:
    """What Gradle generates for the app; the runtime here is the wheel's."""
    runtime = importlib.metadata.version("ai-edge-litert")
    constants = {"LITERT_VERSION": runtime, "VERSION_NAME": app_version()}
    lines = [f'    const val {name} = "{value}"' for name, value in constants.items()]
    return "\n".join(["package dev.litertharness", "", "object BuildConfig {", *lines, "}", ""])


def _compile(
    compiler: tuple[Path, ...], sources: list[Path], jar: Path, libraries: tuple[Path, ...], flags: tuple[str, ...] = ()
) -> None:
    command = [java(), "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", _path(compiler)]
    command += [
        "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
        "-no-stdlib",
        "-no-reflect",
        "-jvm-target",
        "17",
        *WARNINGS,
    ]
    command += ["-module-name", jar.stem, "-cp", _path(libraries), "-d", str(jar), *flags, *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    assert done.returncode == 0, f"{jar.stem} does not compile:\n{done.stderr}"


def _path(jars: tuple[Path, ...]) -> str:
    return os.pathsep.join(map(str, jars))


def _parts(home: Path) -> tuple[tuple[Path, ...], tuple[Path, ...], tuple[Path, ...]]:
    """(compiler, libraries, libraries of the tests), fetched once."""
    version = kotlin_version()
    compilers = NpmPackage("kotlin-compiler", version)
    unpacked = fetched(home / f"kotlin-{version}", lambda folder: compilers.unpack(folder, WHOSE))
    kotlin = unpacked / "package" / "lib"
    debian = fetched(home / f"debian-{platform.machine()}", _fetch_debian)
    jars = debian / "usr" / "share" / "java"
    coroutines = kotlin / "kotlinx-coroutines-core-jvm.jar"
    compiler = (*(kotlin / f"{name}.jar" for name in COMPILER_JARS), coroutines)
    libraries = (kotlin / "kotlin-stdlib.jar", jars / "com.android.json.jar", jars / "jna.jar", debian / "native")
    tests = (
        kotlin / "kotlin-test.jar",
        kotlin / "kotlin-test-junit.jar",
        jars / "junit4.jar",
        jars / "hamcrest-core.jar",
    )
    return compiler, libraries, tests


def _fetch_packages(folder: Path, *names: str) -> None:
    apt, dpkg = (tool(name, "a Debian or Ubuntu machine", WHOSE) for name in ("apt-get", "dpkg-deb"))
    run([apt, "download", *names], folder, WHOSE)
    for package in sorted(folder.glob("*.deb")):
        run([dpkg, "-x", str(package), str(folder)], folder, WHOSE)
        package.unlink()


def _fetch_debian(folder: Path) -> None:
    _fetch_packages(folder, *PACKAGES)
    # Debian's JNA looks for its library under /usr/lib, else in the class path under this name.
    (library,) = folder.glob("usr/lib/*/jni/libjnidispatch.system.so")
    machine = platform.machine().replace("x86_64", "x86-64")
    named = folder / "native" / "com" / "sun" / "jna" / f"linux-{machine}" / "libjnidispatch.so"
    named.parent.mkdir(parents=True)
    shutil.copy(library, named)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build().folder}\n")
    except MissingPart as missing:
        sys.exit(str(missing))
