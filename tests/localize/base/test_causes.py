"""Causes by values alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.localize.base.causes import cause_of, largest_given
from harness.localize.base.op_record import OpRecord
from harness.numerics.fp16 import SMALLEST_NORMAL
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, judge
from tests.arrays import f32, i32

EXACT = np.linspace(1, 2, 64, dtype=np.float32)
# Off by 100 of float16's roundings, and by 20; both of a cosine near 1.
OVER, NEAR = (EXACT * np.linspace(1, 1 + n * 2.0**-11, 64, dtype=np.float32) for n in (100, 20))


def record(op: str, actual: object = OVER, *, first: int = 4) -> OpRecord:
    right = compare(EXACT, EXACT)
    local = judge(compare(np.asarray(actual, np.float32), EXACT), right, roundoff=2.0**-11, factor=LOCAL_FACTOR)
    return OpRecord(4, op, first, "y", 9, EXACT.shape, "float32", "culprit", local)


CASES = {
    "a long sum": (record("BATCH_MATMUL"), True, "accumulation"),
    "a long sum in float32": (record("BATCH_MATMUL"), False, "rounding"),
    "a function that is computed in steps": (record("TANH"), True, "rounding"),
    "a quotient": (record("DIV"), True, "rounding"),
    "a difference that is squared": (record("SQUARED_DIFFERENCE"), True, "rounding"),
    "a choice of values": (record("MAX_POOL_2D"), True, "kernel"),
    "values moved": (record("DYNAMIC_UPDATE_SLICE"), True, "kernel"),
    "values moved, in float32": (record("DYNAMIC_UPDATE_SLICE"), False, "kernel"),
    "one product": (record("LEAKY_RELU"), True, "kernel"),
    "one product within the limit": (record("LEAKY_RELU", NEAR), True, "rounding"),
    "places": (record("TOPK_V2"), True, "kernel"),
    "one product behind others": (record("MUL", first=2), True, "rounding"),
    "another result altogether": (record("TANH", -EXACT), True, "kernel"),
    "infinity": (record("MUL", np.full(64, np.inf)), True, "overflow"),
    "what the memory held": (record("CONV_2D", np.where(EXACT < 1.5, np.nan, 6.6e35)), True, "kernel"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_values_suggest_the_cause(name: str) -> None:
    found, half, cause = CASES[name]
    assert cause_of(found, half=half, reduction=None)[0] == cause


@pytest.mark.parametrize(
    ("actual", "exact", "half", "found"),
    [
        (
            [1, np.inf], [1, 65504], True,
            ("overflow", "results stay below 6.55e+04, but a step on the way leaves float16's range"),
        ),
        ([1, np.inf], [1, 70000], True, ("overflow", "results reach 7e+04, beyond float16's 65504")),
        ([1, 2], [1, 70000], True, ("overflow", "results reach 7e+04, beyond float16's 65504")),
        ([1, np.inf], [1, 70000], False, ("kernel", "NaN or infinity from finite inputs")),
        ([0, 0], [1, 2], True, ("kernel", "all zeros")),
        ([-1, -2], [1, 2], True, ("kernel", None)),
    ],
)  # fmt: skip
def test_values_that_leave_float16s_range_are_told_from_steps_that_do_and_from_another_result(
    actual: list[float], exact: list[float], half: bool, found: tuple[str, str | None]
) -> None:
    right, wrong = np.asarray(exact, np.float32), np.asarray(actual, np.float32)
    local = judge(compare(wrong, right), compare(right, right), roundoff=2.0**-11, factor=LOCAL_FACTOR)
    record = OpRecord(4, "TANH", 4, "y", 9, (2,), "float32", "culprit", local)
    assert cause_of(record, half=half, reduction=None) == found


@pytest.mark.parametrize(("actual", "cause"), [([0, 0], "limits"), ([-1, -2], "kernel")])
def test_zeros_alone_are_put_down_to_a_limit_of_which_the_runtime_spoke(actual: list[float], cause: str) -> None:
    right, wrong = np.asarray([1, 2], np.float32), np.asarray(actual, np.float32)
    local = judge(compare(wrong, right), compare(right, right), roundoff=2.0**-11, factor=LOCAL_FACTOR)
    record = OpRecord(4, "TANH", 4, "y", 9, (2,), "float32", "culprit", local)
    assert cause_of(record, half=True, reduction=None, beyond=True)[0] == cause


TINY = f32([1e-6, 2e-6, 1, 2])


@pytest.mark.parametrize(
    ("half", "fed", "found"),
    [
        (True, 0.0, ("underflow", "2 values below float16's range came out nearer to zero")),
        (True, 1e5, ("underflow", "2 values below float16's range came out nearer to zero")),
        (False, 0.0, ("rounding", None)),
    ],
)
def test_values_that_float16_cannot_hold_are_lost_by_storage(
    half: bool, fed: float, found: tuple[str, str | None]
) -> None:
    lost = compare(f32([0, 0, 1, 2]), TINY, SMALLEST_NORMAL)
    local = judge(lost, compare(TINY, TINY), roundoff=2.0**-11, factor=LOCAL_FACTOR)
    assert (local.ok, lost.flushed) == (True, 2)
    record = OpRecord(4, "TANH", 4, "y", 9, (4,), "float32", "culprit", local)
    assert cause_of(record, half=half, reduction=None, fed=fed) == found


@pytest.mark.parametrize(
    ("half", "fed", "found"),
    [
        (True, 1e5, ("overflow", "an input reaches 1e+05, beyond float16's 65504")),
        (True, 65504.0, ("accumulation", "float16 sum over 96 products")),
        (False, 1e5, ("rounding", None)),
    ],
)
def test_an_input_that_float16_does_not_hold_comes_before_any_other_cause(
    half: bool, fed: float, found: tuple[str, str | None]
) -> None:
    assert cause_of(record("BATCH_MATMUL"), half=half, reduction=96, fed=fed) == found


def test_a_sum_of_unknown_length_is_named_without_it() -> None:
    assert cause_of(record("CUMSUM"), half=True, reduction=None) == ("accumulation", None)


@pytest.mark.parametrize(
    ("first", "index", "largest"), [(0, 0, 7.0), (1, 1, 0.0), (2, 2, 0.0), (3, 3, 9.0), (0, 3, 9.0)]
)
def test_the_largest_input_is_that_of_the_float_inputs_which_the_ops_read_themselves(
    first: int, index: int, largest: float
) -> None:
    """#0 reads a, #1 the result of that, #2 whole numbers, #3 b; infinity is no magnitude."""
    graph = GraphBuilder()
    t = graph.unary("RELU", graph.unary("ABS", graph.input("a", (3,))))
    graph.output(graph.unary("ABS", graph.input("n", (3,), np.int32)), "m")
    graph.output(graph.binary("ADD", t, graph.input("b", (3,))), "y")
    inputs = {"a": f32([1, -7, np.inf]), "n": i32([1000, 0, 0]), "b": f32([9, 0, 0])}
    read = OpRecord(index, "ABS", first, "y", 9, (3,), "float32", "culprit")
    assert largest_given(graph.build().graph(), inputs, read) == largest


