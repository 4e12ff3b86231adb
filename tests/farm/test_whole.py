"""A farm as it is used: everything is done once, no phone does two things at once, whatever dies meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.farm.conftest import SimulatedFarm

pytestmark = pytest.mark.slow


def test_sixty_jobs_are_done_once_each(farm: SimulatedFarm) -> None:
    farm.schedule()
    serials = [*farm.host("one"), *farm.host("two")]
    matrix = farm.matrix(devices=serials, commands=["compare", "localize", "bench"], repetitions=5)
    code, told = farm.run(matrix)
    assert (code, told["counts"]) == (0, {"done": 60})
    assert farm.ended() == dict.fromkeys(serials, 15)
    farm.check_never_two_at_once()
    assert json.loads((farm.folder / "out/matrix.json").read_text()) == told
    runs = {row["run"] for row in told["jobs"]}
    assert len(runs) == 60 and all((farm.folder / "out" / run / "run.json").exists() for run in runs)
    assert {row["host"] for row in told["jobs"] if row["device"] == serials[0]} == {"one"}


def check_all_done_once(farm: SimulatedFarm, matrix: Path, jobs: int, codes: tuple[int, ...] = (0,)) -> None:
    """The same command again comes to the end; the journal has each job once, and so have the phones' own logs."""
    code, told = farm.run(matrix)
    assert code in codes and told["counts"] == {"done": jobs}
    farm.check_never_two_at_once()
    lines = [json.loads(line.split(b" ", 1)[1]) for line in (farm.folder / "out/journal/log").read_bytes().splitlines()]
    finished = [line["job"]["job"] for line in lines if line["entry"] == "finished"]
    assert len(finished) == len(set(finished)) == jobs
    assert len({row["run"] for row in told["jobs"]}) == jobs
    assert sum(farm.ended().values()) == jobs


def test_a_client_that_is_killed_is_continued(farm: SimulatedFarm) -> None:
    farm.schedule()
    serials = [*farm.host("one", seconds=0.4), *farm.host("two", seconds=0.4)]
    matrix = farm.matrix(devices=serials, repetitions=6)
    for count in (3, 9):
        farm.begin(matrix)
        farm.wait_finished(count)
        farm.kill("client")
    check_all_done_once(farm, matrix, 24)


def test_a_scheduler_that_is_killed_and_started_again_costs_nothing_that_is_finished(farm: SimulatedFarm) -> None:
    farm.schedule()
    serials = [*farm.host("one", seconds=0.4), *farm.host("two", seconds=0.4)]
    matrix = farm.matrix(devices=serials, repetitions=6)
    farm.begin(matrix)
    for count in (3, 9):
        farm.wait_finished(count)
        farm.kill("scheduler")
        time.sleep(2)
        farm.schedule()
    client = farm.processes.pop("client")
    assert client.wait(120) == 0
    check_all_done_once(farm, matrix, 24)


def test_a_host_that_is_killed_and_started_again_costs_nothing_that_is_finished(farm: SimulatedFarm) -> None:
    farm.schedule()
    serials = [*farm.host("one", seconds=0.4), *farm.host("two", seconds=0.4)]
    matrix = farm.matrix(devices=serials, repetitions=6)
    farm.begin(matrix)
    farm.wait_finished(4)
    farm.kill("one")
    time.sleep(2)
    farm.host("one", seconds=0.4)
    client = farm.processes.pop("client")
    assert client.wait(120) == 0
    check_all_done_once(farm, matrix, 24)


