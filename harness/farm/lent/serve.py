"""`python -m harness.farm.lent.serve STORE`: the process on a farm's host that has the devices of one loan.

It is started on a `harness.farm.leash`, with the line to whoever has the loan as its standard output, and ends when
that closes or a signal comes, after it has closed the devices. Its exit code is one of `wire.TROUBLE` where the last
thing that it was asked was device trouble, so that the host looks at the device, else 0.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from harness.core import safe_files
from harness.core.arrays import Array
from harness.core.errors import EXIT_OK, DeviceError, HarnessError
from harness.core.job import Crashed, Lost, Outcome, TimedOut
from harness.core.private import make_folder, owner_only
from harness.core.run_folder import writing
from harness.core.signals import ENDING
from harness.core.typed_json import read_as
from harness.devices.android.device import PhoneOptions
from harness.devices.base import Device
from harness.devices.link import DTYPES, MAX_PAYLOAD_BYTES, Link, LinkError, Message
from harness.devices.registry import open_device
from harness.farm.lent import wire
from harness.farm.store import Store
from harness.latency.conditions import between, read_moment

SEND_SECONDS = 600.0
"""How long whoever has the loan may take to read an answer."""
MOST_DEVICES = 64


class Server:
    """Answers what comes over a link, one request after another."""

    def __init__(self, link: Link, store: Store) -> None:
        self._link, self._store = link, store
        self._devices: dict[int, Device] = {}
        self._model: tuple[str, bytes] = "", b""
        self.trouble = ""

    def serve(self) -> None:
        """Until the other side closes the line."""
        with owner_only(), ExitStack() as stack:
            stack.callback(self._close_all)
            while True:
                try:
                    message = self._link.receive(None, MAX_PAYLOAD_BYTES)
                except LinkError:
                    return
                try:
                    self._answer(message)
                except LinkError as error:
                    with suppress(LinkError):
                        self._failed(message, HarnessError(f"The farm's host was asked for nonsense ({error})."))
                    return
                except HarnessError as error:
                    self.trouble = "cpu" if isinstance(error, DeviceError) else ""
                    self._failed(message, error)

    def _answer(self, message: Message) -> None:
        asked = {
            "open": self._open,
            "facts": self._facts,
            "has": self._has,
            "put": self._put,
            "run": self._run,
            "celsius": self._celsius,
            "stop": self._stop,
            "close": self._close,
        }.get(message.type)
        if asked is None:
            raise LinkError(f"'{message.type[:40]}' is asked for")
        asked(message)

    def _send(self, kind: str, message: Message, payloads: Any = (), /, **fields: Any) -> None:
        self._link.send(kind, message.id, time.monotonic() + SEND_SECONDS, payloads, **fields)

    def _failed(self, message: Message, error: HarnessError) -> None:
        self._send("failed", message, **wire.error_fields(error))

    def _device(self, message: Message) -> Device:
        device = self._devices.get(message.fields.get("device", -1))
        if device is None:
            raise LinkError("a device is asked that is not open")
        return device

    def _open(self, message: Message) -> None:
        number, name = message.fields.get("device"), message.fields.get("name")
        if not isinstance(number, int) or not isinstance(name, str) or len(self._devices) >= MOST_DEVICES:
            raise LinkError("a device is opened without number and name, or one too many")
        try:
            choices = read_as(wire.PhoneChoices, message.fields.get("phone"))
        except ValueError as error:
            raise LinkError(str(error)) from None
        device = self._devices[number] = open_device(name, phone=PhoneOptions(**vars(choices)))
        flags = wire.Flags(device.times_each, device.asks_again, device.cpu_beside, device.no_latency or ())
        self._send("opened", message, flags=asdict(flags), kind=device.kind)

    def _facts(self, message: Message) -> None:
        device = self._device(message)
        facts = asdict(device.facts())
        self.trouble = ""
        self._send("facts", message, facts=facts, state=_state(device))

    def _celsius(self, message: Message) -> None:
        self._send("celsius", message, celsius=self._device(message).celsius())

    def _stop(self, message: Message) -> None:
        self._device(message).stop()
        self._send("done", message)

    def _close(self, message: Message) -> None:
        self._device(message).close()
        del self._devices[message.fields["device"]]
        self._send("done", message)

    def _has(self, message: Message) -> None:
        self._send("has", message, present=self._file(_digest(message.fields)) is not None)

    def _put(self, message: Message) -> None:
        digest = _digest(message.fields)
        (data,) = message.payloads.values() or (None,)
        if data is None or hashlib.sha256(data.tobytes()).hexdigest() != digest:
            raise LinkError("bytes came that are not what their digest says")
        path = self._store.file(digest)
        with writing(path):
            make_folder(path.parent)
            partial = path.with_name(f"{digest}.{os.getpid()}.part")  # another loan may bring the same
            try:
                partial.write_bytes(data.tobytes())
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        self._send("put", message)

    def _run(self, message: Message) -> None:
        device, asked = self._device(message), wire.read_request(message.fields.get("ask"))
        if self._model[0] != asked.sha256 or not self._model[1]:
            self._model = "", b""  # never two large ones at once
            self._model = asked.sha256, self._file(asked.sha256) or b""
        inputs = self._inputs(message)
        if not self._model[1] or inputs is None:
            self._send("failed", message, kind="missing", message="A model or an input is not there.")
            return
        job = wire.job_of(asked, self._model[1], inputs)

        def sink(name: str, values: Array) -> None:
            self._send("output", message, [(name, values)])

        if message.fields.get("anew") is True:
            device.start_anew()
        device.facts()  # starting the process is no part of the job
        before, started = read_moment(device.pid, beside=device.beside), time.perf_counter_ns()
        outcome = device.run(job, sink)
        wall, after = time.perf_counter_ns() - started, read_moment(device.pid, beside=device.beside)
        seen = between(before, after)
        self.trouble = _trouble(outcome, asked.options.accelerator)
        round = wire.Round(wall, seen.clock_mhz, seen.throttled, seen.waited, seen.foreign, seen.stolen)
        document = wire.outcome_document(outcome, round)
        self._send("ended", message, [("outcome", document)], state=_state(device))

    def _inputs(self, message: Message) -> dict[str, Array] | None:
        """The inputs in their order; None where one is not here."""
        named = message.fields.get("inputs")
        if named is None:
            return message.payloads
        if not isinstance(named, list):
            raise LinkError("inputs are no list")
        found: dict[str, Array] = {}
        sent = iter(message.payloads.items())
        for entry in named:
            name, values = next(sent, ("", None)) if entry is None else self._kept(entry)
            if values is None:
                return None
            found[name] = values
        return found

    def _kept(self, entry: Any) -> tuple[str, Array | None]:
        try:
            name, dtype, shape = str(entry["name"]), DTYPES[entry["dtype"]], [int(size) for size in entry["shape"]]
            data = self._file(_digest(entry))
            return name, None if data is None else np.frombuffer(bytearray(data), dtype).reshape(shape)
        except (KeyError, TypeError, ValueError):
            raise LinkError("an input is named that cannot be") from None

    def _file(self, digest: str) -> bytes | None:
        """What has that digest; None where it is not here, or is damaged."""
        path = self._store.file(digest)
        try:
            data = safe_files.read(path, MAX_PAYLOAD_BYTES)
            os.utime(path)
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == digest else None

    def _close_all(self) -> None:
        for device in self._devices.values():
            with suppress(HarnessError, OSError):
                device.close()


def _digest(fields: Any) -> str:
    digest = fields.get("sha256")
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise LinkError("a digest comes that is none")
    return digest


def _state(device: Device) -> dict[str, Any]:
    state = wire.DeviceState(device.serial, device.user, device.compiles, device.runs, device.fixed_performance)
    return asdict(state)


def _trouble(outcome: Outcome, accelerator: str) -> str:
    """With which accelerator the host looks at its device after that, if it does: a refusal is an answer."""
    if not isinstance(outcome, Crashed | TimedOut | Lost):
        return ""
    return accelerator if accelerator in wire.TROUBLE else "cpu"


def main() -> int:
    """Serve until the line closes or a signal comes."""
    with socket.socket(fileno=os.dup(1)) as line:
        os.dup2(2, 1)  # what anything prints is no frame

        def end(number: int, frame: FrameType | None) -> None:
            sys.exit(128 + number)

        for number in ENDING:
            signal.signal(number, end)
        server = Server(Link(line), Store(Path(sys.argv[1])))
        server.serve()
    return wire.TROUBLE.get(server.trouble, EXIT_OK)


if __name__ == "__main__":
    sys.exit(main())
