"""A phone without an app: LiteRT's `run_model` over `adb shell`, behind the same wire as the app.

For who has neither Gradle nor an Android SDK. Slower than the app: each job compiles the model anew, and the values of
outputs come as text; times are the tool's own, without those of writing inputs and reading outputs (0).
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Completed, Job, Outcome, Rejected, Residency
from harness.core.progress import Say
from harness.core.safe_json import loads
from harness.devices.android.adb import Adb, AdbError
from harness.devices.android.device import PhoneLauncher, PhoneOptions
from harness.devices.android.no_app.folder import JOBS, Tools, clear, ensure_tools, tools_in
from harness.devices.android.no_app.words import TOOL, model_own, noted, unable
from harness.devices.base import Device, Sink
from harness.devices.host.log_file import LogFile
from harness.devices.link import Link
from harness.devices.refusal import grouped
from harness.devices.scratch import Scratch

WORKER = "harness.devices.android.no_app.worker"
DEATH_SECONDS = 2.0
_REFUSES = "the GPU delegate refuses "


class ToolLauncher(PhoneLauncher):
    """Has the tools on one phone, and starts the process here that runs jobs by them."""

    def __init__(self, adb: Adb, tools: Tools, options: PhoneOptions, progress: Say | None = None) -> None:
        super().__init__(adb, options, progress)
        self.tools = tools
        self._scratch = Scratch("harness-tools-")
        self._log = LogFile(self._scratch.path / "log.txt")
        self._end = self._scratch.path / "end.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._job = ""

    def start(self) -> Link:
        """Have the phone, make it ready, push the tools where needed, start the worker.

        Raises:
            DeviceError: one of these cannot be done; the sentence says which.
        """
        self._have_phone()
        ensure_tools(self._adb, self.tools, self._progress)  # each time: another's may have taken their room
        self._job = f"{JOBS}/{secrets.token_hex(8)}"
        self._end.unlink(missing_ok=True)
        store = self._scratch.path / "models"
        server = self._adb.server
        where = {"host": server.host, "port": server.port, "serial": self._adb.serial, "tools": self.tools.there}
        where |= {"job": self._job, "end": str(self._end), "facts": self._facts()}
        here, there = socket.socketpair()
        environment = dict(
            os.environ, PYTHONPATH=os.pathsep.join([str(Path(harness.__file__).parent.parent), *sys.path])
        )
        try:
            store.mkdir(exist_ok=True)
            with there, self._log.open() as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", WORKER, str(there.fileno()), str(store), json.dumps(where)],
                    pass_fds=[there.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is the caller's to handle
                )
        except OSError as error:
            here.close()
            raise DeviceError(f"The worker cannot be started ({error.strerror}).", "Run `harness doctor`.") from None
        return Link(here)

    def death(self) -> tuple[str, str] | None:
        """How the tool ended, if it crashed; or the worker, if that did."""
        process = self._process
        if process is None:
            return None
        try:
            code = process.wait(DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        how = self._how()
        if how is None:
            return f"the worker ended with exit code {code}", ""
        return (str(how.get("reason")), str(how.get("signal"))) if how.get("crashed") else None

    def lost(self, reason: str) -> str:
        """What the worker left on the connection, and whether the phone is still there."""
        how = self._how()
        return super().lost(reason if how is None else str(how.get("reason")))

    def kill(self) -> None:
        """End the worker with its adb, and the tool on the phone; what the job left there is removed. On a phone that
        cannot be told, the next start does that."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with suppress(AdbError):
                clear(self._adb, self._job)

    def close(self) -> None:
        """End it all, give the phone to others."""
        self.kill()
        self._log.close()
        self._scratch.close()
        self._give_back()

    def log_mark(self) -> int:
        """Size of the log so far."""
        return self._log.mark()

    def log(self, mark: int) -> str:
        """The log since `mark`."""
        return self._log.since(mark)

    def _install(self) -> None:
        """Nothing that lasts for a boot: see :meth:`start`."""

    def _note(self, text: str) -> None:
        with self._log.open() as log:
            log.write(f"{text}\n".encode())

    def _facts(self) -> dict[str, str]:
        system = (
            f"Android {self._adb.getprop('ro.build.version.release')} ({self._adb.getprop('ro.build.fingerprint')})"
        )
        return {
            "runtime": f"{self.tools.folder.name} {self.tools.digest[:12]}",
            "system": system,
            "boot_id": self.boot_id,
        }

    def _how(self) -> dict[str, Any] | None:
        try:
            found = loads(self._end.read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


class ToolDevice(Device):
    """A phone's CPU and GPU, without an app."""

    times_each = False
    no_latency = (
        "gives no time of its own to each of several runs",
        "Measure it with the app: unset HARNESS_TOOLS, or set HARNESS_APK.",
    )
    cpu_beside = True

    def __init__(
        self, name: str, adb: Adb, folder: Path, options: PhoneOptions | None = None, *, progress: Say | None = None
    ) -> None:
        self.launcher = ToolLauncher(adb, tools_in(folder), options or PhoneOptions(), progress)
        super().__init__(name, "android", self.launcher)

    @property
    def serial(self) -> str:
        """The phone's own serial number; empty before it was reached."""
        return self.launcher.serial

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        """As :meth:`Device.run`; what the tool cannot do is rejected before the phone is asked.

        Raises:
            UsageError: several runs are to be timed, for which the tool gives no times. DeviceError: as there.
        """
        if job.iterations > 1:
            raise UsageError(
                f"LiteRT's {TOOL} gives no time of its own to each of {job.iterations} runs.",
                "Ask for one iteration, or use the app.",
            )
        inputs = {name: array.dtype.name for name, array in job.inputs.items()}
        reason = unable(vars(job.options), inputs)
        if not reason and job.options.accelerator == "gpu" and not self.launcher.tools.has_gpu:
            reason = f"{self.launcher.tools.folder} holds no GPU accelerator, such as libLiteRtClGlAccelerator.so"
        if reason:
            return Rejected(reason)
        outcome = super().run(job, sink)
        match outcome:
            case Completed():
                return replace(outcome, residency=without_added(outcome.residency, outcome.log))
            case Rejected() if outcome.ops:
                ops = model_own(outcome.ops, noted(outcome.log)[1])
                said = f"{_REFUSES}{', '.join(grouped(ops))}" if outcome.reason.startswith(_REFUSES) else outcome.reason
                return replace(outcome, ops=ops, reason=said if ops else outcome.reason)
        return outcome

    def close(self) -> None:
        """End the tool and give the phone back."""
        super().close()
        self.launcher.close()


def without_added(residency: Residency, log: str) -> Residency:
    """The residency of the model itself, without the ops by which its outputs are printed; `log` says how many."""
    added, constants = noted(log)
    refused = model_own(residency.refused, constants)
    if residency.total is None or residency.delegated is None or not added:
        return replace(residency, refused=refused)
    total = max(residency.delegated, residency.total - added)
    full = residency.full or (not refused and total - residency.delegated <= constants)
    # Float16 weights that it takes as they are count as its own, as where it takes the whole model.
    return replace(residency, delegated=total if full else residency.delegated, total=total, full=full, refused=refused)
