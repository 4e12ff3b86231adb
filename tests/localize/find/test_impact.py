"""How much of an output's error the injected errors of culprits leave over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.reference import label_of, output_label, run_reference
from harness.localize.base.result import Impact
from harness.localize.find.impact import MOST_LEFT_OUT, REDUNDANT, ImpactProbe, unexplained
from harness.localize.probe.local_error import LocalError, Reading, plan
from tests.localize.planted import InProcess
from tests.quantized import QuantizedBuilder

EXACT = np.linspace(1, 2, 64, dtype=np.float32)
IDEAL = (EXACT + np.float32(1e-4),)
NAN = np.full_like(EXACT, np.nan)


def test_an_injection_that_gives_the_devices_own_values_leaves_nothing() -> None:
    assert unexplained(EXACT + 1, EXACT + 1, EXACT, IDEAL) == (0.0, 0.0)


def test_what_an_injection_does_not_explain_is_a_share_of_the_error() -> None:
    share, left = unexplained(EXACT + 1, EXACT + 0.75, EXACT, IDEAL)
    assert (round(share, 3), round(left, 3)) == (0.25, 0.25)


def test_an_injection_that_harms_an_output_that_is_exact_explains_nothing_of_it() -> None:
    share, left = unexplained(EXACT, EXACT + 1, EXACT, IDEAL)
    assert (share, round(left, 6)) == (math.inf, 1.0)


def test_an_injection_that_gives_nan_where_the_device_is_finite_is_another_fault() -> None:
    assert unexplained(EXACT + 1, NAN, EXACT, IDEAL) == (1.0, 0.0)
    partly = np.where(np.arange(64) < 16, np.nan, EXACT + 1).astype(np.float32)
    assert unexplained(EXACT + 1, partly, EXACT, IDEAL) == (0.25, 0.0)


def test_nan_on_the_device_is_explained_by_nan_and_says_nothing_of_what_is_finite() -> None:
    assert unexplained(NAN, NAN, EXACT, IDEAL) == (0.0, 0.0)
    assert unexplained(NAN, EXACT, EXACT, IDEAL) == (0.0, 0.0)


def test_one_nan_on_both_sides_does_not_spare_the_finite_rest() -> None:
    device, injected = EXACT + 1, EXACT + np.float32(0.75)
    device[7] = injected[7] = np.nan
    share, left = unexplained(device, injected, EXACT, IDEAL)
    assert (round(share, 3), round(left, 3)) == (0.25, 0.25)


class Told(ImpactProbe):
    """An impact probe that knows the residual of each choice of readings on an ideal device; the exact model feels
    nothing, so that all of the error is left over there."""

    def __init__(self, left: dict[tuple[str, ...], float]) -> None:
        object.__setattr__(self, "residuals", left)

    def of(self, readings: Sequence[Any], *, held: bool = False) -> tuple[Impact, ...]:
        left = self.residuals[tuple(readings)] if held else 1.0  # type: ignore[attr-defined]
        unknown: Any = None
        return (Impact("y", unknown, 1.0, 0.0, left, held),)


@pytest.mark.parametrize(("left", "needless"), [(0.01, True), (0.5, False)])
def test_what_an_ideal_device_explains_is_asked_without_each_culprit_there_too(left: float, needless: bool) -> None:
    probe = Told({("a",): 0.9, ("b",): left, ("a", "b"): 0.01})
    readings: Any = ["a", "b"]
    assert probe.has_redundant_culprit(readings, probe.of(readings, held=True)) is needless


@pytest.mark.parametrize(
    ("left", "needless"),
    [(0.25, True), (0.25 * REDUNDANT, True), (float(np.nextafter(0.25 * REDUNDANT, 1)), False)],
)
def test_a_culprit_is_redundant_that_removes_less_than_a_fifth_of_what_the_others_leave(
    left: float, needless: bool
) -> None:
    """One without which 1.25 times as much is left removed a fifth of it."""
    probe = Told({("a",): 0.9, ("b",): left, ("a", "b"): 0.25})
    readings: Any = ["a", "b"]
    assert (REDUNDANT, probe.has_redundant_culprit(readings, probe.of(readings, held=True))) == (1.25, needless)


@pytest.mark.parametrize(
    ("count", "unexplained", "asked"),
    [(1, 0.0, False), (2, 0.0, True), (MOST_LEFT_OUT, 0.0, True), (MOST_LEFT_OUT + 1, 0.0, False), (2, 0.1, False)],
)
def test_whether_one_is_redundant_is_asked_of_a_few_that_explain_the_outputs(
    count: int, unexplained: float, asked: bool
) -> None:
    readings: Any = [f"{i}" for i in range(count)]
    rests = [tuple(r for r in readings if r != left) for left in readings]
    unknown: Any = None
    explained = [Impact("y", unknown, 1.0, unexplained, 0.25, held=True), Impact("y", unknown, 1.0, 0.0, 0.25)]
    # Without any one of them as little is left: they are redundant wherever they are asked.
    assert Told(dict.fromkeys(rests, 0.25)).has_redundant_culprit(readings, explained) is asked


class Felt(ImpactProbe):
    """Knows whether the outputs are right with errors injected into the exact model, and into an ideal device."""

    def __init__(self, exact: bool, held: bool) -> None:
        object.__setattr__(self, "right", (exact, held))
        object.__setattr__(self, "asked", [])

    def of(self, readings: Sequence[Any], *, held: bool = False) -> tuple[Impact, ...]:
        self.asked.append((tuple(readings), held))  # type: ignore[attr-defined]
        return self.impact(held)

    def impact(self, held: bool) -> tuple[Impact, ...]:
        judgement: Any = SimpleNamespace(ok=self.right[held])  # type: ignore[attr-defined]
        return (Impact("y", judgement, 1.0, held=held),)


FAILING: Any = [SimpleNamespace(name="y", explained=False)]


@pytest.mark.parametrize(
    ("exact", "held", "asked", "answer"),
    [
        (False, False, [False], False),  # the exact model feels it
        (True, False, [False, True], True),
        (True, True, [False, True], False),  # neither does: what the exact model says stands
    ],
)
def test_an_ideal_device_is_asked_where_the_exact_model_feels_too_little(
    exact: bool, held: bool, asked: list[bool], answer: bool
) -> None:
    probe = Felt(exact, held)
    readings: Any = ["a", "b"]
    assert [i.held for i in probe.impact_on_outputs(readings, FAILING)] == [answer]
    assert probe.asked == [(("a", "b"), each) for each in asked]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("exact", "known_on", "asked"), [(False, False, []), (True, False, [True]), (True, True, []), (False, True, [])]
)
def test_what_is_known_of_one_is_not_asked_again_and_an_ideal_device_s_word_stands(
    exact: bool, known_on: bool, asked: list[bool]
) -> None:
    probe = Felt(exact, held=exact)
    readings: Any = ["a"]
    known = probe.impact(known_on)
    assert probe.impact_on_outputs(readings, FAILING, known) == known
    assert [held for _, held in probe.asked] == asked  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("exact", "spreads", "asked"),
    [(True, False, [False]), (True, True, [False, True]), (False, True, [False]), (False, False, [False])],
)
def test_one_that_spreads_is_tried_on_an_ideal_device_before_it_passes_for_harmless(
    exact: bool, spreads: bool, asked: list[bool]
) -> None:
    probe = Felt(exact, held=False)
    reading: Any = "a"
    assert [i.held for i in probe.of_one(reading, spreads=spreads)] == asked[-1:]
    assert [held for _, held in probe.asked] == asked  # type: ignore[attr-defined]


@pytest.mark.parametrize(("off", "share"), [(15, 0.0), (17, 17 / 100)])
def test_what_an_injection_leaves_is_held_against_what_rounding_explains(off: float, share: float) -> None:
    """The worse of two ideal devices is off by 2^-10; up to 16 times that is rounding."""
    exact = np.ones(64, np.float32)
    step = np.float32(2.0**-10)
    found, left = unexplained(exact + 100 * step, exact + (100 - off) * step, exact, (exact, exact + step))
    assert found == pytest.approx(share)
    assert left == off * 2.0**-10


class Injected:
    """A model whose device gave what it should but for some values by the name of their files, and what the local
    errors of those do to its outputs."""

    def __init__(
        self, folder: Path, model: Model, wrong: Mapping[str, Array], inputs: dict[str, Array] | None = None
    ) -> None:
        graph, host, store = model.graph(), InProcess(), TensorStore(folder)
        case = Case(model, inputs or random_inputs(graph, 0), Options(), timeout=60)
        made = [t for op in graph.ops for t in op.outputs]
        run_reference(host, case, store, made)
        labels = [*(label_of(graph, t) for t in made), *(output_label(port.name) for port in graph.outputs)]
        self.exact = {label: store.get(label, "reference") for label in labels}
        for label, values in (self.exact | dict(wrong)).items():
            store.put(label, "device", values, label)
        self.readings = {reading.label: reading for reading in plan(graph, frozenset(made))}
        ideal = run_ideal(case, host, model, case.inputs, frozenset(), "running ideally")
        self.probe = ImpactProbe(LocalError(host, case, store, frozenset()), ideal)

    def of(self, *labels: str) -> dict[str, Impact]:
        readings: list[Reading] = [self.readings[label] for label in labels]
        return {impact.output: impact for impact in self.probe.of(readings)}


def ok(impacts: Mapping[str, Impact]) -> dict[str, bool]:
    return {name: impact.judgement.ok for name, impact in impacts.items()}


def read_again() -> Model:
    """TANH #0, an output `a` that NEG #1, output `b`, reads too."""
    graph = GraphBuilder()
    a = graph.unary("TANH", graph.input("x", (1, 8)))
    graph.output(a, "a")
    graph.output(graph.unary("NEG", a), "b")
    return graph.build()


