"""What an answer in isolation says of a suspect, which readings are asked at all, and that none is asked twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from harness.core.job import Options
from harness.core.progress import Silent
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.localize.base.case import Case
from harness.localize.base.comparison import TAP_SECONDS
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import label_of
from harness.localize.probe.isolation import Isolation, contaminated, own_ports, reproduces_in_isolation
from harness.localize.probe.local_error import LocalError, Reading
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, Judgement
from tests.arrays import f32
from tests.localize.planted import InProcess

ONE = compare(f32([1]), f32([1]))


def judged(ratio: float, *, ok: bool = True, flushed: int = 0) -> Judgement:
    return Judgement(ok, ratio, replace(ONE, flushed=flushed), ONE)


def record(local: Judgement | None, index: int = 0) -> OpRecord:
    return OpRecord(index, "ABS", index, "t", index + 1, (1,), "float32", "culprit", local)


BAD = judged(100, ok=False)


@pytest.mark.parametrize(
    ("suspect", "by_itself", "reproduces"),
    [
        (BAD, BAD, True),
        (BAD, judged(31), False),  # what was over its limit has to go over it again
        (None, BAD, True),
        (None, judged(31), False),
        (judged(20), BAD, True),
        (judged(FACTOR), judged(31), False),  # not near its limit
        (judged(FACTOR + 1), judged(FACTOR), False),
        (judged(FACTOR + 1), judged(FACTOR + 1), True),
        (judged(1, flushed=5), judged(1, flushed=2), False),
        (judged(1, flushed=4), judged(1, flushed=2), True),
        (judged(1, flushed=1), judged(1, flushed=0), False),
        (judged(1), judged(1, flushed=2), False),
        (judged(20, flushed=4), judged(20), True),
        (judged(20, flushed=4), judged(1, flushed=4), True),
    ],
)
def test_an_op_by_itself_does_what_it_is_suspected_of(
    suspect: Judgement | None, by_itself: Judgement, reproduces: bool
) -> None:
    """Over its limit; or, where it was named below it, half of the values lost, or near the limit."""
    assert reproduces_in_isolation(record(suspect), by_itself) is reproduces


class Hears(Silent):
    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def stage(self, what: str, expected_seconds: float) -> None:
        self.told.append((what, expected_seconds))


class Answers(Isolation):
    """Answers for some readings; `given` has each batch that was asked."""

    known: ClassVar[dict[int, Judgement]] = {1: judged(1), 2: judged(2), 4: judged(4)}

    def judge(self, readings: object) -> dict[Reading, Judgement]:
        assert isinstance(readings, list)
        self.given = [*getattr(self, "given", []), [r.tensor for r in readings]]
        return {r: self.known[r.tensor] for r in readings if r.tensor in self.known}


def reading(tensor: int, *feeds: int) -> Reading:
    return Reading(tensor, f"t{tensor}", (tensor - 1,), feeds or (tensor - 1,), None)


def test_each_reading_is_asked_once_whether_it_had_an_answer_or_not() -> None:
    progress = Hears()
    local = LocalError.__new__(LocalError)
    isolation = Answers(InProcess("phone"), local, progress)
    records = {i: record(BAD, i) for i in range(4)}
    first = isolation.ask({records[0]: reading(1), records[2]: reading(3)})
    assert first == {records[0]: judged(1)}
    second = isolation.ask({records[0]: reading(1), records[1]: reading(2), records[2]: reading(3)})
    assert second == {records[0]: judged(1), records[1]: judged(2)}
    third = isolation.ask({records[1]: reading(2), records[2]: reading(3)})
    assert third == {records[1]: judged(2)}
    assert isolation.ask({records[3]: reading(4)}) == {records[3]: judged(4)}
    assert isolation.given == [[1, 3], [2], [], [4]]
    assert progress.told == [
        ("2 ops alone on phone", 2 + 2 * TAP_SECONDS),
        ("3 ops alone on phone", 2 + 3 * TAP_SECONDS),
        ("1 op alone on phone", 2 + TAP_SECONDS),
    ]


def line() -> Case:
    """ABS #0, NEG #1, TANH #2, EXP #3 and RELU #4 one after another, and SQUARE #5 of the input; tensors 0 to 6."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 2))
    t = x
    for kind in ("ABS", "NEG", "TANH", "EXP", "RELU"):
        t = graph.unary(kind, t)
    graph.output(t, "y")
    graph.output(graph.unary("SQUARE", x), "z")
    return Case(graph.build(), {"x": f32([[1, 2]])}, Options(), timeout=60)


