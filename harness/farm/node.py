"""What every process of a farm has of Dask: its settings, a worker that looks for its scheduler again when that goes,
and a client that asks for the workers."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Client, Worker

from harness.core.errors import DeviceError, UsageError
from harness.farm.tls import security

AGAIN_SECONDS = 1.0
CONNECT_SECONDS = 20.0
ANSWER_SECONDS = 15.0
ABSENT_SECONDS = 60.0
PATIENCE_SECONDS = 600.0
# Where clients tell of what waits.
QUEUE = "harness-farm-queue"

# What makes a farm of phones different from a cluster that computes.
CONFIG: dict[str, Any] = {
    "distributed.scheduler.work-stealing": False,  # it miscounts resources
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.reuse-broadcast-comm": True,  # else each question to a worker costs a TLS handshake
    "distributed.scheduler.allowed-failures": 1000,  # it counts jobs that were merely given to a worker that died
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS:g}s",
    "distributed.comm.retry.count": 1,
    "distributed.admin.large-graph-warning-threshold": "64 MiB",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.profile.enabled": False,
    # What a scheduler remembers of the past: a farm runs for months.
    "distributed.admin.log-length": 1000,
    "distributed.admin.system-monitor.log-length": 600,
    "distributed.diagnostics.computations.max-history": 1,
}


def configure(**more: Any) -> None:
    """Set Dask up for this process."""
    dask.config.set(CONFIG | more)
    logging.getLogger("distributed").setLevel(logging.ERROR)


def scheduler_address(text: str, *, tls: bool) -> str:
    """`tls://HOST:PORT` of what was given, with or without the scheme. Raises UsageError."""
    scheme = "tls" if tls else "tcp"
    whole = text if "://" in text else f"{scheme}://{text}"
    parts = urlsplit(whole)
    try:
        port = parts.port
        (parts.hostname or "").encode("idna")  # as looking it up does, of a name with an empty part
    except ValueError:
        port = None
    if not parts.hostname or not port or parts.scheme not in ("tls", "tcp") or parts.path:
        lacks = " without a port" if parts.hostname and ":" not in parts.netloc and not parts.path else ""
        host = parts.hostname if lacks else "lab1"
        raise UsageError(f"'{text[:80]}' is no address of a scheduler{lacks}.", f"Write it as {host}:8786.")
    if parts.scheme != scheme:
        raise UsageError(
            f"{text} is {'without' if tls else 'with'} TLS.",
            "Write tls://, or give --no-tls." if tls else "Write tcp://, or leave --no-tls out.",
        )
    return whole


def own_address(scheduler: str) -> str:
    """This host's address on the network that the scheduler is on; nothing is sent."""
    parts = urlsplit(scheduler)
    try:
        family, kind, _, _, where = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as sock:
            sock.connect(where)
            return str(sock.getsockname()[0])
    except OSError as error:
        raise UsageError(
            f"{scheduler} is not reached from here ({error.strerror or error}).",
            "Give --address, or another one.",
        ) from None


async def why_no_connection(scheduler: str) -> str:
    """Why nothing listens at an address, as the system says it; empty where something does."""
    parts = urlsplit(scheduler)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, parts.port), CONNECT_SECONDS)
        writer.close()
    except TimeoutError:
        return f"no answer in {CONNECT_SECONDS:g} s"
    except OSError as error:
        # asyncio puts its own words before those of the system
        return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    return ""


async def _not_started(worker: Worker) -> str:
    """Why it did not find its scheduler; empty where it did."""
    try:
        await asyncio.wait_for(worker, CONNECT_SECONDS + 10)
    except Exception as error:  # noqa: BLE001 - no scheduler yet, or no more: what it raises then is anything
        return (str(error) or "it takes no worker: are these the certificates of its farm?")[:200]
    return ""


class Unreached:
    """Tells of a scheduler that is not reached: once for each reason, and once more when it is reached again."""

    def __init__(self, scheduler: str, say: Callable[[str], None], how_long: str = "until this is ended") -> None:
        self._scheduler, self._say, self._how_long, self._why = scheduler, say, how_long, ""

    def note(self, why: str) -> None:
        """How it stands now; `why` is empty where the scheduler is reached."""
        if why and why != self._why:
            self._say(f"The scheduler {self._scheduler} is not reached ({why}); trying again {self._how_long}.")
        elif self._why and not why:
            self._say(f"The scheduler {self._scheduler} is reached.")
        self._why = why


