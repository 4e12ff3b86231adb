"""Parts of a model as models of their own: what they read, what they give, and where each op is in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.probe.experiment import Experiments, Specimen
from harness.localize.probe.subgraph import cut_out, feeds_of, fewer_ops, fewer_outputs, leaves, plainly_named
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess


def diamond() -> tuple[Model, dict[str, int]]:
    """ABS #0 of x, NEG #1 and TANH #2 of that, NEG #3 of a constant, MUL #4 of #1 and #3, ADD #5 of #4 and #2, EXP #6
    of #2, given out with #5."""
    graph = GraphBuilder()
    t = {"abs": graph.unary("ABS", graph.input("x", (4,)))}
    t["neg"], t["tanh"] = graph.unary("NEG", t["abs"]), graph.unary("TANH", t["abs"])
    t["folded"] = graph.unary("NEG", graph.constant([1.0, 2, 3, 4]))
    t["mul"] = graph.binary("MUL", t["neg"], t["folded"])
    t["add"], t["exp"] = graph.binary("ADD", t["mul"], t["tanh"]), graph.unary("EXP", t["tanh"])
    graph.output(t["add"], "y")
    graph.output(t["exp"], "z")
    return graph.build(), t


MODEL, T = diamond()
GRAPH = MODEL.graph()
X = GRAPH.inputs[0].tensor


def value(t: int) -> Array:
    return f32([t, t + 1, t + 2, t + 3])


def test_feeds_are_what_ops_read_and_do_not_make() -> None:
    assert feeds_of(GRAPH, [0]) == (X,)
    assert feeds_of(GRAPH, [4, 5]) == (T["neg"], T["tanh"])
    assert feeds_of(GRAPH, [5, 4]) == (T["neg"], T["tanh"])
    assert feeds_of(GRAPH, range(7)) == (X,)
    assert feeds_of(GRAPH, []) == ()


def test_a_tensor_leaves_where_another_reads_it_or_it_is_given_out() -> None:
    assert leaves(GRAPH, T["abs"], {0, 1}, set())
    assert not leaves(GRAPH, T["abs"], {0, 1, 2}, set())
    assert leaves(GRAPH, T["abs"], {0, 1, 2}, {T["abs"]})
    assert not leaves(GRAPH, T["exp"], set(), set())


def test_a_part_gives_what_the_rest_reads_and_knows_where_its_ops_are() -> None:
    part = cut_out(MODEL, [1, 2, 3, 4], value)
    assert part is not None
    graph = part.specimen.model.graph()
    assert part.results == (T["tanh"], T["mul"])
    assert part.feeds == (T["abs"],)
    assert ([port.name for port in graph.inputs], [port.name for port in graph.outputs]) == (["x0"], ["y0", "y1"])
    assert {op: graph.ops[place].name for op, place in part.places.items()} == {1: "NEG", 2: "TANH", 4: "MUL"}
    np.testing.assert_array_equal(part.specimen.inputs["x0"], value(T["abs"]))
    assert list(part.operands(GRAPH)) == [GRAPH.tensors[T["abs"]].name]


def test_inputs_are_in_the_order_of_their_names() -> None:
    part = cut_out(MODEL, [5], value)
    assert part is not None
    assert part.feeds == (T["tanh"], T["mul"])
    for i, t in enumerate(part.feeds):
        np.testing.assert_array_equal(part.specimen.inputs[f"x{i}"], value(t))


def test_of_results_that_are_named_those_are_given_that_the_ops_make() -> None:
    part = cut_out(MODEL, [1, 2], value, [T["neg"], T["add"]])
    assert part is not None
    assert part.results == (T["neg"],)
    assert list(part.places) == [1]  # what only another result needs is not kept
    inside = cut_out(MODEL, [0, 1, 2], value, [T["abs"]])
    assert inside is not None
    assert (inside.results, list(inside.places)) == ((T["abs"],), [0])


def test_there_is_no_part_that_gives_nothing_or_lacks_a_value() -> None:
    assert cut_out(MODEL, [1], value, [T["add"]]) is None
    assert cut_out(MODEL, [], value) is None
    assert cut_out(MODEL, [3], value) is None  # folded from constants
    assert cut_out(MODEL, [5], lambda t: None if t == T["tanh"] else value(t)) is None
    assert cut_out(MODEL, [5], lambda t: None if t == T["abs"] else value(t)) is not None


def test_plain_names_are_by_place() -> None:
    renamed, names = plainly_named(MODEL)
    graph = renamed.graph()
    assert names == {"x": "x0"}
    assert ([p.name for p in graph.inputs], [p.name for p in graph.outputs]) == (["x0"], ["y0", "y1"])
    assert [op.name for op in graph.ops] == [op.name for op in GRAPH.ops]


def specimen(model: Model, **inputs: Any) -> Specimen:
    return Specimen(model, inputs)


def test_without_an_op_its_exact_values_are_fed() -> None:
    experiments = Experiments(InProcess(), InProcess(), 60)
    model = chain("ABS", "NEG", "EXP", shape=(4,))
    whole = specimen(model, x=f32([-1, 2, -3, 4]))
    first, middle, last = (fewer_ops(experiments, whole, op) for op in range(3))
    assert first is not None
    assert [op.name for op in first.model.graph().ops] == ["NEG", "EXP"]
    np.testing.assert_array_equal(first.inputs["x0"], [1, 2, 3, 4])
    assert last is not None
    assert [op.name for op in last.model.graph().ops] == ["ABS", "NEG"]
    np.testing.assert_array_equal(last.inputs["x0"], whole.inputs["x"])
    assert middle is not None
    assert [op.name for op in middle.model.graph().ops] == ["ABS", "EXP"]
    assert sorted(v.tolist() for v in middle.inputs.values()) == [[-1, -2, -3, -4], [-1, 2, -3, 4]]
    assert fewer_ops(experiments, specimen(chain("ABS"), x=f32([[1] * 8])), 0) is None


def test_without_an_output_what_only_it_needs_goes_too() -> None:
    whole = specimen(MODEL, x=f32([-1, 2, -3, 4]))
    less = fewer_outputs(whole, "y")
    assert less is not None
    assert [op.name for op in less.model.graph().ops] == ["ABS", "TANH", "EXP"]
    other = fewer_outputs(whole, "z")
    assert other is not None
    assert "EXP" not in [op.name for op in other.model.graph().ops]
    assert len(other.model.graph().outputs) == 1
