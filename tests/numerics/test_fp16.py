"""The oracle is plain float16 rounding, op by op."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.numerics.fp16 import LARGEST, UNIT_ROUNDOFF, oracle, perturb
from tests.arrays import Evaluate, f32, normal


def half(values: NDArray[Any]) -> NDArray[np.float32]:
    """Stored as float16."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def test_every_result_and_constant_is_rounded_and_the_inputs_are_not(evaluate: Evaluate) -> None:
    x, scale, shift = normal((4, 64), 1), normal((64,), 2), normal((64,), 3)
    graph = GraphBuilder()
    product = graph.binary("MUL", graph.input("x", (4, 64)), graph.constant(scale))
    graph.output(graph.binary("ADD", product, graph.constant(shift)), "y")
    graph.output(product, "product")
    got = evaluate(oracle(graph.build()), {"x": x})
    product_rounded = half(x * half(scale))
    assert np.array_equal(got["product"], product_rounded)
    assert np.array_equal(got["y"], half(product_rounded + half(shift)))
    assert not np.array_equal(half(x), x)


def test_sums_are_taken_in_single_precision(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    graph.output(graph.reduce("SUM", graph.input("x", (1, 4096)), 1), "y")
    # In float16, 2048 + 1 is 2048: an accumulator of that type would stop there.
    assert evaluate(oracle(graph.build()), {"x": np.ones((1, 4096), np.float32)})["y"].item() == 4096


def test_ties_round_to_even_and_small_values_become_subnormal_or_zero(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 6))), "y")
    x = f32([[2049, 2051, 1 + 2**-11, 1e-8, 6e-8, 3e-5]])
    got = evaluate(oracle(graph.build()), {"x": x})["y"]
    assert got.tolist() == [[2048, 2052, 1, 0, 2**-24, float(np.float32(np.float16(3e-5)))]]


def test_results_out_of_range_overflow(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("SQUARE", graph.input("x", (1, 3))), "y")
    assert evaluate(oracle(graph.build()), {"x": f32([[255.95, 256, 300]])})["y"].tolist() == [[65504, np.inf, np.inf]]


def test_tensors_beyond_range_are_left_as_they_are(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    square = graph.unary("SQUARE", graph.input("x", (1, 2)))
    graph.output(square, "square")
    graph.output(graph.unary("SQRT", square), "root")
    x = {"x": f32([[300, 1 / 3]])}
    plain, spared = (evaluate(oracle(graph.build(), beyond), x) for beyond in (frozenset[int](), frozenset([square])))
    assert plain["root"].tolist()[0][0] == np.inf
    assert spared["square"].tolist() == np.square(x["x"]).tolist()
    assert np.array_equal(spared["root"], half(np.sqrt(np.square(x["x"]))))


def test_constants_out_of_range_are_left_as_they_are(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    mask = f32([[0, -1e9, 1 / 3, LARGEST, 65520]])
    added = graph.binary("ADD", graph.input("x", (1, 5)), graph.constant(mask))
    graph.output(added, "y")
    got = evaluate(oracle(graph.build(), frozenset([added])), {"x": np.zeros((1, 5), np.float32)})["y"]
    assert got.tolist() == [[0, float(np.float32(-1e9)), float(half(f32(1 / 3))), LARGEST, 65520]]


def test_integer_and_bool_results_are_left_alone(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 3))
    graph.output(graph.op("CAST", [x], (1, 3), schema.CastOptionsT(), dtype=np.int32), "whole")
    flags = graph.op("GREATER", [x, graph.constant([1.0])], (1, 3), schema.GreaterOptionsT(), dtype=np.bool_)
    graph.output(flags, "flags")
    model = graph.build()
    assert [op.name for op in oracle(model).graph().ops] == ["CAST", "GREATER"]
    got = evaluate(oracle(model), {"x": f32([[100003, 1, 1.0001]])})
    assert got["whole"].tolist() == [[100003, 1, 1]]
    assert got["flags"].tolist() == [[True, False, True]]


def test_half_weights_behind_dequantize_lose_nothing(evaluate: Evaluate) -> None:
    weights = normal((3, 8), 5)
    graph = GraphBuilder()
    stored = graph.dequantize(weights)
    y = graph.op("FULLY_CONNECTED", [graph.input("x", (2, 8)), stored, -1], (2, 3), schema.FullyConnectedOptionsT())
    graph.output(y, "y")
    x = normal((2, 8), 6)
    assert np.allclose(evaluate(oracle(graph.build()), {"x": x})["y"], half(x @ half(weights).T), rtol=2**-10)


def test_ports_keep_names_types_and_places(rich_model: Model) -> None:
    before, after = rich_model.graph(), oracle(rich_model).graph()
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    for port in (*before.inputs, *before.outputs):
        assert after.tensors[port.tensor] == before.tensors[port.tensor]


def test_weights_are_held_once() -> None:
    """What they were before is not written too: of 1.2 GB of weights a copy would have over 2 GB."""
    graph = GraphBuilder()
    weights = normal((64, 64), 1)
    t = graph.fully_connected(graph.fully_connected(graph.input("x", (1, 64)), weights), weights)
    graph.output(t, "y")
    model = graph.build()
    first, second = (model.root.subgraphs[0].tensors[op.inputs[1]] for op in model.graph().ops)
    second.buffer = first.buffer  # as a converter writes weights that two layers share
    ideal = oracle(model)
    assert ideal.weights_bytes == weights.nbytes
    for op in model.graph().ops:
        held = ideal.constant(op.inputs[1])
        assert held is not None
        assert np.array_equal(held, half(weights))


def test_every_subgraph_is_rounded(rich_model: Model) -> None:
    assert [op.name for op in oracle(rich_model).graph("inner").ops] == ["GELU", "CAST", "CAST"]


def test_the_model_it_is_given_stays_as_it_is(rich_model: Model) -> None:
    fresh = Model.from_bytes(rich_model.to_bytes())
    before = Model(fresh.root).to_bytes()
    oracle(fresh).to_bytes()
    assert Model(fresh.root).to_bytes() == before


@pytest.mark.parametrize("roundoff", [UNIT_ROUNDOFF, 0.25])
def test_perturbed_values_stay_within_their_rounding(roundoff: float) -> None:
    values = normal((100, 100), 7, scale=30)
    moved = perturb(values, roundoff, np.random.default_rng(0))
    relative = moved.astype(np.float64) / values - 1
    assert np.abs(relative).max() <= roundoff * (1 + 1e-3)
    assert np.abs(relative).max() > 0.99 * roundoff
    assert abs(relative.mean()) < 0.03 * roundoff
    assert np.array_equal(values, normal((100, 100), 7, scale=30))
    assert np.array_equal(moved, perturb(values, roundoff, np.random.default_rng(0)))


@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.float16, np.int64])
def test_other_types_are_not_perturbed(dtype: Any) -> None:
    values = np.arange(6).astype(dtype)
    assert perturb(values, 0.5, np.random.default_rng(0)) is values


def test_zeros_stay_zero_and_scalars_stay_scalars() -> None:
    assert perturb(f32(2.0), 0.5, np.random.default_rng(0)).shape == ()
    assert np.all(perturb(np.zeros(9, np.float32), 0.5, np.random.default_rng(0)) == 0)