def test_an_output_that_is_wrong_as_the_caller_gets_it_leaves_alone_what_reads_it(tmp_path: Path) -> None:
    exact = Injected(tmp_path / "right", read_again(), {}).exact["output-a"]
    found = Injected(tmp_path / "wrong", read_again(), {"output-a": exact + 1}).of("output-a")
    assert ok(found) == {"a": False, "b": True}
    assert found["a"].judgement.actual.max_abs == pytest.approx(1.0)
    assert found["b"].judgement.actual.max_abs == 0.0
    assert (found["a"].unexplained, found["a"].left) == (0.0, 0.0)


def test_a_result_that_is_wrong_as_the_graph_sees_it_is_wrong_in_all_that_reads_it(tmp_path: Path) -> None:
    exact = Injected(tmp_path / "right", read_again(), {}).exact["0000-TANH"]
    wrong = {"0000-TANH": exact + 1, "output-a": exact + 1, "output-b": -exact - 1, "0001-NEG": -exact - 1}
    found = Injected(tmp_path / "wrong", read_again(), wrong).of("0000-TANH")
    assert ok(found) == {"a": False, "b": False}
    assert [impact.unexplained for impact in found.values()] == [0.0, 0.0]


def ranked_and_counted() -> Model:
    """ARG_MAX #0 gives `which`; CAST #1 to whole numbers and CAST #2 back give `y`."""
    graph = GraphBuilder()
    x = graph.input("x", (4, 8))
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT32
    last = graph.constant(np.asarray([1], np.int32))
    graph.output(graph.op("ARG_MAX", [x, last], (4,), options, dtype=np.int32), "which")
    whole = graph.op("CAST", [x], (4, 8), schema.CastOptionsT(), dtype=np.int32)
    graph.output(graph.op("CAST", [whole], (4, 8), schema.CastOptionsT()), "y")
    return graph.build()


