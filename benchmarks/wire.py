"""What a localization sends over a cable of USB 2: outputs as float32 or as the float16 that they are, inputs with each
job or once.

    python -m benchmarks.wire decoder.tflite --inputs inputs.npz

The phone is the stand-in for one, behind a line of 35 MB/s each way, about what USB 2 carries. All ways of sending run
in turns on one phone whose shaders are compiled already. The first round, which is told but not counted, brings the
app, the models and, in its last run, the inputs that stay: the others show what a later localization of the same model
sends.
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
from harness.devices import kept
from harness.devices.android.adb import Adb, Server
from harness.devices.android.device import AndroidDevice, PhoneOptions
from tests.standin import app
from tests.standin.phone import AdbServer, Phone, make_apk, temporary_state
from tests.standin.throttle import Throttle

USB_2 = 35e6
"""Bytes a second."""


@dataclass(frozen=True)
class Way:
    """How values travel: outputs that a float16 holds as one, inputs once or with each job."""

    words: str
    narrow: bool
    kept: bool


WAYS = (Way("float32", False, False), Way("float16", True, False), Way("float16, inputs kept", True, True))


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
    console, found = Console(), dict[Way, list[Cost]]()
    with ExitStack() as stack:
        line, serial, apk = _phone(stack, given.rate)
        for number in range(-1, given.rounds):  # the first round warms up
            for way in WAYS:
                with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
                    patch.setattr(AndroidDevice, "narrow", way.narrow)
                    if not way.kept:  # no input is worth the question whether it is there
                        patch.setattr(kept, "PIECE", sys.maxsize)
                    request = ModelRequest(
                        given.model, serial, inputs=given.inputs, out=Path(folder), phone=PhoneOptions(apk)
                    )
                    before, began = line.passed, time.monotonic()
                    answer, _ = localize_command(request)
                    cost = Cost(line.passed - before, time.monotonic() - began)
                if number >= 0:
                    found.setdefault(way, []).append(cost)
                console.print(f"{way.words}: {cost.sent / 1e6:.0f} MB, {cost.seconds:.1f} s, {answer.status}")
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


def _told(console: Console, found: dict[Way, list[Cost]]) -> None:
    table = Table("values travel as", "MB, both ways", "s, all of it", "all rounds, s", "bytes", "time")
    first: Cost | None = None
    for way, costs in found.items():
        median = Cost(round(statistics.median(c.sent for c in costs)), statistics.median(c.seconds for c in costs))
        first = first or median
        table.add_row(
            way.words,
            f"{median.sent / 1e6:.0f}",
            f"{median.seconds:.1f}",
            " ".join(f"{c.seconds:.1f}" for c in costs),
            f"{median.sent / first.sent:.0%}",
            f"{median.seconds / first.seconds:.0%}",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
