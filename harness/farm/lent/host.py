"""A loan on the host that has the device: a process for it, and the ends of its line in the farm's worker.

Dask calls :func:`lend`, which takes as long as the loan does, so that no job comes to the device meanwhile. What goes
over the line comes by `HANDLERS`, to which the scheduler passes on what a program asks: bytes, and nothing that is run.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from harness.core.visible import visible
from harness.farm.execute import Station, station_here
from harness.farm.job import Asked
from harness.farm.lent.wire import PIECE_BYTES, TROUBLE, LoanSpec, read_loan

SILENT_SECONDS = 30.0
"""A loan ends when nobody has asked for anything for so long: a program asks every few seconds, whatever it does."""
END_SECONDS = 40.0
LONGEST_WAIT = 20.0
_KEPT = 50


@dataclass
class _Loan:
    """`up` and `down` count bytes, `heard` is when something was last asked, by `time.monotonic`."""

    line: socket.socket
    heard: float = field(default_factory=time.monotonic)
    up: int = 0
    down: int = 0
    reason: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.ends is None:
            self.ends = await asyncio.open_connection(sock=self.line, limit=PIECE_BYTES)
        return self.ends


_loans: dict[str, _Loan] = {}


def lend(document: str) -> None:
    """What Dask calls: a `LoanSpec` as text. Comes back when the loan is over.

    Raises:
        Asked: the device is to be asked for again. UsageError: it is no loan, or this process has no device.
    """
    loan, station = read_loan(document), station_here()
    with station.lent(f"lent to {loan.borrower}") as look_at:
        trouble = _held(station, loan)
        if trouble and not station.stopping.is_set():
            with suppress(Asked):
                look_at(trouble)


def _held(station: Station, spec: LoanSpec) -> str:
    """The accelerator whose device trouble was the last that the loan saw; empty for none."""
    here, there = socket.socketpair()
    with tempfile.TemporaryFile() as said:
        with there:
            # An end that closes with this process, whatever ends it.
            served = [sys.executable, "-m", "harness.farm.lent.serve", str(station.store.folder)]
            leash = subprocess.Popen(
                [sys.executable, "-m", "harness.farm.leash", *served],
                stdin=subprocess.PIPE,
                stdout=there.fileno(),
                stderr=said,
                cwd=tempfile.gettempdir(),
            )
        assert leash.stdin is not None
        loan = _loans[spec.id] = _Loan(here)
        try:
            while leash.poll() is None and not loan.closing.wait(0.1):
                if station.stopping.is_set():
                    loan.reason = "the farm's worker was ended, or the device went"
                elif time.monotonic() - loan.heard > SILENT_SECONDS:
                    loan.reason = f"nothing was asked for {SILENT_SECONDS:g} s"
                if loan.reason:
                    break
        finally:
            leash.stdin.close()
            code = leash.wait()
            loan.reason = loan.reason or _last_words(said, code)
            loan.gone.set()
            _forget_old()
    return next((accelerator for accelerator, number in TROUBLE.items() if number == code), "")


def _forget_old() -> None:
    """Keep the last loans, so that who asks late is told how they ended."""
    over = [name for name, loan in _loans.items() if loan.gone.is_set()]
    for name in over[:-_KEPT]:
        _loans.pop(name, None)


def _last_words(said: IO[bytes], code: int) -> str:
    said.seek(0, 2)
    said.seek(max(said.tell() - 4000, 0))
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    more = f" ({visible(lines[-1])[:300]})" if lines and code else ""
    return f"its process on the farm's host ended with {code}{more}"


async def lent_state(loan: str, seconds: float) -> dict[str, str]:
    """Whether the loan has begun, after at most `seconds`: `waiting`, `open` or `ended` with a `reason`."""
    until = time.monotonic() + min(seconds, LONGEST_WAIT)
    while loan not in _loans:
        if time.monotonic() >= until:
            return {"state": "waiting", "reason": ""}
        await asyncio.sleep(0.05)
    found = _heard(loan)
    if found is not None and not found.gone.is_set():
        await found.streams()
        return {"state": "open", "reason": ""}
    return _ended(loan)


async def lent_up(loan: str, offset: int, data: bytes) -> dict[str, str]:
    """Bytes for the loan's process, from `offset` on of all that go there."""
    found = _heard(loan)
    if found is None or found.gone.is_set() or offset != found.up or len(data) > PIECE_BYTES:
        return _ended(loan)
    _, writer = await found.streams()
    try:
        writer.write(bytes(data))
        await writer.drain()
    except OSError:
        return await _gone(loan, found)
    found.up += len(data)
    _heard(loan)
    return {"state": "open", "reason": ""}


async def lent_down(loan: str, offset: int, seconds: float) -> dict[str, Any]:
    """Bytes that the loan's process says, from `offset` on; none where none came within `seconds`."""
    found = _heard(loan)
    if found is None or offset != found.down:
        return _ended(loan)
    reader, _ = await found.streams()
    try:
        data = await asyncio.wait_for(reader.read(PIECE_BYTES), min(seconds, LONGEST_WAIT))
    except TimeoutError:
        return {"state": "open", "reason": "", "data": b""}
    except OSError:
        data = b""
    if not data:
        return await _gone(loan, found)
    found.down += len(data)
    _heard(loan)
    return {"state": "open", "reason": "", "data": data}


async def lent_end(loan: str) -> dict[str, str]:
    """End the loan, and wait for that."""
    found = _heard(loan)
    if found is None:
        return _ended(loan)
    found.closing.set()
    return await _gone(loan, found)


async def _gone(loan: str, found: _Loan) -> dict[str, str]:
    """How the loan ended, once its process has."""
    until = time.monotonic() + END_SECONDS
    while not found.gone.is_set() and time.monotonic() < until:
        await asyncio.sleep(0.05)
    if found.ends is not None:
        found.ends[1].close()
    return _ended(loan)


def _heard(loan: str) -> _Loan | None:
    found = _loans.get(loan)
    if found is not None:
        found.heard = time.monotonic()
    return found


def _ended(loan: str) -> dict[str, str]:
    found = _loans.get(loan)
    reason = "the farm's host does not know the loan" if found is None else found.reason or "the line lost a piece"
    return {"state": "ended", "reason": reason}


HANDLERS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    function.__name__: function for function in (lent_state, lent_up, lent_down, lent_end)
}
