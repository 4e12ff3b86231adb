"""A model that float16 makes useless fails, on the GPU itself, and is told from one that the GPU computes wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus import healthy_mlp
from harness.api.on_device import OnDevice
from harness.core.errors import EXIT_MISUSE, EXIT_OK, EXIT_WRONG
from harness.graph.model import Model
from tests.cli.conftest import Cli
from tests.localize.lossy import far_positions, log_of_complement, residual, rope


def saved(tmp_path: Path, model: Model) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(model.to_bytes())
    return path


@pytest.mark.gpu
class TestOnTheGpu:
    def test_angles_that_float16_has_no_digits_for(self, cli: Cli, tmp_path: Path) -> None:
        # Positions to 3,993 at a frequency of 1: float16's steps there are 2 rad, a third of a turn.
        np.savez(tmp_path / "in.npz", allow_pickle=False, **far_positions())
        model = saved(tmp_path, rope())
        said = cli("compare", model, "--inputs", "in.npz", "--json")
        (output,) = said.json["outputs"]
        assert (said.code, said.json["status"]) == (EXIT_WRONG, "fail")
        assert (output["ok"], output["verdict"]) == (False, "precision")
        assert output["ratio"] <= output["limit"] == 16.0
        said = cli("localize", model, "--inputs", "in.npz", "--json")
        (culprit,) = said.json["culprits"]
        assert (said.code, said.json["status"], said.json["certified"]) == (EXIT_WRONG, "culprits", True)
        assert (culprit["op"], culprit["ops"], culprit["cause"]) == ("MUL", [0, 0], "rounding")
        assert culprit["signature"] == "large angles: values up to 3.99e+03 in steps of 2 rad"
        assert said.json["device_compiles"] == 1
        remedies = {remedy["name"]: remedy["ok"] for remedy in culprit["remedies"]}
        assert remedies == {"float32 throughout": True, "these ops on the CPU, between GPU parts": True}
        assert "Fails by precision" in (tmp_path / said.json["run"] / "report.html").read_text("utf-8")

    def test_a_difference_that_float16_has_no_digits_for(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("localize", saved(tmp_path, log_of_complement()), "--no-explain")
        assert said.code == EXIT_WRONG
        assert "FAIL by precision: the error is what float16 rounding predicts (" in said.out
        assert "x, limit 16x), but 'y' is of no use: its error is " in said.out
        assert "SUB #2 [1x64]: rounding, cancellation: values up to 1 in steps of 0.00098" in said.out

    def test_a_residual_of_which_the_learned_part_is_lost(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("compare", saved(tmp_path, residual(1e-3)), "--json")
        (output,) = said.json["outputs"]
        assert said.code == EXIT_WRONG
        assert output["cosine"] > 0.9999999
        assert [shortfall["kind"] for shortfall in output["shortfalls"]] == ["difference"]

    def test_a_pass_says_what_it_means(self, cli: Cli, tmp_path: Path) -> None:
        for command in ("compare", "localize"):
            said = cli(command, saved(tmp_path, healthy_mlp()))
            assert said.code == EXIT_OK
            (line,) = [line for line in said.out.splitlines() if line.startswith("PASS")]
            assert line.startswith("PASS: the error is what float16 rounding predicts (")
            assert line.endswith("x, limit 16x).")

    def test_limits_of_the_caller_fail_a_healthy_model(self, cli: Cli, tmp_path: Path) -> None:
        model = saved(tmp_path, healthy_mlp())
        assert cli("compare", model, "--min-cosine", "0.99").code == EXIT_OK
        said = cli("compare", model, "--atol", "1e-9", "--rtol", "0", "--json")
        (output,) = said.json["outputs"]
        assert (said.code, output["verdict"]) == (EXIT_WRONG, "precision")
        assert [shortfall["kind"] for shortfall in output["shortfalls"]] == ["tolerance"]

    def test_the_fixture_of_the_pytest_plugin_takes_them_too(self, tmp_path: Path) -> None:
        on_device = OnDevice("host", tmp_path, 60)
        assert on_device.compare(healthy_mlp(), min_cosine=0.99, min_iou=0.5, atol=1.0, rtol=0.1).ok
        found = on_device.compare(healthy_mlp(), atol=1e-9, rtol=0.0)
        assert (found.ok, found.explained) == (False, True)
        assert on_device.localize(healthy_mlp(), atol=1e-9, rtol=0.0).by_precision


@pytest.mark.parametrize("words", [("--min-cosine", "2"), ("--min-iou", "-1"), ("--atol", "-1"), ("--rtol", "nan")])
def test_what_is_no_limit_is_misuse(cli: Cli, tmp_path: Path, words: tuple[str, str]) -> None:
    said = cli("compare", saved(tmp_path, healthy_mlp()), *words)
    assert said.code == EXIT_MISUSE
    assert "Traceback" not in said.err


def test_a_command_that_judges_nothing_takes_no_limits(cli: Cli, tmp_path: Path) -> None:
    assert cli("run", saved(tmp_path, healthy_mlp()), "--min-cosine", "0.9").code == EXIT_MISUSE
