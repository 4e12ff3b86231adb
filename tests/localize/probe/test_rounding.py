"""What is stored on whose account, and in which order units are looked for."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from harness.core.choices import Precision
from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.model import Graph
from harness.localize.base.case import Case
from harness.localize.probe import rounding
from harness.localize.probe.rounding import RoundingLoss, Roundings, Unit, readers, sources, tensors_of, units
from harness.numerics.usefulness import Yardstick
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess


def forked() -> tuple[Graph, dict[str, int]]:
    """RESHAPE #0 of x, NEG #1 of a constant, ADD #2 of both, ABS #3 of x, PAD #4 of the sum, MUL #5 of that with the
    padded by a constant, CAST-like GATHER of integers left out."""
    graph = GraphBuilder()
    x = graph.input("x", (2, 4))
    moved = graph.reshape(x, (4, 2))
    constant = graph.constant(np.ones((4, 2), np.float32))
    folded = graph.unary("NEG", constant)
    total = graph.binary("ADD", moved, folded)
    again = graph.unary("ABS", x)
    padded = graph.pad(total, [(0, 1), (0, 0)])
    factor = graph.constant([2.0])
    product = graph.binary("MUL", padded, factor)
    graph.output(product, "y")
    graph.output(again, "z")
    names = {
        "x": x, "moved": moved, "folded": folded, "total": total, "again": again, "padded": padded, "factor": factor,
        "product": product,
    }  # fmt: skip
    return graph.build().graph(), names


def test_a_unit_is_an_op_that_computes_with_what_it_reads_first() -> None:
    graph, t = forked()
    assert units(graph) == [
        Unit(2, frozenset({t["x"], t["folded"], t["total"]})),
        Unit(3, frozenset({t["again"]})),  # x is the sum's
        Unit(5, frozenset({t["factor"], t["product"]})),
    ]
    assert tensors_of(units(graph)[1:]) == {t["again"], t["factor"], t["product"]}
    assert tensors_of([]) == frozenset()


def test_what_is_no_float32_is_stored_as_it_is() -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("NEG", graph.input("n", (4,), np.int32)), "y")
    graph.output(graph.unary("ABS", graph.input("x", (4,))), "z")
    found = graph.build().graph()
    assert [unit.op for unit in units(found)] == [1]


def test_sources_are_what_reaches_a_tensor_unchanged() -> None:
    graph, t = forked()

    def floats(*tensors: int) -> list[int]:
        return [s for s in sources(graph, tensors) if graph.tensors[s].type == "FLOAT32"]

    assert floats(t["moved"]) == [t["x"]]
    assert floats(t["x"], t["moved"], -1) == [t["x"]]
    assert floats(t["folded"]) == [t["folded"]]
    assert floats(t["total"], t["padded"]) == []
    assert floats(t["factor"], t["again"]) == [t["factor"]]


def test_readers_are_what_computes_behind_ops_that_only_move() -> None:
    graph, t = forked()
    computing, moving, same = readers(graph, t["x"])
    assert [op.index for op in computing] == [2, 3]
    assert (set(moving), set(same)) == ({0}, {t["x"], t["moved"]})
    computing, moving, same = readers(graph, t["total"])
    assert [op.index for op in computing] == [5]
    assert (set(moving), set(same)) == ({4}, {t["total"], t["padded"]})
    assert readers(graph, t["product"]) == ([], frozenset(), frozenset({t["product"]}))


class Harms(Roundings):
    """Each op does a harm of its own, and independent ones add up in squares; a run for each set that is asked."""

    def __init__(self, *harms: float) -> None:
        model = chain(*["ABS"] * len(harms))
        case = Case(model, {"x": np.zeros((1, 8), np.float32)}, Options(), timeout=60)
        super().__init__(InProcess(), case, frozenset(), {})
        made = [op.outputs[0] for op in model.graph().ops]
        self.by_tensor = dict(zip(made, harms, strict=True))
        self.asked: list[list[int]] = []

    def harms(self, tensors: Any) -> dict[str, float]:
        key = frozenset(tensors)
        if key not in self._known:
            self.runs += 1
            its = [self.by_tensor[t] for t in sorted(key) if t in self.by_tensor]
            self.asked.append([list(self.by_tensor).index(t) for t in sorted(key) if t in self.by_tensor])
            total = float(np.sqrt(sum(h * h for h in its)))
            self._known[key] = {"y": total, "z": 2 * total}
        return self._known[key]


def ops(loss: RoundingLoss) -> list[int]:
    return [unit.op for unit in loss.units]


def test_the_most_harmful_are_named_first_until_they_are_enough_and_all_of_it() -> None:
    """An output is useless above 1: y at the harm itself, z at twice that. The rest of 0.3 leaves both of use."""
    found = Harms(0.1, 3, 0.1, 0.2, 0.9, 0.1)
    loss = found.search()
    assert ops(loss) == [1, 4]
    assert (loss.enough, loss.all_of_it, loss.together) == (True, True, True)
    assert found.asked == [
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2], [3, 4, 5],  # halves
        [0], [1, 2],
        [1], [2],  # the larger of which, too
        [0, 2, 3, 4, 5],  # without #1: 0.94, of which z would be useless
        [3], [4, 5],
        [4], [5],
        [0, 2, 3, 5],
    ]  # fmt: skip


@pytest.mark.parametrize(("harm", "enough"), [(1.0, False), (1.001, True)])
def test_enough_is_what_makes_every_output_useless(harm: float, enough: bool) -> None:
    loss = Harms(harm).search()
    assert (ops(loss), loss.enough, loss.all_of_it, loss.together) == ([0], enough, enough, enough)


@pytest.mark.parametrize(("rest", "units_named"), [(0.5, [0]), (0.501, [0, 1])])
def test_all_of_it_is_what_leaves_every_output_of_use(rest: float, units_named: list[int]) -> None:
    assert ops(Harms(4, rest).search()) == units_named


def test_what_does_no_harm_is_not_named() -> None:
    loss = Harms(0.4, 0, 0).search()
    assert (ops(loss), loss.enough, loss.all_of_it, loss.together) == ([0], False, False, False)


def test_of_equal_harm_the_earlier_is_named_first() -> None:
    assert ops(Harms(1, 1, 1, 1).search()) == [0, 1, 2, 3]


def test_a_model_without_units_loses_nothing() -> None:
    graph = GraphBuilder()
    graph.output(graph.reshape(graph.input("x", (2, 4)), (8,)), "y")
    case = Case(graph.build(), {"x": np.zeros((2, 4), np.float32)}, Options(), timeout=60)
    loss = Roundings(InProcess(), case, frozenset(), {}).search()
    assert loss == RoundingLoss((), enough=False, all_of_it=False, together=False)


@pytest.mark.parametrize(("name", "most", "named"), [("MOST_UNITS", 2, 2), ("MOST_RUNS", 7, 0), ("MOST_RUNS", 8, 3)])
def test_neither_runs_nor_units_are_without_end(
    name: str, most: int, named: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, name, most)
    assert len(ops(Harms(*[0.3] * 4).search())) == named


class Scale:
    """A yardstick: the largest difference from 1, times a weight."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def severity(self, values: Any) -> float:
        return float(np.abs(values - 1).max()) * self.weight


