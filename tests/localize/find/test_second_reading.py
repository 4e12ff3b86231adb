"""Two readings of a suspect held against each other: what agrees, what is in doubt, and what each compile reads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.find.recheck import AGREEMENT, _parts, _Second, recheck_suspects, second_kind
from harness.localize.probe.local_error import LocalError, plan
from harness.numerics.fp16 import UNIT_ROUNDOFF
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess

MODEL = chain("TANH", "EXP", "ABS", "NEG")
MADE = [op.outputs[0] for op in MODEL.graph().ops]
NAMES = [MODEL.graph().tensors[t].name for t in MADE]
LABELS = ["0000-TANH", "0001-EXP", "0002-ABS", "0003-NEG"]
ONES = f32(np.ones((1, 8)))


def second(
    folder: Path,
    values: dict[str, Array] | None = None,
    *,
    kind: Any = "direct",
    readings: tuple[int, ...] = (),
    options: Options | None = None,
) -> Any:
    """A second look at copies with these values by label; `readings` are tensors that are judged."""
    store = TensorStore(folder)
    for label, given in (values or {}).items():
        store.put(label, "device", given, label)
    case = Case(MODEL, {"x": ONES}, options or Options("gpu"), timeout=60)
    local = LocalError(InProcess(), case, store, frozenset())
    judged = {r.tensor: r for r in plan(MODEL.graph(), frozenset(MADE)) if r.tensor in readings}
    return _Second(InProcess(), local, judged, 0, kind)


@pytest.mark.parametrize(
    ("runtime", "kind"),
    [
        ("2.1.5", "negated"),
        ("2.1.6", "direct"),
        ("2.1.6rc1", "negated"),
        ("2.10.0", "direct"),
        ("1.4.0", "negated"),
        ("nightly", "direct"),
        ("", "direct"),
    ],
)
def test_releases_that_forget_what_is_an_output_are_asked_through_another_op(runtime: str, kind: str) -> None:
    assert second_kind(runtime) == kind


@pytest.mark.parametrize(("off", "agrees"), [(0, True), (AGREEMENT, True), (-AGREEMENT, True), (AGREEMENT + 1, False)])
def test_readings_agree_up_to_so_many_roundings_of_the_largest_value(off: int, agrees: bool, tmp_path: Path) -> None:
    before = f32([[4, 1, 1, 1, 1, 1, 1, -2]])
    after = before.copy()
    after[0, 3] += np.float32(off * UNIT_ROUNDOFF * 4)
    assert second(tmp_path, {LABELS[1]: before})._agree(MADE[1], after) is agrees


@pytest.mark.parametrize(
    ("before", "after", "agrees"),
    [(1, np.nan, False), (np.nan, 1, False), (np.nan, np.nan, True), (np.inf, np.inf, True), (np.inf, -np.inf, False)],
)
def test_what_is_not_finite_agrees_with_the_same_alone(
    before: float, after: float, agrees: bool, tmp_path: Path
) -> None:
    one, other = ONES.copy(), ONES.copy()
    one[0, 2], other[0, 2] = before, after
    assert second(tmp_path, {LABELS[1]: one})._agree(MADE[1], other) is agrees


def test_where_no_copy_was_read_of_an_output_the_untouched_model_s_own_counts(tmp_path: Path) -> None:
    known = second(tmp_path, {"output-y": ONES})
    assert known._agree(MADE[3], ONES) is True
    assert known._agree(MADE[3], ONES + 1) is False


@pytest.mark.parametrize(
    ("before", "after", "reference", "drifted"),
    [
        (1.5, 1.52, 1.0, True),  # the same error, rounded otherwise
        (1.5, 0.5, 1.0, False),  # another one
        (1.5, 1.52, None, False),  # nothing to tell it by
    ],
)
def test_readings_that_are_off_alike_have_drifted(
    before: float, after: float, reference: float | None, drifted: bool, tmp_path: Path
) -> None:
    known = second(tmp_path, {LABELS[1]: before * ONES})
    if reference is not None:
        known._store.put(LABELS[1], "reference", reference * ONES, LABELS[1])
    assert known._agree(MADE[1], f32(after * ONES)) is False
    assert (MADE[1] in known._drifted) is drifted


def test_a_doubt_tells_which_readings_differ_or_which_never_came(tmp_path: Path) -> None:
    known = second(tmp_path)
    known._agrees = {MADE[0]: True, MADE[1]: False, MADE[2]: False}
    assert known.doubt([]) == known.doubt([MADE[0]]) == ""
    assert known.doubt([MADE[0], MADE[1]]) == f"A direct tap of {NAMES[1]} reads differently from the copy tap."
    both = f"A direct tap of {NAMES[1]}, {NAMES[2]} reads differently from the copy tap."
    assert known.doubt(MADE) == both  # before what is missing
    assert known.doubt([MADE[0], MADE[3]]) == (
        f"{NAMES[3]} could not be read a second way: The device did not give it."
    )
    known._failed = {MADE[3]: "It crashed."}
    assert known.doubt([MADE[3]]) == f"{NAMES[3]} could not be read a second way: It crashed."


def test_a_doubt_names_three_tensors_at_most(tmp_path: Path) -> None:
    known = second(tmp_path, kind="negated")
    missing = ", ".join(NAMES[:3])
    assert known.doubt(MADE) == f"{missing} could not be read a second way: The device did not give it."
    known._agrees = dict.fromkeys(MADE, False)
    assert known.doubt(MADE) == f"A negated tap of {missing} reads differently from the copy tap."


ERROR, ALIKE = f32([[1, 0, 0, 0, 0, 0, 0, 0]]), f32([[1.02, 0, 0, 0, 0, 0, 0, 0]])


def same_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> bool:
    known = second(tmp_path, readings=(MADE[2],))
    known._compile = {MADE[1]: 1, MADE[2]: 1}
    known._agrees = {MADE[1]: True, MADE[2]: True}
    again = changes.pop("again", ALIKE)
    for name, value in changes.items():
        setattr(known, name, value)
    monkeypatch.setattr(LocalError, "error", lambda self, reading: ERROR if self is known._local else again)
    (reading,) = (r for r in plan(MODEL.graph(), frozenset(MADE)) if r.tensor == MADE[2])
    answer: bool = known.shows_the_same_fault(reading)
    return answer


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"again": -ERROR}, False),
        ({"_readings": {}}, False),
        ({"_compile": {MADE[1]: 1, MADE[2]: 2}}, False),  # values of two runs
        ({"_compile": {MADE[2]: 1}}, False),  # what feeds it never came
        ({"_compile": {}}, False),
        ({"_failed": {MADE[1]: "moved"}}, False),
        ({"_failed": {MADE[0]: "moved"}}, True),  # nothing that the op rests on
        ({"_agrees": {MADE[1]: False, MADE[2]: True}}, False),
        ({"_agrees": {MADE[1]: False, MADE[2]: True}, "_drifted": {MADE[1]}}, True),
        ({"_agrees": {MADE[1]: False, MADE[2]: False}, "_drifted": {MADE[1]}}, False),
        ({"_agrees": {}}, True),
    ],
)
def test_a_fault_is_the_same_where_one_second_run_makes_the_same_error_of_its_own_values(
    changes: dict[str, Any], same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert same_fault(tmp_path, monkeypatch, **changes) is same


def test_an_input_of_the_model_needs_no_second_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = second(tmp_path, readings=(MADE[0],))
    known._compile, known._agrees = {MADE[0]: 3}, {MADE[0]: True}
    monkeypatch.setattr(LocalError, "error", lambda self, reading: ERROR)
    (reading,) = (r for r in plan(MODEL.graph(), frozenset(MADE)) if r.tensor == MADE[0])
    assert known.shows_the_same_fault(reading)


@pytest.mark.parametrize(
    ("direct", "copies", "budget", "parts"),
    [
        ([0, 1], [2], 1 << 20, [([0, 1], [2])]),
        ([0, 1], [1, 2], 1 << 20, [([0, 1], [1, 2])]),  # one tensor both ways, counted once
        ([0, 1], [2], 64, [([0, 1], []), ([], [2])]),
        ([0], [2, 3], 32, [([0], []), ([], [2]), ([], [3])]),
        ([], [], 64, []),
    ],
)
def test_each_compile_reads_what_fits_the_budget(
    direct: list[int], copies: list[int], budget: int, parts: list[tuple[list[int], list[int]]]
) -> None:
    case: Any = SimpleNamespace(graph=MODEL.graph())
    found = _parts(case, [MADE[i] for i in direct], [MADE[i] for i in copies], budget)
    assert list(found) == [([MADE[i] for i in one], [MADE[i] for i in other]) for one, other in parts]


def test_without_suspects_nothing_is_read(tmp_path: Path) -> None:
    model: Model = MODEL
    case = Case(model, {"x": ONES}, Options("gpu"), timeout=60)
    local = LocalError(InProcess(), case, TensorStore(tmp_path), frozenset())
    records = [OpRecord(0, "TANH", 0, NAMES[0], MADE[0], (1, 8), "float32", "fine")]
    device: Any = None
    read = frozenset(MADE)
    found = recheck_suspects(device, local, records, [], plan(model.graph(), read), read)
    assert (found.records, found.doubts, found.read) == (records, {}, read)