async def serve(
    make: Callable[[], Worker],
    stopping: asyncio.Event,
    scheduler: str,
    *,
    lost: Callable[[], None] = lambda: None,
    stands: Callable[[str], None] = lambda why: None,
) -> None:
    """Have a worker that `make` makes until `stopping` is set. `lost` is called each time that it ended by itself,
    `stands` after each attempt, with why its scheduler is not reached or with nothing."""
    ended = asyncio.ensure_future(stopping.wait())
    try:
        while not stopping.is_set():
            looking = asyncio.ensure_future(why_no_connection(scheduler))
            await asyncio.wait({looking, ended}, return_when="FIRST_COMPLETED")
            if not looking.done() or looking.result():
                if looking.done():
                    stands(looking.result())
                looking.cancel()
                await asyncio.wait({ended}, timeout=AGAIN_SECONDS)
                continue
            worker = make()
            starting = asyncio.ensure_future(_not_started(worker))
            await asyncio.wait({starting, ended}, return_when="FIRST_COMPLETED")
            if starting.done():
                stands(starting.result())
            if not starting.done() or starting.result():
                starting.cancel()
                with suppress(Exception):
                    await asyncio.wait_for(worker.close(timeout=1, executor_wait=False), 5)
            else:
                await asyncio.wait({ended, asyncio.ensure_future(worker.finished())}, return_when="FIRST_COMPLETED")
                lost()
                if stopping.is_set():
                    with suppress(Exception):
                        await asyncio.wait_for(worker.close(timeout=5, executor_wait=False), 15)
            await asyncio.wait({ended}, timeout=AGAIN_SECONDS)
    finally:
        ended.cancel()


@dataclass(frozen=True)
class Farm:
    """Where the farm is. Times in seconds: how long a device that nobody has is waited for, and a scheduler that does
    not answer."""

    scheduler: str
    certificates: Path | None = None
    absent_after: float = ABSENT_SECONDS
    patience: float = PATIENCE_SECONDS

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A connection. Raises OSError where there is none to be had."""
        if why := await why_no_connection(self.scheduler):
            raise OSError(why)
        async with Client(
            self.scheduler,
            security=security(self.certificates) if self.certificates else None,
            asynchronous=True,
            timeout=ANSWER_SECONDS,
            set_as_default=False,
        ) as client:
            yield client


@dataclass(frozen=True)
class FarmWorker:
    """A worker as the scheduler knows it. `report` is what it says of itself."""

    address: str
    offers: frozenset[str]
    report: dict[str, Any]

    @property
    def keeper(self) -> str:
        """The host that it keeps files for; empty for one that works for a device."""
        return next((offer.partition(":")[2] for offer in self.offers if offer.startswith("keeper:")), "")

    @property
    def host(self) -> str:
        """The host that it is on."""
        return self.keeper or next((o.partition(":")[2] for o in self.offers if o.startswith("host:")), "")


def absent_sentence(need: Sequence[str], seconds: float, workers: Sequence[FarmWorker]) -> str:
    """That no device has what is needed, waited for so long; and which ones do but are taken out, and why."""
    out = [
        f"{device['name']} is taken out: {device['reason']}"
        for worker in workers
        for device in worker.report.get("devices", ())
        if device.get("state") == "out" and set(device.get("offers", ())) >= set(need)
    ]
    more = f" ({'; '.join(out)})" if out else ""
    return f"No device has {', '.join(need)} for {seconds:g} s{more}."


async def workers_of(client: Client) -> list[FarmWorker]:
    """All that are connected. Raises OSError."""
    if client.scheduler is None:
        raise OSError("the connection ended")
    found = await asyncio.wait_for(client.scheduler.identity(n_workers=-1), ANSWER_SECONDS)
    made = []
    for address, facts in found["workers"].items():
        report = facts.get("metrics", {}).get("farm")
        made.append(FarmWorker(address, frozenset(facts["resources"]), report if isinstance(report, dict) else {}))
    return made


def not_reached(farm: Farm, error: BaseException) -> DeviceError:
    """One sentence for a scheduler that gives no answer, or takes no certificate."""
    why = str(error)[:200] or type(error).__name__
    return DeviceError(
        f"The scheduler {farm.scheduler} is not reached ({why}).",
        "Start it with `harness farm scheduler`, and give the certificates of its farm.",
    )
