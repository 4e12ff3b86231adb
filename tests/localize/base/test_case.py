"""What a case knows of its model and options: what the device holds, how inputs arrive, what is judged as one op."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.core.job import Completed, Options, Residency
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.case import HALF_RUNS, Case
from harness.localize.base.ideals import Ideals
from harness.localize.base.placement import Placement
from harness.numerics import fp16
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR
from harness.numerics.usefulness import Limits
from tests.arrays import f32, normal
from tests.chains import chain

MODEL = chain("TANH", "EXP", "ABS")
X = MODEL.graph().inputs[0].tensor
TANH, EXP, ABS = (op.outputs[0] for op in MODEL.graph().ops)
SINGLE = Options(precision="fp32")


def case(model: Model = MODEL, options: Options | None = None, **more: Any) -> Case:
    shapes = {port.name: model.graph().tensors[port.tensor].shape or () for port in model.graph().inputs}
    given = {name: normal(shape, 1) for name, shape in shapes.items()}
    return Case(model, given, options or Options("gpu"), timeout=60, **more)


def placed(*cpu: int) -> Placement:
    return Placement(Residency(False, 3 - len(cpu), 3, 1), frozenset(cpu), frozenset(cpu))


def test_a_part_of_the_model_runs_on_the_accelerator_alone() -> None:
    options = Options("gpu", fallback="cpu")
    assert case(options=options).part_options == replace(options, fallback="none")


@pytest.mark.parametrize(
    ("placement", "cpu", "never"),
    [
        (None, set(), set()),
        (Placement(Residency(False), None, None), set(), set()),
        (placed(), set(), set()),
        (placed(0), {0}, {X}),  # its result goes to the GPU
        (placed(0, 1), {0, 1}, {X, TANH}),
        (placed(2), {2}, {ABS}),
        (placed(1), {1}, set()),
    ],
)
def test_what_only_the_cpu_reads_and_makes_the_gpu_never_holds(
    placement: Placement | None, cpu: set[int], never: set[int]
) -> None:
    known = case(placement=placement)
    assert known.on_cpu == cpu
    assert known.never_stored == never


def test_constants_that_the_cpu_unpacks_for_the_gpu_are_held_as_it_holds_them() -> None:
    """DEQUANTIZE #0 makes the operand of MUL #1; NEG #2 is the CPU's."""
    graph = GraphBuilder()
    weights = graph.dequantize(np.ones((1, 8), np.float32))
    graph.output(graph.unary("NEG", graph.binary("MUL", graph.input("x", (1, 8)), weights)), "y")
    model = graph.build()
    unpack, _, last = model.graph().ops
    for cpu, never in (({0, 2}, {last.outputs[0]}), ({0, 1}, {unpack.inputs[0], *unpack.outputs})):
        found = case(model, placement=placed(*cpu)).never_stored
        assert found & {*unpack.inputs, *unpack.outputs, *last.outputs} == never


@pytest.mark.parametrize(("said", "kept"), [(Residency(True, 3, 3, 1), True), (Residency(False, 2, 3, 1), False)])
def test_ops_are_where_they_were_unless_a_placement_says_otherwise(said: Residency, kept: bool) -> None:
    done = Completed({}, said, (), 1, True, "2.3.0", "in process", "")
    assert case().kept_by(MODEL, done)
    whole = Placement(Residency(True, 3, 3, 1), frozenset(), frozenset())
    assert case(placement=whole).kept_by(MODEL, done) is kept


def test_a_stored_value_is_as_precise_as_its_kind() -> None:
    assert (case().roundoff, case(options=SINGLE).roundoff) == (fp16.UNIT_ROUNDOFF, fp16.FLOAT32_ROUNDOFF)


def test_inputs_arrive_rounded_or_moved_in_float16_and_as_they_are_in_float32() -> None:
    given = {"x": f32([[2049, 1, 1e-3]])}
    held, moved = case().ideal_inputs(given)
    np.testing.assert_array_equal(held["x"], fp16.rounded(given["x"]))
    assert held["x"][0, 0] == 2048
    assert (moved["x"] != given["x"]).any()
    np.testing.assert_allclose(moved["x"], given["x"], rtol=fp16.UNIT_ROUNDOFF * 1.01)
    np.testing.assert_array_equal(case().ideal_inputs(given)[1]["x"], moved["x"])  # by the seed
    assert (case(seed=1).ideal_inputs(given)[1]["x"] != moved["x"]).any()
    assert case(options=SINGLE).ideal_inputs(given)[0]["x"] is given["x"]


