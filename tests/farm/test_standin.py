"""The harness's own commands on stand-in phones, given out by a farm: real adb, real adbd, the app's own code."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from harness.core.errors import DeviceError
from harness.core.run_folder import read_run
from harness.devices.android.locks import SerialLock
from tests.documents import check_run
from tests.farm.conftest import HARNESS, SimulatedFarm
from tests.parts import MissingPart, lacking
from tests.standin import app
from tests.standin.build import build
from tests.standin.phone import AdbServer, Phone, make_apk, temporary_state

pytestmark = pytest.mark.slow


def test_jobs_on_phones_at_an_address_are_what_the_commands_make(farm: SimulatedFarm) -> None:
    """A phone at a local port is what a service that streams devices gives. One is in use at first: its job waits."""
    try:
        build()
    except MissingPart as missing:
        lacking(missing)
    farm.schedule()
    serials = farm.standin_host("lab", harness=True)
    matrix = farm.matrix(devices=["pixel8a", f"serial={serials[1]}", "gpu=mali"], accelerator="cpu", repetitions=2)
    person = SerialLock(serials[0])
    person.take()
    try:
        client = farm.begin(matrix, "--absent-after", "180")
        farm.wait_finished(3, 300)
        time.sleep(5)
        rows = json.loads((farm.folder / "out/matrix.json").read_text())["jobs"]
        assert {row["serial"] for row in rows if row["state"] == "done"} == {serials[1]}
    finally:
        person.give_back()
    assert client.wait(300) == 0, farm.said()
    farm.processes.pop("client")
    told = json.loads((farm.folder / "out/matrix.json").read_text())
    assert told["counts"] == {"done": 6}
    assert {row["serial"] for row in told["jobs"] if row["device"] == "pixel8a"} == {serials[0]}
    for row in told["jobs"]:
        run = farm.folder / "out" / row["run"]
        check_run(run)
        assert read_run(run)["result"]["status"] == "pass" == row["status"]
        # The host's own folder for the job is gone: nothing that is read here names it.
        assert read_run(run)["model"]["path"] == row["model"]
        told = [path for path in run.rglob("*") if path.suffix in (".md", ".html", ".json")]
        assert told and not [path for path in told if f"in/{row['model']}" in path.read_text()]
        assert row["exit_code"] == 0 and 0 <= row["cores_busy"] <= 1


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    """A Pixel 8a on an adb server of its own, which the farm's processes are told of too."""
    server, state = AdbServer(), temporary_state()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
    monkeypatch.setenv("HARNESS_APK", str(make_apk(tmp_path)))
    try:
        made = Phone(state, app.command(socket="{socket}"))
    except MissingPart as missing:
        lacking(missing)
    made.boot()
    made.connect()
    yield made
    made.close()
    server.kill()
    shutil.rmtree(state)


def test_a_benchmark_by_a_worker_has_the_phone_for_itself_once_it_is_cool(farm: SimulatedFarm, phone: Phone) -> None:
    """The commands as a person starts them; the host's cores are busy meanwhile."""
    phone.change("condition", thermal=3)
    farm.schedule()
    words = ["farm", "worker", farm.address, *farm.trust, "--address", "127.0.0.1", "--name", "lab"]
    farm.start("lab", [*HARNESS, *words, "--no-host-device", "--look", "1", "--store", str(farm.folder / "store")])
    spin = [sys.executable, "-c", "while True: pass"]
    for number in range(os.cpu_count() or 1):
        farm.start(f"busy{number}", spin)
    matrix = farm.matrix(
        devices=[phone.serial], commands=["bench"], accelerator="cpu", repetitions=2, quick=True, cool_down=600
    )
    client = farm.begin(matrix, "--absent-after", "180")
    farm.wait(lambda: held(phone), "job that has the phone", 180)
    time.sleep(6)
    assert farm.finished() == 0 and phone.read("process") is None, "it measures on a hot phone"
    phone.change("condition", thermal=0)
    farm.wait(lambda: phone.read("process"), "app on the cool phone")
    with pytest.raises(DeviceError, match="is in use by process"):
        SerialLock(phone.serialno, seconds=0.2).take()
    assert client.wait(400) in (0, 4), farm.said()
    farm.processes.pop("client")
    told = json.loads((farm.folder / "out/matrix.json").read_text())
    assert told["counts"] == {"done": 2}
    said = " ".join((farm.folder / "client.out").read_text().split())
    began = []
    for row in told["jobs"]:
        record = read_run(farm.folder / "out" / row["run"])
        assert record["command"] == "bench" and record["status"] == "done"
        assert row["serial"] == phone.serialno and row["host"] == "lab"
        assert 0.5 < row["cores_busy"] <= 1
        assert f"bench m.tflite on {phone.serialno}: the cores of lab were {row['cores_busy']:.0%} busy." in said
        samples = (farm.folder / "out" / row["run"] / "samples.csv").read_text().splitlines()
        assert len(samples) > 96
        began.append(datetime.fromisoformat(record["started"]))
    shortest = min(row["seconds"] for row in told["jobs"])
    assert abs(began[0] - began[1]).total_seconds() > shortest - 5 > 3, "they were at work at once"


def held(phone: Phone) -> bool:
    """Whether somebody has it."""
    lock = SerialLock(phone.serialno, seconds=0.1)
    try:
        lock.take()
    except DeviceError:
        return True
    lock.give_back()
    return False
