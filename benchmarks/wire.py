"""What a localization sends over a cable of USB 2, with a phone's float16 as float32 and as it is.

    python -m benchmarks.wire decoder.tflite --inputs inputs.npz

The phone is the stand-in for one, behind a line of 35 MB/s each way, about what USB 2 carries. Both ways of sending run
in turns on one phone whose shaders are compiled already; the model and the app are there before the first.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from harness.api.localize import localize_command
from harness.api.session import ModelRequest
from harness.devices.android.adb import Adb, Server
from harness.devices.android.device import AndroidDevice, PhoneOptions
from tests.standin import app
from tests.standin.phone import AdbServer, Phone, make_apk, temporary_state
from tests.standin.throttle import Throttle

USB_2 = 35e6
"""Bytes a second."""


@dataclass(frozen=True)
class Cost:
    """Of one localization."""

    sent: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--rate", type=float, default=USB_2, help="bytes a second each way")
    parser.add_argument("--rounds", type=int, choices=range(1, 100), default=3, metavar="N")
    given = parser.parse_args()
    console, found = Console(), dict[bool, list[Cost]]()
    with ExitStack() as stack:
        line, serial, apk = _phone(stack, given.rate)
        for number in range(-1, given.rounds):  # the first round warms up
            for narrow in (False, True):
                with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
                    patch.setattr(AndroidDevice, "narrow", narrow)
                    request = ModelRequest(
                        given.model, serial, inputs=given.inputs, out=Path(folder), phone=PhoneOptions(apk)
                    )
                    before, began = line.passed, time.monotonic()
                    answer, _ = localize_command(request)
                    cost = Cost(line.passed - before, time.monotonic() - began)
                if number >= 0:
                    found.setdefault(narrow, []).append(cost)
                words = "float16" if narrow else "float32"
                console.print(f"{words}: {cost.sent / 1e6:.0f} MB, {cost.seconds:.1f} s, {answer.status}")
    _told(console, found)
    return 0


def _phone(stack: ExitStack, rate: float) -> tuple[Throttle, str, Path]:
    """The line to a stand-in that is running, the serial at its end, and the app's file."""
    state = temporary_state()
    stack.callback(shutil.rmtree, state)
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    server = AdbServer()
    patch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
    stack.callback(server.kill)
    phone = Phone(state / "phone", app.command(socket="{socket}"))
    stack.callback(phone.close)
    phone.boot()
    line = Throttle(phone.port, rate)
    stack.callback(line.close)
    serial = f"127.0.0.1:{line.port}"
    Adb(Server()).call("connect", serial)
    return line, serial, make_apk(state)


def _told(console: Console, found: dict[bool, list[Cost]]) -> None:
    table = Table("values travel as", "MB, both ways", "s, all of it", "all rounds, s")
    median: dict[bool, Cost] = {}
    for narrow, costs in found.items():
        median[narrow] = Cost(
            round(statistics.median(c.sent for c in costs)), statistics.median(c.seconds for c in costs)
        )
        table.add_row(
            "float16" if narrow else "float32",
            f"{median[narrow].sent / 1e6:.0f}",
            f"{median[narrow].seconds:.1f}",
            " ".join(f"{c.seconds:.1f}" for c in costs),
        )
    console.print(table)
    bytes_share = median[True].sent / median[False].sent
    console.print(f"time: {median[True].seconds / median[False].seconds:.0%}")
    console.print(f"bytes: {bytes_share:.0%}; inputs, which stay float32, are in both")


if __name__ == "__main__":
    sys.exit(main())
