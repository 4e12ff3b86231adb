"""A phone with several users: the app is for the one in front, and for nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import harness
from harness.api.doctor import examine
from harness.cli.app import app
from harness.core.errors import DeviceError
from harness.core.job import Options
from harness.devices.android import gradle
from harness.devices.android.adb import Adb, Server
from harness.devices.android.apk import PACKAGE, ensure_app, installed_elsewhere, installed_version
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.execute import completed, make_job
from harness.devices.registry import find_phone
from harness.graph.model import Model
from tests.standin.phone import Phone

VERSION = harness.__version__


@pytest.fixture
def adb(phone: Phone) -> Iterator[Adb]:
    """The phone with an owner, a work profile and a second user, who is in front; nobody has the app."""
    adb = Adb(Server(), phone.serial)
    adb.shell("pm", "uninstall", PACKAGE, check=False)
    phone.write("users", {"current": 10, "all": [0, 10, 11], "denied": [11]})
    yield adb
    phone.write("users", {"current": 0, "all": [0], "denied": []})
    adb.shell("pm", "uninstall", PACKAGE, check=False)


def having(adb: Adb) -> list[int]:
    return [user for user in (0, 10) if adb.shell("pm", "path", "--user", str(user), PACKAGE, check=False)]


def test_it_is_installed_for_the_user_in_front_alone(adb: Adb, apk: Path) -> None:
    told: list[str] = []
    assert ensure_app(adb, apk, told.append) == 10
    assert having(adb) == [10]
    assert told == [
        f"user 10 of {adb.serial} is in front: the app is for that one",
        f"installing {apk.name} on {adb.serial}",
    ]
    assert ensure_app(adb, apk) == 10  # and left alone the second time
    assert (installed_version(adb, 10), installed_version(adb, 0)) == (VERSION, None)


def test_a_job_runs_for_that_user_and_its_result_says_so(adb: Adb, phone: Phone, apk: Path, plus_one: Model) -> None:
    job = make_job(plus_one, {"x": np.zeros((1, 4), np.float32)}, Options("cpu"), timeout=60)
    with AndroidDevice("pixel8a", find_phone(phone.serial), PhoneOptions(apk)) as device:
        assert isinstance(device, AndroidDevice)
        completed(device, job, "running it")
        assert phone.read("process")["user"] == device.user == 10
        assert device.described()["user"] == "10"
        phone.change("users", current=0)
        device.stop()
        completed(device, job, "running it")  # the owner has the phone again
        assert phone.read("process")["user"] == device.user == 0
        assert "user" not in device.described()
        device.launcher.kill()  # and not told to end by itself
        assert phone.read("stopping") == {"pid": phone.pid}
    assert having(adb) == [0, 10]


def test_a_comparison_s_document_names_the_user(
    adb: Adb, phone: Phone, apk: Path, plus_one: Model, tmp_path: Path
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(plus_one.to_bytes())
    words = ["compare", str(model), "--device", phone.serial, "--apk", str(apk), "--accelerator", "cpu"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "results"), "--json"])
    assert done.exit_code == 0, done.output
    (record,) = (tmp_path / "results").glob("*/run.json")
    assert json.loads(record.read_text())["device"]["user"] == "10"


def test_app_install_and_doctor_say_who_has_it(adb: Adb, phone: Phone, apk: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["app", "install", "--device", phone.serial, "--apk", str(apk), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["user"] == 10
    assert said_of(phone, tmp_path).endswith(f"; app {VERSION}; user 10 is in front")
    phone.change("users", current=0)
    assert said_of(phone, tmp_path).endswith("; the app is installed for user 10 alone; user 0 is in front")
    adb.shell("pm", "uninstall", PACKAGE)
    assert said_of(phone, tmp_path).endswith("; the app is not installed yet")


def said_of(phone: Phone, folder: Path) -> str:
    (line,) = [check for check in examine(folder) if check.name.startswith(f"phone {phone.serial}")]
    return line.detail


class TestOneThatIsThereForAnother:
    @pytest.fixture(autouse=True)
    def _nothing_at_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HARNESS_APK", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(gradle, "PROJECT", Path("/nowhere"))

    def test_is_one_sentence_and_its_next_step_helps(self, adb: Adb, phone: Phone, apk: Path) -> None:
        ensure_app(adb, apk)
        phone.change("users", current=0)
        assert installed_elsewhere(adb, 0) == "10"
        with pytest.raises(DeviceError) as caught:
            ensure_app(adb, None)
        assert caught.value.message == f"{adb.serial} has the app for user 10 alone, and user 0 is in front."
        command = f"adb -s {adb.serial} shell pm install-existing --user 0 {PACKAGE}"
        assert caught.value.next_step == f"Run `{command}`, or give --apk FILE."
        adb.call(*command.split()[3:])
        assert ensure_app(adb, None) == 0

    def test_is_none_where_it_is_of_another_harness(self, adb: Adb, phone: Phone, apk: Path) -> None:
        ensure_app(adb, apk)
        phone.change("users", current=0)
        known = phone.data / "system" / "packages.json"
        found: dict[str, Any] = json.loads(known.read_text())
        known.write_text(json.dumps(found | {"versionName": "0.0.1"}))
        with pytest.raises(DeviceError, match="needs the app, no APK is built"):
            ensure_app(adb, None)


def test_a_user_whom_adb_may_not_touch_is_one_sentence(adb: Adb, phone: Phone, apk: Path) -> None:
    phone.change("users", current=11)
    with pytest.raises(DeviceError) as caught:
        ensure_app(adb, apk)
    assert caught.value.message == (
        f"{adb.serial} lets adb do nothing for user 11, who is in front: debugging is not allowed there."
    )
    assert caught.value.next_step == (
        f"Switch to the phone's owner (adb -s {adb.serial} shell am switch-user 0), or allow it for that user."
    )
    assert having(adb) == []
