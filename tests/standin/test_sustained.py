"""`bench --sustained` on the stand-in: a phone that reboots, one that stays away, an app and a host that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import EXIT_DEVICE, EXIT_MISUSE
from harness.core.run_folder import list_runs, read_run
from harness.graph.build import GraphBuilder
from harness.latency.sustained.record import SustainedResult
from tests.cli.conftest import COMMAND, environment
from tests.standin.phone import Phone
from tests.standin.test_fixed import marker, mode, until

MINUTES = 0.1
"""For a load that nothing happens to."""
LASTING = 0.25
"""For one that goes on after something happened: on a machine that is busy with other tests, which samples are warm-up
is told after five of its fifteen seconds only, and none is in the folder before."""
ENDLESS = 10.0
"""For one that is ended."""
WAIT = 180.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = GraphBuilder()
    weights = (np.random.default_rng(0).standard_normal((256, 256)) / 16).astype(np.float32)
    graph.output(graph.unary("TANH", graph.fully_connected(graph.input("x", (1, 64, 256)), weights)), "y")
    path = tmp_path_factory.mktemp("model") / "model.tflite"
    path.write_bytes(graph.build().to_bytes())
    return path


class Command:
    """A benchmark in a process of its own."""

    def __init__(self, phone: Phone, apk: Path, model: Path, out: Path, minutes: float, *words: object) -> None:
        self.out = out
        given = ["--device", phone.serial, "--apk", apk, "--accelerator", "cpu", "--sustained", minutes, *words]
        given += ["--replications", 1, "--no-accuracy", "--out", out, "--json"]
        self.process = subprocess.Popen(
            [*COMMAND, "bench", str(model), *map(str, given)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def samples(self) -> int:
        """Steady ones that are in the folder by now."""
        return sum(path.read_text("utf-8").count("\nsteady") for path in self.out.glob("*/samples.csv"))

    def runs(self) -> bool:
        """Whether it measures by now."""
        assert self.process.poll() is None, self.process.communicate()
        return self.samples() > 50

    def end(self) -> tuple[int, dict[str, Any], str]:
        """(exit code, the cell, what it said besides)."""
        text, errors = self.process.communicate(timeout=WAIT)
        assert "Traceback" not in errors, errors
        return self.process.returncode, json.loads(text)["cells"][0] if text else {}, errors


Start = Callable[..., Command]


@pytest.fixture
def start(phone: Phone, apk: Path, model: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[Command] = []
    phone.write("power", {"hal": True, "fixed": False, "asked": []})

    def begin(minutes: float, *words: object) -> Command:
        started.append(Command(phone, apk, model, tmp_path / "out", minutes, *words))
        return started[-1]

    yield begin
    for command in started:
        command.process.kill()
        command.process.communicate()


def test_a_phone_that_reboots_is_waited_for_and_nothing_is_lost(phone: Phone, start: Start) -> None:
    command = start(LASTING, "--fixed-performance")
    until(command.runs)
    before = command.samples()
    phone.reboot()
    code, cell, errors = command.end()
    assert code in (0, 1, 4), errors
    (gap,) = cell["gaps"]
    assert gap["why"] == "rebooted" and gap["seconds"] > 0
    assert {p["stretch"] for p in cell["processes"]} == {0, 1}
    assert len({p["boot_id"] for p in cell["processes"]}) == 2
    assert cell["complete"] and cell["measured_minutes"] >= LASTING
    assert cell["processes"][0]["samples"] >= before
    assert all(level["until_s"] <= gap["at_s"] + 1e-6 or level["from_s"] >= gap["at_s"] for level in cell["levels"])
    # The boot itself turned it off in between; where the harness was slower than the boot, it was turned off once more.
    assert mode(phone)["asked"] in (["true", "true", "false"], ["true", "false", "true", "false"])


def test_a_phone_that_stays_away_leaves_what_was_measured(phone: Phone, start: Start) -> None:
    command = start(ENDLESS, "--wait", 2, "--fixed-performance")
    until(command.runs)
    phone.shut_down()
    try:
        code, cell, errors = command.end()
        assert code == EXIT_DEVICE
        last = errors.strip().splitlines()[-1]
        assert f"{phone.serial} did not come back within 2 s: {phone.serial} is not there" in last
        assert f"of {ENDLESS:g} minutes are kept in {cell['run']}." in last
        assert (cell["complete"], cell["gaps"][0]["seconds"]) == (False, None)
        record = read_run(Path(cell["run"]))
        assert record["status"] == "failed"
        assert SustainedResult.from_json(record["result"]).samples == command.samples() > 50
    finally:
        phone.reboot()
        phone.connect()


@pytest.mark.slow
def test_an_app_that_is_killed_is_started_again_and_the_mode_put_back_at_the_end(phone: Phone, start: Start) -> None:
    command = start(LASTING, "--fixed-performance")
    until(command.runs)
    os.kill(phone.pid, signal.SIGKILL)
    _, cell, _ = command.end()
    assert [gap["why"] for gap in cell["gaps"]] == ["crashed"]
    assert (cell["complete"], cell["fixed_performance"]) == (True, True)
    assert mode(phone) == {"hal": True, "fixed": False, "asked": ["true", "false"]}


def test_a_host_that_is_killed_leaves_its_samples_and_no_mode(phone: Phone, start: Start) -> None:
    command = start(ENDLESS, "--fixed-performance")
    until(command.runs)
    assert mode(phone)["fixed"] is True
    kept = command.samples()
    command.process.kill()
    command.process.wait()
    until(lambda: not mode(phone)["fixed"])
    until(lambda: not marker(phone).exists())
    (folder,) = list_runs(command.out)
    assert read_run(folder)["status"] == "interrupted"
    assert command.samples() >= kept


def test_ctrl_c_says_what_it_came_to_and_puts_the_mode_back(phone: Phone, start: Start) -> None:
    command = start(ENDLESS, "--fixed-performance")
    until(command.runs)
    command.process.send_signal(signal.SIGINT)
    text, errors = command.process.communicate(timeout=WAIT)
    assert command.process.returncode == 130
    assert json.loads(text)["error"] == "Interrupted."
    assert f" of {ENDLESS:g} minutes: " in errors
    assert mode(phone)["asked"] == ["true", "false"]
    (folder,) = list_runs(command.out)
    assert read_run(folder)["result"]["complete"] is False
    assert (folder / "staircase.svg").exists()


def test_a_run_lasts_its_minutes_and_tells_the_thermal_state_of_the_phone(phone: Phone, start: Start) -> None:
    began = time.monotonic()
    _, cell, _ = start(MINUTES).end()
    assert MINUTES * 60 <= cell["seconds"] <= time.monotonic() - began
    assert cell["warmth"]["states"] == ["none"]
    assert cell["warmth"]["first_celsius"] == 31.2
    assert cell["fixed_performance"] is None
    assert mode(phone)["asked"] == []


def test_a_phone_without_the_mode_is_one_sentence(phone: Phone, start: Start) -> None:
    phone.change("power", hal=False)
    command = start(MINUTES, "--fixed-performance")
    text, errors = command.process.communicate(timeout=WAIT)
    assert command.process.returncode == EXIT_DEVICE
    assert json.loads(text)["status"] == "failed"
    assert "does not turn fixed-performance mode on: Failed to set FIXED_PERFORMANCE mode" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sustained", "0.05", "--quick"), "--quick means nothing with --sustained."),
        (("--sustained", "0.05", "--until-valid", "2"), "--until-valid means nothing with --sustained."),
        (("--wait", "5"), "--wait means nothing without --sustained."),
        (("--sustained", "0.05", "--threads", "1", "--threads", "2"), "--sustained loads one cell, and these are 2."),
        (("--fixed-performance",), "host has no fixed-performance mode."),
    ],
)
def test_words_that_mean_nothing_are_misuse(model: Path, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    command = [*COMMAND, "bench", str(model), "--accelerator", "cpu", "--out", str(tmp_path / "out"), *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == EXIT_MISUSE
    assert done.stderr.startswith(said)
    assert not (tmp_path / "out").exists()


def test_a_plain_benchmark_may_have_the_mode_too(phone: Phone, start: Start, model: Path, apk: Path) -> None:
    words = ["--device", phone.serial, "--apk", apk, "--accelerator", "cpu", "--samples", 20, "--seconds", 0]
    words += ["--replications", 1, "--fixed-performance", "--no-accuracy", "--json"]
    command = [*COMMAND, "bench", str(model), *map(str, words), "--out", str(model.parent / "out")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=WAIT, check=False)
    (cell,) = json.loads(done.stdout)["cells"]
    assert cell["conditions"]["fixed_performance"] is True
    assert mode(phone)["asked"] == ["true", "false"]
