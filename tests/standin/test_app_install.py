"""`harness app install` on the stand-in: beforehand what the first job would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import harness
from harness.cli.app import app
from harness.core.errors import DeviceError, UsageError
from harness.devices.android.adb import Adb, Server
from harness.devices.android.apk import PACKAGE, installed_version
from tests.standin.phone import Phone, make_apk

VERSION = harness.__version__


def test_it_is_there_afterwards_and_left_alone_the_second_time(phone: Phone, apk: Path) -> None:
    adb = Adb(Server(), phone.serial)
    adb.shell("pm", "uninstall", PACKAGE, check=False)
    documents = []
    for _ in range(2):
        done = CliRunner().invoke(app, ["app", "install", "--device", phone.serial, "--apk", str(apk), "--json"])
        assert done.exit_code == 0, done.output
        documents.append(json.loads(done.stdout))
        assert installed_version(adb, 0) == VERSION
    assert [document["was"] for document in documents] == [None, VERSION]
    assert {(d["version"], d["serial"], d["device"]) for d in documents} == {(VERSION, phone.serial, phone.serial)}
    done = CliRunner().invoke(app, ["app", "install", "--device", phone.serial, "--apk", str(apk)])
    assert f"The app {VERSION} is on {phone.serial}." in done.stdout


def test_an_app_of_another_harness_is_refused(phone: Phone, tmp_path: Path) -> None:
    other = make_apk(tmp_path, version="0.0.1", code=1)
    done = CliRunner().invoke(app, ["app", "install", "--device", phone.serial, "--apk", str(other), "--json"])
    assert isinstance(done.exception, DeviceError)
    assert "is the app of harness 0.0.1" in done.exception.message


def test_an_apk_that_is_none_is_told_before_any_phone_is_asked(tmp_path: Path) -> None:
    words = ["app", "install", "--device", "nobody", "--apk", str(tmp_path / "none.apk"), "--json"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UsageError)
    assert done.exception.message == f"{tmp_path}/none.apk cannot be read (No such file or directory)."


@pytest.mark.parametrize("device", ["host", "host@2.1.5"])
def test_only_phones_have_it(device: str) -> None:
    done = CliRunner().invoke(app, ["app", "install", "--device", device, "--json"])
    assert isinstance(done.exception, UsageError)
    assert done.exception.message.startswith(f"'{device}' is no phone")
