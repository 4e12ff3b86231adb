"""Gradle by its wrapper: what the app's folder pins is fetched, held to its digest, and run by Java; each way in which
that cannot be is one sentence with what to do."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import DeviceError
from harness.devices.android import gradle
from harness.devices.android.fetched import wrapper as module
from harness.devices.android.fetched.wrapper import DIGEST, FOLDER, JAR, PROPERTIES, Wrapper, wrapper_of
from tests.sites import Site

PROJECT = gradle.PROJECT
MAIN = "org.gradle.wrapper.GradleWrapperMain"
PROGRAM = b"PK\x03\x04 Gradle's own program"
# What the wrapper prints where there is no network, and where Gradle is not what it should be.
NO_NETWORK = """Downloading https://services.gradle.org/distributions/gradle-9.5.0-bin.zip
Exception in thread "main" java.net.UnknownHostException: services.gradle.org
\tat java.base/java.net.Socket.connect(Socket.java:633)
\tat org.gradle.wrapper.GradleWrapperMain.main(SourceFile:67)
"""
OTHER_GRADLE = """Downloading https://services.gradle.org/distributions/gradle-9.5.0-bin.zip
Exception in thread "main" java.lang.RuntimeException: Verification of Gradle distribution failed!

Your Gradle distribution may have been tampered with.
\tat org.gradle.wrapper.GradleWrapperMain.main(SourceFile:67)
"""
BUILDS = f'shift 4; mkdir -p "$2/$(dirname {gradle.APK})"; echo "$*" > "$2/{gradle.APK}"'


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(PROGRAM) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> Path:
    """A project whose wrapper the site has, on a machine with a JDK and an SDK and no Gradle."""
    made = tmp_path / "android_app"
    (made / FOLDER).mkdir(parents=True)
    (made / PROPERTIES).write_bytes((PROJECT / PROPERTIES).read_bytes())
    (made / DIGEST).write_text(f"{hashlib.sha256(PROGRAM).hexdigest()}  {JAR.name}\n")

    def at_the_site(asked: Path) -> Wrapper | None:
        found = wrapper_of(asked)
        return found and replace(found, program=replace(found.program, address=site.address("gradle-wrapper.jar")))

    monkeypatch.setattr(gradle, "wrapper_of", at_the_site)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/nowhere")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    program(tmp_path / "jdk" / "bin" / "java", BUILDS)
    return made


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    path.chmod(0o755)
    return path


def refused(folder: Path) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        gradle.built("1A2B", folder)
    assert "\n" not in caught.value.message and caught.value.next_step
    return caught.value


class TestWhatTheAppPins:
    def test_it_is_gradle_s_own_program_at_gradle_s_own_server(self) -> None:
        found = wrapper_of(PROJECT)
        assert found is not None
        assert found.program.address == "https://services.gradle.org/distributions/gradle-9.5.0-wrapper.jar"
        assert found.program.sha256 == "497c8c2a7e5031f6aa847f88104aa80a93532ec32ee17bdb8d1d2f67a194a9c7"

    def test_it_is_a_release_that_the_android_plugin_takes(self) -> None:
        """AGP 9.3 wants 9.5.0 or newer."""
        catalog = tomllib.loads((PROJECT / "gradle" / "libs.versions.toml").read_text("utf-8"))
        assert catalog["versions"]["agp"].startswith("9.3.")
        found = wrapper_of(PROJECT)
        assert found is not None and (9, 5, 0) <= found.release < (10,)

    def test_the_program_is_in_no_commit(self) -> None:
        def git(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=False)

        if git("rev-parse").returncode:
            pytest.skip("no clone")
        assert git("ls-files", "*.jar").stdout == ""
        assert git("check-ignore", str(JAR)).returncode == 0

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            (PROPERTIES, ("https\\", "http\\")),
            (PROPERTIES, ("gradle-9.5.0-bin.zip", "gradle-latest-bin.zip")),
            (PROPERTIES, ("distributionSha256Sum=5", "distributionSha256Sum=")),
            (PROPERTIES, ("distributionUrl=", "distribution=")),
            (DIGEST, ("  gradle", "0  gradle")),
            (DIGEST, (".jar", ".jar\udcff")),
        ],
    )
    def test_files_that_say_less_are_one_sentence(self, folder: Path, name: Path, change: tuple[str, str]) -> None:
        text = (folder / name).read_text("ascii")
        assert change[0] in text
        (folder / name).write_bytes(text.replace(*change).encode("utf-8", "surrogateescape"))
        why = refused(folder)
        assert why.message == f"{folder / FOLDER} does not say which Gradle builds the app, and by which digests."
        assert "git checkout" in why.next_step


class TestABuild:
    def test_it_is_fetched_once_and_run_by_java(self, folder: Path, site: Site) -> None:
        told: list[str] = []
        apk = gradle.built("1A2B", folder, told.append)
        assert apk == folder / gradle.APK and apk.read_text() == f"-p {folder} --quiet :app:assembleBench\n"
        assert told == [
            "building the app with Gradle (minutes, once)",
            "fetching Gradle's wrapper and Gradle 9.5.0 (130 MB, once)",
        ]
        assert (folder / JAR).read_bytes() == PROGRAM
        assert gradle.built("1A2B", folder, told.append) == apk  # what was fetched is no source of it
        (folder / "settings.gradle.kts").write_text("")
        assert gradle.built("1A2B", folder, told.append) == apk
        assert (len(told), site.asked) == (3, 1)

    def test_java_is_given_the_program_and_no_more(self, folder: Path, tmp_path: Path) -> None:
        said = tmp_path / "said"
        program(tmp_path / "jdk" / "bin" / "java", f'echo "$*" > {said}; {BUILDS}')
        gradle.built("1A2B", folder)
        words = f"-Dorg.gradle.appname=gradlew -classpath {folder / JAR} {MAIN}"
        assert said.read_text() == f"{words} -p {folder} --quiet :app:assembleBench\n"

    @pytest.mark.parametrize("kept", [PROGRAM[:-1], b"another program"])
    def test_one_that_was_damaged_meanwhile_is_fetched_anew(self, folder: Path, site: Site, kept: bytes) -> None:
        (folder / JAR).write_bytes(kept)
        assert gradle.built("1A2B", folder)
        assert ((folder / JAR).read_bytes(), site.asked) == (PROGRAM, 1)

    @pytest.mark.parametrize(
        "sent", [PROGRAM[:-1], PROGRAM + b"x", b"", PROGRAM.replace(b"own", b"bad"), bytes(1 << 21)]
    )
    def test_another_program_is_refused_and_nothing_of_it_stays(self, folder: Path, site: Site, sent: bytes) -> None:
        site.sent = sent
        why = refused(folder)
        assert why.message.startswith(
            f"{site.address('gradle-wrapper.jar')} is not the wrapper of Gradle 9.5.0: its SHA-256 is "
        )
        assert sorted(path.name for path in (folder / FOLDER).iterdir()) == sorted((PROPERTIES.name, DIGEST.name))

    def test_one_cut_short_on_its_way_is_refused(self, folder: Path, site: Site) -> None:
        site.sent, site.length = PROGRAM[:9], len(PROGRAM)
        assert "is not the wrapper of Gradle 9.5.0" in refused(folder).message
        assert not (folder / JAR).exists()

    def test_no_network_is_said_with_what_to_do(self, folder: Path, site: Site) -> None:
        site.shutdown()
        site.server_close()
        why = refused(folder)
        assert why.message.startswith(f"Gradle's wrapper cannot be fetched from {site.address('gradle-wrapper.jar')} (")
        assert why.next_step == (
            f"Try again with a network, put {real_address()} at {folder / JAR} yourself, or install Gradle 9.5.0; "
            "--apk FILE takes a prebuilt app."
        )

    def test_no_java_is_told_before_anything_is_fetched(
        self, folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("JAVA_HOME")
        assert gradle.lacking(folder) == "a JDK (JAVA_HOME)"
        assert gradle.built("1A2B", folder) is None
        program(tmp_path / "bin" / "gradle", "echo Gradle 8.14.3")  # one that does not suit, and no Java for another
        why = refused(folder)
        assert why.message == "Gradle needs Java, which is not here."
        assert site.asked == 0

    def test_a_folder_that_takes_no_program_is_one_sentence(self, folder: Path, tmp_path: Path) -> None:
        (folder / JAR).mkdir()
        assert refused(folder).message.startswith(f"Gradle's wrapper cannot be fetched to {folder / FOLDER} (")

    @pytest.mark.parametrize(
        ("said", "why", "step"),
        [
            (NO_NETWORK, "java.net.UnknownHostException: services.gradle.org.", gradle.ONLINE),
            (OTHER_GRADLE, "java.lang.RuntimeException: Verification of Gradle distribution failed!.", gradle.HOW),
        ],
    )
    def test_what_the_wrapper_says_is_passed_on(
        self, folder: Path, tmp_path: Path, said: str, why: str, step: str
    ) -> None:
        program(tmp_path / "jdk" / "bin" / "java", f"cat >&2 <<'END'\n{said}END\nexit 1")
        error = refused(folder)
        assert error.message == f"Gradle did not build the app for 1A2B: {why}"
        assert error.next_step.endswith(step)
        assert (tmp_path / "cache" / "gradle.log").read_text() == said


class TestAGradleOnPath:
    @pytest.mark.parametrize(
        ("says", "taken"),
        [
            ("echo; echo ------; echo Gradle 9.5.0; echo ------", True),
            ("echo Gradle 9.5", True),
            ("echo Gradle 9.12.1", True),
            ("echo Gradle 9.4.9", False),
            ("echo Gradle 10.0", False),  # what the next major takes away is not known
            ("echo Gradle 8.14.3", False),
            ("echo Gradle 9.5.0; exit 1", False),
            ("echo 'ERROR: JAVA_HOME is not set' >&2; exit 1", False),
            ("exec yes Gradle", False),
        ],
    )
    def test_it_is_taken_where_it_suits(self, folder: Path, site: Site, tmp_path: Path, says: str, taken: bool) -> None:
        program(
            tmp_path / "bin" / "gradle", f'[ "$*" = --version ] && {{ {says}; exit; }}\nset -- a b c d "$@"\n{BUILDS}'
        )
        assert gradle.built("1A2B", folder)
        assert site.asked == (0 if taken else 1)


class TestTheScript:
    """`android_app/gradlew`, with the Python that runs the tests and nothing of its packages."""

    def run(self, script: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        bare = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, **environment}
        command = ["/bin/sh", str(script), *words]
        return subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60, check=False)

    def test_it_passes_its_words_on(self, folder: Path, tmp_path: Path) -> None:
        (folder / JAR).write_bytes(PROGRAM)
        script = folder / "gradlew"
        script.write_text((PROJECT / "gradlew").read_text().replace("$here/..", str(PROJECT.parent)))
        program(tmp_path / "jdk" / "bin" / "java", 'for word; do echo "$word"; done; exit 5')
        done = self.run(script, ":app:assembleBench", "-Px=2.2.0", "two words", JAVA_HOME=str(tmp_path / "jdk"))
        assert (done.returncode, done.stderr) == (5, "")
        words = ["-Dorg.gradle.appname=gradlew", "-classpath", str(folder / JAR), MAIN]
        assert done.stdout.splitlines() == [*words, ":app:assembleBench", "-Px=2.2.0", "two words"]

    def test_without_java_it_says_so(self, tmp_path: Path) -> None:
        for name in ("sh", "dirname"):
            (tmp_path / name).symlink_to(f"/bin/{name}")
        done = self.run(PROJECT / "gradlew", "tasks", PATH=str(tmp_path))
        assert (done.returncode, done.stdout) == (3, "")
        why = "Gradle needs Java, which is not here. Install a JDK 17 or newer, or set JAVA_HOME."
        assert done.stderr == f"gradlew: {why}\n"


def test_java_is_found_as_gradle_s_own_scripts_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = program(tmp_path / "jdk" / "bin" / "java", "")
    second = program(tmp_path / "bin" / "java", "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for home, found in ((str(tmp_path / "jdk"), first), ("", second), (str(tmp_path / "none"), second)):
        monkeypatch.setenv("JAVA_HOME", home)
        assert module.java() == str(found)


def real_address() -> str:
    found = re.search(r"distributionUrl=(\S+)-bin\.zip", (PROJECT / PROPERTIES).read_text())
    assert found
    return f"{found[1]}-wrapper.jar".replace("\\", "")
