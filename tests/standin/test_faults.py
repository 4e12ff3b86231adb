"""Everything that goes wrong between here and a phone: the right outcome with its evidence, and the next job works."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import DeviceError
from harness.core.job import Completed, Crashed, Job, Lost, Options, Rejected, TimedOut
from harness.devices.android import device as android
from harness.devices.android import recovery
from harness.devices.android.adb import Adb, Server
from harness.devices.android.device import AndroidDevice, AndroidLauncher, PhoneOptions
from harness.devices.execute import make_job
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.standin.conftest import Works
from tests.standin.phone import AdbServer, Phone, temporary_state

CPU = Options("cpu")
ONES = np.ones((1, 4), np.float32)


@pytest.fixture(scope="module")
def plus_one() -> Model:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
    return graph.build()


@pytest.fixture(scope="module")
def quick(plus_one: Model) -> Job:
    return make_job(plus_one, {"x": ONES}, CPU, timeout=30)


@pytest.fixture(scope="module")
def endless(plus_one: Model) -> Job:
    """Far longer than any test waits."""
    return make_job(plus_one, {"x": ONES}, CPU, timeout=30, iterations=1 << 20)


@pytest.fixture(scope="module")
def large() -> Job:
    """64 MB each way, more than the sockets on the way hold."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (16 << 20,)), graph.constant([1.0])), "y")
    return make_job(graph.build(), {"x": np.arange(16 << 20, dtype=np.float32)}, CPU, timeout=60)


@pytest.fixture(scope="module")
def device(phone: Phone, apk: Path) -> Iterator[AndroidDevice]:
    with AndroidDevice("pixel8a", find_phone(phone.serial), PhoneOptions(apk)) as opened:
        assert isinstance(opened, AndroidDevice)
        yield opened


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "RETURN_SECONDS", 30.0)


def soon(do: Callable[[], object], seconds: float = 0.3) -> threading.Timer:
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


