"""`make demo`: files first, then what is kept, and only then PyTorch."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import EXIT_MISUSE, StorageError
from scripts import demo

LACKING = ["torch", "litert-torch", "transformers"]


class Surroundings:
    """What there is, and what was done in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.files, self.kept, self.lacking, self.status = False, False, LACKING, 0
        monkeypatch.setattr(demo, "published_folder", lambda: Path("cache"))
        monkeypatch.setattr(demo, "have_published", self.have_published)
        monkeypatch.setattr(demo, "missing_packages", lambda: self.lacking)
        monkeypatch.setattr("harness.cli.demo.own_is_kept", self.own_is_kept)
        monkeypatch.setattr(subprocess, "run", self.run)
        monkeypatch.setattr(os, "execv", self.become)

    def have_published(self, *_: Any) -> bool:
        self.done.append("files?")
        return self.files

    def own_is_kept(self) -> bool:
        self.done.append("kept?")
        return self.kept

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        assert Path(command[0]).is_file()
        self.done.append(f"set up {command[1]}")
        return subprocess.CompletedProcess(command, self.status)

    def become(self, program: Path, words: list[str]) -> None:
        assert words[0] == str(program)
        self.done.append(" ".join(words[1:]))
        raise SystemExit(0)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    return Surroundings(monkeypatch)


PUBLISHED, OWN = "demo --models published", "demo --models own"


@pytest.mark.parametrize(
    ("there", "done"),
    [
        ({"files": True}, ["files?", PUBLISHED]),
        ({"files": True, "kept": True, "lacking": []}, ["files?", PUBLISHED]),
        ({"kept": True}, ["files?", "kept?", OWN]),
        ({"lacking": []}, ["files?", OWN]),
        ({}, ["files?", "kept?", "set up convert", OWN]),
    ],
)
def test_torch_comes_last(here: Surroundings, there: dict[str, Any], done: list[str]) -> None:
    vars(here).update(there)
    with pytest.raises(SystemExit):
        demo.main("")
    assert here.done == done


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ("some/folder", ["demo --models some/folder"]),
        ("published", [PUBLISHED]),
        ("own", ["kept?", "set up convert", OWN]),
    ],
)
def test_models_that_are_named_are_taken(here: Surroundings, asked: str, done: list[str]) -> None:
    here.files = True
    with pytest.raises(SystemExit):
        demo.main(asked)
    assert here.done == done


def test_the_size_is_said_before_torch_is_installed_and_a_set_up_that_fails_ends_it(
    here: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    here.status = 1
    assert demo.main("") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "CPU build" in said and "0.5 GB to download" in said and "7 GB" in said
    assert here.done == ["files?", "kept?", "set up convert"]


def test_a_full_disk_is_a_sentence(
    here: Surroundings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> bool:
        raise StorageError("There is no room.", "Free some.")

    monkeypatch.setattr(demo, "have_published", full)
    assert demo.main("") == EXIT_MISUSE
    assert "There is no room. Free some." in capsys.readouterr().err
    assert here.done == []