def test_inputs_and_outputs_of_the_whole_are_told_by_the_number_of_their_tensor() -> None:
    assert own_ports(line().graph) == {"t0", "t5", "t6"}


RIGHT = [[1.0, 4.0]]


class TestContaminated:
    """Each reading of an op of the line, by the tensor that it reads."""

    READINGS: ClassVar[list[Reading]] = [reading(t) for t in (1, 2, 3, 4, 5)]

    @staticmethod
    def of(
        folder: Path,
        seen: dict[int, object],
        beyond: frozenset[int] = frozenset(),
        known: dict[int, object] | None = None,
    ) -> list[int]:
        case, store = line(), TensorStore(folder)
        for t in (1, 2, 3, 4):
            label = label_of(case.graph, t)
            values = (known or {}).get(t, RIGHT)
            if values is not None:
                store.put(label, "reference", f32(values), "t")  # type: ignore[arg-type,unused-ignore]
            if t in seen:
                store.put(label, "device", f32(seen[t]), "t")  # type: ignore[arg-type,unused-ignore]
        return [r.tensor for r in contaminated(case, store, TestContaminated.READINGS, beyond)]

    def test_nothing_is_where_all_is_finite_however_wrong(self, tmp_path: Path) -> None:
        assert self.of(tmp_path, {t: [[9, 9]] for t in (1, 2, 3, 4)}) == []

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_reads_a_value_that_is_not_finite_is(self, tmp_path: Path, value: float) -> None:
        assert self.of(tmp_path, {1: RIGHT, 2: [[1, value]], 3: RIGHT, 4: RIGHT}) == [3]

    def test_what_is_not_finite_by_right_contaminates_nothing(self, tmp_path: Path) -> None:
        known: dict[int, object] = {2: [[np.nan, 4]]}
        assert self.of(tmp_path, {1: RIGHT, 2: [[np.nan, 4]], 3: [[9, 9]], 4: RIGHT}, known=known) == []

    def test_what_became_of_it_contaminates_where_it_is_off_by_more_than_rounding(self, tmp_path: Path) -> None:
        """16 roundings of float16 of the largest value, 4: 0.03125. Before the NaN the same is no reason."""
        off = [[1, 4 + 0.032]]
        assert self.of(tmp_path / "off", {1: off, 2: [[np.nan, 4]], 3: off, 4: [[1, 4.031]]}) == [3, 4]
        assert self.of(tmp_path / "far", {1: off, 2: [[np.nan, 4]], 3: RIGHT, 4: off}) == [3, 5]

    def test_the_largest_value_may_be_negative(self, tmp_path: Path) -> None:
        known: dict[int, object] = {3: [[1, -4]]}
        near, off = [[1, -4.031]], [[1, -4.032]]
        spoilt: dict[int, object] = {1: RIGHT, 2: [[np.nan, 4]], 4: RIGHT}
        assert self.of(tmp_path / "near", {**spoilt, 3: near}, known=known) == [3]
        assert self.of(tmp_path / "off", {**spoilt, 3: off}, known=known) == [3, 4]

    def test_what_is_beyond_the_range_by_right_is_not(self, tmp_path: Path) -> None:
        """Neither by its inputs nor by its result."""
        seen: dict[int, object] = {1: RIGHT, 2: [[np.nan, 4]], 3: RIGHT, 4: RIGHT}
        assert self.of(tmp_path / "feed", seen, frozenset({2})) == []
        assert self.of(tmp_path / "result", seen, frozenset({3})) == []
        assert self.of(tmp_path / "else", seen, frozenset({1, 4})) == [3]

    def test_what_was_not_read_or_has_no_reference_says_nothing(self, tmp_path: Path) -> None:
        assert self.of(tmp_path / "device", {1: RIGHT, 3: [[np.nan, 4]]}) == [4]
        seen: dict[int, object] = {1: RIGHT, 2: [[np.nan, 4]], 3: RIGHT, 4: RIGHT}
        assert self.of(tmp_path / "reference", seen, known={2: None}) == []
