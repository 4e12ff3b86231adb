"""An output that one sum accounts for is held to what an op is, and no other one."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.ideals import Ideals
from harness.localize.base.outputs import _judged
from harness.localize.base.result import Localization
from harness.localize.base.tails import Tails, fed_by
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR
from tests.arrays import f32, normal
from tests.localize.attention import Localize
from tests.localize.planted import Half, InProcess, noisy

# A uniform error of u has an RMS of u / sqrt(3), and float16 rounding one of about 2^-11 / sqrt(3) / 1.4 of the values.
IDEAL = 2.0**-11


def head(*, behind: str = "", flat: bool = False) -> Model:
    """TANH #0 of x, a sum of 64 products of that, and an op behind it."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 32, 64)))
    y = x if flat else graph.fully_connected(x, f32(normal((96, 64), seed=1) / 8))
    graph.output(graph.unary(behind, y) if behind else y, "y")
    return graph.build()


def found(find: Localize, model: Model, op: int, times: float) -> Localization:
    return find(Half(model, {model.graph().ops[op].outputs[0]: noisy(times * IDEAL, 0)}), model)


@pytest.mark.parametrize(("behind", "times"), [("", 30), ("LOGISTIC", 70)])
def test_a_last_sum_may_cost_an_output_what_it_may_cost_an_op(find: Localize, behind: str, times: float) -> None:
    model = head(behind=behind)
    right = found(find, model, 1, times)
    assert FACTOR < right.outputs[0].judgement.ratio <= right.outputs[0].judgement.limit == LOCAL_FACTOR
    assert right.status == "pass"
    wrong = found(find, model, 1, 3 * times)
    assert (wrong.status, wrong.outputs[0].judgement.limit) == ("culprits", FACTOR)
    assert [culprit.record.index for culprit in wrong.culprits] == [1]


def test_what_is_no_sum_may_not(find: Localize) -> None:
    model = head(behind="TANH", flat=True)
    answer = found(find, model, 1, 40)
    assert (answer.outputs[0].verdict, answer.outputs[0].judgement.limit) == ("wrong", FACTOR)


def test_a_sum_excuses_no_more_than_it_may_cost_where_more_is_expected_of_the_model(find: Localize) -> None:
    """x + 64 - 64 costs a float16 device six bits, and the sum behind it, on exact values, nothing of the kind."""
    graph = GraphBuilder()
    far = graph.binary("ADD", graph.input("x", (1, 32, 64)), graph.constant([64.0]))
    near = graph.binary("SUB", far, graph.constant([64.0]))
    graph.output(graph.fully_connected(near, f32(normal((96, 64), seed=1) / 8)), "y")
    answer = found(find, graph.build(), 1, 900)
    assert FACTOR < answer.outputs[0].judgement.ratio < LOCAL_FACTOR
    assert (answer.outputs[0].verdict, answer.outputs[0].judgement.limit) == ("wrong", FACTOR)


def test_the_last_sums_are_found_through_other_ops() -> None:
    """ABS #0, FULLY_CONNECTED #1 and #2, ADD #3 of the second and a skip from the first, RELU #4."""
    graph = GraphBuilder()
    x = graph.unary("ABS", graph.input("x", (1, 4)))
    first = graph.fully_connected(x, normal((4, 4)))
    second = graph.fully_connected(first, normal((4, 4)))
    y = graph.unary("RELU", graph.binary("ADD", second, first))
    graph.output(y, "y")
    graph.output(graph.unary("NEG", x), "z")
    view = graph.build().graph()
    assert fed_by(view, y) == {x, first}
    assert fed_by(view, second) == {first}
    assert fed_by(view, view.outputs[1].tensor) == frozenset()


def test_constants_and_what_is_made_of_them_feed_nothing() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 4, 4))
    made = graph.unary("NEG", graph.constant(normal((1, 4, 4))))
    y = graph.op("BATCH_MATMUL", [x, made], (1, 4, 4), schema.BatchMatMulOptionsT())
    graph.output(graph.binary("ADD", y, made), "y")
    view = graph.build().graph()
    assert fed_by(view, view.outputs[0].tensor) == {x}


def test_what_feeds_a_tail_beside_its_sums_is_an_input_of_the_model() -> None:
    """y = FULLY_CONNECTED #0 of x, plus z; and w alone has no sum."""
    graph = GraphBuilder()
    x, z = graph.input("x", (1, 4)), graph.input("z", (1, 4))
    summed = graph.fully_connected(x, normal((4, 4)))
    graph.output(graph.binary("ADD", graph.unary("NEG", summed), z), "y")
    graph.output(graph.binary("ADD", x, z), "w")
    view = graph.build().graph()
    assert fed_by(view, view.outputs[0].tensor) == {x, z}
    assert fed_by(view, view.outputs[1].tensor) == frozenset()
    assert fed_by(view, summed) == {x}
    assert fed_by(view, x) == frozenset()


def test_an_op_that_reads_one_result_twice_is_walked_once() -> None:
    graph = GraphBuilder()
    t = graph.fully_connected(graph.input("x", (1, 4)), normal((4, 4)))
    summed = t
    for _ in range(30):  # two ways each: a thousand million paths
        t = graph.binary("ADD", graph.unary("NEG", t), t)
    graph.output(t, "y")
    view = graph.build().graph()
    assert fed_by(view, view.outputs[0].tensor) == fed_by(view, summed) == {view.inputs[0].tensor}


def test_a_tail_is_asked_only_of_an_output_that_it_could_excuse() -> None:
    model = head()
    inputs = random_inputs(model.graph(), 0)
    case, host = Case(model, inputs, Options(), timeout=60), InProcess()
    ideal = run_ideal(case, host, model, inputs, frozenset(), "running")
    exact = run_ideal(Case(model, inputs, REFERENCE, timeout=60), host, model, inputs, frozenset(), "running")["y"][0]
    rng = np.random.default_rng(0)
    for times, asked in ((8, False), (22, True), (60, False)):
        spread = ideal["y"][0] - exact
        off = exact + f32(times * np.sqrt(np.mean(spread**2)) * rng.choice([-1, 1], exact.shape))
        verdict = _judged(case, "y", off, Ideals.of(ideal["y"]), exact)
        beside = Tails(host, case, frozenset()).beside(ideal, [verdict], {"y": exact})
        assert (beside is not ideal, beside["y"].tail is not None) == (asked, asked)
