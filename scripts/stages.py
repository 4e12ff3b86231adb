"""Runs commands one after the other, the next one also after a failure, and ends with a table of how each went."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

INTERRUPTED = 130


@dataclass(frozen=True)
class Stage:
    """One command under a name, with changes to the environment: a value, or None for a variable to be taken away."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str | None] = field(default_factory=dict)
    skip: str | None = None
    """Why it cannot run here."""


@dataclass(frozen=True)
class Result:
    stage: Stage
    outcome: Literal["passed", "failed", "skipped", "interrupted"]
    seconds: float
    note: str = ""


def run(stages: Sequence[Stage], timeout: float) -> int:
    """Run all stages, each for `timeout` seconds at most, and print the table. Returns the exit status: 0 when none
    failed and one passed, 1 otherwise, 130 when the user stopped it."""
    results: list[Result] = []
    for number, stage in enumerate(stages, 1):
        print(f"\n--- {number}/{len(stages)} {stage.name}: {stage.skip or _words(stage)}", flush=True)
        results.append(_run(stage, timeout))
        if results[-1].outcome == "interrupted":
            break
    print(f"\n{table(results)}", flush=True)
    outcomes = {result.outcome for result in results}
    if "interrupted" in outcomes:
        return INTERRUPTED
    return 0 if "passed" in outcomes and "failed" not in outcomes else 1


def table(results: Sequence[Result]) -> str:
    """One line a result, and a last one that says which failed."""
    width = max(len(result.stage.name) for result in results)
    lines = [
        f"{result.stage.name:{width}}  {result.outcome:11}  {_clock(result.seconds):>6}  {result.note}".rstrip()
        for result in results
    ]
    failed = [result.stage.name for result in results if result.outcome == "failed"]
    return "\n".join([*lines, "", f"failed: {', '.join(failed)}" if failed else "nothing failed"])


def _run(stage: Stage, timeout: float) -> Result:
    if stage.skip is not None:
        return Result(stage, "skipped", 0.0, stage.skip)
    env = {name: value for name, value in (os.environ | dict(stage.env)).items() if value is not None}
    start = time.monotonic()
    try:
        with subprocess.Popen(stage.command, env=env) as process:
            try:
                status = process.wait(timeout)
            except KeyboardInterrupt:
                # The terminal has told the child too; it tidies up after itself.
                process.wait()
                raise
            except subprocess.TimeoutExpired:
                process.kill()
                return Result(stage, "failed", time.monotonic() - start, f"killed after {timeout:g} s")
    except KeyboardInterrupt:
        return Result(stage, "interrupted", time.monotonic() - start)
    except OSError as error:
        return Result(stage, "failed", time.monotonic() - start, f"{stage.command[0]}: {error.strerror}")
    seconds = time.monotonic() - start
    return Result(stage, "failed", seconds, f"exit status {status}") if status else Result(stage, "passed", seconds)


def _words(stage: Stage) -> str:
    changes = [f"-u {name}" if value is None else f"{name}={value}" for name, value in stage.env.items()]
    return " ".join([*changes, shlex.join(stage.command)])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
