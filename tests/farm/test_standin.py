"""The harness's own commands on stand-in phones, given out by a farm: real adb, real adbd, the app's own code."""

from __future__ import annotations

import json
import time

import pytest

from harness.core.run_folder import read_run
from harness.devices.android.locks import SerialLock
from tests.documents import check_run
from tests.farm.conftest import SimulatedFarm
from tests.parts import MissingPart, lacking
from tests.standin.build import build

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
        assert row["exit_code"] == 0 and 0 <= row["cores_busy"] <= 1