# 1 + 2^-12 is 1 in float16, and in float32 with 20 bits it is itself; 1 + 2^-22 is neither.
FINE, FINEST = 1 + 2.0**-12, 1 + 2.0**-22


def roundings(value: float, precision: Precision = "fp16", beyond: frozenset[int] = frozenset()) -> Roundings:
    model = chain("ABS", "RELU", shape=(1, 2))
    case = Case(model, {"x": f32([[value, 1]])}, Options(precision=precision), timeout=60)
    yardsticks = cast("tuple[Yardstick, ...]", (Scale(1), Scale(2.0**12)))
    return Roundings(InProcess(), case, beyond, {"y": yardsticks})


@pytest.mark.parametrize(
    ("value", "precision", "tensors", "rounded"),
    [
        (FINE, "fp16", [], False),
        (FINE, "fp16", [0], True),
        (FINE, "fp16", [1], True),
        (FINE, "fp16", [2], True),
        (FINE, "fp32", [1], False),
        (FINEST, "fp32", [1], True),
        (FINEST, "fp32", [], False),
    ],
)
def test_the_tensors_given_are_rounded_as_the_device_stores_them(
    value: float, precision: Precision, tensors: list[int], rounded: bool
) -> None:
    found = roundings(value, precision)
    (values,) = found.outputs(tensors).values()
    np.testing.assert_array_equal(values, f32([[1 if rounded else value, 1]]))
    assert found.runs == 1


def test_what_float16_cannot_hold_is_not_rounded() -> None:
    (values,) = roundings(FINE, beyond=frozenset({1})).outputs([1]).values()
    np.testing.assert_array_equal(values, f32([[FINE, 1]]))


def test_the_harm_is_by_the_worst_yardstick_and_computed_once() -> None:
    found = roundings(FINE)
    assert found.harms([]) == {"y": 1.0}
    assert (found.harm([]), found.makes_useless([]), found.leaves_of_use([])) == (1.0, False, True)
    assert found.harms([1]) == {"y": 0.0}
    assert (found.harm([1]), found.runs) == (0.0, 2)
