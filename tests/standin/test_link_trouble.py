"""A slow line to the phone, and its daemons killed while a command is at work: a right answer, or one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus import rank3_pad_9272
from harness.core.errors import EXIT_DEVICE
from harness.core.job import Completed, Job, Options, TimedOut
from harness.devices.android.adb import ADB_SECONDS, Adb, Server
from harness.devices.android.device import KILL_SECONDS, AndroidDevice, PhoneOptions
from harness.devices.execute import make_job
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.cli.conftest import COMMAND, environment
from tests.localize.kills import wait_for
from tests.standin.conftest import MakePhone
from tests.standin.phone import AdbServer, Phone
from tests.standin.throttle import Throttle

CPU = Options("cpu")
SLOW = 100_000.0  # bytes a second: a bad Wi-Fi, or a USB hub that fell back


def plus_one(count: int) -> Model:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, count)), graph.constant([1.0])), "y")
    return graph.build()


def job(count: int, timeout: float) -> Job:
    return make_job(plus_one(count), {"x": np.arange(count, dtype=np.float32).reshape(1, -1)}, CPU, timeout=timeout)


@pytest.fixture(scope="module")
def own(make_phone: MakePhone) -> Iterator[Phone]:
    """A phone of these tests' own, whose lines may be cut."""
    phone = make_phone("tokay")
    yield phone
    phone.stop_adbd()
    Adb(Server()).call("disconnect", phone.serial, check=False)  # a new server knows it no more


@pytest.fixture(scope="module")
def slow(own: Phone) -> Iterator[str]:
    """The serial of that phone at the end of a slow line."""
    link = Throttle(own.port, SLOW)
    serial = f"127.0.0.1:{link.port}"
    Adb(Server()).call("connect", serial)
    yield serial
    Adb(Server()).call("disconnect", serial, check=False)
    link.close()


@pytest.fixture(scope="module")
def device(slow: str, apk: Path) -> Iterator[AndroidDevice]:
    with AndroidDevice(slow, find_phone(slow), PhoneOptions(apk)) as opened:
        assert isinstance(opened, AndroidDevice)
        yield opened


def test_a_slow_line_takes_its_time_and_gives_the_right_answer(device: AndroidDevice) -> None:
    began = time.monotonic()
    outcome = device.run(job(20_000, timeout=60))
    took = time.monotonic() - began
    assert isinstance(outcome, Completed), outcome
    assert np.array_equal(outcome.outputs["y"][0], np.arange(1, 20_001, dtype=np.float32))
    assert took >= 2 * 80_000 / SLOW - 0.1


def test_a_line_too_slow_for_a_job_ends_it_at_its_deadline_and_the_next_job_is_not_kept_waiting(
    device: AndroidDevice,
) -> None:
    began = time.monotonic()
    outcome = device.run(job(1_000_000, timeout=2))
    assert isinstance(outcome, TimedOut), outcome
    assert time.monotonic() - began < 2 + KILL_SECONDS + 5  # the app cannot be told to stop: all lines are full
    # 40 s and more of the lost job's bytes are on their way then; a new connection has none of them.
    began = time.monotonic()
    after = device.run(job(4, timeout=60))
    assert isinstance(after, Completed), after
    assert time.monotonic() - began < ADB_SECONDS + 15


KILLED = [pytest.param(what, marks=pytest.mark.slow) for what in ("the app", "the phone's adbd")]


@pytest.mark.parametrize("what", [*KILLED, "the adb server"])
def test_what_is_killed_while_a_command_is_at_work_is_started_again_and_the_answer_is_right(
    phone: Phone, adb_server: AdbServer, apk: Path, tmp_path: Path, what: str
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(rank3_pad_9272().to_bytes())
    process = subprocess.Popen(
        [*COMMAND, "localize", str(model), "--device", phone.serial, "--no-explain", "--json", "--out", str(tmp_path)],
        env=environment() | {"HARNESS_APK": str(apk)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(4, tmp_path, process)
    assert process.poll() is None
    if what == "the app":
        os.kill(phone.pid, signal.SIGKILL)
    elif what == "the adb server":
        adb_server.kill()
    else:
        phone.stop_adbd()
        time.sleep(1)
        phone.boot()
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    if process.returncode == EXIT_DEVICE:  # it was killed as it was just being started: said so, and continued
        assert out == ""
        out = subprocess.run(
            process.args, env=environment() | {"HARNESS_APK": str(apk)}, capture_output=True, text=True, check=False
        ).stdout
    answer = json.loads(out)
    assert [c["ops"] for c in answer["culprits"]] == [[1, 1]]
    assert answer["probes"]["quarantined"] == []