def workers_of(pid: int) -> list[int]:
    """The processes that a host has for its phones."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (entry / "cmdline").read_text()
            except (OSError, IndexError):
                continue
            if parent == pid and "harness.farm.phone" in words:
                found.append(int(entry.name))
    return sorted(found)


def test_a_worker_that_is_killed_costs_nothing_that_is_finished(farm: SimulatedFarm) -> None:
    farm.schedule()
    serials = farm.host("one", seconds=0.4)
    matrix = farm.matrix(devices=serials, repetitions=8)
    farm.begin(matrix)
    for count in (2, 6):
        farm.wait_finished(count)
        os.kill(workers_of(farm.processes["one"].pid)[0], signal.SIGKILL)
    client = farm.processes.pop("client")
    assert client.wait(120) == 0
    check_all_done_once(farm, matrix, 16)


def is_busy(farm: SimulatedFarm, serial: str) -> bool:
    """Whether a phone does a job, by the lock that the job itself has."""
    with (farm.phones("one") / f"{serial}.busy").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_job_is_ended_on_its_phone_when_the_client_is_interrupted(farm: SimulatedFarm) -> None:
    farm.schedule()
    (serial,) = farm.host("one", phones=1, seconds=60)
    matrix = farm.matrix(devices=[serial])
    client = farm.begin(matrix)
    farm.wait(lambda: farm.notes().get(serial), "job that began")
    assert is_busy(farm, serial)
    began = time.monotonic()
    client.send_signal(signal.SIGINT)
    assert client.wait(60) == 130
    assert time.monotonic() - began < 45
    assert not is_busy(farm, serial)
    assert json.loads((farm.folder / "out/matrix.json").read_text())["status"] == "interrupted"
    farm.processes.pop("client")
    farm.phone(serial, seconds=0.1)
    check_all_done_once(farm, matrix, 1)


def test_a_phone_that_fails_every_job_is_taken_out_after_two(farm: SimulatedFarm) -> None:
    farm.schedule()
    bad, good = farm.host("one", offers=["gpu:mali"])
    farm.phone(bad, fails=True, offers=["gpu:mali"])
    code, told = farm.run(farm.matrix(devices=["gpu=mali"], repetitions=10))
    assert (code, told["counts"]) == (0, {"done": 10})
    assert {row["serial"] for row in told["jobs"]} == {f"{good}-number"}
    notes = farm.notes()
    begun = sum(note[0] == "begin" for note in notes[bad])
    assert begun == 2
    assert farm.ended()[good] == 10
    # It takes jobs again once it does the small model.
    farm.phone(bad, offers=["gpu:mali"])
    (farm.folder / "out").rename(farm.folder / "before")
    code, told = farm.run(farm.matrix(devices=[bad], repetitions=2))
    assert (code, told["counts"]) == (0, {"done": 2})


def test_a_model_that_is_refused_takes_no_phone_out(farm: SimulatedFarm) -> None:
    farm.schedule()
    (serial,) = farm.host("one", phones=1, refuses=True)
    code, told = farm.run(farm.matrix(devices=[serial], repetitions=4))
    assert (code, told["counts"]) == (3, {"failed": 4})
    assert all("is not well" in row["reason"] for row in told["jobs"])
    assert sum(note[0] == "begin" for note in farm.notes()[serial]) == 4


def test_a_device_that_nobody_has_is_said_in_time(farm: SimulatedFarm) -> None:
    farm.schedule()
    (serial,) = farm.host("one", phones=1)
    matrix = farm.matrix(devices=[serial, "gpu=adreno", "pixel8a"], repetitions=2)
    began = time.monotonic()
    code, told = farm.run(matrix, "--absent-after", "20")
    assert time.monotonic() - began < 60
    assert (code, told["counts"]) == (3, {"absent": 4, "done": 2})
    reasons = {row["device"]: row["reason"] for row in told["jobs"] if row["state"] == "absent"}
    assert reasons == {
        "gpu=adreno": "No device has gpu:adreno for 20 s.",
        "pixel8a": "No device has model:pixel8a for 20 s.",
    }


def test_a_phone_that_goes_away_and_comes_back_does_its_jobs(farm: SimulatedFarm) -> None:
    farm.schedule()
    serials = farm.host("one", seconds=0.4)
    matrix = farm.matrix(devices=serials, repetitions=6)
    farm.begin(matrix)
    farm.wait_finished(2)
    place = farm.phones("one") / f"{serials[0]}.json"
    place.rename(place.with_suffix(".away"))
    farm.wait(lambda: f"{serials[0]} is gone" in (farm.folder / "one.out").read_text(), "phone that is gone")
    place.with_suffix(".away").rename(place)
    client = farm.processes.pop("client")
    assert client.wait(120) == 0
    check_all_done_once(farm, matrix, 12)
