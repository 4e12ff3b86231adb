"""A job on its device: the harness's own command in a process of its own, ended when its time is up or nobody wants it.

One process of a host works for one device, so that two jobs never meet on it; the phone's lock keeps everybody else
away. A command that ends with device trouble is followed by a small model; a device that does not do that has failed.
A phone that does has failed too where the job got no answer, and the same was done before, or the failure before it was
of another model. After two failures with no job done in between the device is taken out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core import safe_files, safe_json
from harness.core.errors import EXIT_DEVICE, EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, DeviceError, UsageError
from harness.core.run_folder import read_run
from harness.devices.android.locks import SerialLock
from harness.farm.found import Found
from harness.farm.job import (
    Cancelled,
    DeviceFailed,
    JobOutcome,
    JobSpec,
    LacksFile,
    State,
    TakenOut,
    command_words,
    from_text,
    to_text,
)
from harness.farm.matrix import device_name
from harness.farm.store import Store, listed
from harness.latency.conditions import read_moment

PROGRAM = (sys.executable, "-m", "harness")
MOST_FAILURES = 2
ANSWERED = (EXIT_OK, EXIT_WRONG, EXIT_UNRESOLVED)
"""Exit codes of a command that had from its device what it asked."""
PROBE_SECONDS = 120.0
_POLL_SECONDS = 0.1
_MOST_SAID = 64 << 20
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass
class Station:
    """The device that this process works for. `program` is the harness; `stopping` ends what runs."""

    host: str
    device: Found
    store: Store
    program: tuple[str, ...] = PROGRAM
    out: str = ""
    failures: int = 0
    failed: str = ""
    """The digest of the model of the last job that came to nothing here, until one is done."""
    job: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    tell: Callable[[dict[str, Any]], None] = lambda event: None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def do(self, spec: JobSpec) -> JobOutcome:
        """Do a job, or give what came of it before.

        Raises:
            Asked: it is to be asked again. UsageError, StorageError: it cannot be done here.
        """
        with self._turn:  # one that was told to end has some seconds for it
            return self._do(spec)

    def _do(self, spec: JobSpec) -> JobOutcome:
        if self.out:
            raise TakenOut(self.out)
        if self.stopping.is_set():
            raise Cancelled("The worker was ended.")
        before = self.store.outcome(spec.matrix, spec.id)
        if before is not None:
            return before
        for digest in filter(None, (spec.sha256, spec.inputs)):
            if not self.store.has(digest):
                raise LacksFile(digest)
        try:
            with self.store.running(spec.matrix, spec.id) as folder:
                self.job = spec.id
                self.tell({"job": spec.id, "doing": f"{spec.command} {spec.model}"})
                return self._done(spec, folder)
        except BlockingIOError:
            raise DeviceFailed(f"Job {spec.id} runs on {self.host} already.") from None
        finally:
            self.job = ""
            self.tell({"job": "", "doing": ""})

    def _done(self, spec: JobSpec, folder: Path) -> JobOutcome:
        began, before = time.monotonic(), read_moment(os.getpid())
        deadline = began + spec.timeout
        model = folder / "in" / spec.model
        inputs = folder / "in" / "inputs.npz" if spec.inputs else None
        model.parent.mkdir()
        _linked(self.store.file(spec.sha256), model)
        if inputs is not None:
            _linked(self.store.file(spec.inputs), inputs)
        words = command_words(
            spec,
            device_name(spec.device, spec.runtime, self.device.name),
            model.name,
            inputs.name if inputs else "",
            str(folder / "out"),
        )
        why = self._wait_for_phone(deadline, spec)
        ended = (
            _Ended("timed out", None, why) if why else self._run(words, folder, deadline, spec.matrix, at=model.parent)
        )
        if ended.state == "cancelled":
            raise Cancelled("The job was ended.")
        if not why and (ended.code == EXIT_DEVICE or ended.state == "timed out"):
            self._judge(spec, ended)
        elif ended.code in ANSWERED:
            self._stands(0, "")
        run = next((path for path in (folder / "out").glob("*") if _RUN.fullmatch(path.name) and path.is_dir()), None)
        after = read_moment(os.getpid())
        busy = None
        if None not in (before.total, after.total) and after.total > before.total:  # type: ignore[operator]
            busy = (after.busy - before.busy) / (after.total - before.total)  # type: ignore[operator]
        outcome = JobOutcome(
            job=spec.id,
            state=ended.state,
            exit_code=ended.code,
            status=_status(run),
            reason=ended.reason,
            run=run.name if run is not None else "",
            files=listed(run) if run is not None else (),
            seconds=round(time.monotonic() - began, 3),
            host=self.host,
            serial=self.device.lock or self.device.name,
            cores_busy=None if busy is None else round(min(max(busy, 0.0), 1.0), 4),
        ).check()
        self.store.finish(spec.matrix, outcome)
        return outcome

    @contextmanager
    def lent(self, loan: str) -> Iterator[Callable[[str], None]]:
        """The device for whatever is no job. What it gives is to be called with an accelerator after device trouble,
        and has the device looked at. Raises TakenOut, Cancelled."""
        with self._turn:
            if self.out:
                raise TakenOut(self.out)
            if self.stopping.is_set():
                raise Cancelled("The worker was ended.")
            self.job = loan
            self.tell({"job": loan, "doing": loan})
            try:
                yield self._look_at
            finally:
                self.job = ""
                self.tell({"job": "", "doing": ""})

    def _wait_for_phone(self, deadline: float, spec: JobSpec) -> str:
        """Wait until nobody else has the phone, for at most the job's own time; why that did not come, else empty."""
        while self.device.lock:
            lock = SerialLock(self.device.lock, seconds=0.5)
            try:
                lock.take()
                lock.give_back()
                break
            except DeviceError as error:
                if time.monotonic() >= deadline:
                    return f"{error.message} The job waited {spec.timeout:g} s."
            if self.stopping.is_set() or self.store.is_cancelled(spec.matrix):
                raise Cancelled("The job was ended while it waited for the phone.")
        return ""

    def _judge(self, spec: JobSpec, ended: _Ended) -> None:
        """After a job without an answer: was it the device? Raises DeviceFailed where the job is to be asked again."""
        if ended.trouble == "reference":
            return
        why = self.probe(spec.accelerator)
        if self.stopping.is_set():
            raise Cancelled("The worker was ended.")
        if not why and (ended.trouble == "refused" or not self.device.lock):
            return  # an answer, of a device that works; and what a release does on the host is that release's own
        counts = bool(why) or spec.done_before or spec.sha256 != self.failed
        self._stands(self.failures + counts, spec.sha256)
        self._take_out_if_due(why, ended.reason or why, spec.accelerator)
        if why or (spec.done_before and ended.state == "done"):
            raise DeviceFailed(f"{self.device.name} on {self.host}: {ended.reason or why}")

    def _look_at(self, accelerator: str) -> None:
        """After device trouble of what is no job. Raises DeviceFailed where the device does not do a small model."""
        why = self.probe(accelerator)
        if self.stopping.is_set():
            raise Cancelled("The worker was ended.")
        if why:
            self._stands(self.failures + 1, self.failed)
            self._take_out_if_due(why, why, accelerator)
            raise DeviceFailed(f"{self.device.name} on {self.host}: {why}")

    def _take_out_if_due(self, why: str, last: str, accelerator: str) -> None:
        if self.failures >= MOST_FAILURES:
            does = f"it does not do a small model either ({why})" if why else "it does a small model"
            self.out = f"{self.failures} device failures in a row, and {does}; the last: {last}"
            self.tell({"out": self.out, "accelerator": accelerator})
            raise DeviceFailed(f"{self.device.name} on {self.host}: {last}")

    def _stands(self, failures: int, failed: str) -> None:
        """Take note of the failures in a row; whoever starts the next process for this device is told."""
        self.failures, self.failed = failures, failed
        self.tell({"failures": failures, "failed": failed})

    def probe(self, accelerator: str) -> str:
        """Have the device do a small model; empty where it did, else why not."""
        with tempfile.TemporaryDirectory(prefix="harness-probe-") as text:
            folder = Path(text)
            (folder / "probe.tflite").write_bytes(_small_model())
            words = ["run", str(folder / "probe.tflite"), "--device", self.device.name, "--accelerator", accelerator]
            words += ["--out", str(folder / "out"), "--json", "--timeout", f"{PROBE_SECONDS:g}"]
            ended = self._run(words, folder, time.monotonic() + PROBE_SECONDS, None, at=folder)
        return "" if ended.code == 0 else ended.reason or f"the small model ended with {ended.code}"

    def _run(self, words: Sequence[str], folder: Path, deadline: float, matrix: str | None, *, at: Path) -> _Ended:
        """One command of the harness, to its end or ours. It runs `at` its model, whose bare name is what reports and
        their commands have of it: elsewhere that folder means nothing."""
        state: State = "done"
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            # An end that closes with this process, whatever ends it.
            leash = subprocess.Popen(
                [sys.executable, "-m", "harness.farm.leash", *self.program, *words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=at,
            )
            assert leash.stdin is not None
            while leash.poll() is None:
                if self.stopping.is_set() or (matrix is not None and self.store.is_cancelled(matrix)):
                    state = "cancelled"
                elif time.monotonic() >= deadline:
                    state = "timed out"
                if state != "done":
                    break
                time.sleep(_POLL_SECONDS)
            leash.stdin.close()
            code = leash.wait()
        if state == "timed out":
            return _Ended(state, None, "The job was ended: its time was up.")
        return _Ended(state, code, *_reason(folder, code))


@dataclass(frozen=True)
class _Ended:
    state: State
    code: int | None
    reason: str
    trouble: str = ""


_here: Station | None = None


def work_for(station: Station) -> None:
    """Let :func:`run_job` use this device."""
    global _here
    _here = station


def station_here() -> Station:
    """The device of this process. Raises UsageError where it has none."""
    if _here is None:
        raise UsageError("This worker has no device.", "Start it with `harness farm worker`.")
    return _here


def run_job(document: str) -> str:
    """What Dask calls: a `JobSpec` as text, and its `JobOutcome` likewise. Raises as :meth:`Station.do`."""
    return to_text(station_here().do(from_text(JobSpec, document).check()))


def _linked(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _reason(folder: Path, code: int) -> tuple[str, str]:
    """Why a command has no answer: what its document says, else the last line that it said; and what trouble it was."""
    if code in (0, 1):
        return "", ""
    with suppress(OSError, ValueError):
        document = safe_json.loads(safe_files.read(folder / "stdout", _MOST_SAID))
        if isinstance(document, dict) and isinstance(document.get("error"), str):
            return str(document["error"])[:1000], str(document.get("trouble", ""))
    with suppress(OSError):
        said = safe_files.tail(folder / "stderr", 4000)[0].decode("utf-8", "replace").strip().splitlines()
        return (said[-1][:1000] if said and code != 4 else ""), ""
    return "", ""


def _status(run: Path | None) -> str:
    """The word of a run's answer."""
    if run is None:
        return ""
    try:
        result = read_run(run).get("result")
    except UsageError:
        return ""
    word = result.get("status") if isinstance(result, dict) else None
    return word if isinstance(word, str) else ""


def _small_model() -> bytes:
    from harness.graph.build import GraphBuilder

    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
    return graph.build().to_bytes()
