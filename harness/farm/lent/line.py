"""The program's end of a loan: a device of a farm is taken, and bytes go to its process and back until it is returned.

A thread of its own does that, so that a job is waited for as any device's is: at a socket, and Ctrl-C ends the wait.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from distributed import Client

from harness.core.errors import DeviceError, HarnessError
from harness.core.visible import visible
from harness.devices.android.locks import WAIT_SECONDS
from harness.devices.link import Link
from harness.farm.lent.host import END_SECONDS, lend
from harness.farm.lent.pins import LOOK_SECONDS, Pin, absent, configure_client
from harness.farm.lent.wire import PIECE_BYTES, LoanSpec
from harness.farm.node import Farm, FarmWorker, not_reached, workers_of

POLL_SECONDS = 5.0
"""How long a question for bytes waits on the host."""
_CALL_SECONDS = 60.0


class LoanOver(Exception):
    """The loan is over; the clause says why."""


class Line:
    """One loan, from :meth:`open` to :meth:`close`. Neither is called twice."""

    def __init__(self, farm: Farm, pin: Pin) -> None:
        self._farm, self._pin = farm, pin
        self._id = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._stopped = threading.Event()
        self._begun = threading.Event()
        self._error: BaseException | None = None
        self._over = ""
        self._unreachable = False
        self._link: Link | None = None
        self._thread = threading.Thread(target=self._work, name=f"loan of {pin.place}", daemon=True)

    def open(self) -> Link:
        """Have the device, whoever has it now is waited for. A socket whose other end is the loan's process.

        Raises:
            DeviceError: the scheduler is not reached, the device is absent or in use for too long, or taken out.
        """
        self._thread.start()
        try:
            while not self._begun.wait(0.2):
                pass
        except BaseException:
            self.close()
            raise
        if self._link is None:
            self._thread.join()
            if isinstance(self._error, HarnessError):
                raise self._error
            raise not_reached(self._farm, self._error or OSError("it ended"))
        return self._link

    def close(self) -> None:
        """Return the device: what still runs there is ended."""
        self._stop()
        if self._thread.is_alive():
            self._thread.join(END_SECONDS + 20)
        if self._link is not None:
            self._link.close()

    def abandon(self) -> None:
        """Have nothing to do with it any more: it broke."""
        self._stop()
        if self._link is not None:
            self._link.close()

    def why(self, otherwise: str) -> str:
        """Why the line broke, as a clause; `otherwise` where that is not known."""
        return self._over or otherwise

    def _stop(self) -> None:
        self._stopped.set()
        if self._loop is not None and self._stopping is not None:
            with suppress(RuntimeError):  # it is over already
                self._loop.call_soon_threadsafe(self._stopping.set)

    def _work(self) -> None:
        try:
            asyncio.run(self._whole())
        except BaseException as error:  # noqa: BLE001 - told by whoever waits
            self._error = error
        finally:
            self._begun.set()

    async def _whole(self) -> None:
        configure_client()
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        if self._stopped.is_set():
            return
        try:
            async with self._farm.client() as client:
                await self._borrow(client)
        except LoanOver as error:
            self._over = str(error)
        except (OSError, TimeoutError) as error:
            if self._link is None:
                raise not_reached(self._farm, error) from None
            self._over = f"the scheduler {self._farm.scheduler} was lost"

    async def _borrow(self, client: Client) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while not await self._try(client):
            if time.monotonic() > until:
                raise DeviceError(
                    f"{self._pin.word} ({self._pin.place}) is in use for over {WAIT_SECONDS:g} s.",
                    "Wait for it, or name another device.",
                )

    async def _worker(self, client: Client) -> FarmWorker:
        until = time.monotonic() + self._farm.absent_after
        while not self._stopped.is_set():
            workers = await workers_of(client)
            found = self._pin.worker(workers)
            if found is not None:
                return found
            if time.monotonic() >= until:
                raise absent(self._farm, self._pin.needs, workers)
            await asyncio.sleep(LOOK_SECONDS)
        raise LoanOver("it was returned")

    async def _try(self, client: Client) -> bool:
        """One loan to its end; False where it did not begin, because its worker went or is busy for long."""
        worker = await self._worker(client)
        self._id = secrets.token_hex(16)
        loan = LoanSpec(self._id, visible(f"{_user()}@{socket.gethostname()}")[:100])
        future = client.submit(
            lend,
            json.dumps(asdict(loan)),
            key=f"loan-{self._id}",
            workers=[worker.address],
            allow_other_workers=False,
            resources=dict.fromkeys(worker.offers, 1),
            retries=0,
            pure=False,
        )
        try:
            if not await self._begins(client, worker.address, future):
                return False
            await self._carry(client, worker.address)
            return True
        finally:
            if not self._unreachable:
                with suppress(Exception):
                    await asyncio.wait_for(self._ask(client, worker.address, "lent_end"), END_SECONDS)
            future.release()

    async def _begins(self, client: Client, address: str, future: Any) -> bool:
        until = time.monotonic() + WAIT_SECONDS
        while not self._stopped.is_set() and time.monotonic() < until:
            if future.done():
                await self._explain(future)
                return False
            try:
                told = await self._ask(client, address, "lent_state", seconds=1.0)
            except OSError:
                if client.status != "running":
                    raise
                return False  # its worker went
            if told["state"] == "open":
                return True
            if told["state"] == "ended":
                raise DeviceError(f"{self._pin.word} ({self._pin.place}) was not lent: {told['reason']}.")
        if self._stopped.is_set():
            raise LoanOver("it was returned")
        return False

    async def _explain(self, future: Any) -> None:
        """Raise what a loan that never began ended with, unless its worker went."""
        try:
            await asyncio.wait_for(future, _CALL_SECONDS)
        except HarnessError as error:
            raise DeviceError(f"{self._pin.word} ({self._pin.place}) is not lent: {error.message}") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise OSError("the scheduler is gone") from None
        except Exception:  # noqa: BLE001 - a worker that went, in Dask's many words
            await asyncio.sleep(LOOK_SECONDS)

    async def _carry(self, client: Client, address: str) -> None:
        """Bytes both ways, until the device is returned or the loan is over."""
        assert self._stopping is not None
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=there, limit=PIECE_BYTES)
        self._link = Link(here)
        self._begun.set()
        tasks = [
            asyncio.ensure_future(self._up(client, address, reader)),
            asyncio.ensure_future(self._down(client, address, writer)),
            asyncio.ensure_future(self._stopping.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
            await done.pop()
        except LoanOver as error:
            self._over = str(error)
        except OSError:
            self._over = await self._lost(client)
            self._unreachable = True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()

    async def _up(self, client: Client, address: str, reader: asyncio.StreamReader) -> None:
        sent = 0
        while data := await reader.read(PIECE_BYTES):
            _still_open(await self._ask(client, address, "lent_up", offset=sent, data=data))
            sent += len(data)

    async def _down(self, client: Client, address: str, writer: asyncio.StreamWriter) -> None:
        had = 0
        while True:
            told = await self._ask(client, address, "lent_down", offset=had, seconds=POLL_SECONDS)
            _still_open(told)
            data = told.get("data")
            if not isinstance(data, bytes | bytearray | memoryview) or len(data) > PIECE_BYTES:
                raise LoanOver("the farm's host sent nonsense")
            had += len(data)
            writer.write(data)
            await writer.drain()

    async def _ask(self, client: Client, address: str, op: str, **fields: Any) -> dict[str, Any]:
        """A question to the loan's host, by the scheduler. Raises OSError."""
        if client.scheduler is None:
            raise OSError("the connection ended")
        asked = client.scheduler.proxy(worker=address, msg={"op": op, "loan": self._id, **fields})
        told = await asyncio.wait_for(asked, _CALL_SECONDS)
        if not isinstance(told, dict) or not isinstance(told.get("state"), str):
            raise LoanOver(f"{self._pin.host} lends no devices: it has another release of the harness")
        return told

    async def _lost(self, client: Client) -> str:
        """What went: the worker, or the scheduler with it."""
        try:
            await workers_of(client)
        except (OSError, TimeoutError):
            return f"the scheduler {self._farm.scheduler} was lost"
        return f"the farm's process for {self._pin.place} went"


def _still_open(told: dict[str, Any]) -> None:
    if told["state"] != "open":
        raise LoanOver(str(told.get("reason"))[:500])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return "somebody"
