"""A device of a farm, as any other device: jobs go to the host that has it, their outcomes come from there.

What a device is to its own host decides what comes of a job: outcomes, residency and counts are made there, by the
host's own `Device`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import DeviceError, HarnessError
from harness.core.job import Job, Lost, Outcome, OutputPort
from harness.core.typed_json import read_as
from harness.devices.android.device import PhoneOptions
from harness.devices.base import Device, DeviceFacts, Sink
from harness.devices.kept import BY_DIGEST, KeptInputs, sent_with_run
from harness.devices.link import Link, LinkError, Message
from harness.farm.lent import wire
from harness.farm.lent.line import Line
from harness.farm.lent.pins import Pin
from harness.farm.node import Farm

START_SECONDS = 1800.0
"""For whatever comes before a job on a phone: waiting for whoever has it, installing, its reboot."""
ANSWER_SECONDS = 120.0
AGAIN_SECONDS = 60.0
"""How often a farm that does not lend the device is asked for it: many tests may want it one after another."""


class Told(Exception):
    """What the host's own device raised."""

    def __init__(self, error: HarnessError) -> None:
        super().__init__(str(error))
        self.error = error


class Borrowed:
    """One device of a farm for this process, on one line that opened devices share one after another."""

    def __init__(self, farm: Farm, pin: Pin) -> None:
        self.pin = pin
        self.generation = 0
        self.sent: set[str] = set()
        """Digests of what the host has, as far as this line knows."""
        self._farm = farm
        self._line: Line | None = None
        self._link: Link | None = None
        self._ident = 0
        self._opened = 0
        self._refused: tuple[DeviceError, float] | None = None
        self._turn = threading.RLock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Meanwhile no other thread asks anything."""
        with self._turn:
            yield

    def is_free(self) -> bool:
        """Whether no other thread has its turn."""
        if not self._turn.acquire(blocking=False):
            return False
        self._turn.release()
        return True

    def link(self) -> Link:
        """The line's socket, of a new line where there is none. Raises DeviceError, the last one again where that is
        not long ago."""
        if self._link is None:
            if self._refused is not None and time.monotonic() - self._refused[1] < AGAIN_SECONDS:
                raise self._refused[0]
            line = Line(self._farm, self.pin)
            try:
                self._link = line.open()
            except DeviceError as error:
                self._refused = error, time.monotonic()
                raise
            self._line, self._refused = line, None
            self.generation += 1
            self.sent.clear()
        return self._link

    def moved(self) -> tuple[int, int]:
        """Bytes sent and received over the line that is open."""
        link = self._link
        return (0, 0) if link is None else (link.sent_bytes, link.received_bytes)

    def number(self) -> int:
        """For a device that is opened."""
        self._opened += 1
        return self._opened

    def ask(self, kind: str, seconds: float, **fields: Any) -> Message:
        """A question and its answer, over the line that is open. Raises LinkError, Told."""
        deadline = time.monotonic() + seconds
        self.send(kind, deadline, **fields)
        return self.answer(deadline, 0)

    def send(self, kind: str, deadline: float, payloads: Sequence[tuple[str, Array]] = (), **fields: Any) -> None:
        """A question. Raises LinkError."""
        self._ident += 1
        self._open_link().send(kind, self._ident, deadline, payloads, **fields)

    def answer(self, deadline: float, limit: int) -> Message:
        """The next message, of at most `limit` bytes. Raises LinkError, Told."""
        reply = self._open_link().receive(deadline, limit)
        if reply.id != self._ident:
            raise LinkError(f"answer {reply.id} came to request {self._ident}")
        if reply.type == "failed" and reply.fields.get("kind") != "missing":
            raise Told(wire.error_of(reply.fields))
        return reply

    def _open_link(self) -> Link:
        link = self._link
        if link is None:
            raise LinkError("the device was returned to the farm")
        return link

    def lost(self, error: LinkError) -> str:
        """Forget the line; why it broke, as a clause."""
        line, self._line, self._link = self._line, None, None
        if line is None:
            return str(error)
        why = line.why(str(error))
        line.abandon()
        return why

    def give_back(self) -> None:
        """Return the device to the farm, whatever it does. The next job borrows it anew."""
        line, self._line, self._link = self._line, None, None
        if line is not None:
            line.close()


class FarmDevice(Device):
    """A borrowed device, opened once."""

    elsewhere = True

    def __init__(self, borrowed: Borrowed, phone: PhoneOptions) -> None:
        """Raises DeviceError: it cannot be had. UsageError: the host does not know its name."""
        super().__init__(borrowed.pin.word, "", _Afar(borrowed))
        self._borrowed = borrowed
        choices = wire.PhoneChoices(phone.cool_down, phone.fixed_performance, phone.return_seconds)
        self._phone, self._start_seconds = asdict(choices), START_SECONDS + phone.cool_down
        self._number = borrowed.number()
        self._anew = False
        self._generation = -1
        self._state = wire.DeviceState()
        self._before = 0, 0
        self._round: wire.Round | None = None
        self._inputs = KeptInputs()
        with borrowed.turn(), self._plainly():
            self._open()

    def close(self) -> None:
        """End its process there."""
        self._end("close")
        self._generation = -1

    def stop(self) -> None:
        """End its process there, also while another thread waits for a job: that is lost then."""
        self._end("stop")

    @property
    def sent_bytes(self) -> int:
        """Bytes sent over the line that is open now."""
        return self._borrowed.moved()[0]

    @property
    def received_bytes(self) -> int:
        """Bytes received over it."""
        return self._borrowed.moved()[1]

    @property
    def serial(self) -> str:
        """A phone's own serial number, once it was reached."""
        return self._state.serial

    @property
    def user(self) -> int:
        """The device's own."""
        return self._state.user

    @property
    def host(self) -> str:
        """The farm's host that has it."""
        return self._borrowed.pin.host

    @property
    def fixed_performance(self) -> bool | None:
        """The device's own, as it was after the last job."""
        return self._state.fixed_performance

    def clocked_there(self) -> dict[str, float | None] | None:
        """How long the last job took there."""
        return None if self._round is None else asdict(self._round)

    def start_anew(self) -> None:
        """Said with every job."""
        self._anew = True

    def celsius(self) -> float | None:
        """The device's temperature; None where it does not tell, or is not reached."""
        with suppress(HarnessError), self._borrowed.turn(), self._plainly():
            self._open()
            told = self._borrowed.ask("celsius", ANSWER_SECONDS, device=self._number).fields.get("celsius")
            return float(told) if isinstance(told, int | float) else None
        return None

    def facts(self) -> DeviceFacts:
        """As any device's, under the name that was asked for. Raises DeviceError."""
        with self._borrowed.turn(), self._plainly():
            self._open()
            reply = self._borrowed.ask("facts", self._start_seconds, device=self._number)
            self._note(reply)
            try:
                told = read_as(DeviceFacts, reply.fields.get("facts"))
            except ValueError as error:
                raise LinkError(str(error)) from None
        return DeviceFacts(self.name, told.kind, told.runtime, told.gpu, told.system)

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        """As :meth:`Device.run`. A line that breaks, a host or a scheduler that goes, is `Lost`.

        Raises:
            DeviceError: the device cannot be reached at all.
        """
        outputs: dict[str, Array] = {}
        with self._borrowed.turn():
            with self._plainly():
                self._open()
            try:
                reply = self._there_and_back(job, sink or outputs.__setitem__)
                self._note(reply)
                outcome, self._round = wire.read_outcome(reply.payloads["outcome"], outputs)
            except Told as told:
                raise told.error from None
            except LinkError as error:
                return Lost(self._borrowed.lost(error))
            except BaseException:
                self._borrowed.give_back()  # the sink's own fault, or Ctrl-C: nobody waits for the job any more
                raise
        return outcome

    def _there_and_back(self, job: Job, take: Sink) -> Message:
        """A job, asked once more where the host has lost what it was sent. Raises LinkError, Told."""
        deadline = time.monotonic() + job.timeout + self._start_seconds
        reply = self._asked(job, take, deadline)
        if reply.type == "failed":
            self._borrowed.sent.clear()
            reply = self._asked(job, take, deadline)
        if reply.type != "ended" or "outcome" not in reply.payloads:
            raise LinkError(f"'{reply.type}' came where a run ends")
        return reply

    def _asked(self, job: Job, take: Sink, deadline: float) -> Message:
        borrowed = self._borrowed
        self._have(job.sha256, np.frombuffer(job.model, np.uint8))
        kept = self._inputs.keep(job.inputs, self._have)
        fields, payloads = sent_with_run(job.inputs, kept)
        borrowed.send(
            "run", deadline, payloads, device=self._number, ask=wire.request_of(job), anew=self._anew, **fields
        )
        expected = list(job.outputs)
        reply = borrowed.answer(deadline, _most(expected))
        while reply.type == "output":
            if not expected:
                raise LinkError("more outputs came than were asked for")
            port = expected.pop(0)
            values = reply.payloads.get(port.name)
            if values is None or values.shape != port.shape or values.dtype != port.dtype:
                raise LinkError(f"output '{port.name}' came in another size, shape or type")
            take(port.name, values)
            del values, reply
            reply = borrowed.answer(deadline, _most(expected))
        return reply

    def _have(self, sha256: str, data: Array) -> bool:
        """Have bytes on the host by their digest; sent where they are not there."""
        borrowed = self._borrowed
        if sha256 not in borrowed.sent:
            reply = borrowed.ask("has", ANSWER_SECONDS, sha256=sha256)
            if not reply.fields.get("present"):
                borrowed.ask("put", self._start_seconds, sha256=sha256, payloads=[("data", data)])
            borrowed.sent.add(sha256)
        return True

    def _open(self) -> None:
        """Have it open on the line that is there now. Raises DeviceError, LinkError, Told."""
        borrowed = self._borrowed
        borrowed.link()
        if self._generation == borrowed.generation:
            return
        words = {"device": self._number, "name": borrowed.pin.opens, "phone": self._phone}
        reply = borrowed.ask("open", self._start_seconds, **words)
        flags = wire.read_flags(reply.fields)
        self.kind = str(reply.fields.get("kind"))
        self.times_each, self.asks_again, self.cpu_beside = flags.times_each, flags.asks_again, flags.cpu_beside
        self.no_latency = (flags.no_latency[0], flags.no_latency[1]) if flags.no_latency else None
        self._before = self.compiles, self.runs
        self._inputs = KeptInputs(Message("hello", 0, {"abilities": [BY_DIGEST]}))
        self._generation = borrowed.generation

    def _note(self, reply: Message) -> None:
        self._state = wire.read_state(reply.fields)
        self.compiles, self.runs = self._before[0] + self._state.compiles, self._before[1] + self._state.runs

    def _end(self, kind: str) -> None:
        if not self._borrowed.is_free():
            self._borrowed.give_back()
            return
        with suppress(HarnessError), self._borrowed.turn(), self._plainly():
            if self._generation == self._borrowed.generation:
                self._borrowed.ask(kind, ANSWER_SECONDS, device=self._number)

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """What goes wrong between jobs, as a DeviceError or what the host's own device raised."""
        try:
            yield
        except Told as told:
            raise told.error from None
        except LinkError as error:
            why = self._borrowed.lost(error)
            raise DeviceError(
                f"Device '{self.name}' was lost: {why}.", "Look at `harness farm status`, and run it again."
            ) from None
        except HarnessError:
            raise
        except BaseException:
            self._borrowed.give_back()
            raise


class _Afar:
    """What a device has in place of a launcher here: its process is started and ended on its own host."""

    def __init__(self, borrowed: Borrowed) -> None:
        self._borrowed = borrowed

    def start(self) -> Link:
        """The line to the host."""
        return self._borrowed.link()

    def death(self) -> tuple[str, str] | None:
        """Its host tells that as the job's outcome."""
        return None

    def lost(self, reason: str) -> str:
        """Nothing more can be said from here."""
        return reason

    def kill(self) -> None:
        """Return the device: what runs there is ended."""
        self._borrowed.give_back()

    def log(self, mark: int) -> str:
        """Its host sends the log with each outcome."""
        return ""

    def log_mark(self) -> int:
        """None is kept here."""
        return 0


def _most(expected: Sequence[OutputPort]) -> int:
    """Bytes of the next message of a run: an output, or the document that ends it."""
    return max(wire.MOST_OUTCOME, expected[0].nbytes if expected else 0)
