"""`harness lint --fix` as people and scripts meet it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import typer
from ai_edge_litert import schema_py_generated as schema
from rich.console import Console

from harness.api.fixing.result import CpuCheck, OutputCheck
from harness.cli import lint, screen
from harness.cli.fixing.shown import _checked
from harness.core.errors import EXIT_MISUSE, EXIT_OK, EXIT_WRONG
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import normal
from tests.cli.conftest import Cli

ALONE = ("--device", "none")


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    graph = GraphBuilder()
    pos = graph.constant(normal((256, 16)), "pos")
    x = graph.binary("ADD", graph.binary("ADD", graph.input("x", (256, 16)), pos), pos)
    graph.output(graph.binary("MUL", x, graph.constant(normal((256, 1)), "scale")), "y")
    path = tmp_path / "wrong.tflite"
    path.write_bytes(graph.build().to_bytes())
    return path


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """Of two findings there is a rewrite of one."""
    graph = GraphBuilder()
    x = graph.binary("ADD", graph.input("x", (64, 16)), graph.constant(normal((64, 16))))
    graph.output(graph.op("CAST", [x], (64, 16), schema.CastOptionsT(), dtype=np.int64), "y")
    path = tmp_path / "half.tflite"
    path.write_bytes(graph.build().to_bytes())
    return path


def test_the_rewritten_model_lies_beside_the_model(cli: Cli, wrong: Path) -> None:
    before = wrong.read_bytes()
    said = cli("lint", wrong, "--fix", *ALONE, "--json")
    assert said.code == EXIT_OK
    (model,) = said.json["models"]
    assert len(model["findings"]) == 3
    fix = model["fix"]
    made = wrong.with_name("wrong.fixed.tflite")
    assert fix["path"] == str(made) and wrong.read_bytes() == before
    assert fix["sha256"] == Model.load(made).sha256 and fix["bytes"]["after"] == made.stat().st_size
    assert fix["left"] == [] and fix["device"] is None and fix["check"]["identical"] is True
    assert [step["rewrite"] for step in fix["rewrites"]] == ["constants with the batch dimension kept"]
    assert cli("lint", made).code == EXIT_OK


def test_a_file_is_never_overwritten(cli: Cli, wrong: Path, tmp_path: Path) -> None:
    there = wrong.with_name("wrong.fixed.tflite")
    there.write_bytes(b"mine")
    assert "wrong.fixed.tflite is there already." in cli("lint", wrong, "--fix", *ALONE).sentence
    assert there.read_bytes() == b"mine"
    said = cli("lint", wrong, "--fix", *ALONE, "--out", wrong)
    assert said.code == EXIT_MISUSE and "is the model itself" in said.sentence
    assert cli("lint", wrong, "--fix", *ALONE, "--out", tmp_path / "other.tflite").code == EXIT_OK


def test_several_models_go_to_a_folder_each_by_its_name(cli: Cli, wrong: Path, half: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rewritten"
    words = ("lint", wrong, half, "--fix", *ALONE, "--out", folder)
    assert "is no folder, and there are 2 models" in cli(*words).sentence
    folder.mkdir()
    assert cli(*words, "--fail-on", "refused").code == EXIT_WRONG
    assert sorted(path.name for path in folder.iterdir()) == ["half.fixed.tflite", "wrong.fixed.tflite"]
    assert "Two of the models would be" in cli("lint", wrong, wrong, "--fix", *ALONE).sentence


def test_the_exit_code_is_what_is_left(cli: Cli, half: Path) -> None:
    said = cli("lint", half, "--fix", *ALONE, "--json")
    assert said.code == EXIT_OK  # what is silently wrong is gone
    (left,) = said.json["models"][0]["fix"]["left"]
    assert left["rule"] == "refused-int64" and "'y', an input or output of the model, has 64 bits" in left["why"]
    half.with_name("half.fixed.tflite").unlink()
    assert cli("lint", half, "--fix", *ALONE, "--fail-on", "refused").code == EXIT_WRONG


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "x.tflite"), "--out is an option of --fix."),
        (("--device", "host"), "--device is an option of --fix."),
        (("--inputs", "x.npz"), "--inputs is an option of --fix."),
        (("--fix", "--out", "x"), "--out x is no folder that exists, and does not end with .tflite."),
        (("--fix", "--out", "none/x.tflite"), "none, where x.tflite would be written, is no folder."),
        (("--fix", "--out", f"{'n' * 300}.tflite"), ".tflite can be no file (file name too long)."),
        (("--fix", "--device", "fridge"), "There is no device 'fridge'"),
        (("--fix", "--device", "none", "--inputs", "none.npz"), "The inputs none.npz do not exist."),
    ],
)
def test_misuse_is_a_sentence_and_writes_nothing(
    cli: Cli, wrong: Path, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cli("lint", wrong, *words)
    assert found.code == EXIT_MISUSE and said in found.sentence
    assert [path.name for path in wrong.parent.iterdir() if path.suffix == ".tflite"] == ["wrong.tflite"]


def test_a_planted_phone_says_what_became_of_the_model(cli: Cli, wrong: Path, tmp_path: Path) -> None:
    words = ("--device", "planted:low-rank-constant", "--results", tmp_path / "runs")
    said = cli("lint", wrong, "--fix", *words, "--for", "mali", "--json", "--fail-on", "risk")
    assert said.code == EXIT_OK
    device = said.json["models"][0]["fix"]["device"]
    assert (device["verdict"], device["before"]["status"], device["after"]["status"]) == ("fixed", "fail", "pass")
    assert {Path(device[when]["run"]).parent for when in ("before", "after")} == {tmp_path / "runs"}


@pytest.mark.gpu
def test_this_machines_gpu_is_asked_where_it_is_what_the_model_is_for(cli: Cli, wrong: Path, tmp_path: Path) -> None:
    said = cli("lint", wrong, "--fix", "--results", tmp_path / "runs")
    assert said.code == EXIT_OK
    assert "On host, fixed: it passes there, and did not." in said.out


def test_what_was_done_is_told_within_80_columns(wrong: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wrong.parent)
    page = io.StringIO()
    shown = Console(file=page, width=80, force_terminal=True, color_system=None, highlight=False, soft_wrap=True)
    monkeypatch.setattr(screen, "out", shown)
    monkeypatch.setattr("harness.cli.fixing.shown.out", shown)
    with pytest.raises(typer.Exit):
        lint.lint_command([Path("wrong.tflite")], "host", fix=True, device="none")
    made = wrong.with_name("wrong.fixed.tflite")
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    assert lines[lines.index("Rewritten: wrong.fixed.tflite: 3 of 3 findings gone, 0 left.") :] == [
        "Rewritten: wrong.fixed.tflite: 3 of 3 findings gone, 0 left.",
        f"  5 instead of 3 ops, {made.stat().st_size:,} instead of {wrong.stat().st_size:,} bytes.",
        "  low-rank-constant: constants with the batch dimension kept",
        "    ADD #0, ADD #1, MUL #2. It puts in 2 RESHAPE; 8,192 more elements are",
        "    copied.",
        "  On the CPU, 3 sets of inputs (random, seeds 0 to 2): every value is the same.",
    ]


def test_what_a_quantized_output_is_off_is_told_in_steps_of_its_grid() -> None:
    check = CpuCheck(("random, seed 0",), (OutputCheck("y", False, 0.5, 262144.0, 32.0, True),))
    assert "Most differs 'y', by 1 step of its grid, 0.5." in _checked(check, {"y": 0.5})
    assert "Most differs 'y', by 2.62e+05 steps of float32 (32 of float16), 0.5." in _checked(check, {})
