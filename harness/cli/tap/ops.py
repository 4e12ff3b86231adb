"""A localization for the tap page, in a process of its own: a crash, its memory and Ctrl-C are not the page's.

`python -m harness.cli.tap.ops REQUEST.json` says what it does as JSON, one object a line: {"stage": words, "expected":
seconds}, {"fraction": share}, and at the end {"run": folder} or {"error": sentence, "step": sentence}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from harness.core.errors import DeviceError, HarnessError

if TYPE_CHECKING:
    from harness.core.progress import Progress
    from harness.sam2.image_path.tap_page.ops import OpsQuestion

GRACE_SECONDS = 10.0


class LocalizerProcess:
    """Starts that process, one at a time for each device; `close` ends all."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def localize(self, question: OpsQuestion, progress: Progress) -> Path:
        """The run folder. Raises `HarnessError` with the process's own sentence."""
        import numpy as np

        from harness.devices.scratch import scratch_folder

        with scratch_folder("harness-ops-") as folder:
            np.savez(folder / "inputs.npz", allow_pickle=False, **question.inputs)
            request = folder / "request.json"
            request.write_text(json.dumps(_told(question, folder / "inputs.npz")), encoding="utf-8")
            words = [sys.executable, "-P", "-m", "harness.cli.tap.ops", str(request)]
            paths = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
            with self._lock:
                if self._closed:
                    raise DeviceError("The page is being ended.")
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"PYTHONPATH": paths},
                    start_new_session=True,  # Ctrl-C is for the page to handle
                )
                self._running.add(process)
            try:
                return _heard(process, progress)
            finally:
                process.kill()
                process.wait()
                self._running.discard(process)

    def close(self) -> None:
        """End what is going on: in order, or else at once."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            process.kill()


def _told(question: OpsQuestion, inputs: Path) -> dict[str, Any]:
    return {
        "model": str(question.model.absolute()),
        "inputs": str(inputs),
        "device": question.device,
        "accelerator": question.options.accelerator,
        "precision": question.options.precision,
        "timeout": question.timeout,
        "provenance": question.provenance,
        "out": str(question.out.absolute()),
    }


def _heard(process: subprocess.Popen[str], progress: Progress) -> Path:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            told = json.loads(line)
            if "stage" in told:
                progress.stage(told["stage"], told["expected"])
            elif "fraction" in told:
                progress.fraction(told["fraction"])
            elif "run" in told:
                return Path(told["run"])
            elif "error" in told:
                raise HarnessError(told["error"], told["step"])
    raise HarnessError(f"The search for the ops ended by itself (exit code {process.wait()}).", "Ask again.")


class _Teller:
    """A `Progress` that says it on a stream."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def tell(self, **told: object) -> None:
        with suppress(BrokenPipeError):
            self._channel.write(json.dumps(told) + "\n")

    def stage(self, what: str, expected_seconds: float) -> None:
        """A stage begins."""
        self.tell(stage=what, expected=expected_seconds)

    def fraction(self, done: float) -> None:
        """That share of it is done."""
        self.tell(fraction=done)

    def note(self, sentence: str) -> None:
        """It is in the run folder."""


def main(file: str) -> int:
    """The process: `file` is its request."""
    from harness.api.localize import localize_command
    from harness.api.session import ModelRequest
    from harness.core.job import Options
    from harness.devices.worker import die_with_parent
    from harness.graph.inputs import load_inputs
    from harness.graph.model import Model

    signal.signal(signal.SIGTERM, _end)
    die_with_parent()
    asked = json.loads(Path(file).read_text(encoding="utf-8"))
    # What libraries say goes to standard error; only the teller is heard.
    teller = _Teller(os.fdopen(os.dup(1), "w", buffering=1))
    os.dup2(2, 1)
    model = Path(asked["model"])
    request = ModelRequest(
        model,
        asked["device"],
        Options(accelerator=asked["accelerator"], precision=asked["precision"]),
        out=Path(asked["out"]),
        timeout=asked["timeout"],
        given=load_inputs(Path(asked["inputs"]), Model.load(model).graph()),
        provenance=asked["provenance"],
    )
    try:
        folder = localize_command(request, teller)[1]
    except HarnessError as error:
        teller.tell(error=error.message, step=error.next_step)
        return error.exit_code
    teller.tell(run=str(folder))
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
