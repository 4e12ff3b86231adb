"""`make lock` writes what host@RELEASE installs, all of it or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.devices.host.releases import OLDEST
from scripts import lock_releases

ECHO = 'while [ "$1" != --constraints ]; do shift; done; cat - "$2"'


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock_releases, "PINNED", tmp_path / "pinned")
    monkeypatch.setattr(lock_releases, "available_releases", lambda: ("1.4.0", "2.1.2", OLDEST, "2.10.0"))
    return tmp_path / "pinned"


def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (tmp_path / "uv").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_each_release_with_a_gpu_has_a_list_under_the_projects_constraints(
    tmp_path: Path, pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv(tmp_path, monkeypatch, ECHO)
    assert lock_releases.main() == 0
    assert sorted(path.name for path in pinned.iterdir()) == ["2.1.3.txt", "2.10.0.txt"]
    lines = (pinned / "2.10.0.txt").read_text().splitlines()
    assert lines[:2] == ["ai-edge-litert==2.10.0", "ml-dtypes"]
    assert "backports-strenum<1.3" in lines


def test_where_one_is_not_resolved_none_is_written(
    tmp_path: Path, pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv(tmp_path, monkeypatch, "grep -q 2.10.0 && exit 1; exit 0")
    with pytest.raises(SystemExit, match=r"uv did not resolve the releases .*returned non-zero exit status 1"):
        lock_releases.main()
    assert not pinned.exists()


def test_without_uv_it_is_said_what_to_install(tmp_path: Path, pinned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"No such file or directory: 'uv'\)\. Install uv"):
        lock_releases.main()
