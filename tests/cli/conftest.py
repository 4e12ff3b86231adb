"""The command line as people and scripts meet it: a process with arguments, two streams and an exit code."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import harness
from tests.cli import started
from tests.documents import check_run, check_stdout

ROOT = Path(harness.__file__).parent.parent
COMMAND = [sys.executable, "-m", "harness.cli"]
_PROGRESS = re.compile(r"\d:\d\d:\d\d")


@dataclass(frozen=True)
class Said:
    """What one command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def sentences(self) -> list[str]:
        """The lines on stderr that are no progress."""
        return [line for line in self.err.splitlines() if line.strip() and not _PROGRESS.search(line)]

    @property
    def sentence(self) -> str:
        """The one line on stderr that is no progress; stdout must be empty and nothing like a traceback be there."""
        assert self.out == ""
        assert "Traceback" not in self.err
        (only,) = self.sentences
        return only

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        assert self.out.startswith("{\n")
        assert "Traceback" not in self.err
        return document


def environment() -> dict[str, str]:
    return dict(os.environ, PYTHONPATH=str(ROOT), COLUMNS="200")


Cli = Callable[..., Said]


@pytest.fixture(autouse=True)
def no_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adb server of the stand-in's tests, which may have run in this process before, is not asked."""
    monkeypatch.delenv("ANDROID_ADB_SERVER_PORT", raising=False)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs `harness …` in an empty folder."""

    def run(*words: object, seconds: float = 600) -> Said:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            code = started.run([str(word) for word in words], tmp_path, environment(), out, err, seconds)
            said = Said(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))
        for told in check_stdout([str(word) for word in words], said.out):
            if "run" in told:
                check_run(tmp_path / told["run"])
        return said

    return run
