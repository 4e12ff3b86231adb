"""`python -m harness.farm.phone`: the process that works for one device of a host.

It reads one line of JSON from its standard input, and ends when that closes. On its standard output it tells, a line of
JSON each, which job it has, how many failures in a row, and that its device is taken out.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distributed import Worker

from harness.core import safe_json
from harness.core.typed_json import read_as
from harness.farm.execute import Station, work_for
from harness.farm.found import Found
from harness.farm.lent.host import HANDLERS
from harness.farm.node import configure, serve
from harness.farm.store import Store
from harness.farm.tls import security

MOST_LINE = 1 << 16
EXIT_TAKEN_OUT = 17
# After the last failure was told, until the worker goes: the answer is on its way.
LINGER_SECONDS = 1.0


@dataclass(frozen=True)
class PhoneSetup:
    """What the process is told. `certificates` is empty without TLS; `store` is the host's. `failures` in a row and the
    model that `failed` last are what the process before it knew."""

    scheduler: str
    address: str
    certificates: str
    host: str
    name: str
    lock: str
    offers: tuple[str, ...]
    store: str
    program: tuple[str, ...]
    failures: int = 0
    failed: str = ""

    @property
    def device(self) -> Found:
        """The device."""
        return Found(self.name, self.lock, self.offers)

    def line(self) -> bytes:
        """As it is told."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> int:
    """Work until standard input closes, a signal comes, or the device is taken out."""
    setup = read_as(PhoneSetup, safe_json.loads(sys.stdin.buffer.readline(MOST_LINE)))
    configure()
    return asyncio.run(_work(setup))


async def _work(setup: PhoneSetup) -> int:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    station = Station(setup.host, setup.device, Store(Path(setup.store)), setup.program)
    station.failures, station.failed = setup.failures, setup.failed
    code = 0

    def stop() -> None:
        station.stopping.set()
        stopping.set()

    def told(event: dict[str, Any]) -> None:
        nonlocal code
        os.write(1, json.dumps(event).encode() + b"\n")
        if "out" in event:
            code = EXIT_TAKEN_OUT
            loop.call_soon_threadsafe(loop.call_later, LINGER_SECONDS, stop)

    def watch() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        loop.call_soon_threadsafe(stop)

    station.tell = told
    work_for(station)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    threading.Thread(target=watch, daemon=True).start()

    def lost() -> None:
        """The job is asked again by whoever wants it: it must not go on here, beside that."""
        station.stopping.set()

    def made() -> Worker:
        if not stopping.is_set():
            station.stopping.clear()
        worker = Worker(
            setup.scheduler,
            nthreads=1,
            name=f"{setup.host}/{setup.name}#{os.getpid()}",
            resources=dict.fromkeys(setup.offers, 1),
            security=security(Path(setup.certificates)) if setup.certificates else None,
            host=setup.address,
            dashboard=False,
            memory_limit=0,
            local_directory=tempfile.gettempdir(),
            metrics={"farm": lambda worker: {"host": setup.host, "device": setup.name, "job": station.job}},
        )
        worker.handlers.update(HANDLERS)
        return worker

    await serve(made, stopping, setup.scheduler, lost=lost)
    for _ in range(600):  # what runs is told to end, and has some seconds for it
        if not station.job:
            break
        await asyncio.sleep(0.05)
    return code


if __name__ == "__main__":
    os._exit(main())  # a thread that still waits for something is no reason to stay
