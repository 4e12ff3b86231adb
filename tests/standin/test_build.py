"""The build of the stand-in: kept by content, and clear about what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import MissingPart, lacking
from tests.standin.build import ANDROID_APP, Build, build

SECONDS = 120


def test_what_is_built_already_is_not_built_again(standin_build: Build) -> None:
    before = (standin_build.folder / "app.jar").stat().st_mtime_ns
    again = build()
    assert (again, (again.folder / "app.jar").stat().st_mtime_ns) == (standin_build, before)


def build_with(folder: Path, **tools: str) -> str:
    """What a build says that finds these tools, as shell scripts, and no other; its cache is empty."""
    found = folder / "bin"
    found.mkdir()
    for name, script in tools.items():
        (found / name).write_text(f"#!/bin/sh\n{script}\n")
        (found / name).chmod(0o755)
    environment = dict(os.environ, PATH=str(found), HARNESS_CACHE=str(folder / "cache"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.standin.build"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=ANDROID_APP.parent,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert not list((folder / "cache" / "standin").glob("*-*[0-9]"))  # what is half there gets no name
    return done.stderr.strip()


def test_a_part_that_is_not_here_is_named_with_the_way_to_have_it(tmp_path: Path) -> None:
    said = "The phone's stand-in needs npm, which is not here: apt-get install npm."
    assert build_with(tmp_path) == said


def test_a_download_that_fails_is_told_in_the_tool_s_own_words(tmp_path: Path) -> None:
    said = build_with(tmp_path, npm="echo 'npm error network unreachable' >&2; exit 1")
    assert said == "`npm pack --silent …` failed, which the phone's stand-in needs: npm error network unreachable"


def test_a_missing_part_fails_under_ci_and_is_told_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs java"):
        lacking(MissingPart("The phone's stand-in needs java."))
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="needs java"):
        lacking(MissingPart("The phone's stand-in needs java."))
