"""A device that rounds a value to the other side of a threshold than the ideal one is right, and one whose op rounds,
compares or ranks wrongly is not."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.ops.jumps import jumps
from harness.localize.base.case import Case
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.ideals import may_be_off
from harness.localize.base.result import Localization
from tests.arrays import f32
from tests.localize.attention import Localize
from tests.localize.planted import GROUP, SHIFTED, Fault, Half, InProcess, noisy
from tests.quantized import QuantizedBuilder

RNG = np.random.default_rng(3)
WEIGHTS = f32(RNG.standard_normal((64, 32)))
# Float16 sums of 32 products were measured 3 to 13 ideal errors off.
ACCUMULATED = 8 * 2.0**-11


def behind_a_sum(kind: str) -> Model:
    """32 rows of 64 sums, then an op whose result jumps."""
    graph = GraphBuilder()
    sums = graph.fully_connected(graph.input("x", (1, 32, 32)), WEIGHTS)
    if kind == "ARG_MAX":
        options = schema.ArgMaxOptionsT()
        options.outputType = schema.TensorType.INT32
        axis = graph.constant(np.asarray([-1], np.int32))
        graph.output(graph.op("ARG_MAX", [sums, axis], (1, 32), options, dtype=np.int32), "y")
    elif kind == "LESS":
        zero = graph.constant([0.0])
        flags = graph.op("LESS", [sums, zero], (1, 32, 64), schema.LessOptionsT(), dtype=np.bool_)
        graph.output(
            graph.op("SELECT_V2", [flags, zero, sums], (1, 32, 64), schema.SelectV2OptionsT(), dtype=np.float32), "kept"
        )
        options = schema.CastOptionsT()
        options.inDataType, options.outDataType = schema.TensorType.BOOL, schema.TensorType.FLOAT32
        graph.output(graph.op("CAST", [flags], (1, 32, 64), options, dtype=np.float32), "y")
    elif kind == "CAST":
        options = schema.CastOptionsT()
        options.inDataType, options.outDataType = schema.TensorType.FLOAT32, schema.TensorType.INT32
        graph.output(graph.op("CAST", [sums], (1, 32, 64), options, dtype=np.int32), "y")
    elif kind == "EQUAL":
        rounded = graph.unary("ROUND", sums)
        same = graph.op("EQUAL", [rounded, sums], (1, 32, 64), schema.EqualOptionsT(), dtype=np.bool_)
        near = graph.op("EQUAL", [sums, graph.constant([0.5])], (1, 32, 64), schema.EqualOptionsT(), dtype=np.bool_)
        graph.output(same, "same")
        graph.output(near, "near")
    else:
        whole = graph.unary(kind, sums)
        graph.output(graph.fully_connected(whole, f32(RNG.standard_normal((16, 64)))), "y")
    return graph.build()


def found(find: Localize, model: Model, fault: Fault, op: int) -> Localization:
    return find(Half(model, {model.graph().ops[op].outputs[0]: fault}), model)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["ROUND", "FLOOR", "CEIL", "LESS", "EQUAL", "CAST", "ARG_MAX"])
def test_a_right_device_may_take_other_values_across_than_the_ideal_one(find: Localize, kind: str, seed: int) -> None:
    got = found(find, behind_a_sum(kind), noisy(ACCUMULATED, seed), 0)
    assert got.status == "pass", [output.to_json() for output in got.outputs]


@pytest.mark.parametrize("fault", [GROUP, SHIFTED], ids=lambda fault: fault.name)
@pytest.mark.parametrize("kind", ["ROUND", "FLOOR", "CEIL"])
def test_an_op_that_rounds_wrongly_is_named(find: Localize, kind: str, fault: Fault) -> None:
    got = found(find, behind_a_sum(kind), fault, 1)
    assert [(c.record.index, c.record.op) for c in got.culprits] == [(1, kind)]
    assert got.certified


@pytest.mark.parametrize("kind", ["ROUND", "FLOOR", "LESS", "ARG_MAX", "CAST"])
def test_a_wrong_sum_before_it_is_named(find: Localize, kind: str) -> None:
    got = found(find, behind_a_sum(kind), GROUP, 0)
    assert [(c.record.index, c.record.op) for c in got.culprits] == [(0, "FULLY_CONNECTED")]


def test_what_rounding_does_not_change_is_not_off_at_all() -> None:
    whole = f32([1, 2, 3000.0])
    assert not may_be_off(whole, whole, 2.0**-11).any()
    # 16 times the RMS of the error, 0.01·sqrt(1/3), or 16 times the rounding of a value of this size.
    off = may_be_off(f32([1.01, 2, 3000]), whole, 2.0**-11)
    np.testing.assert_allclose(off, [16 * 0.01 / 3**0.5, 16 * 0.01 / 3**0.5, 16 * 3000 / 2048], rtol=1e-4)


def test_operands_that_are_constants_or_integers_do_not_jump() -> None:
    graph = GraphBuilder()
    x, i = graph.input("x", (1, 4)), graph.input("i", (1, 4), np.int32)
    fixed = graph.unary("FLOOR", graph.constant([[0.5, 1.5, 2.5, 3.5]]))
    for left, right in ((fixed, x), (i, graph.constant(np.asarray([1], np.int32)))):
        graph.output(graph.op("LESS", [left, right], (1, 4), schema.LessOptionsT(), dtype=np.bool_))
    assert [(jump.op.name, jump.place, jump.tensor) for jump in jumps(graph.build().graph())] == [("LESS", 1, x)]


def test_what_a_cpus_own_quantization_costs_is_among_the_smooth_runs_too() -> None:
    graph = QuantizedBuilder()
    hidden = graph.layer(graph.quantized_input("x", (1, 8), 0.05), RNG.integers(-127, 128, (4, 8)), 0.005, (0.1, 0))
    graph.output(hidden, "sums")
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT32
    axis = graph.constant(np.asarray([-1], np.int32))
    graph.output(graph.op("ARG_MAX", [hidden, axis], (1,), options, dtype=np.int32), "place")
    model = graph.build()
    inputs = random_inputs(model.graph(), 0)
    case = Case(model, inputs, Options("cpu"), timeout=60)
    ideals = run_ideal(case, InProcess(), model, inputs, frozenset(), "running ideally")["sums"]
    assert len(ideals.smooth) == len(ideals) == 3
    np.testing.assert_array_equal(ideals.smooth[2], ideals[2])
