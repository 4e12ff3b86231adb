"""A value that looks wrong while all that reads it is right was only read wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord, OpVerdict
from harness.localize.find.tap_consistency import MOST_SUSPECTS, contradicted_taps
from harness.localize.probe.local_error import LocalError, Reading
from tests.localize.planted import InProcess

Right = Callable[[Reading], bool]


def chain(length: int) -> Model:
    """Ops one after another; the result of the second is an output too."""
    graph = GraphBuilder()
    t = graph.input("x", (1, 8))
    for i in range(length):
        t = graph.unary("NEG", t)
        if i == 1:
            graph.output(t, "early")
    graph.output(t, "y")
    return graph.build()


class Told(LocalError):
    """Knows of each reading whether it is right, and keeps what it was asked."""

    def __init__(self, model: Model, right: Right) -> None:
        case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
        super().__init__(InProcess(), case, TensorStore.__new__(TensorStore), frozenset())
        object.__setattr__(self, "right", right)
        object.__setattr__(self, "asked", [])

    def judge(self, readings: Sequence[Reading], advance: object = None) -> Iterator[OpRecord]:
        for reading in readings:
            self.asked.append((reading.op, reading.ops))  # type: ignore[attr-defined]
            yield record(self.case.model, reading.op, "fine" if self.right(reading) else "culprit")  # type: ignore[attr-defined]


def record(model: Model, op: int, verdict: OpVerdict, output: bool = False) -> OpRecord:
    tensor = model.graph().ops[op].outputs[0]
    return OpRecord(op, "NEG", op, "", tensor, (1, 8), "float32", verdict, reading="output" if output else "copy")


def lies(model: Model, wrong: dict[int, bool], right: Right) -> tuple[set[int], Told]:
    """The ops whose readings are not believed, of some that are wrong, as a copy shows it or as an output (True)."""
    ops = model.graph().ops
    records = [
        record(model, op.index, "culprit" if op.index in wrong else "fine", wrong.get(op.index, False)) for op in ops
    ]
    local = Told(model, right)
    found = contradicted_taps(local, records, frozenset(t for op in ops[:-1] for t in op.outputs))
    return {model.graph().producer[t] for t in found}, local


LONG = chain(6)


def test_a_suspect_whose_reader_is_right_together_with_it_is_not_believed() -> None:
    found, local = lies(LONG, {2: False, 3: False}, lambda reading: True)
    assert found == {2}
    assert local.asked == [(3, (2, 3))]  # type: ignore[attr-defined]


def test_a_suspect_whose_reader_is_wrong_together_with_it_stands() -> None:
    assert lies(LONG, {2: False, 3: False}, lambda reading: False)[0] == set()


def test_a_suspect_whose_readers_are_no_suspects_needs_no_question() -> None:
    found, local = lies(LONG, {2: False, 4: False}, lambda reading: True)
    assert (found, local.asked) == (set(), [])  # type: ignore[attr-defined]


def test_a_wrong_output_is_what_the_caller_gets_and_no_tap_can_be_blamed_for_it() -> None:
    found, local = lies(LONG, {1: True, 2: False}, lambda reading: True)
    assert (found, local.asked) == (set(), [])  # type: ignore[attr-defined]


def test_neighbours_that_are_disproved_only_together_are_not_believed_together() -> None:
    """Of three in a row the first two lie: the reader of one, judged on the other, still looks wrong."""
    found, _ = lies(LONG, {2: False, 3: False, 4: False}, lambda reading: reading.ops == (2, 3, 4))
    assert found == {2, 3}


def test_the_output_that_a_doubted_tensor_is_too_is_no_reader_of_it() -> None:
    """NEG #1 is read, and an output: what its copy shows is disproved by NEG #2, whatever the caller got."""
    found, _ = lies(LONG, {0: False, 1: False, 2: False}, lambda reading: reading.ops == (0, 1, 2))
    assert found == {0, 1}


@pytest.mark.parametrize(("more", "found"), [(0, True), (1, False)])
def test_where_the_device_is_wrong_all_over_no_tap_need_be_the_reason(more: int, found: bool) -> None:
    wrong = dict.fromkeys(range(2, 2 + MOST_SUSPECTS + more), False)
    assert bool(lies(chain(MOST_SUSPECTS + 4), wrong, lambda reading: True)[0]) is found
