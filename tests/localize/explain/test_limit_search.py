"""The sizes that are asked for on the way to a limit, in order, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.causes import SMALLEST_LIMIT
from harness.localize.explain import limits
from harness.localize.explain.limits import Limit, find_limit, unwritten
from harness.localize.probe.excess import Excess
from harness.localize.probe.experiment import Experiments, Observation, OutputComparison, Specimen
from harness.numerics.fp16 import UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, judge
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess

RIGHT, WRONG, OTHER = Observation("right"), Observation("wrong"), Observation("crash")
Answer = Callable[[int], Observation]


class Sizes:
    """A specimen in many sizes, and what was asked of them."""

    def __init__(self, size: int, answer: Answer, none: Callable[[int], bool] = lambda n: False) -> None:
        self.asked: list[int] = []
        self.family = limits._Family(size, "elements", self.sized)
        self.answer, self.none = answer, none
        self._known: dict[int, Specimen] = {}

    def sized(self, n: int) -> Specimen | None:
        return None if self.none(n) else self._known.setdefault(n, Specimen(chain("ABS"), {}))

    def ask(self, specimen: Specimen) -> Observation:
        (size,) = [n for n, known in self._known.items() if known is specimen]
        self.asked.append(size)
        return self.answer(size)

    def limit(self, said: Excess | None = None) -> Limit | None:
        found = limits._LimitSearch(self.family, self.ask, lambda seen: seen is WRONG).limit(said)
        if found is not None:
            assert found.specimen is self._known[found.wrong]
            assert found.what == "elements"
        return found


def wrong_from(size: int) -> Answer:
    return lambda n: WRONG if n >= size else RIGHT


def facts(found: Limit | None) -> tuple[int, int, int | None, int | None, bool] | None:
    return None if found is None else (found.right, found.wrong, found.below, found.above, found.alone)


def said(asked: int, most: int) -> Excess:
    return Excess("too much", asked, most)


def test_the_stretch_is_halved_by_round_sizes_and_two_more_are_asked_beside_the_two() -> None:
    sizes = Sizes(8000, wrong_from(5001))
    assert facts(sizes.limit()) == (5000, 5001, None, None, False)
    assert sizes.asked == [
        8000, 4000,  # halved until right
        5120, 4096, 4608, 4864, 4992, 5056, 5024, 5008, 5000, 5004, 5002, 5001,  # multiples of 1024, 512, … 1
        4996, 5056,  # less round, rounder
    ]  # fmt: skip


def test_where_the_words_tell_the_size_two_questions_find_it() -> None:
    sizes = Sizes(8000, wrong_from(5001))
    assert facts(sizes.limit(said(1000, 625))) == (5000, 5001, None, None, False)
    assert sizes.asked == [8000, 5000, 5001, 4996, 5056]


def test_where_the_words_tell_a_size_below_the_limit_it_is_looked_for_from_there() -> None:
    sizes = Sizes(8000, wrong_from(5001))
    assert facts(sizes.limit(said(1000, 623))) == (5000, 5001, None, None, False)
    assert sizes.asked[:4] == [8000, 4984, 4985, 6144]


@pytest.mark.parametrize("words", [said(1000, 700), said(1000, 0), None])
def test_where_the_words_tell_nothing_or_a_size_that_is_wrong_it_is_halved(words: Excess | None) -> None:
    sizes = Sizes(8000, wrong_from(5001))
    assert facts(sizes.limit(words)) == (5000, 5001, None, None, False)
    told = [5600] if words and words.most else []
    assert sizes.asked[: 3 + len(told)] == [8000, *told, 4000, 5120]


@pytest.mark.parametrize("first", [RIGHT, OTHER])
def test_a_specimen_that_does_not_fail_so_has_no_limit(first: Observation) -> None:
    sizes = Sizes(8000, lambda n: first if n == 8000 else wrong_from(5001)(n))
    assert sizes.limit() is None
    assert sizes.asked == [8000]


def test_another_failure_on_the_way_ends_the_search() -> None:
    sizes = Sizes(8000, lambda n: OTHER if n == 4000 else wrong_from(5001)(n))
    assert sizes.limit() is None
    assert sizes.asked == [8000, 4000]
    sizes = Sizes(8000, lambda n: OTHER if n == 4608 else wrong_from(5001)(n))
    assert sizes.limit() is None
    assert sizes.asked == [8000, 4000, 5120, 4096, 4608]


def test_it_is_halved_down_to_the_smallest_limit_and_no_further() -> None:
    sizes = Sizes(4 * SMALLEST_LIMIT, wrong_from(1))
    assert sizes.limit() is None
    assert sizes.asked == [4 * SMALLEST_LIMIT, 2 * SMALLEST_LIMIT, SMALLEST_LIMIT]


@pytest.mark.parametrize(("wrong", "found"), [(SMALLEST_LIMIT, False), (SMALLEST_LIMIT + 1, True)])
def test_no_device_ends_at_the_smallest_limit_or_below(wrong: int, found: bool) -> None:
    limit = Sizes(2 * SMALLEST_LIMIT - 2, wrong_from(wrong)).limit()
    assert facts(limit) == ((wrong - 1, wrong, None, None, False) if found else None)


@pytest.mark.parametrize(("wrong", "rounder"), [(5055, 5056), (5056, 5120), (5057, 5120)])
def test_the_larger_size_is_the_next_multiple_of_64(wrong: int, rounder: int) -> None:
    sizes = Sizes(8000, lambda n: RIGHT if n == rounder else wrong_from(wrong)(n))
    found = sizes.limit(said(8000, wrong - 1))
    assert facts(found) == (wrong - 1, wrong, None, rounder, False)
    assert sizes.asked == [8000, wrong - 1, wrong, wrong - 5, rounder]
    assert str(found) == (
        f"right with {wrong - 1:,} elements, wrong with {wrong:,}, right again with {rounder:,}"
    )  # fmt: skip


@pytest.mark.parametrize(("answer", "below"), [(WRONG, 4996), (OTHER, None), (RIGHT, None)])
def test_the_smaller_size_counts_where_it_is_wrong_in_the_same_way(answer: Observation, below: int | None) -> None:
    sizes = Sizes(8000, lambda n: answer if n == 4996 else wrong_from(5001)(n))
    assert facts(sizes.limit(said(8000, 5000))) == (5000, 5001, below, None, False)


@pytest.mark.parametrize("how", ["none", "other", "usage", "value"])
def test_a_larger_size_without_an_answer_leaves_it_alone(how: str) -> None:
    class Odd(Sizes):
        def sized(self, n: int) -> Specimen | None:
            if n == 5056 and how in ("usage", "value"):
                raise UsageError("no such size", "") if how == "usage" else ValueError("no such size")
            return None if n == 5056 and how == "none" else super().sized(n)

    sizes = Odd(8000, lambda n: OTHER if n == 5056 else wrong_from(5001)(n))
    found = sizes.limit(said(8000, 5000))
    assert facts(found) == (5000, 5001, None, None, True)
    assert str(found) == "right with 5,000 elements, wrong with 5,001"
    assert sizes.asked == [8000, 5000, 5001, 4996, *([5056] if how == "other" else [])]


@pytest.mark.parametrize("most", [1, 4, 13])
def test_no_more_questions_are_asked_than_allowed(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_QUESTIONS", most)
    sizes = Sizes(8000, wrong_from(5001))
    assert sizes.limit() is None
    assert len(sizes.asked) == most


def test_what_could_not_be_made_is_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 16 is needed; the place that the words tell cannot be made."""
    monkeypatch.setattr(limits, "MOST_QUESTIONS", 16)
    sizes = Sizes(8000, wrong_from(5001), none=lambda n: n == 5600)
    assert facts(sizes.limit(said(1000, 700))) == (5000, 5001, None, None, False)
    assert len(sizes.asked) == 16