def test_an_output_of_indices_is_what_the_device_gave(tmp_path: Path) -> None:
    exact = Injected(tmp_path / "right", ranked_and_counted(), {}).exact["output-which"]
    device = (exact + 3) % 8
    found = Injected(tmp_path / "wrong", ranked_and_counted(), {"output-which": device}).of("output-which")
    assert ok(found) == {"which": False, "y": True}
    assert found["which"].judgement.actual.max_abs == np.abs(device - exact).max()
    assert (found["which"].unexplained, found["which"].left) == (0.0, 0.0)


def test_of_whole_numbers_inside_the_model_there_is_no_error_to_inject(tmp_path: Path) -> None:
    label = "0001-CAST"
    exact = Injected(tmp_path / "right", ranked_and_counted(), {}).exact[label]
    found = Injected(tmp_path / "wrong", ranked_and_counted(), {label: exact + 3}).of(label)
    assert ok(found) == {"which": True, "y": True}


def doubled() -> Model:
    """ADD #0 and ADD #1 of int8, in steps of 1 and of 2, the second an output: of 25 they make 50 and 100."""
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 4), 0.5)
    once = graph.sum_of(x, x, (1.0, 0))
    graph.output(graph.sum_of(once, once, (2.0, -10)), "y")
    return graph.build()


