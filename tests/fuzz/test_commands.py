"""The commands as processes: on broken models, and with folders and files whose names are no text."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import EXIT_UNRESOLVED
from harness.core.run_folder import list_runs, read_run
from harness.graph.model import Model
from tests.cli.conftest import COMMAND, environment
from tests.fuzz.mutants import broken_bytes, broken_tree
from tests.fuzz.test_fuzz import LIMITS, WRITTEN, layers

# A process takes seconds, so that a round of `make fuzz` tries ten models for each command, and `make test` one.
few: Callable[..., Any] = settings(LIMITS, max_examples=max(1, LIMITS.max_examples // 200))
JOB = ("--timeout", "20", "--accelerator", "cpu")
QUICK = ("--quick", "--samples", "3", "--seconds", "0.1", "--replications", "1")
COMMANDS: dict[str, tuple[str, ...]] = {
    "audit": (),
    "lint": (),
    "run": JOB,
    "compare": JOB,
    "dump": JOB,
    "localize": JOB,
    "bench": (*QUICK, *JOB),
}
# What a terminal obeys, and what reorders or hides text.
ORDERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Watched:
    """A folder with a working folder, a home and a place for temporary files, in which nothing may change."""

    def __init__(self, root: Path, odd: bytes = b"") -> None:
        self.root = root / os.fsdecode(b"watched" + odd)
        self.out = root / os.fsdecode(b"out" + odd)
        self.root.mkdir()
        for name in ("work", "home", "tmp"):
            (self.root / os.fsdecode(name.encode() + odd)).mkdir()
        self.environment = environment() | {
            "HOME": str(self.root / os.fsdecode(b"home" + odd)),
            "TMPDIR": str(self.root / os.fsdecode(b"tmp" + odd)),
            "HARNESS_CACHE": str(root / os.fsdecode(b"cache" + odd)),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),  # a list of fonts takes seconds
            "MESA_SHADER_CACHE_DIR": str(root / "shaders"),  # a driver's own
        }
        self.work = self.root / os.fsdecode(b"work" + odd)

    def run(self, *words: str | Path, seconds: float = 120) -> int:
        """The exit code of a command that says what it has to say in text, and changes nothing here."""
        before = sorted(self.root.rglob("*"))
        done = subprocess.run(
            [*COMMAND, *map(str, words)],
            cwd=self.work,
            env=self.environment,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        said = (done.stdout + done.stderr).decode("utf-8", "surrogateescape")
        assert "Traceback" not in said
        assert done.returncode in range(EXIT_UNRESOLVED + 1), said
        assert ORDERS.findall(said) == []
        assert sorted(self.root.rglob("*")) == before
        return done.returncode


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_a_broken_model_gives_an_answer_or_a_sentence(command: str) -> None:
    @few
    @given(st.sampled_from(WRITTEN).flatmap(lambda data: broken_bytes(data) | broken_tree(Model.from_bytes(data))))
    def attempt(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            watched = Watched(Path(folder))
            path = Path(folder) / "m.tflite"
            path.write_bytes(data)
            watched.run(command, path, *_at(command, watched.out))

    attempt()


def _at(command: str, out: Path) -> Sequence[str]:
    options = COMMANDS[command]
    return (*options, "--out", str(out)) if options else ()


ODD = (b"m\xe9t\xff", b"\xed\xa0\x80", b"\x1b[2J\x07", "\u202ea".encode(), b"a\nb", b"[red]x", b"'\"$(id)`")


@pytest.mark.parametrize(
    ("odd", "commands"),
    [
        (ODD[0] + ODD[2], ("lint", "run", "dump")),
        *(pytest.param(each, tuple(COMMANDS), marks=pytest.mark.slow) for each in ODD),
    ],
    ids=repr,
)
def test_every_file_and_folder_may_have_a_name_that_is_no_text(
    tmp_path: Path, odd: bytes, commands: tuple[str, ...]
) -> None:
    watched = Watched(tmp_path, odd)
    model = tmp_path / os.fsdecode(odd + b".tflite")
    model.write_bytes(layers().to_bytes())
    codes = {command: watched.run(command, model, *_at(command, watched.out)) for command in commands}
    assert codes.pop("bench", 0) in (0, EXIT_UNRESOLVED)  # a busy machine makes its figures invalid
    assert set(codes.values()) == {0}
    (dumped,) = (run for run in list_runs(watched.out) if read_run(run)["command"] == "dump")
    renamed = dumped.rename(watched.out / os.fsdecode(odd))
    made = tmp_path / os.fsdecode(b"made" + odd)
    assert watched.run("report", renamed) == 0
    assert watched.run("export", renamed, "--format", "csv", "--out", made) == 0
    assert watched.run("runs", "--out", watched.out) == 0
    assert watched.run("dashboard", "--bundle", "--out", watched.out, "--site", made.with_suffix(".site")) == 0
    assert (made.with_suffix(".site") / "index.html").is_file()
