"""The app's own tests of its protocol, in Kotlin, on this machine's Java: the same files that Gradle runs."""

from __future__ import annotations

import re
import subprocess

import harness
from tests.standin.build import ANDROID_APP, Build, app_version, java
from tests.standin.golden import FOLDER

SECONDS = 240


def test_the_protocol_passes_its_own_tests_in_a_heap_of_64_mb(standin_build: Build) -> None:
    sources = ANDROID_APP / "protocol" / "src" / "test"
    tests = {path.stem: path.read_text("utf-8").count("@Test") for path in sorted(sources.rglob("*Test.kt"))}
    command = [
        java(),
        "-Xmx64m",
        "-XX:+UseSerialGC",
        f"-Dgolden={FOLDER}",
        "-Dgolden.exact=true",
        "-cp",
        standin_build.tests,
    ]
    command += ["org.junit.runner.JUnitCore", *(f"dev.litertharness.protocol.{name}" for name in tests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    found = re.search(r"^OK \((\d+) tests\)$", done.stdout, re.M)
    assert found and int(found[1]) == sum(tests.values()) > 25


def test_the_app_has_the_version_of_the_harness() -> None:
    assert app_version() == harness.__version__


def test_no_line_of_kotlin_is_wider_than_120() -> None:
    sources = [*ANDROID_APP.rglob("*.kt"), *ANDROID_APP.rglob("*.kts"), *FOLDER.parent.rglob("*.kt")]
    wide = [
        f"{path.name}:{number}"
        for path in sources
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert wide == []


def test_the_protocol_knows_no_android() -> None:
    sources = list((ANDROID_APP / "protocol").rglob("*.kt"))
    assert len(sources) > 10
    assert [
        path.name for path in sources if re.search(r"^import (android|com\.google)", path.read_text("utf-8"), re.M)
    ] == []