@pytest.mark.parametrize(
    ("fed", "gave", "comes_to"),
    [
        (50, 130, 130),  # right inputs: fifteen steps too many
        (10, 50, 130),  # wrong ones: the same error, of 20
        (10, 220, 274),  # a hundred steps too many would be beyond the grid's end
        (10, -80, 0),
    ],
)
def test_an_error_of_an_output_on_a_grid_is_in_real_units_and_ends_with_the_grid(
    tmp_path: Path, fed: int, gave: int, comes_to: int
) -> None:
    inputs = {"x": np.full((1, 4), 50, np.int8)}
    given = np.full((1, 4), gave / 2 - 10, np.int8)
    wrong = {"0000-ADD": np.full((1, 4), fed, np.int8), "output-y": given}
    injected = Injected(tmp_path, doubled(), wrong, inputs)
    assert injected.exact["output-y"].tolist() == [[40] * 4]
    found = injected.of("output-y")["y"]
    assert not found.judgement.ok
    assert found.judgement.actual.max_abs == abs(comes_to - 100)
    assert found.judgement.actual.range == (comes_to, comes_to)
    assert found.left == abs(gave - comes_to)
    assert found.unexplained == (found.left / abs(gave - 100))


def test_several_errors_are_injected_together(tmp_path: Path) -> None:
    exact = Injected(tmp_path / "right", ranked_and_counted(), {}).exact
    wrong = {"output-which": (exact["output-which"] + 3) % 8, "output-y": exact["output-y"] + 9}
    found = Injected(tmp_path / "wrong", ranked_and_counted(), wrong).of("output-which", "output-y")
    assert ok(found) == {"which": False, "y": False}
    positive = int((exact["output-y"] > 0).sum()), int((exact["output-y"] + 9 > 0).sum())
    assert found["y"].iou == positive[0] / positive[1]


class TestOnAnIdealDevice:
    """Which stores float16, and so has its range and its precision."""

    @staticmethod
    def normalized() -> Model:
        """ABS #0 of x, over the root of its own square."""
        graph = GraphBuilder()
        a = graph.unary("ABS", graph.input("x", (1, 8)))
        graph.output(graph.binary("MUL", a, graph.unary("RSQRT", graph.unary("SQUARE", a))), "y")
        return graph.build()

    def test_an_error_that_a_normalization_mends_may_leave_its_range_on_the_way(self, tmp_path: Path) -> None:
        exact = Injected(tmp_path / "right", self.normalized(), {}).exact["0000-ABS"]
        injected = Injected(tmp_path / "wrong", self.normalized(), {"0000-ABS": exact + 300})
        readings = [injected.readings["0000-ABS"]]
        mended, harmed = injected.probe.of(readings), injected.probe.of(readings, held=True)
        assert [(i.judgement.ok, i.held) for i in (*mended, *harmed)] == [(True, False), (False, True)]
        assert injected.probe.of_one(readings[0], spreads=False) == mended
        assert injected.probe.of_one(readings[0], spreads=True) == harmed

    def test_it_holds_the_inputs_as_it_holds_every_value(self, tmp_path: Path) -> None:
        """2049 is 2048 in float16."""
        graph = GraphBuilder()
        graph.output(graph.binary("SUB", graph.input("a", (1, 4)), graph.input("b", (1, 4))), "y")
        inputs = {"a": np.full((1, 4), 2049, np.float32), "b": np.full((1, 4), 2048, np.float32)}
        probe = Injected(tmp_path, graph.build(), {}, inputs).probe
        assert [impact.judgement.actual.max_abs for impact in probe.of([])] == [0.0]
        assert [impact.judgement.actual.max_abs for impact in probe.of([], held=True)] == [1.0]
