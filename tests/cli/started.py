"""Processes that run `harness …`, forked from one that has loaded what commands need: a test pays for what a command
does, not for its imports. Nothing of `harness.cli` is loaded before, which looks at the terminal then.

Tests of how a process starts and ends (its imports, signals, a full disk) use a real one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

LOADED = [
    "ai_edge_litert.interpreter",
    "jinja2",
    "harness.api.bisect_runtime",
    "harness.api.localize",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "pydantic.fields",
    "rich.progress",
    "safetensors.numpy",
    "scipy.optimize",
    "scipy.stats",
    "typer",
]


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


def run(words: Sequence[str], folder: Path, environment: dict[str, str], out: Path, err: Path, seconds: float) -> int:
    """Run `harness WORDS` in a folder, its streams into two files; its exit code, negative for a signal.

    Raises:
        TimeoutError: it took longer than `seconds`, and was killed.
    """
    os.umask(mask := os.umask(0o077))
    process = _server().Process(target=_command, args=(list(words), folder, mask, environment, out, err))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"harness {' '.join(words)}")
    return process.exitcode


def _command(words: list[str], folder: Path, mask: int, environment: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(folder)
    os.umask(mask)
    os.environ.clear()
    os.environ.update(environment)
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(path, flags | os.O_CREAT), number)
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["harness", *words]
    code: object = 0
    try:
        from harness.cli import main

        main()
    except SystemExit as ending:
        code = ending.code
    except Exception:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
