"""A wrong run that was read: what is said of it, and whether reading left the model as it was."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.job import Options
from harness.graph.inputs import random_inputs
from harness.localize.base.case import Case
from harness.localize.base.comparison import TAP_SECONDS
from harness.localize.find import reading, unsteady
from harness.localize.find.reading import NoWrongRun, Read, read_wrong_run
from harness.localize.find.unsteady import WrongRun
from harness.localize.probe.taps import Tapped
from tests.chains import chain

MODEL = chain("NEG", "TANH", "ABS", shape=(1, 16))
CASE = Case(MODEL, random_inputs(MODEL.graph(), 0), Options("gpu"), timeout=60)
OWN: dict[str, Any] = {"y": "own"}
MOVED = "The runtime put ops elsewhere in the model that was read: nothing is certified."
ELSEWISE = "The run that was read was wrong in another way than those of the untouched model."


@dataclass
class Bench:
    """Keeps the stages that were begun, and how often the device was stopped."""

    stages: list[tuple[str, float]]
    stops: list[str]

    def __post_init__(self) -> None:
        self.progress = SimpleNamespace(stage=lambda what, s: self.stages.append((what, s)), fraction="advance")
        self.device = SimpleNamespace(name="a GPU", stop=lambda: self.stops.append("device"))
        self.run = SimpleNamespace(tensors="store")


@pytest.fixture
def bench() -> Any:
    return Bench([], [])


def steady(bench: Any, monkeypatch: pytest.MonkeyPatch, tapped: Tapped, changed: str | None) -> Read | NoWrongRun:
    monkeypatch.setattr(reading, "read_copies", lambda *_, **__: tapped)
    monkeypatch.setattr(reading, "outputs_under_taps", lambda *_: (OWN, changed))
    first: Any = SimpleNamespace(differs="")
    found = read_wrong_run(bench, CASE, first, 1000)
    assert isinstance(found, Read)
    assert (found.first, found.tapped, found.own) == (first, tapped, OWN)
    return found


@pytest.mark.parametrize(
    ("tapped", "changed", "unchanged", "notes"),
    [
        (Tapped(), None, True, ()),
        (Tapped(), "'y'", False, ("Tapping changed output 'y'.",)),
        (Tapped(moved=True), None, False, (MOVED,)),
        (Tapped(moved=True), "'y'", False, ("Tapping changed output 'y'.", MOVED)),
        (Tapped(unread={3: "no"}), None, True, ("1 tensor could not be read on the device.",)),
        (Tapped(unread={3: "no", 4: "no"}), None, True, ("2 tensors could not be read on the device.",)),
    ],
)
def test_a_steady_model_is_as_it_was_where_reading_changed_no_output_and_moved_no_op(
    bench: Any,
    monkeypatch: pytest.MonkeyPatch,
    tapped: Tapped,
    changed: str | None,
    unchanged: bool,
    notes: tuple[str, ...],
) -> None:
    found = steady(bench, monkeypatch, tapped, changed)
    assert isinstance(found, Read)
    assert (found.unchanged, found.notes) == (unchanged, notes)


def test_copies_are_read_within_the_budget_and_the_device_is_stopped_after(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def read_copies(*given: Any, **named: Any) -> Tapped:
        assert bench.stops == []
        asked.append((*given, named))
        return Tapped()

    monkeypatch.setattr(reading, "choose", lambda graph, budget, on_cpu: (1, 2) if budget == 128 else ())
    monkeypatch.setattr(reading, "read_copies", read_copies)
    monkeypatch.setattr(reading, "outputs_under_taps", lambda *_: (OWN, None))
    first: Any = SimpleNamespace(differs="")
    read_wrong_run(bench, CASE, first, 128)
    named = {"budget": 128, "advance": "advance", "warmup": 0}
    assert asked == [(bench.device, CASE, "store", (1, 2), named)]
    assert bench.stops == ["device"]
    size = sum(CASE.graph.tensors[t].nbytes for t in (1, 2))
    assert [what for what, _ in bench.stages] == ["2 tensors read on a GPU"]
    assert bench.stages[0][1] == pytest.approx(2 + 2 * TAP_SECONDS + size / 60e6, rel=1e-12)


@pytest.mark.parametrize(
    ("seen", "moved", "unchanged", "notes"),
    [
        (True, False, True, ()),
        (False, False, False, (ELSEWISE,)),
        (True, True, False, (MOVED,)),
        (False, True, False, (ELSEWISE, MOVED)),
    ],
)
def test_of_runs_that_differ_the_wrong_one_that_was_read_stands_for_the_model(
    bench: Any, monkeypatch: pytest.MonkeyPatch, seen: bool, moved: bool, unchanged: bool, notes: tuple[str, ...]
) -> None:
    warmups = []

    def read_copies(*_: Any, warmup: int, **__: Any) -> Tapped:
        warmups.append(warmup)
        return Tapped(unread={3: "no"})

    that_run: Any = SimpleNamespace(differs="'y'")
    tapped = Tapped(moved=moved)

    def wrong_run(bench: Any, case: Case, first: Any, tap: Any) -> WrongRun:
        tap(1)
        return WrongRun(tapped, that_run, OWN, seen)

    monkeypatch.setattr(reading, "read_copies", read_copies)
    monkeypatch.setattr(unsteady, "wrong_run", wrong_run)
    monkeypatch.setattr(unsteady, "notes", lambda first: ["Two runs differ."])
    first: Any = SimpleNamespace(differs="'y'")
    found = read_wrong_run(bench, CASE, first, 1000)
    said = ("Two runs differ.", "1 tensor could not be read on the device.", *notes)
    assert found == Read(that_run, tapped, OWN, unchanged, said)
    assert warmups == [1]


def test_where_no_run_that_was_read_is_wrong_nothing_is_read(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsteady, "wrong_run", lambda *_: None)
    monkeypatch.setattr(unsteady, "notes", lambda first: ["Two runs differ."])
    first: Any = SimpleNamespace(differs="'y'")
    assert read_wrong_run(bench, CASE, first, 1000) == NoWrongRun(
        ("Two runs differ.", "No run whose intermediates were read was wrong.")
    )