def test_the_two_largest_dimensions_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is wrong in every size; in the second the limit is found, in the third it would be."""
    whole, experiments = Specimen(chain("ABS"), {}), Experiments(InProcess(), InProcess(), 60)
    families = [Sizes(8000, wrong_from(1)), Sizes(6000, wrong_from(3001)), Sizes(5000, wrong_from(3001))]

    def found(chosen: list[Sizes]) -> Limit | None:
        monkeypatch.setattr(limits, "_families", lambda *_: iter([each.family for each in chosen]))

        def ask(specimen: Specimen) -> Observation:
            (mine,) = [f for f in chosen if any(known is specimen for known in f._known.values())]
            return mine.ask(specimen)

        return find_limit(experiments, whole, None, ask, lambda seen: seen is WRONG)

    assert facts(found(families)) == (3000, 3001, None, None, False)
    assert [bool(each.asked) for each in families] == [True, True, False]
    broken = [Sizes(8000, wrong_from(1)), Sizes(6000, wrong_from(1)), Sizes(5000, wrong_from(3001))]
    assert found(broken) is None
    assert [bool(each.asked) for each in broken] == [True, True, False]


def one(shape: tuple[int, ...]) -> Specimen:
    return Specimen(chain("ABS", shape=shape), {"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("shape", "families"),
    [
        ((1, SMALLEST_LIMIT), []),
        ((1, SMALLEST_LIMIT + 1), [(2049, "elements")]),
        ((1, 8000, 1), [(8000, "elements")]),
        ((1500, 8000), [(8000, "in dimension 1 of [1,500, n]")]),
        ((3000, 1, 4000), [(4000, "in dimension 2 of [3,000, 1, n]"), (3000, "in dimension 0 of [n, 1, 4,000]")]),
        ((3000, 3000), [(3000, "in dimension 0 of [n, n]")]),
    ],
)
def test_dimensions_beyond_the_smallest_limit_are_varied_the_largest_first(
    shape: tuple[int, ...], families: list[tuple[int, str]]
) -> None:
    found = list(limits._families(Experiments(InProcess(), InProcess(), 60), one(shape)))
    assert [(each.size, each.what) for each in found] == families


def test_each_family_changes_its_own_dimension() -> None:
    found = list(limits._families(Experiments(InProcess(), InProcess(), 60), one((2100, 1, 2200))))
    for each, shape in zip(found, [(2100, 1, 7), (7, 1, 2200)], strict=True):
        made = each.sized(7)
        assert made is not None
        assert [values.shape for values in made.inputs.values()] == [shape]


def reshape(source: tuple[int, ...], result: tuple[int, ...]) -> Specimen:
    graph = GraphBuilder()
    graph.output(graph.reshape(graph.input("x0", source), result), "y0")
    return Specimen(graph.build(), {"x0": np.arange(np.prod(source), dtype=np.float32).reshape(source)})


@pytest.mark.parametrize(
    ("source", "result", "size", "shapes"),
    [
        ((1, 8000), (1, 4, 2000), 8000, ((1, 7), (1, 7, 1))),
        ((2, 2, 8000), (32, 1000), 8000, ((2, 2, 7), (2, 2, 7, 1))),
        ((1, 2, 2, 8000), (32, 1000), 8000, ((1, 2, 2, 7), (4, 7, 1))),
        ((4, 2000), (1, 8000), 8000, ((1, 7, 1), (1, 7))),
        ((4000, 4000), (4000, 2, 2000), 4000, ((7, 7), (7, 7, 1))),
    ],
)
def test_the_other_shape_of_a_reshape_gives_way(
    source: tuple[int, ...], result: tuple[int, ...], size: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    made = limits._reshape(reshape(source, result), size, 7)
    assert made is not None
    graph = made.model.graph()
    assert [op.name for op in graph.ops] == ["RESHAPE"]
    assert tuple(graph.tensors[port.tensor].shape for port in (*graph.inputs, *graph.outputs)) == shapes
    np.testing.assert_array_equal(made.inputs["x0"].ravel(), np.arange(np.prod(shapes[0])))


def computed_reshape() -> Model:
    graph = GraphBuilder()
    feeds = [graph.input("x0", (1, 8000)), graph.input("size", (2,), np.int32)]
    graph.output(graph.op("RESHAPE", feeds, (2, 4000), schema.ReshapeOptionsT()), "y0")
    return graph.build()


@pytest.mark.parametrize("model", [chain("ABS"), chain("ABS", "NEG"), computed_reshape()])
def test_what_is_not_one_reshape_to_a_fixed_size_has_no_other_shape(model: Model) -> None:
    assert limits._reshape(Specimen(model, {}), 8000, 7) is None


def seen(actual: list[float], exact: list[float], ideal: list[float]) -> OutputComparison:
    given, right = f32(actual), f32(exact)
    judgement = judge(compare(given, right), compare(f32(ideal), right), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR)
    return OutputComparison("y", given, right, judgement)


def test_a_small_value_that_is_zero_is_off_in_float32_alone() -> None:
    """In float16 32 roundings of an RMS of 2.7 are 0.042; in float32 they are 5e-6."""
    lost = seen([0, 2, 3, 4], [0.03, 2, 3, 4], [0.03, 2, 3, 4])
    assert not unwritten(lost, half=True)
    assert unwritten(lost, half=False)


@pytest.mark.parametrize(("value", "zeros"), [(0.3, False), (0.34, True)])
def test_an_error_of_32_times_an_ideal_devices_is_explained(value: float, zeros: bool) -> None:
    assert unwritten(seen([0, 2, 3, 4], [value, 2, 3, 4], [value, 2, 3, 4.01]), half=True) is zeros


def test_what_is_not_finite_was_written() -> None:
    assert not unwritten(seen([np.nan, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]), half=True)
    assert not unwritten(seen([0, 2, np.inf, 4], [1, 2, 3, 4], [1, 2, 3, 4]), half=True)


LONG = 263168  # beyond what a side of a port may have; (1, 1, 64, 4112) has as many elements


def with_end(kind: str | None, shape: tuple[int, ...], *, size: int = LONG) -> Specimen:
    """A TANH, unless there is none, of which a RESHAPE is given out."""
    graph = GraphBuilder()
    x = graph.input("x", (1, size))
    graph.output(graph.reshape(graph.unary(kind, x) if kind else x, shape), "y")
    return Specimen(graph.build(), {"x": np.zeros((1, size), np.float32)})


@pytest.mark.parametrize(
    ("whole", "ops", "kept"),
    [
        (with_end("TANH", (1, 1, 64, 4112)), ["TANH"], {"x"}),
        (with_end("TANH", (1, 1, 4112, 64)), ["TANH", "RESHAPE"], {"x", "y"}),  # not as a short port has it
        (with_end("TANH", (1, 1, 64, 64), size=4096), ["TANH", "RESHAPE"], {"x", "y"}),  # not long
        (with_end(None, (1, 1, 64, 4112)), ["RESHAPE"], {"x", "y"}),  # there is nothing else
        (one((1, LONG)), ["ABS"], {"x", "y"}),
    ],
)
def test_a_reshape_for_the_sake_of_a_long_output_alone_is_taken_off(
    whole: Specimen, ops: list[str], kept: set[str]
) -> None:
    specimen, names = limits._without_short_ports(whole)
    assert [op.name for op in specimen.model.graph().ops] == ops
    assert names == kept
    assert [port.name for port in specimen.model.graph().outputs] == ["y"]