MEANS = np.linspace(100, 1000, 64, dtype=np.float32)
MOST = np.float32(65504 / 256)


@pytest.mark.parametrize(
    ("op", "actual", "exact", "half", "cause"),
    [
        ("MEAN", np.minimum(MEANS, MOST), MEANS, True, "overflow"),
        ("MEAN", np.maximum(-MEANS, -MOST), -MEANS, True, "overflow"),
        ("MEAN", np.minimum(MEANS, np.float16(MOST)), MEANS, True, "overflow"),  # as float16 stores that
        ("MEAN", np.minimum(MEANS, 0.99 * MOST), MEANS, True, "accumulation"),  # it ends at another value
        ("MEAN", np.minimum(MEANS / 4, 0.9 * MOST), MEANS / 4, True, "accumulation"),  # no sum is beyond
        ("MEAN", np.minimum(MEANS, MOST), MEANS, False, "rounding"),  # float32 holds the sum
        ("SOFTMAX", np.minimum(MEANS, MOST), MEANS, True, "accumulation"),  # is no mean
    ],
)
def test_a_mean_whose_sum_stays_at_65504_leaves_float16s_range(
    op: str, actual: Any, exact: Any, half: bool, cause: str
) -> None:
    """Where the cosine is over 0.9: results that have little to do with the exact ones are `kernel` otherwise."""
    wrong, right = np.asarray(actual, np.float32), np.asarray(exact, np.float32)
    local = judge(compare(wrong, right), compare(right, right), roundoff=2.0**-11, factor=LOCAL_FACTOR)
    assert local.actual.cosine > 0.9
    found = cause_of(OpRecord(4, op, 4, "y", 9, (64,), "float32", "culprit", local), half=half, reduction=256)
    assert found[0] == cause
    if cause == "overflow":
        assert found[1] == "no result is over 255.9: the sum of 256 stays at float16's 65504"
