"""The command lines that a page gives: the one that repeats the run, and those that come next."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

from harness.report.record import Run
from harness.report.wording import COMMANDS

RELEASED = ("host", "web")
"""Kinds of device that can have any release of their runtime."""
SEED = re.compile(r"random, seed (\d+)")


@dataclass(frozen=True)
class Reproduction:
    """The words of a line for a shell, each quoted, and what must be said about it."""

    words: tuple[str, ...]
    note: str = ""

    @property
    def line(self) -> str:
        """The line."""
        return " ".join(self.words)


def reproduction(run: Run, command: str = "") -> Reproduction | None:
    """The command that gives the same run, or asks another `command` of the same model, every option stated; None for
    one that takes no such options."""
    command = command or run.command
    if command not in COMMANDS or not run.model_path:
        return None
    note = ""
    words = ["harness", command, _file(run.model_path), "--device", run.device]
    words += ["--accelerator", run.accelerator, "--precision", run.precision]
    if run.fallback == "cpu":
        words += ["--fallback", "cpu"]
    seed = SEED.fullmatch(run.inputs)
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
    if run.runs_asked is not None and command in ("compare", "localize"):
        words += ["--runs", str(run.runs_asked)]
    for limit, value in run.limits if command != "run" else ():
        words += [f"--{limit.replace('_', '-')}", f"{value:g}"]
    if run.timeout is not None:
        words += ["--timeout", f"{run.timeout:g}"]
    return Reproduction(tuple(map(quote, words)), note)


@dataclass(frozen=True)
class NextStep:
    """What to do next, and the command for it; empty where it is none."""

    why: str
    command: str = ""


def next_steps(run: Run) -> tuple[NextStep, ...]:
    """What a run that gave no answer leaves to do: nothing after one that did."""
    if run.state in ("failed", "interrupted"):
        again = reproduction(run)
        continued = run.command == "localize" and run.state == "interrupted"
        why = "Go on from where it stopped" if continued else "Ask again, once what stopped it is mended"
        return (NextStep(f"{why}:", again.line),) if again else ()
    if run.state != "done" or run.answer != "unresolved":
        return ()
    steps = []
    if run.half and (exact := reproduction(replace(run, precision="fp32"), "compare")):
        steps.append(NextStep("See whether it is wrong in float32 too; if not, float16 is the reason:", exact.line))
    if run.runs_asked is not None and (more := reproduction(replace(run, runs_asked=max(8, 2 * run.runs_asked)))):
        steps.append(NextStep("Run the untouched model more often, to see how steady its outputs are:", more.line))
    if run.model_path:
        file = _file(run.model_path)
        steps.append(
            NextStep("Look in the file alone for what a GPU computes wrongly:", _line("harness", "lint", file))
        )
        if run.kind in RELEASED:
            how = ("--accelerator", run.accelerator, "--precision", run.precision)
            bisect = _line("harness", "bisect-runtime", file, "--device", run.kind, *how)
            steps.append(NextStep("Find the release of the runtime that changed it:", bisect))
    if values := reproduction(run, "dump"):
        steps.append(NextStep("Write every op’s values from both sides, to look for yourself:", values.line))
    return tuple(steps)


def _line(*words: str) -> str:
    return " ".join(map(quote, words))


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
