"""The torch half of the workload runs in a process of its own, which gives back its memory when it ends.

It is started as `python -m MODULE REQUEST.json`. Its standard output carries one JSON object per line: {"progress":
words}, and at the end {"done": true}, {"usage": [message, next step]} or {"storage": [message, next step]}. Whatever
the libraries print, in Python or in C++, goes to standard error, which the caller keeps for the case of a failure.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from harness.core.errors import HarnessError, StorageError, UsageError
from harness.core.progress import Say
from harness.devices.scratch import scratch_folder
from harness.devices.worker import die_with_parent
from harness.sam2.shared.card import require_packages

TIMEOUT_SECONDS = 900.0


def run_worker(
    request: dict[str, Any],
    progress: Say,
    module: str,
    timeout: float = TIMEOUT_SECONDS,
) -> None:
    """Have `request` done in a process of its own, by the `main` of `module`; `progress` is told in words what is being
    done.

    Raises `UsageError` for unusable weights or missing packages, `StorageError` for a full disk,
    `HarnessError` when it takes longer than `timeout` seconds, and `RuntimeError` with the end of its log for
    anything else.
    """
    require_packages()
    with scratch_folder("harness-sam2-") as folder, tempfile.TemporaryFile() as log:
        file = folder / "request.json"
        file.write_text(json.dumps(request))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
        )
        expired = threading.Event()

        def end() -> None:
            expired.set()
            process.kill()

        clock = threading.Timer(timeout, end)
        clock.start()
        assert process.stdout is not None
        try:
            with process.stdout:
                done = _listen(process.stdout, progress)
            code = process.wait()
        finally:
            clock.cancel()
            process.kill()
            process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()[-30:]
    if expired.is_set():
        raise HarnessError(f"Preparing SAM 2.1 did not end within {timeout:g} s.", "Try again on a less busy machine.")
    if code == -signal.SIGKILL:
        raise HarnessError(
            "Preparing SAM 2.1 was killed from outside, most likely for want of memory.",
            "Give it 2 GB of free memory.",
        )
    if code != 0 or not done:
        raise RuntimeError(f"preparing SAM 2.1 failed (exit code {code}); the end of its log:\n" + "\n".join(said))


def _listen(lines: IO[str], progress: Say) -> bool:
    done = False
    for line in lines:
        told = json.loads(line)
        if "usage" in told:
            raise UsageError(*told["usage"])
        if "storage" in told:
            raise StorageError(*told["storage"])
        if "progress" in told:
            progress(told["progress"])
        done = done or bool(told.get("done"))
    return done


def main(arguments: list[str], work: Callable[[dict[str, Any], Say], None]) -> int:
    """The worker process: `arguments` is the path of the request, `work` what does it. Returns the exit code."""
    die_with_parent()
    warnings.simplefilter("ignore")
    # From here on the libraries' output, C++ included, goes to standard error; only `tell` reaches the
    # caller.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(**told: object) -> None:
        channel.write(json.dumps(told) + "\n")

    try:
        work(json.loads(Path(arguments[0]).read_text()), lambda words: tell(progress=words))
    except UsageError as error:
        tell(usage=[error.message, error.next_step])
        return 0
    except StorageError as error:
        tell(storage=[error.message, error.next_step])
        return 0
    tell(done=True)
    return 0
