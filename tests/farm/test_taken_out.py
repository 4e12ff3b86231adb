"""When a device is to blame for a job that came to nothing, and how long it stays out."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from rich.console import Console

from harness.cli import farm as command
from harness.cli import screen
from harness.farm.execute import Station
from harness.farm.found import Found
from harness.farm.job import DeviceFailed, JobSpec, TakenOut
from harness.farm.keeper import LONGEST_OUT_SECONDS, out_seconds
from harness.farm.matrix import read_matrix
from harness.farm.node import FarmWorker
from harness.farm.status import status_document
from harness.farm.store import Store
from harness.graph.build import GraphBuilder
from tests.documents import check
from tests.farm.conftest import HARNESS, SimulatedFarm


class Bench:
    """A station over a phone that does not exist, and jobs of three models for it."""

    def __init__(self, folder: Path, lock: str = "S1-number", **how: Any) -> None:
        self.folder = folder
        (folder / "phones").mkdir()
        self.phone(**how)
        program = (sys.executable, str(Path(__file__).with_name("program.py")), str(folder / "phones"))
        self.told: list[dict[str, Any]] = []
        self.station = Station("lab", Found("S1", lock, ()), Store(folder / "store"), program, tell=self.told.append)
        (folder / "store/files").mkdir(parents=True)
        for width, name in enumerate(("a", "b", "c"), 1):
            graph = GraphBuilder()
            graph.output(graph.unary("RELU", graph.input("x", (1, width))), "y")
            data = graph.build().to_bytes()
            (folder / f"{name}.tflite").write_bytes(data)
            (folder / "store/files" / hashlib.sha256(data).hexdigest()).write_bytes(data)

    def phone(self, **how: Any) -> None:
        (self.folder / "phones/S1.json").write_text(json.dumps({"seconds": 0.0} | how))

    def jobs(self, *models: str, **more: Any) -> list[JobSpec]:
        """One for each model named, the same model more than once as its repetitions."""
        (self.folder / "m.toml").write_text(
            f'models = {json.dumps(sorted({f"{name}.tflite" for name in models}))}\ndevices = ["S1"]\n'
            f'commands = ["compare"]\nrepetitions = {len(models)}\n'
        )
        left = list(read_matrix(self.folder / "m.toml", "0" * 32).jobs)
        found = []
        for name in models:
            found.append(next(job for job in left if job.model == f"{name}.tflite"))
            left.remove(found[-1])
        return [replace(job, **more) for job in found]


def test_a_device_that_fails_at_two_models_in_a_row_is_out_though_it_does_a_small_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, breaks=True)
    first, second, third = bench.jobs("a", "b", "c")
    assert bench.station.do(first).exit_code == 3
    with pytest.raises(DeviceFailed, match="is not well"):
        bench.station.do(second)
    with pytest.raises(TakenOut, match="2 device failures in a row, and it does a small model; the last: S1 is not"):
        bench.station.do(third)
    assert [event["out"] for event in bench.told if "out" in event] == [bench.station.out]


def test_a_model_that_crashes_a_device_again_and_again_is_the_model_s_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, breaks=True)
    assert [bench.station.do(job).exit_code for job in bench.jobs("a", "a", "a", "a")] == [3] * 4
    assert not bench.station.out


def test_what_was_done_before_is_the_device_s_fault_and_is_asked_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, breaks=True)
    first, second = bench.jobs("a", "a", done_before=True)
    for job in (first, second):
        with pytest.raises(DeviceFailed):
            bench.station.do(job)
        assert bench.station.store.outcome(job.matrix, job.id) is None
    assert bench.station.out


def test_refusals_of_many_models_are_answers(tmp_path: Path) -> None:
    bench = Bench(tmp_path, refuses=True)
    assert [bench.station.do(job).exit_code for job in bench.jobs("a", "b", "c")] == [3] * 3
    assert not bench.station.out and bench.station.failures == 0


def test_what_releases_do_on_the_host_is_theirs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lock="", breaks=True)
    assert [bench.station.do(job).exit_code for job in bench.jobs("a", "b", "c")] == [3] * 3
    assert not bench.station.out


def test_a_job_that_is_done_in_between_begins_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path, breaks=True)
    first, second, third = bench.jobs("a", "b", "c")
    assert bench.station.do(first).exit_code == 3
    bench.phone()
    assert bench.station.do(second).exit_code == 0
    bench.phone(breaks=True)
    assert bench.station.do(third).exit_code == 3
    assert not bench.station.out


def test_a_device_that_hangs_on_two_models_is_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, seconds=60)
    first, second = bench.jobs("a", "b", timeout=1.0)
    assert bench.station.do(first).state == "timed out"
    with pytest.raises(DeviceFailed, match="its time was up"):
        bench.station.do(second)
    assert bench.station.out


def test_a_process_that_is_started_anew_knows_of_the_failure_before(tmp_path: Path) -> None:
    """A phone that reboots in each job is gone after it, and with it its process."""
    bench = Bench(tmp_path, breaks=True)
    first, second = bench.jobs("a", "b")
    bench.station.do(first)
    known = next(event for event in bench.told if "failures" in event)
    assert known == {"failures": 1, "failed": first.sha256}
    next_one = replace(bench.station, **known)
    with pytest.raises(DeviceFailed):
        next_one.do(second)
    assert next_one.out


def test_each_further_time_it_stays_out_twice_as_long_up_to_an_hour() -> None:
    assert [out_seconds(times, 60.0) for times in range(1, 6)] == [0.0, 60.0, 120.0, 240.0, 480.0]
    assert out_seconds(30, 60.0) == out_seconds(3000, 60.0) == LONGEST_OUT_SECONDS == 3600.0
    assert out_seconds(9, 7200.0) == 7200.0


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        (1, "2 device failures in a row; a small model in 0 s"),
        (3, "2 device failures in a row; out 3 times with no job done between; a small model in 119 s"),
    ],
)
def test_the_status_says_why_how_often_and_until_when(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int, sentence: str
) -> None:
    """From what the host tells with its heartbeat to the line that a person reads."""
    device: dict[str, Any] = {
        "name": "S1",
        "serial": "S1-number",
        "state": "out",
        "reason": "2 device failures in a row",
    }
    device |= {
        "times_out": times,
        "probe_in": 119.4 if times > 1 else 0.0,
        "job": "",
        "doing": "",
        "offers": ["serial:S1"],
    }
    report = {"host": "lab", "trouble": "", "devices": [device]}
    keeper = FarmWorker("tcp://127.0.0.1:1", frozenset({"keeper:lab"}), report)
    found = status_document("tcp://127.0.0.1:2", None, [keeper], {})
    check("farm-status", found)
    monkeypatch.setattr("harness.farm.status.farm_status", lambda farm: found)
    monkeypatch.setattr(screen, "out", Console(width=400))
    command.status("127.0.0.1:2", no_tls=True)
    assert sentence in capsys.readouterr().out


def devices(farm: SimulatedFarm) -> dict[str, dict[str, Any]]:
    """By name, as `harness farm status --json` tells them."""
    command = [*HARNESS, "farm", "status", farm.address, *farm.trust, "--json"]
    done = subprocess.run(command, capture_output=True, timeout=90, text=True, check=True, cwd=farm.folder)
    return {each["name"]: each for host in json.loads(done.stdout)["hosts"] for each in host["devices"]}


@pytest.mark.slow
def test_a_phone_that_does_only_small_models_is_out_longer_and_longer(farm: SimulatedFarm) -> None:
    """All is done by the other one; the bad one gets two jobs each time it comes back, ever more seldom."""
    farm.schedule()
    bad, good = farm.host("one", offers=["gpu:mali"], seconds=0.4)
    farm.phone(bad, breaks=True, offers=["gpu:mali"], seconds=0.0)
    code, told = farm.run(farm.matrix(devices=["gpu=mali"], commands=["compare", "bench"], repetitions=30))
    by_bad = [row for row in told["jobs"] if row["serial"] == f"{bad}-number"]
    # What failed before anybody had done the same is the model's own, by all that is known then; and so are the jobs
    # that had been given out by then, two for each device.
    first = {note[1]: float(note[-1]) for note in reversed(farm.notes()[good]) if note[0] == "end"}
    early = sum(note[0] == "begin" and float(note[-1]) < first[note[1]] for note in farm.notes()[bad])
    assert len(by_bad) <= early + 2 * 4 and all(row["exit_code"] == 3 for row in by_bad)
    assert farm.ended()[good] == 60 - len(by_bad) and farm.ended()[bad] == 0
    assert code == (3 if by_bad else 0)
    begun = [float(note[-1]) for note in farm.notes()[bad] if note[0] == "begin"]
    said = (farm.folder / "one.out").read_text()
    taken_out = said.count(f"{bad} is taken out")
    assert 2 <= taken_out <= 8 and len(begun) <= 2 * taken_out + 2 + len(by_bad)
    assert f"{bad} is taken out, 3 times now with no job done between, for 6 s" in said
    now = devices(farm)[bad]
    assert now["times_out"] >= 2 and (now["state"] != "out" or "it does a small model" in now["reason"])
    farm.phone(bad, offers=["gpu:mali"])
    (farm.folder / "out").rename(farm.folder / "before")
    code, told = farm.run(farm.matrix(devices=[bad], repetitions=2), "--absent-after", "120")
    assert (code, told["counts"]) == (0, {"done": 2})
    assert devices(farm)[bad] | {"job": "", "state": ""} == now | {
        "job": "", "state": "", "times_out": 0, "reason": "", "probe_in": None,
    }  # fmt: skip
