"""Several models in one command: one that cannot be asked does not keep the others from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import EXIT_MISUSE, EXIT_OK, EXIT_WRONG
from tests import models as small
from tests.cli.conftest import Cli


def models(folder: Path) -> tuple[Path, Path, Path]:
    """A right one, one that the GPU computes wrongly, and a file that is none."""
    right, wrong, none = (folder / name for name in ("right.tflite", "wrong.tflite", "none.onnx"))
    right.write_bytes(small.right().to_bytes())
    wrong.write_bytes(small.wrong().to_bytes())
    none.write_bytes(b"onnx")
    return right, wrong, none


@pytest.mark.gpu
def test_compare_tells_each_and_ends_with_the_worst(cli: Cli, tmp_path: Path) -> None:
    right, wrong, none = models(tmp_path)
    said = cli("compare", right, none, wrong, "--json")
    assert said.code == EXIT_WRONG
    told = [(Path(each["model"]["path"]).name, each["status"]) for each in said.json["models"]]
    assert told == [("right.tflite", "pass"), ("none.onnx", "failed"), ("wrong.tflite", "fail")]
    assert "is an ONNX model" in said.json["models"][1]["error"]
    assert cli("compare", right, none).code == EXIT_MISUSE
    shown = cli("compare", right, right)
    assert shown.code == EXIT_OK and shown.out.count("PASS") == 2


@pytest.mark.gpu
def test_localize_names_the_ops_of_each(cli: Cli, tmp_path: Path) -> None:
    right, wrong, _ = models(tmp_path)
    said = cli("localize", wrong, right, "--no-explain", "--json")
    assert said.code == EXIT_WRONG
    assert [len(each["culprits"]) for each in said.json["models"]] == [1, 0]
    assert said.json["models"][0]["model"]["path"] == str(wrong)


def test_one_run_is_resumed_at_a_time(cli: Cli, tmp_path: Path) -> None:
    right, wrong, _ = models(tmp_path)
    assert "continues the run of one model" in cli("localize", right, wrong, "--resume", tmp_path).sentence


def test_lint_goes_on_past_what_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    right, wrong, none = models(tmp_path)
    said = cli("lint", none, right, wrong, "--json")
    assert said.code == EXIT_WRONG
    linted = said.json["models"]
    assert [len(each["findings"]) for each in linted[1:]] == [0, 1]
    assert linted[0]["path"] == str(none) and "ONNX" in linted[0]["error"]
    assert cli("lint", none, right).code == EXIT_MISUSE
