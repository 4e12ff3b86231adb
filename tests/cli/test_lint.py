"""`harness lint` as people and scripts meet it."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console

from device_tests.corpus import healthy_mlp
from device_tests.corpus.ops import transposed_convolution
from harness.cli import lint, screen
from harness.core.errors import EXIT_MISUSE, EXIT_OK, EXIT_WRONG
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.target import target_of
from tests.arrays import normal
from tests.cli.conftest import Cli

RELEASE = target_of("host").release
HOST, COUNT = f"for ai-edge-litert {RELEASE}", len(entries())


@pytest.fixture
def right(tmp_path: Path) -> Path:
    path = tmp_path / "right.tflite"
    path.write_bytes(healthy_mlp().to_bytes())
    return path


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """Two ops of the same kind on one constant, and a third on another."""
    graph = GraphBuilder()
    pos = graph.constant(normal((4096, 256)), "pos")
    x = graph.binary("ADD", graph.binary("ADD", graph.input("x", (4096, 256)), pos), pos)
    graph.output(graph.binary("MUL", x, graph.constant(normal((4096, 1)), "scale")), "y")
    path = tmp_path / "wrong.tflite"
    path.write_bytes(graph.build().to_bytes())
    return path


def test_a_clean_model_exits_with_0(cli: Cli, right: Path) -> None:
    said = cli("lint", right)
    assert (said.code, said.err) == (EXIT_OK, "")
    assert said.out == f"Nothing known: {right}, 5 ops; {COUNT} entries, {HOST}.\n"


def test_of_a_release_that_nobody_asked_it_says_so(cli: Cli, right: Path) -> None:
    assert cli("lint", right, "--for", "host@1.0.0").out.endswith(". None of them was measured on that release.\n")


def test_what_is_found_and_does_not_count_is_said(cli: Cli, wrong: Path) -> None:
    said = cli("lint", wrong, "--for", "pixel8a")
    told = "Exit code 0, as nothing that was asked for is among it; 1 with --fail-on risk."
    assert said.code == EXIT_OK and told in " ".join(said.out.split())
    counted = cli("lint", wrong, "--for", "pixel8a", "--fail-on", "risk")
    assert counted.code == EXIT_WRONG and "Exit code" not in counted.out


def test_a_model_that_could_not_be_looked_at_whole_is_not_called_clean(cli: Cli, tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.op("NEG", [graph.input("x", (-1, 8))], (-1, 8))
    graph.output(graph.op("ADD", [x, graph.constant(normal((4, 8)))], (4, 8)), "y")
    path = tmp_path / "open.tflite"
    path.write_bytes(graph.build().to_bytes())
    said = cli("lint", path)
    assert said.code == EXIT_OK
    assert "without a static shape and hardly looked at" in said.out
    (model,) = cli("lint", path, "--json").json["models"]
    assert model["shapeless"] == 2
    assert [(f["rule"], f["certain"]) for f in model["findings"]] == [("refused-dynamic", False)] * 2


def test_an_open_batch_is_looked_at_as_the_file_stores_it(cli: Cli, tmp_path: Path) -> None:
    """An ordinary Keras export. What the rule finds at the stored shape is found, and the shape is said."""
    graph = GraphBuilder()
    x = graph.unary("NEG", graph.input("x", (1, 8)))
    graph.output(graph.unary("ABS", x), "y")
    root = graph.build().root
    for tensor in root.subgraphs[0].tensors:
        tensor.shapeSignature = np.asarray([-1, 8], np.int32)
    path = tmp_path / "open.tflite"
    path.write_bytes(Model(root).to_bytes())
    said = cli("lint", path)
    shapes = "shapes that it leaves open as it stores them"
    assert said.out == f"Nothing known: {path}, 2 ops, {shapes}; {COUNT} entries, {HOST}.\n"
    (model,) = cli("lint", path, "--json").json["models"]
    assert (model["shapeless"], model["findings"]) == (0, [])
    assert model["assumed"].startswith("input 'x' [-1, 8] is [1, 8]")
    assert model["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_findings_exit_with_1_in_one_document_for_all_models(cli: Cli, right: Path, wrong: Path) -> None:
    said = cli("lint", right, wrong, "--json")
    assert said.code == EXIT_WRONG
    assert set(said.json) == {"schema", "models"}
    assert said.json["schema"] == 1
    first, second = said.json["models"]
    assert first == {
        "path": str(right),
        "sha256": hashlib.sha256(right.read_bytes()).hexdigest(),
        "for": "host",
        "release": RELEASE,
        "ops": 5,
        "shapeless": 0,
        "assumed": "",
        "findings": [],
    }
    assert (second["path"], second["ops"]) == (str(wrong), 3)
    assert [finding["op"] for finding in second["findings"]] == [0, 1, 2]
    evidence = second["findings"][0].pop("evidence")
    assert {each["issue"] for each in evidence} == {None, "https://github.com/google-ai-edge/LiteRT/issues/8619"}
    assert second["findings"][0] == {
        "rule": "low-rank-constant",
        "effect": "silent",
        "certain": True,
        "target": f"ai-edge-litert {RELEASE}",
        "why": next(entry.why for entry in entries() if entry.name == "low-rank-constant"),
        "remedy": "constants with the batch dimension kept",
        "subgraph": 0,
        "signature": "serving_default",
        "op": 0,
        "op_name": "ADD",
        "output": "add_0",
        "tensor": {"name": "pos", "shape": [4096, 256], "constant": True},
        "sentence": "The GPU reads row 0 of constant 'pos' [4096x256] for all 4096 rows.",
        "fix": "Keep the batch dimension, for the whole chain: the other operand as [1x4096x256], the constant as "
        "[1x4096x256].",
        "releases": ["2.1.3", "2.1.5", "2.1.6", "2.2.0", "2.3.0"],
    }


def test_a_file_that_is_no_model_is_misuse_even_beside_a_good_one(cli: Cli, right: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"nothing of use")
    assert cli("lint", bad).sentence.startswith(f"{bad} is not a readable .tflite")
    said = cli("lint", right, bad)
    assert said.code == EXIT_MISUSE
    assert said.out.startswith("Nothing known") and [
        s.startswith(f"{bad} is not a readable .tflite") for s in said.sentences
    ] == [True]
    assert cli("lint").code == EXIT_MISUSE


def test_ops_with_the_same_fault_are_told_together_within_80_columns(
    wrong: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(wrong.parent)
    page = io.StringIO()
    shown = Console(file=page, width=80, force_terminal=True, color_system=None, highlight=False, soft_wrap=True)
    monkeypatch.setattr(screen, "out", shown)
    with pytest.raises(typer.Exit):
        lint.lint_command([Path("wrong.tflite")], "host")
    assert [line.rstrip() for line in page.getvalue().splitlines()] == [
        f"3 findings: wrong.tflite, 3 ops; for ai-edge-litert {RELEASE}.",
        "",
        "  low-rank-constant (wrong on ai-edge-litert 2.1.3 to 2.3.0)",
        "  The delegate aligns run-time tensors left (the leading dimension is the batch)",
        "  and constants right (it is height, width or channels, where the result has",
        "  size 1).",
        "  https://github.com/google-ai-edge/LiteRT/issues/8619",
        "    ADD #0, #1: The GPU reads row 0 of constant 'pos' [4096x256] for all 4096",
        "    rows.",
        "      Keep the batch dimension, for the whole chain: the other operand as",
        "      [1x4096x256], the constant as [1x4096x256].",
        "    MUL #2: The GPU reads row 0 of constant 'scale' [4096x1] for all 4096 rows.",
        "      Keep the batch dimension, for the whole chain: the other operand as",
        "      [1x4096x256], the constant as [1x4096x1].",
    ]


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    """A GATHER_ND, which every GPU refuses, behind a TRANSPOSE_CONV, which phones were reported to refuse."""
    path = tmp_path / "refused.tflite"
    graph = GraphBuilder()
    x = graph.input("x", (1, 8, 8, 4))
    large = transposed_convolution(graph, x, normal((8, 4, 4, 4)), stride=2)
    places = graph.constant(np.zeros((1, 1), np.int32))
    graph.output(graph.op("GATHER_ND", [large, places], (1, 16, 16, 8)), "y")
    path.write_bytes(graph.build().to_bytes())
    return path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), EXIT_OK),
        (("--fail-on", "silent"), EXIT_OK),
        (("--fail-on", "refused"), EXIT_WRONG),
        (("--fail-on", "silent", "--fail-on", "refused"), EXIT_WRONG),
        (("--fail-on", "risk"), EXIT_OK),
        (("--for", "pixel8a"), EXIT_OK),
        (("--for", "pixel8a", "--fail-on", "refused"), EXIT_OK),  # nobody measured it there
        (("--for", "pixel8a", "--fail-on", "risk"), EXIT_WRONG),
        (("--for", "fridge"), EXIT_MISUSE),
        (("--for", "host@new"), EXIT_MISUSE),
        (("--fail-on", "slowness"), EXIT_MISUSE),
    ],
)
def test_the_exit_code_is_what_fail_on_asks_for(cli: Cli, refused: Path, words: tuple[str, ...], code: int) -> None:
    assert cli("lint", refused, *words).code == code


def test_what_is_certain_stands_before_what_is_at_risk(cli: Cli, refused: Path) -> None:
    said = cli("lint", refused).out
    assert said.startswith(f"1 finding: {refused}, 2 ops; {HOST}.\n")
    assert "refused-kind-on-phones (refused on ai-edge-litert 2.1.3 to 2.3.0)" in said
    assert "GATHER_ND #1: The GPU has no GATHER_ND." in said
    said = cli("lint", refused, "--for", "pixel8a").out
    assert said.startswith(f"2 at risk: {refused}, 2 ops; for pixel8a.\n")
    assert "refused-on-phones (at risk of being refused; not measured on pixel8a)" in said
    assert "TRANSPOSE_CONV #0: Phones were reported to refuse TRANSPOSE_CONV." in said
    assert "https://github.com/google-ai-edge/LiteRT/issues/9191" in said


def test_sarif_is_written_beside_what_is_said(cli: Cli, refused: Path, wrong: Path, tmp_path: Path) -> None:
    bad, held = tmp_path / "bad.tflite", tmp_path / "lint.sarif"
    bad.write_bytes(b"nothing of use")
    said = cli("lint", refused, wrong, bad, "--sarif", held)
    assert said.code == EXIT_WRONG and "low-rank-constant" in said.out
    (run,) = json.loads(held.read_text())["runs"]
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        ("refused-kind-on-phones", "error"),
        *[("low-rank-constant", "error")] * 3,
    ]
    (untold,) = run["invocations"][0]["toolExecutionNotifications"]
    assert "is not a readable .tflite" in untold["message"]["text"]


def test_a_place_where_sarif_cannot_be_written_is_a_sentence(cli: Cli, right: Path, tmp_path: Path) -> None:
    said = cli("lint", right, "--sarif", tmp_path / "none" / "lint.sarif")
    assert said.code == EXIT_MISUSE and "lint.sarif" in said.sentence