def test_an_input_that_is_never_stored_arrives_as_it_is() -> None:
    given = {"x": f32([2049]), "z": f32([2049])}
    for each in case().ideal_inputs(given, exact=frozenset({"z"})):
        assert each["z"] is given["z"]
        assert each["x"] is not given["x"]


def test_an_output_behind_one_op_that_computes_is_held_to_what_an_op_is() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 8))
    once = graph.unary("TANH", x)
    graph.output(graph.reshape(x, (8, 1)), "moved")
    graph.output(graph.reshape(once, (8,)), "once")
    graph.output(graph.unary("ABS", once), "twice")
    weights = graph.dequantize(np.ones((1, 8), np.float32))
    graph.output(graph.binary("MUL", x, weights), "by_weights")
    known = case(graph.build())
    assert known.made_by_one_op == {"once", "by_weights"}
    exact = normal((8,), 2)
    off = exact + f32(20 * fp16.UNIT_ROUNDOFF * np.sqrt(np.mean(np.square(exact.astype(np.float64)))))
    verdicts = {name: known.judge_output(name, off, (exact,), exact) for name in ("once", "twice")}
    assert {name: (found.ok, found.limit) for name, found in verdicts.items()} == {
        "once": (True, LOCAL_FACTOR), "twice": (False, FACTOR)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("times", "spread", "ok", "limit"),
    [
        (10, 1, True, FACTOR),  # right without its tail
        (20, 1, True, LOCAL_FACTOR),
        (40, 1, False, FACTOR),  # more than an op may be: what is told is the model's own
    ],
)
def test_an_output_may_be_off_by_what_its_last_sums_may(times: float, spread: float, ok: bool, limit: float) -> None:
    exact = normal((8,), 2)
    rounding = f32(4 * fp16.UNIT_ROUNDOFF * np.sqrt(np.mean(np.square(exact.astype(np.float64)))))
    ideals = Ideals([exact + rounding]).with_tail(Ideals([exact + spread * rounding]))
    found = case().judge_output("y", exact + times * rounding, ideals, exact)
    assert (found.ok, found.limit) == (ok, limit)
    alone = case().judge_output("y", exact + times * rounding, Ideals([exact + rounding]), exact)
    assert alone.ok is (times < FACTOR)


def test_what_float32_loses_as_well_is_noise_and_nobody_s_loss() -> None:
    """An output of which `single` is what float32 makes: asked of a float16 device that was given such a run."""
    exact = normal((1, 64), 3)
    useless = f32(np.zeros_like(exact))
    known = case(chain("TANH", "EXP", "ABS", shape=(1, 64)))
    runs = [useless] * HALF_RUNS
    for single, noise in ((useless, True), (exact, False)):
        ideals = [*runs, single]
        assert {known.noise(y, ideals) for y in known.yardsticks("y", exact)} == {noise}
        assert bool(known.shortfalls("y", useless, ideals, exact)) is not noise
    assert known.shortfalls("y", useless, runs, exact)
    in_single = case(known.model, SINGLE)
    assert not any(in_single.noise(y, [*runs, useless]) for y in in_single.yardsticks("y", exact))


def test_a_limit_that_the_caller_asked_for_holds_for_noise_too() -> None:
    exact = normal((1, 64), 3)
    useless = f32(np.zeros_like(exact))
    known = case(chain("TANH", "EXP", "ABS", shape=(1, 64)), limits=Limits(min_cosine=0.9))
    found = known.shortfalls("y", useless, [useless] * (HALF_RUNS + 1), exact)
    assert [shortfall.kind for shortfall in found] == ["cosine"]


@pytest.mark.parametrize("names", [("later", "earlier"), ("earlier", "later")])
def test_each_output_is_held_to_what_it_adds_to_its_own_input(names: tuple[str, str]) -> None:
    graph = GraphBuilder()
    copied, computed = names
    x, small = graph.input("x", (1, 64)), graph.input("small", (1, 64))
    graph.output(graph.unary("TANH", graph.binary("MUL", small, small)), computed)
    graph.output(graph.binary("ADD", x, graph.binary("MUL", small, graph.constant([1e-2]))), copied)
    given = {"x": normal((1, 64)), "small": normal((1, 64), 1)}
    known = Case(graph.build(), given, Options("gpu"), timeout=60)
    sums = given["x"] + np.float32(1e-2) * given["small"]
    exact = {copied: sums, computed: np.tanh(given["small"] ** 2)}
    kinds = {name: {y.kind for y in known.yardsticks(name, exact[name])} for name in names}
    assert "difference" in kinds[copied] and "difference" not in kinds[computed]
