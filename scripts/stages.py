"""Runs commands one after the other, some of them two at a time, the next one also after a failure, and ends with a
table of how each went."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO, Literal

INTERRUPTED = 130
AT_ONCE = 2


@dataclass(frozen=True)
class Stage:
    """One command under a name, with changes to the environment: a value, or None for a variable to be taken away."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str | None] = field(default_factory=dict)
    skip: str | None = None
    """Why it cannot run here."""
    beside: bool = False
    """Whether it keeps one core busy and measures no time: of stages in a row that do, two run at once."""


@dataclass(frozen=True)
class Result:
    stage: Stage
    outcome: Literal["passed", "failed", "skipped", "interrupted"]
    seconds: float
    note: str = ""


def run(stages: Sequence[Stage], timeout: float) -> int:
    """Run all stages, each for `timeout` seconds at most, and print the table. Returns the exit status: 0 when none
    failed and one passed, 1 otherwise, 130 when the user stopped it."""
    numbers = {stage.name: f"{number}/{len(stages)}" for number, stage in enumerate(stages, 1)}
    results: list[Result] = []
    for group in _groups(stages):
        if len(group) > 1:
            results += _two_at_once(group, numbers, timeout)
        else:
            _announce(numbers[group[0].name], group[0])
            results.append(_run(group[0], timeout))
        if any(result.outcome == "interrupted" for result in results):
            break
    print(f"\n{table(results)}", flush=True)
    outcomes = {result.outcome for result in results}
    if "interrupted" in outcomes:
        return INTERRUPTED
    return 0 if "passed" in outcomes and "failed" not in outcomes else 1


def _groups(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Those that run beside each other together, each other one by itself."""
    for beside, group in groupby(stages, lambda stage: stage.beside):
        if beside:
            yield list(group)
        else:
            yield from ([stage] for stage in group)


def _announce(number: str, stage: Stage) -> None:
    print(f"\n--- {number} {stage.name}: {stage.skip or _words(stage)}", flush=True)


def _two_at_once(stages: Sequence[Stage], numbers: Mapping[str, str], timeout: float) -> list[Result]:
    """The results, in order; what each says is printed as a whole, once all have ended."""
    print(f"\n--- two at a time: {', '.join(stage.name for stage in stages)}", flush=True)
    with ExitStack() as files:
        outs = [files.enter_context(tempfile.TemporaryFile()) for _ in stages]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = [pool.submit(_run, stage, timeout, out) for stage, out in zip(stages, outs, strict=True)]
            try:
                wait(running)
            except KeyboardInterrupt:
                # The terminal has told the children too; they tidy up after themselves.
                ended = [each.done() for each in running]
                pool.shutdown(cancel_futures=True)
            else:
                ended = [True] * len(running)
        results = []
        for stage, out, each, whole in zip(stages, outs, running, ended, strict=True):
            results.append(each.result() if whole else Result(stage, "interrupted", 0.0))
            _announce(numbers[stage.name], stage)
            out.seek(0)
            sys.stdout.write(out.read().decode(errors="replace"))
    return results


def table(results: Sequence[Result]) -> str:
    """One line a result, and a last one that says which failed."""
    width = max(len(result.stage.name) for result in results)
    lines = [
        f"{result.stage.name:{width}}  {result.outcome:11}  {_clock(result.seconds):>6}  {result.note}".rstrip()
        for result in results
    ]
    failed = [result.stage.name for result in results if result.outcome == "failed"]
    return "\n".join([*lines, "", f"failed: {', '.join(failed)}" if failed else "nothing failed"])


def _run(stage: Stage, timeout: float, out: IO[bytes] | None = None) -> Result:
    """`out` gets what it says; without, the terminal does."""
    if stage.skip is not None:
        return Result(stage, "skipped", 0.0, stage.skip)
    env = {name: value for name, value in (os.environ | dict(stage.env)).items() if value is not None}
    start = time.monotonic()
    try:
        with subprocess.Popen(stage.command, env=env, stdout=out, stderr=out) as process:
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
