"""`compare` and `localize` with several devices: what a person sees, the document, and the worst code."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import EXIT_DEVICE, EXIT_MISUSE, EXIT_OK, EXIT_WRONG
from tests import models
from tests.cli.conftest import Cli

RIGHT, WRONG, STRICT = "planted:none", "planted:low-rank-constant", "planted:mali"


def file_of(folder: Path, name: str) -> Path:
    path = folder / f"{name}.tflite"
    path.write_bytes(getattr(models, name)().to_bytes())
    return path


def test_devices_are_compared_and_then_with_each_other(cli: Cli, tmp_path: Path) -> None:
    model = file_of(tmp_path, "wrong")
    said = cli("compare", model, "--device", RIGHT, "--device", WRONG)
    assert said.code == EXIT_WRONG
    lines = said.out.splitlines()
    assert any(line.startswith(RIGHT) and line.rstrip().endswith("pass") for line in lines)
    assert any(line.startswith(WRONG) and line.rstrip().endswith("fail") for line in lines)
    assert f"ADD #0 is wrong on {WRONG}, right on {RIGHT}." in lines
    assert f"Output 'y': {RIGHT} is right; {WRONG} is wrong." in lines
    assert lines[-1].endswith("harness matrix results")
    matrix = cli("matrix", "--json").json
    assert matrix["tally"] == {"fail": 1, "pass": 1}


def test_the_document_has_each_device_and_what_is_between_them(cli: Cli, tmp_path: Path) -> None:
    refused = file_of(tmp_path, "refused")
    words = ("compare", refused, "--device", RIGHT, "--device", STRICT, "--json")
    said = cli(*words)
    assert said.code == EXIT_DEVICE
    told = said.json
    assert told["status"] == "incomplete"
    assert [(each["device"]["name"], each["status"]) for each in told["devices"]] == [
        (RIGHT, "pass"),
        (STRICT, "failed"),
    ]
    assert "refuses" in told["devices"][1]["error"]
    assert [op["split"] for op in told["between"]["ops"]] == ["alike"]


def test_one_device_named_twice_is_one(cli: Cli, tmp_path: Path) -> None:
    said = cli("compare", file_of(tmp_path, "right"), "--device", RIGHT, "--device", RIGHT, "--json")
    assert said.code == EXIT_OK
    assert "devices" not in said.json and said.json["status"] == "pass"


@pytest.mark.slow
def test_localize_tells_one_table(cli: Cli, tmp_path: Path) -> None:
    model = file_of(tmp_path, "wrong")
    said = cli("localize", model, "--no-explain", "--device", RIGHT, "--device", WRONG)
    assert said.code == EXIT_WRONG
    assert f"ADD #0 is wrong on {WRONG}, not read on {RIGHT}." in said.out.splitlines()


@pytest.mark.parametrize("command", ["run", "dump", "bisect-runtime"])
def test_the_others_ask_one_device_and_say_so(cli: Cli, tmp_path: Path, command: str) -> None:
    said = cli(command, file_of(tmp_path, "right"), "--device", RIGHT, "--device", WRONG)
    assert said.code == EXIT_MISUSE
    assert f"asks one device, not 2 ({RIGHT}, {WRONG})" in said.sentence


def test_one_device_is_resumed_at_a_time(cli: Cli, tmp_path: Path) -> None:
    model = file_of(tmp_path, "right")
    said = cli("localize", model, "--device", RIGHT, "--device", WRONG, "--resume", tmp_path)
    assert (said.code, "continues the run of one device" in said.sentence) == (EXIT_MISUSE, True)
