"""What a host does for the farm: it finds its devices, has one Dask worker process for each, and keeps the files.

A device that adb no longer lists loses its process, and with it its resources; one that comes back gets a new one. One
that was taken out gets none until it does a small model. The first time it is asked for that at once; each further time
with no job done since, the wait before that is twice as long. How each stands is in the figures that this host's own
Dask worker sends along with its heartbeat.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distributed import Worker

from harness.core import safe_json
from harness.core.errors import DeviceError, HarnessError, UsageError
from harness.devices.scratch import alone
from harness.farm import store as kept
from harness.farm.execute import PROGRAM, Station
from harness.farm.found import Find, Found
from harness.farm.node import Unreached, configure, serve
from harness.farm.phone import PhoneSetup
from harness.farm.store import Store
from harness.farm.tls import security

LOOK_SECONDS = 5.0
PROBE_EVERY_SECONDS = 60.0
# A phone that reboots in a job comes back within this; the job waits for it.
GONE_SECONDS = 120.0
_LONGEST_PAUSE = 30.0
LONGEST_OUT_SECONDS = 3600.0

DeviceState = Literal["here", "gone", "out"]


@dataclass(frozen=True)
class HostSetup:
    """How a host takes part. Times in seconds: how often it looks for devices, how often it probes one that was taken
    out, and how long a device with a job may be away."""

    scheduler: str
    address: str
    host: str
    store: Path
    certificates: Path | None = None
    program: tuple[str, ...] = PROGRAM
    look: float = LOOK_SECONDS
    probe_every: float = PROBE_EVERY_SECONDS
    gone_after: float = GONE_SECONDS


@dataclass
class _Kept:
    """A device and the process that works for it. `times_out`: how often it was taken out since it last did a job."""

    found: Found
    state: DeviceState = "here"
    reason: str = ""
    times_out: int = 0
    failures: int = 0
    failed: str = ""
    job: str = ""
    doing: str = ""
    accelerator: str = "gpu"
    process: asyncio.subprocess.Process | None = None
    missing_since: float | None = None
    next_probe: float = 0.0
    not_before: float = 0.0
    pause: float = 1.0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


def out_seconds(times: int, probe_every: float) -> float:
    """How long a device stays out, before it is probed, the nth time with no job done in between, in seconds."""
    return 0.0 if times < 2 else min(probe_every * 2.0 ** min(times - 2, 30), max(LONGEST_OUT_SECONDS, probe_every))


class Keeper:
    """One host's part of the farm."""

    def __init__(self, setup: HostSetup, find: Find, say: Callable[[str], None] = lambda sentence: None) -> None:
        self._setup, self._find, self._say = setup, find, say
        self._devices: dict[str, _Kept] = {}
        self._trouble = ""
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End in order: jobs are ended, processes too."""
        self._stopping.set()

    async def run(self) -> None:
        """Take part until :meth:`stop`.

        Raises:
            UsageError: another process does it with the same store.
        """
        setup = self._setup
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(setup.store / "keeper.lock", 0.0))
            except OSError as error:
                raise UsageError(
                    f"{setup.store} is in use, by another `harness farm worker` on this machine."
                    if isinstance(error, BlockingIOError | TimeoutError)
                    else f"{setup.store} cannot be had ({error.strerror}).",
                    "End that one, or give this one a --store of its own.",
                ) from None
            store = Store(setup.store)
            store.prune()
            kept.serve_from(store)
            configure()
            told = Unreached(setup.scheduler, self._say)
            worker = asyncio.ensure_future(serve(self._own_worker, self._stopping, setup.scheduler, stands=told.note))
            try:
                while not self._stopping.is_set():
                    await self._look()
                    await asyncio.wait({asyncio.ensure_future(self._stopping.wait())}, timeout=setup.look)
            finally:
                self._stopping.set()
                await asyncio.gather(*(self._end(device) for device in self._devices.values()))
                await asyncio.wait({worker}, timeout=30)

    def report(self) -> dict[str, Any]:
        """How the devices stand, as the scheduler is told."""
        now = time.monotonic()
        devices = [
            {
                "name": device.found.name,
                "serial": device.found.lock,
                "state": device.state,
                "reason": device.reason,
                "times_out": device.times_out,
                "probe_in": round(max(0.0, device.next_probe - now), 1) if device.state == "out" else None,
                "job": device.job,
                "doing": device.doing,
                "offers": list(device.found.offers),
            }
            for device in self._devices.values()
        ]
        return {"host": self._setup.host, "trouble": self._trouble, "devices": devices}

    def _own_worker(self) -> Worker:
        setup = self._setup
        return Worker(
            setup.scheduler,
            nthreads=2,
            name=f"{setup.host}#{os.getpid()}",
            resources={f"keeper:{setup.host}": 1},
            security=security(setup.certificates) if setup.certificates else None,
            host=setup.address,
            dashboard=False,
            memory_limit=0,
            local_directory=tempfile.gettempdir(),
            metrics={"farm": lambda worker: self.report()},
        )

    async def _look(self) -> None:
        try:
            found = {device.name: device for device in await asyncio.to_thread(self._find)}
            self._trouble = ""
        except (DeviceError, HarnessError) as error:
            if error.message != self._trouble:
                self._say(str(error))
            self._trouble, found = error.message, {}
        now = time.monotonic()
        for name, device in found.items():
            if name not in self._devices:
                self._devices[name] = _Kept(device)
                self._say(f"{name} is here: {', '.join(device.offers)}.")
        for name, known in self._devices.items():
            if name in found:
                if known.missing_since is not None and known.state == "gone":
                    known.state = "out" if known.reason else "here"
                    self._say(f"{name} is back.")
                known.found, known.missing_since = found[name], None
                if known.state == "out" and now >= known.next_probe:
                    known.next_probe = now + self._setup.probe_every
                    self._begin(known, self._probe(known))
                elif known.state == "here" and known.process is None and now >= known.not_before:
                    known.not_before = now + known.pause
                    self._begin(known, self._work(known))
                continue
            known.missing_since = now if known.missing_since is None else known.missing_since
            if known.state != "gone" and (not known.job or now - known.missing_since > self._setup.gone_after):
                known.state = "gone"
                self._say(f"{name} is gone.")
                await self._end(known)

    def _begin(self, known: _Kept, work: Any) -> None:
        task = asyncio.ensure_future(work)
        known.tasks.add(task)
        task.add_done_callback(known.tasks.discard)

    async def _work(self, known: _Kept) -> None:
        """Have a process for a device, to its end."""
        setup = self._setup
        told = PhoneSetup(
            scheduler=setup.scheduler,
            address=setup.address,
            certificates=str(setup.certificates or ""),
            host=setup.host,
            name=known.found.name,
            lock=known.found.lock,
            offers=known.found.offers,
            store=str(setup.store),
            program=setup.program,
            failures=known.failures,
            failed=known.failed,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "harness.farm.phone",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        known.process, began = process, time.monotonic()
        try:
            process.stdin.write(told.line())
            await process.stdin.drain()
            while line := await process.stdout.readline():
                self._hear(known, line)
        except (OSError, ValueError):  # it died, or says what it does not say
            process.stdin.close()
        await process.wait()
        known.process, known.job, known.doing = None, "", ""
        if known.reason and known.state == "here":
            known.state = "out"
        elif time.monotonic() - began > _LONGEST_PAUSE:
            known.pause = 1.0
        else:
            known.pause = min(2 * known.pause, _LONGEST_PAUSE)

    def _hear(self, known: _Kept, line: bytes) -> None:
        event = safe_json.loads(line)
        if not isinstance(event, dict):
            return
        if isinstance(event.get("job"), str):
            known.job, known.doing = event["job"], str(event.get("doing", ""))
        if isinstance(event.get("out"), str):
            known.reason, known.accelerator = event["out"], str(event.get("accelerator"))
            known.times_out, known.failures, known.failed = known.times_out + 1, 0, ""
            wait = out_seconds(known.times_out, self._setup.probe_every)
            known.next_probe = time.monotonic() + wait
            often = f", {known.times_out} times now with no job done between, for {wait:g} s" if wait else ""
            self._say(f"{known.found.name} is taken out{often}: {known.reason.rstrip('.')}.")
        if isinstance(event.get("failures"), int):
            known.failures, known.failed = event["failures"], str(event.get("failed"))
            known.times_out = known.times_out if known.failures else 0

    async def _probe(self, known: _Kept) -> None:
        station = Station(self._setup.host, known.found, Store(self._setup.store), self._setup.program)
        asked = asyncio.ensure_future(asyncio.to_thread(station.probe, known.accelerator))
        await asyncio.wait({asked, asyncio.ensure_future(self._stopping.wait())}, return_when="FIRST_COMPLETED")
        station.stopping.set()
        why = await asked
        if not why and known.state == "out":
            known.state, known.reason, known.not_before = "here", "", 0.0
            self._say(f"{known.found.name} does a small model: it takes jobs again.")

    async def _end(self, known: _Kept) -> None:
        """End a device's process, and what runs in it."""
        process = known.process
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if known.tasks:
            await asyncio.wait(set(known.tasks), timeout=40)
        if known.process is not None:
            known.process.kill()
