"""Building the app, with programs in Gradle's place that say what Gradle says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.errors import DeviceError
from harness.devices.android import gradle

NO_SDK = """
FAILURE: Build failed with an exception.

* What went wrong:
Could not determine the dependencies of task ':app:compileDebugJavaWithJavac'.
> SDK location not found. Define a valid SDK location with an ANDROID_HOME environment variable.

* Try:
> Run with --stacktrace option to get the stack trace.
> Get more help at the community's forum.

BUILD FAILED in 1s
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("ANDROID_SDK_ROOT", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))


def project(
    folder: Path, script: str | None = 'mkdir -p "$2/app/build/outputs/apk/bench"; echo "$*" > "$2/$APK"'
) -> Path:
    source = folder / "android_app" / "app" / "src" / "Main.kt"
    source.parent.mkdir(parents=True)
    source.write_text("fun main() {}")
    if script is not None:
        program(folder / "bin" / "gradle", script)
        os.environ["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"  # as it was again, after the test
    return folder / "android_app"


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nAPK={gradle.APK}\n{script}\n")
    path.chmod(0o755)
    return path


def test_it_is_built_once_and_anew_when_a_source_changes(tmp_path: Path) -> None:
    folder, told = project(tmp_path), list[str]()
    apk = gradle.built("1A2B", folder, told.append)
    assert apk == folder / gradle.APK
    assert apk.read_text() == f"-p {folder} --quiet :app:assembleBench\n"
    apk.write_text("as it was built")
    assert gradle.built("1A2B", folder, told.append) == apk and apk.read_text() == "as it was built"
    assert told == ["building the app with Gradle (minutes, once)"]
    (folder / "README.md").write_text("words")
    assert gradle.built("1A2B", folder) == apk and apk.read_text() == "as it was built"
    (folder / "app" / "src" / "Main.kt").write_text("fun main() { }")
    assert gradle.built("1A2B", folder) == apk and apk.read_text() != "as it was built"


def test_an_older_one_is_used_where_none_can_be_built_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told = project(tmp_path), list[str]()
    assert gradle.built("1A2B", folder)
    (folder / "app" / "src" / "Main.kt").write_text("")
    monkeypatch.delenv("ANDROID_HOME")
    assert gradle.built("1A2B", folder, told.append) == folder / gradle.APK
    assert told == [
        "app-bench.apk is not of these sources, and an Android SDK (ANDROID_HOME) is not here to build it anew"
    ]


def test_what_is_lacking_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gradle.lacking(tmp_path / "none") == "the app's source (a clone has it, a wheel does not)"
    bare = project(tmp_path / "bare", script=None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gradle.lacking(bare) == "a JDK (JAVA_HOME)"
    program(tmp_path / "jdk" / "bin" / "java", "exit 0")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert gradle.lacking(bare) == ""
    monkeypatch.delenv("JAVA_HOME")
    assert gradle.built("1A2B", bare) is None
    folder = project(tmp_path / "whole")
    assert gradle.lacking(folder) == ""
    monkeypatch.delenv("ANDROID_HOME")
    assert gradle.lacking(folder) == "an Android SDK (ANDROID_HOME)"
    monkeypatch.setenv("ANDROID_SDK_ROOT", str(tmp_path))
    assert gradle.lacking(folder) == ""
    monkeypatch.delenv("ANDROID_SDK_ROOT")
    (folder / "local.properties").write_text("sdk.dir=/sdk\n")
    assert gradle.lacking(folder) == ""


def test_a_failed_build_gives_gradles_own_reason_and_keeps_its_log(tmp_path: Path) -> None:
    folder = project(tmp_path, f"cat >&2 <<'END'\n{NO_SDK}END\nexit 1")
    with pytest.raises(DeviceError) as caught:
        gradle.built("1A2B", folder)
    assert caught.value.message == (
        "Gradle did not build the app for 1A2B: Could not determine the dependencies of task "
        "':app:compileDebugJavaWithJavac'. > SDK location not found. Define a valid SDK location with an ANDROID_HOME "
        "environment variable."
    )
    log = tmp_path / "cache" / "gradle.log"
    assert log.read_text() == NO_SDK
    assert caught.value.next_step == f"All it said is in {log}. {gradle.HOW}"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 0", ": no output."),
        ("echo out of memory; exit 7", ": out of memory."),
        ("sleep 60", r" \(no end within 0\.5 s\)\."),
    ],
)
def test_a_build_that_gives_no_reason(script: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradle, "GRADLE_SECONDS", 0.5 if "sleep" in script else 60.0)
    with pytest.raises(DeviceError, match=f"^Gradle did not build the app for 1A2B{why}"):
        gradle.built("1A2B", project(tmp_path, script))


def test_a_long_reason_is_cut() -> None:
    said = gradle.what_went_wrong("* What went wrong:\n" + "wrong " * 500)
    assert len(said) == gradle.MOST_SAID + 1 and said.endswith("…")
    assert gradle.what_went_wrong("* What went wrong:\nfirst\n> second\n\n* Try:\n> that") == "first > second"
