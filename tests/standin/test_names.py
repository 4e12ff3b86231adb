"""Which phone a name means, what is installed on it, whether it is ready, and who else waits for it."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Completed, Options
from harness.devices.android import apk as apk_module
from harness.devices.android import gradle, locks, ready
from harness.devices.android.adb import Adb, Server
from harness.devices.android.apk import ensure_app, installed_version
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.android.ready import make_ready, readiness
from harness.devices.execute import make_job
from harness.devices.registry import attached_devices, check_device, find_phone, open_device, phones
from harness.graph.build import GraphBuilder
from tests import binary_xml
from tests.standin.conftest import MakePhone
from tests.standin.phone import AdbServer, Phone, make_apk


@pytest.fixture
def adb(phone: Phone) -> Adb:
    return Adb(Server(), phone.serial)


@pytest.fixture
def condition(phone: Phone) -> Iterator[Phone]:
    """A phone whose condition is as before afterwards."""
    before = phone.read("condition")
    yield phone
    phone.write("condition", before)


class TestNames:
    def test_a_product_a_serial_and_either_behind_a_server_are_the_same_phone(
        self, phone: Phone, adb_server: AdbServer
    ) -> None:
        assert [(d.serial, d.state, d.product) for d in attached_devices()] == [(phone.serial, "device", "akita")]
        for name in ("pixel8a", phone.serial, f"pixel8a@{adb_server.server}", f"{phone.serial}@{adb_server.server}"):
            check_device(name)
            assert find_phone(name).serial == phone.serial
        with pytest.raises(DeviceError) as caught:
            find_phone("pixel9")
        assert caught.value.message == f"No Pixel 9 (tokay) is attached: adb sees {phone.serial} (akita)."

    def test_a_remote_server_runs_jobs_too(self, phone: Phone, adb_server: AdbServer, apk: Path) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
        job = make_job(graph.build(), {"x": np.zeros((1, 4), np.float32)}, Options("cpu"), timeout=30)
        with open_device(f"pixel8a@{adb_server.server}", phone=PhoneOptions(apk)) as device:
            assert isinstance(device.run(job), Completed)
            facts = device.facts()
        assert (facts.name, facts.kind) == (f"pixel8a@{adb_server.server}", "android")

    def test_a_name_that_two_phones_have_is_misuse(self, phone: Phone, make_phone: MakePhone) -> None:
        second = make_phone()
        try:
            with pytest.raises(UsageError) as caught:
                check_device("pixel8a")
            serials = {phone.serial, second.serial}
            assert caught.value.message.startswith("'pixel8a' could be any of 2 phones: ")
            assert set(caught.value.message.rstrip(".").split(": ")[1].split(", ")) == serials
            check_device(second.serial)
        finally:
            second.stop_adbd()
            Adb(Server()).call("disconnect", second.serial)
        check_device("pixel8a")

    def test_a_phone_that_does_not_trust_this_machine_is_told_apart(self, phone: Phone) -> None:
        with distrustful() as port:
            serial = f"127.0.0.1:{port}"
            said = Adb(Server()).call("connect", serial, check=False)
            deadline = time.monotonic() + 10
            while Adb(Server(), serial).state() != "unauthorized":
                assert time.monotonic() < deadline, said
                time.sleep(0.05)
            with pytest.raises(DeviceError) as caught:
                check_device(serial)
            assert caught.value.message == f"{serial} is unauthorized for adb."
            assert caught.value.next_step.startswith("Allow USB debugging on its screen")
            with pytest.raises(DeviceError, match=re.escape(f"{serial} (unauthorized)")):
                check_device("pixel9")
            Adb(Server()).call("disconnect", serial)


class TestWithoutThePhone:
    SENTENCE = (
        "No Pixel 8a (akita) is attached: adb sees no device. "
        "Connect it, allow USB debugging on its screen, and look at `harness devices`."
    )

    @pytest.fixture(autouse=True)
    def alone(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        empty = AdbServer()
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(empty.port))
        yield
        empty.kill()

    def test_a_command_ends_with_one_sentence_and_3(self, tmp_path: Path) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
        model = tmp_path / "model.tflite"
        model.write_bytes(graph.build().to_bytes())
        words = ["compare", str(model), "--device", "pixel8a", "--out", str(tmp_path)]
        done = run(sys.executable, "-m", "harness.cli", *words)
        assert (done.returncode, done.stdout) == (3, "")
        assert " ".join(done.stderr.split()) == self.SENTENCE

    def test_pytest_ends_with_the_same_and_4(self, tmp_path: Path) -> None:
        (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        done = run(sys.executable, "-m", "pytest", str(tmp_path), "-p", "no:cacheprovider", "--device", "pixel8a")
        assert done.returncode == 4
        assert f"ERROR: --device pixel8a: {self.SENTENCE}" in done.stderr


class TestTheApp:
    def test_one_that_is_missing_is_installed(self, adb: Adb, apk: Path) -> None:
        ensure_app(adb, apk)
        adb.shell("pm", "uninstall", apk_module.PACKAGE)
        assert installed_version(adb, 0) is None
        ensure_app(adb, apk)
        assert installed_version(adb, 0) == harness.__version__

    @pytest.mark.parametrize(
        ("version", "code", "signer"),
        [("0.0.1", 0, "debug"), ("99.0.0", 99, "debug"), ("0.0.1", 0, "another")],
        ids=["older", "newer", "signed by another key"],
    )
    def test_another_one_is_replaced(
        self, adb: Adb, apk: Path, tmp_path: Path, version: str, code: int, signer: str
    ) -> None:
        ensure_app(adb, apk)
        adb.shell("pm", "uninstall", apk_module.PACKAGE)
        other = make_apk(tmp_path, version, code, signer)
        with pytest.raises(DeviceError) as caught:
            ensure_app(adb, other)
        assert (
            caught.value.message == f"{other} is the app of harness {version}, this is harness {harness.__version__}."
        )
        assert installed_version(adb, 0) is None
        there = "/data/local/tmp/other.apk"
        adb.call("push", str(other), there)
        adb.shell("pm", "install", "--user", "0", "-t", there)
        assert installed_version(adb, 0) == version
        ensure_app(adb, apk)
        assert installed_version(adb, 0) == harness.__version__

    def test_the_same_is_left_alone(self, adb: Adb, apk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ensure_app(adb, apk)
        monkeypatch.setattr(apk_module, "_install", lambda *_: pytest.fail("it was installed again"))
        ensure_app(adb, apk)

    def test_none_at_hand_and_no_gradle_is_one_sentence(
        self, adb: Adb, apk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ensure_app(adb, apk)
        monkeypatch.delenv("HARNESS_APK", raising=False)
        monkeypatch.delenv("ANDROID_HOME", raising=False)
        monkeypatch.setattr(gradle, "PROJECT", Path("/nowhere"))
        ensure_app(adb, None)  # what is installed is of this version
        adb.shell("pm", "uninstall", apk_module.PACKAGE)
        with pytest.raises(DeviceError) as caught:
            ensure_app(adb, None)
        assert caught.value.message == (
            f"{adb.serial} needs the app, no APK is built, and the app's source (a clone has it, a wheel does not) "
            "is not here to build one."
        )
        ensure_app(adb, apk)

    def test_what_is_no_apk_is_misuse_and_what_the_phone_refuses_device_trouble(self, adb: Adb, tmp_path: Path) -> None:
        nothing, broken = tmp_path / "nothing.apk", tmp_path / "broken.apk"
        with pytest.raises(UsageError, match="cannot be read"):
            ensure_app(adb, nothing)
        nothing.write_text("hello")
        with pytest.raises(UsageError, match=r"is no APK\."):
            ensure_app(adb, nothing)
        broken.write_bytes(b"PK nonsense")
        with pytest.raises(UsageError, match="is no whole APK"):
            ensure_app(adb, broken)
        with zipfile.ZipFile(broken, "w") as archive:
            archive.writestr("AndroidManifest.xml", binary_xml.manifest(apk_module.PACKAGE, harness.__version__))
            archive.writestr("META-INF/CERT.RSA", "of nobody")
        with pytest.raises(DeviceError, match=r"refuses broken\.apk: INSTALL_PARSE_FAILED_NOT_APK"):
            ensure_app(adb, broken)

    def test_a_phone_without_room_for_it_says_so(self, make_phone: MakePhone, apk: Path) -> None:
        small = make_phone("shiba", data_bytes=64 << 10)
        big = apk.with_name("big.apk")
        big.write_bytes(apk.read_bytes())
        with zipfile.ZipFile(big, "a") as archive:
            archive.writestr("assets/filler", bytes(1 << 20))
        with pytest.raises(DeviceError) as caught:
            ensure_app(Adb(Server(), small.serial), big)
        assert caught.value.message == f"{small.serial} has no room for the app."
        small.stop_adbd()
        Adb(Server()).call("disconnect", small.serial)


class TestReadiness:
    def test_a_phone_says_how_it_stands(self, adb: Adb) -> None:
        assert str(readiness(adb)) == "screen on, battery 80 % (charging) at 31.2 °C, thermal none"
        assert make_ready(adb) == readiness(adb)

    def test_a_dark_screen_is_woken(self, condition: Phone, adb: Adb) -> None:
        condition.change("condition", wakefulness="Asleep")
        assert make_ready(adb).awake

    @pytest.mark.parametrize(
        ("state", "sentence"),
        [
            ({"wakefulness": "Asleep", "wakes": False}, "its screen is off"),
            ({"level": 5, "usb": False}, "its battery is at 5 %"),
            ({"thermal": 3}, "its thermal state is severe"),
        ],
    )
    def test_one_that_is_not_fit_is_told(
        self, condition: Phone, adb: Adb, state: dict[str, object], sentence: str
    ) -> None:
        condition.change("condition", **state)
        with pytest.raises(DeviceError) as caught:
            make_ready(adb)
        assert caught.value.message == f"{adb.serial} is not ready: {sentence}."

    def test_a_hot_one_is_waited_for(self, condition: Phone, adb: Adb, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ready, "COOL_POLL_SECONDS", 0.05)
        condition.change("condition", thermal=[4, 3, 2, 1])
        assert make_ready(adb, cool_down=30).thermal == "light"
        condition.change("condition", thermal=4)
        with pytest.raises(DeviceError, match=r"still in thermal state critical after 0\.2 s"):
            make_ready(adb, cool_down=0.2)


class TestLocks:
    def test_a_phone_has_one_user_at_a_time(
        self, phone: Phone, adb: Adb, apk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "WAIT_SECONDS", 0.3)
        held = "import sys; from harness.devices.android.locks import SerialLock; "
        held += f"lock = SerialLock({phone.serialno!r}); lock.take(); print('held', flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None and other.stdin is not None
            assert other.stdout.readline() == "held\n"
            device = AndroidDevice("pixel8a", adb, PhoneOptions(apk))
            with pytest.raises(DeviceError) as caught:
                device.facts()
            assert caught.value.message == f"{phone.serialno} is in use by process {other.pid} for over 0.3 s."
            device.close()
            other.kill()  # a process that dies gives it back
        with AndroidDevice("pixel8a", adb, PhoneOptions(apk)) as again:
            assert again.facts().kind == "android"

    def test_one_phone_under_two_names_is_one_phone(
        self, phone: Phone, adb: Adb, apk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "WAIT_SECONDS", 0.3)
        again = Adb(Server(), f"localhost:{phone.port}")
        Adb(Server()).call("connect", again.serial)
        try:
            assert {d.serial for d in attached_devices()} >= {phone.serial, again.serial}
            assert [d.serial for d in phones(attached_devices()) if d.product == "akita"] in (
                [phone.serial],
                [again.serial],
            )
            assert find_phone("pixel8a").serial in (phone.serial, again.serial)
            with AndroidDevice("pixel8a", again, PhoneOptions(apk)) as device:
                assert device.serial == ""
                assert device.facts().kind == "android"
                assert device.described()["serial"] == phone.serialno == device.serial
                taken = locks.SerialLock(phone.serialno).path
                other = "from harness.devices.scratch import try_lock; "
                other += f"file = open({str(taken)!r}, 'a'); print(try_lock(file.fileno()))"
                assert run(sys.executable, "-c", other).stdout == "False\n"
        finally:
            Adb(Server()).call("disconnect", again.serial)

    def test_two_devices_of_one_process_take_turns(self, adb: Adb, apk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "WAIT_SECONDS", 0.3)
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
        job = make_job(graph.build(), {"x": np.ones((1, 4), np.float32)}, Options("cpu"), timeout=30)
        key = os.getpid(), locks.SerialLock(adb.serialno()).path
        with AndroidDevice("pixel8a", adb, PhoneOptions(apk)) as first:
            assert isinstance(first.run(job), Completed)
            with AndroidDevice("pixel8a", adb, PhoneOptions(apk)) as second:
                for device in (second, first, second):
                    assert isinstance(device.run(job), Completed)
            assert isinstance(first.run(job), Completed)
            assert key in locks.SerialLock._shared  # the first has it still
        assert key not in locks.SerialLock._shared


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def distrustful() -> Iterator[int]:
    """The port of an adbd whose owner has not said yes: it answers every connection with a demand for a known key."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_demand_keys, args=(server,), daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


def _demand_keys(server: socket.socket) -> None:
    # A packet: command, two arguments, length and sum of the data, the command's complement.
    token = bytes(range(20))
    auth = struct.unpack("<I", b"AUTH")[0]
    demand = struct.pack("<6I", auth, 1, 0, len(token), sum(token), auth ^ 0xFFFFFFFF) + token
    with server.accept()[0] as sock:
        while len(head := sock.recv(24, socket.MSG_WAITALL)) == 24:
            command, kind, _, length = struct.unpack("<4I", head[:16])
            sock.recv(length, socket.MSG_WAITALL)
            if command != auth or kind == 2:  # a greeting, or a signature that is not known
                sock.sendall(demand)