def state(task: Path) -> str:
    """The kernel's letter for what a process or thread is at: T stopped, Z ended, not yet waited for; X when gone."""
    try:
        return (task / "stat").read_text("ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


class TestTheApp:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda n: n.name)
    def test_ended_by_a_signal_is_a_crash_with_its_name(
        self, phone: Phone, device: AndroidDevice, works: Works, endless: Job, number: signal.Signals
    ) -> None:
        works()
        soon(lambda: os.kill(phone.pid, number))
        outcome = device.run(endless)
        assert isinstance(outcome, Crashed), outcome
        assert outcome.signal == number.name
        assert outcome.reason.startswith(f"the app was ended by {number.name}")
        if number == signal.SIGSEGV:
            assert "Fatal signal 11 (SIGSEGV)" in outcome.reason
            assert "backtrace:\n      #00 " in outcome.log  # the tombstone
        works()

    def test_that_hangs_is_ended_at_the_deadline(
        self, phone: Phone, device: AndroidDevice, works: Works, plus_one: Model
    ) -> None:
        works()
        hung = phone.pid
        os.kill(hung, signal.SIGSTOP)
        while any(state(task) != "T" for task in Path(f"/proc/{hung}/task").iterdir()):
            time.sleep(0.01)
        outcome = device.run(make_job(plus_one, {"x": ONES}, CPU, timeout=1))
        assert isinstance(outcome, TimedOut)
        assert outcome.seconds == 1
        assert state(Path(f"/proc/{hung}")) in "ZX"
        works()

    def test_that_the_phone_ends_for_memory_says_so(
        self, phone: Phone, device: AndroidDevice, works: Works, endless: Job
    ) -> None:
        works()
        phone.write("verdict", {"reason": 3, "label": "LOW_MEMORY", "status": 0})
        soon(lambda: os.kill(phone.pid, signal.SIGKILL))
        outcome = device.run(endless)
        assert isinstance(outcome, Crashed)
        assert outcome.reason == "the app was ended because the phone ran out of memory"
        works()

    def test_that_does_not_start_is_one_sentence(
        self, phone: Phone, device: AndroidDevice, works: Works, quick: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(android, "PROCESS_SECONDS", 1.0)
        device.stop()
        command = phone.read("app")
        phone.write("app", command | {"command": ["/bin/false"]})
        with pytest.raises(DeviceError, match=r"^The app (does not stay alive|ended as it started) on "):
            device.run(quick)
        phone.write("app", command)
        works()

    def test_that_ran_before_is_not_taken_for_the_one_just_started(
        self, phone: Phone, device: AndroidDevice, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device.stop()
        plain = AndroidLauncher._pids
        seen = []

        def lingering(launcher: AndroidLauncher) -> list[int]:
            seen.append(os.getpid())
            return [os.getpid()] if len(seen) <= 3 else plain(launcher)

        with monkeypatch.context() as patch:
            patch.setattr(AndroidLauncher, "_pids", lingering)
            assert "INFO: answered" in works().log
        assert device.launcher._pid == phone.pid


def test_what_runs_on_a_stand_in_ends_with_whoever_held_it() -> None:
    phone = Phone(temporary_state(), ["/bin/false"])
    phone.boot()
    adbd, holder = phone._adbd, phone._holder
    assert adbd is not None and adbd.poll() is None
    assert holder.stdin is not None and holder.stdout is not None and holder.stderr is not None
    holder.stdin.close()  # as the system does for a process that was killed
    assert adbd.wait(20) == -signal.SIGKILL
    holder.wait(20)
    holder.stdout.close()
    holder.stderr.close()
    shutil.rmtree(phone.state)


class TestTheConnection:
    def test_a_server_killed_during_a_transfer_loses_the_job(
        self, phone: Phone, adb_server: AdbServer, device: AndroidDevice, works: Works, large: Job
    ) -> None:
        works()

        def kill() -> None:
            while device.sent_bytes < 1 << 20:
                time.sleep(0.001)
            os.kill(phone.pid, signal.SIGSTOP)  # so that the transfer is under way for certain
            adb_server.kill()

        soon(kill, 0)
        outcome = device.run(large)
        assert isinstance(outcome, Lost), outcome
        assert outcome.reason.startswith("the connection broke while sending")
        assert outcome.reason.endswith(f"; {phone.serial} is attached and did not reboot")
        works()

    def test_removing_forwards_does_no_harm(
        self, phone: Phone, device: AndroidDevice, works: Works, large: Job
    ) -> None:
        works()
        adb = Adb(Server(), phone.serial)
        assert adb.call("forward", "--list").strip() == ""
        soon(lambda: adb.call("forward", "--remove-all"), 0.02)
        assert isinstance(device.run(large), Completed)

    def test_a_reboot_during_a_run_is_told_by_the_boot_id(
        self, phone: Phone, device: AndroidDevice, works: Works, endless: Job
    ) -> None:
        before = works().boot_id
        soon(phone.reboot)
        outcome = device.run(endless)
        after = works().boot_id
        assert isinstance(outcome, Lost), outcome
        assert outcome.reason == (
            f"the phone rebooted during the run (boot id {before}, then {after}; its reason: kernel_panic)"
        )
        assert before != after

    def test_a_phone_unplugged_during_a_run_is_lost_and_comes_back(
        self,
        phone: Phone,
        device: AndroidDevice,
        works: Works,
        endless: Job,
        quick: Job,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        works()
        monkeypatch.setattr(recovery, "RETURN_SECONDS", 1.0)
        soon(phone.stop_adbd)
        outcome = device.run(endless)
        assert isinstance(outcome, Lost), outcome
        assert re.fullmatch(rf".*; {phone.serial} is not there: adb says (offline|absent)", outcome.reason)
        with pytest.raises(DeviceError, match=rf"^{phone.serial} is not there: adb says (offline|absent)\."):
            device.run(quick)
        monkeypatch.setattr(recovery, "RETURN_SECONDS", 30.0)
        phone.boot()
        works()


def heavy(kind: str) -> Job:
    """A job of 4 MB of weights and twice as many of inputs, all ones."""
    graph = GraphBuilder()
    ones = np.ones((2, 1 << 20), np.float32)
    graph.output(graph.binary(kind, graph.input("x", ones.shape), graph.constant(ones[0])), "y")
    return make_job(graph.build(), {"x": ones}, CPU, timeout=30)


@pytest.fixture
def filler(phone: Phone) -> Iterator[Path]:
    """Where a file may take all that is free, until the test ends."""
    path = phone.data / "filler"
    yield path
    path.unlink(missing_ok=True)


def fill(filler: Path) -> None:
    with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1 << 20))


def models(phone: Phone) -> Iterator[Path]:
    """What the app has stored."""
    return phone.data.rglob("*.tflite")


class TestTheDisk:
    def test_a_full_one_rejects_the_model(
        self, phone: Phone, device: AndroidDevice, works: Works, filler: Path
    ) -> None:
        device.stop()
        for path in models(phone):  # what earlier tests left would make room
            path.unlink()
        works()
        job = heavy("ADD")
        fill(filler)
        outcome = device.run(job)
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "the model cannot be stored (No space left on device)"
        works()
        filler.unlink()
        assert isinstance(device.run(job), Completed)

    def test_on_a_full_one_what_is_stored_makes_room_and_inputs_come_with_the_run(
        self, phone: Phone, device: AndroidDevice, works: Works, filler: Path
    ) -> None:
        device.stop()  # a full disk before had it take no more inputs
        works()
        assert isinstance(device.run(heavy("ADD")), Completed)
        fill(filler)
        other = heavy("SUB")
        for _ in range(2):
            outcome = device.run(other)
            assert isinstance(outcome, Completed), outcome
            assert not outcome.outputs["y"].any()
        assert not any(path.stat().st_size == 8 << 20 for path in models(phone))
