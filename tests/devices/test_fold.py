"""Ops that only prepare constants become constants: the same values, of the host's own kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus.refused import sparse_weights
from harness.devices import fold
from harness.devices.fold import foldable, with_folded_constants
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import Evaluate, normal

WEIGHTS = np.arange(16, dtype=np.float32).reshape(4, 4)


def prepared() -> Model:
    """#0 and #1 prepare weights; #2 unpacks others, which #3 reads; #4 and #5 read both."""
    graph = GraphBuilder()
    turned = graph.transpose(graph.unary("NEG", graph.constant(WEIGHTS)), (1, 0))
    half = graph.unary("ABS", graph.dequantize(-WEIGHTS))
    x = graph.input("x", (4, 4))
    graph.output(graph.binary("ADD", graph.binary("MUL", x, turned), half), "y")
    return graph.build()


def test_all_but_the_unpacking_of_weights_and_what_reads_that_is_folded() -> None:
    assert foldable(prepared().graph()) == (0, 1)


def test_the_values_are_the_kernels(evaluate: Evaluate) -> None:
    model, ops = with_folded_constants(prepared())
    assert ops == (0, 1)
    assert [op.name for op in model.graph().ops] == ["DEQUANTIZE", "ABS", "MUL", "ADD"]
    values = {"x": normal((4, 4))}
    assert evaluate(model, values)["y"].tobytes() == evaluate(prepared(), values)["y"].tobytes()
    assert model.weights_bytes == 64 + 32  # what was prepared, and the float16 weights; the originals are gone


def test_sparse_weights_are_unpacked(evaluate: Evaluate) -> None:
    model, ops = with_folded_constants(sparse_weights())
    assert ops == (0,)
    assert evaluate(model, {"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[5, 0, 0, 7]]


def test_a_model_without_such_ops_is_not_touched(plus_one: Model) -> None:
    assert with_folded_constants(plus_one) == (plus_one, ())


@pytest.mark.parametrize(("most", "ops"), [(63, ()), (64, (0, 1)), (65, (0, 1))])
def test_constants_beyond_a_bound_are_left(most: int, ops: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those here are 4 x 4 of 4 bytes."""
    assert fold.MOST_BYTES == 1 << 30
    monkeypatch.setattr(fold, "MOST_BYTES", most)
    monkeypatch.setattr(fold, "_computed", lambda model, tensors: {surgery.port_name(t): WEIGHTS for t in tensors})
    model = prepared()
    made, folded = with_folded_constants(model)
    assert folded == ops
    assert (made is model) is (not ops)


def test_a_folded_model_keeps_its_path_and_the_one_it_came_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fold, "_computed", lambda model, tensors: {surgery.port_name(t): WEIGHTS for t in tensors})
    model = prepared()
    model.path = tmp_path / "model.tflite"
    before = model.to_bytes()
    made, _ = with_folded_constants(model)
    assert made.path == model.path
    assert model.to_bytes() == before
    assert [op.name for op in made.graph().ops] == ["DEQUANTIZE", "ABS", "MUL", "ADD"]


def test_a_constant_that_is_an_output_is_folded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "_computed", lambda model, tensors: {surgery.port_name(t): WEIGHTS for t in tensors})
    graph = GraphBuilder()
    graph.output(graph.unary("NEG", graph.constant(WEIGHTS)), "y")
    graph.output(graph.unary("RELU", graph.input("x", (2,))), "z")
    made, ops = with_folded_constants(graph.build())
    assert ops == (0,)
    assert [op.name for op in made.graph().ops] == ["RELU"]
