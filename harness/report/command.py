"""The command line that repeats a run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from harness.report.record import Run
from harness.report.wording import COMMANDS

_SEED = re.compile(r"random, seed (\d+)")


@dataclass(frozen=True)
class Reproduction:
    """The words of a line for a shell, each quoted, and what must be said about it."""

    words: tuple[str, ...]
    note: str = ""

    @property
    def line(self) -> str:
        """The line."""
        return " ".join(self.words)


def reproduction(run: Run) -> Reproduction | None:
    """The command that gives the same run, every option stated; None for a command that takes no such options."""
    if run.command not in COMMANDS or not run.model_path:
        return None
    note = ""
    words = ["harness", run.command, _file(run.model_path), "--device", run.device]
    words += ["--accelerator", run.accelerator, "--precision", run.precision]
    if run.fallback == "cpu":
        words += ["--fallback", "cpu"]
    seed = _SEED.fullmatch(run.inputs)
    if seed:
        words += ["--seed", seed[1]]
    elif not run.inputs or run.inputs == "given by the caller":
        words += ["--inputs", "INPUTS.npz"]
        note = "The inputs were handed over by a program: save them as INPUTS.npz, one array for each input."
    else:
        words += ["--inputs", _file(run.inputs)]
    if run.signature:
        words += ["--signature", run.signature]
    for shape in run.shapes:
        words += ["--shape", shape]
    if run.runs_asked is not None and run.command in ("compare", "localize"):
        words += ["--runs", str(run.runs_asked)]
    for limit, value in run.limits:
        words += [f"--{limit.replace('_', '-')}", f"{value:g}"]
    if run.timeout is not None:
        words += ["--timeout", f"{run.timeout:g}"]
    return Reproduction(tuple(map(quote, words)), note)


def quote(word: str) -> str:
    """Quote for a POSIX shell; a word with invisible characters becomes `$'…'`, which shows and survives copying."""
    if word.isprintable():
        return shlex.quote(word)
    escapes = {"\\": "\\\\", "'": "\\'"}
    return "$'" + "".join(escapes.get(c, c if c.isprintable() else _bytes(c)) for c in word) + "'"


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", errors="surrogatepass"))


def _file(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path
