"""What every process of a farm has of Dask: its settings, a worker that looks for its scheduler again when that goes,
and a client that asks for the workers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
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
    except ValueError:
        port = None
    if not parts.hostname or not port or parts.scheme not in ("tls", "tcp") or parts.path:
        raise UsageError(f"'{text}' is no address of a scheduler.", f"Write it as {scheme}://HOST:8786.")
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


async def _started(worker: Worker) -> bool:
    """Whether it found its scheduler."""
    try:
        await asyncio.wait_for(worker, CONNECT_SECONDS + 10)
    except Exception:  # noqa: BLE001 - no scheduler yet, or no more: what it raises then is anything
        return False
    return True


async def serve(make: Callable[[], Worker], stopping: asyncio.Event, lost: Callable[[], None] = lambda: None) -> None:
    """Have a worker that `make` makes until `stopping` is set. `lost` is called each time that it ended by itself."""
    ended = asyncio.ensure_future(stopping.wait())
    try:
        while not stopping.is_set():
            worker = make()
            starting = asyncio.ensure_future(_started(worker))
            await asyncio.wait({starting, ended}, return_when="FIRST_COMPLETED")
            if not starting.done() or not starting.result():
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

    def client(self) -> Client:
        """Not connected yet: `async with` it. Raises OSError then."""
        return Client(
            self.scheduler,
            security=security(self.certificates) if self.certificates else None,
            asynchronous=True,
            timeout=ANSWER_SECONDS,
            set_as_default=False,
        )


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
