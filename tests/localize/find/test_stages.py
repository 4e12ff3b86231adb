"""What the stages of a localization come to: which of them run, what is certified, and what is said."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.job import Options, Residency
from harness.core.progress import SILENT
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.base.placement import Placement
from harness.localize.base.result import Culprit, Impact, OutputVerdict
from harness.localize.find import localizer as localizing
from harness.localize.find.confirm import Confirmed
from harness.localize.find.findings import NOTHING, Findings
from harness.localize.find.localizer import _Localizer, _Outcome
from harness.localize.find.precision import LostDigits
from harness.localize.find.recheck import Recheck
from harness.localize.probe.local_error import plan
from harness.numerics.metrics import compare
from harness.numerics.tolerance import judge
from harness.remedies.cause import Cause
from tests.arrays import normal
from tests.chains import chain

MODEL = chain("TANH", "EXP", "ABS", "NEG")
MADE = [op.outputs[0] for op in MODEL.graph().ops]
EXACT = normal((64,), 1)
RIGHT, WRONG = (judge(compare(x, EXACT), compare(EXACT, EXACT), roundoff=2.0**-11) for x in (EXACT, -EXACT))
OUTPUTS = (OutputVerdict("y", WRONG, 1.0),)
EXPLAINED = (Impact("y", WRONG, 1.0),)


def record(op: int, verdict: Any = "culprit", reading: Any = "copy") -> OpRecord:
    return OpRecord(op, "ABS", op, f"t{op}", MADE[op], (1, 8), "float32", verdict, WRONG, reading=reading)


def culprit(op: int, *, certified: bool = True, isolated: bool = False) -> Culprit:
    return Culprit(record(op), Cause.KERNEL, None, certified=certified, isolated=isolated)


def stages(placement: Placement | None = None) -> _Localizer:
    device = SimpleNamespace(name="phone", compiles=0, runs=0)
    device.described = lambda runtime, gpu: {"name": "phone", "runtime": runtime, "gpu": gpu}
    host = SimpleNamespace(stop=lambda: None)
    bench: Any = SimpleNamespace(device=device, host=host, progress=SILENT, run=None)
    case = Case(MODEL, {"x": normal((1, 8), 1)}, Options("gpu"), timeout=60, placement=placement)
    return _Localizer(bench, case, 1 << 20)


def compared(*, ok: bool = False, explained: bool = False, differs: str = "") -> Any:
    return SimpleNamespace(ok=ok, explained=explained, outputs=OUTPUTS, differs=differs)


def test_an_output_that_passes_needs_no_reading_and_is_certified() -> None:
    assert stages()._without_reading(compared(ok=True, explained=True)) == _Outcome("pass", certified=True)


def test_a_wrong_output_is_read_unless_no_op_of_the_gpu_could_be_named() -> None:
    assert stages()._without_reading(compared()) is None
    unknown = Placement(Residency(False, 2, 4, 1), None, None)
    said = "Which ops ran on the GPU cannot be told, so none is named."
    assert stages(unknown)._without_reading(compared()) == _Outcome("unresolved", Findings(notes=(said,)))
    whole = Placement(Residency(True), frozenset(), frozenset())
    assert stages(whole)._without_reading(compared()) is None


@pytest.mark.parametrize(("found", "status"), [((culprit(1),), "culprits"), ((), "unresolved")])
def test_what_rounding_explains_is_asked_for_its_lost_digits(
    found: tuple[Culprit, ...], status: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = LostDigits(found, EXPLAINED, True, ("A note.",))
    monkeypatch.setattr(localizing, "find_lost_digits", lambda *given: lost)
    outcome = stages()._without_reading(compared(explained=True))
    assert outcome == _Outcome(status, Findings(found, EXPLAINED, ("A note.",)), True)


def settled(
    monkeypatch: pytest.MonkeyPatch,
    findings: Findings,
    *,
    unchanged: bool = True,
    differs: str = "",
    hidden: tuple[Culprit, ...] = (),
    beside: Findings = NOTHING,
) -> tuple[Findings, bool, list[int]]:
    """What is left, whether it is certified, and whose impact on the outputs was asked anew."""
    asked: list[int] = []

    def impact(culprits: Any) -> tuple[Impact, ...]:
        asked.extend(c.record.index for c in culprits)
        return (Impact("y", WRONG, 1.0, left=7.0),)

    monkeypatch.setattr(localizing, "behind_nan", lambda evidence, culprits: list(hidden))
    monkeypatch.setattr(localizing, "search_beside", lambda evidence, confirmed: beside)
    evidence: Any = SimpleNamespace(first=compared(differs=differs), unchanged=unchanged, impact_on_outputs=impact)
    left, certified = stages()._settled(evidence, Confirmed(findings, {}))
    return left, certified, asked


SURE = Findings((culprit(2),), EXPLAINED, ("Before.",))
ANEW = (Impact("y", WRONG, 1.0, left=7.0),)


def test_what_is_certified_is_left_with_what_hides_behind_its_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(monkeypatch, SURE) == (SURE, True, [])
    early = culprit(1, certified=False)
    left, certified, asked = settled(monkeypatch, SURE, hidden=(early,))
    assert (left.culprits, certified, asked) == ((early, culprit(2)), False, [])  # by their place


def test_where_runs_differ_those_stand_that_were_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = culprit(1, certified=False), culprit(2, certified=False, isolated=True)
    left, certified, asked = settled(monkeypatch, replace(SURE, culprits=pair), differs="'y'")
    assert (left, certified, asked) == (Findings(pair[1:], ANEW, ("Before.",)), False, [2])
    every = replace(SURE, culprits=pair[1:])
    assert settled(monkeypatch, every, differs="'y'") == (every, False, [])


def test_what_is_in_doubt_is_searched_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Findings((culprit(3),), EXPLAINED, ("Before.", "After."))
    left, certified, asked = settled(monkeypatch, SURE, unchanged=False, beside=beside)
    assert (left, certified, asked) == (replace(beside, explained=ANEW), False, [3])
    same = replace(SURE, notes=("Before.", "After."))
    assert settled(monkeypatch, SURE, unchanged=False, beside=same) == (same, False, [])


def test_where_nobody_was_accused_it_is_said_before_what_windows_say(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Findings(notes=("Before.",))
    left, _, _ = settled(monkeypatch, nobody, beside=Findings(notes=("Before.", "After.")))
    said = "The outputs are wrong, but no op that could be read is: the fault hides from the taps."
    assert left.notes == ("Before.", said, "After.")


def test_taps_that_their_readers_disprove_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    read = frozenset(MADE)
    look = Recheck([record(i) for i in range(4)], {record(2): "A doubt."}, read)
    judged: list[Any] = []

    def judge_again(readings: Any) -> list[OpRecord]:
        judged.extend(readings)
        return [record(r.op, "fine", "copy" if r.from_output is None else "output") for r in readings]

    local: Any = SimpleNamespace(judge=judge_again)
    monkeypatch.setattr(localizing, "contradicted_taps", lambda *given: frozenset())
    assert stages()._believed(local, look) == (look, [])
    monkeypatch.setattr(localizing, "contradicted_taps", lambda *given: frozenset({MADE[1]}))
    again, notes = stages()._believed(local, look)
    assert [(r.op, r.ops) for r in judged] == [(2, (1, 2))]  # what reads it, together with what made it
    assert (again.doubts, again.read) == (look.doubts, read - {MADE[1]})
    assert again.records == [record(0), record(3), record(2, "fine")]
    name = MODEL.graph().tensors[MADE[1]].name
    assert notes == [f"Both taps of '{name}' show it wrong, and all that reads it is right: the taps are not believed."]


@pytest.mark.parametrize(
    ("alone", "left"),
    [({}, [1, 2]), ({1: WRONG}, [2]), ({1: RIGHT}, [1, 2]), ({1: WRONG, 2: WRONG}, [])],
)
def test_where_nan_spreads_a_suspect_that_fails_alone_needs_no_second_tap(
    alone: dict[int, Any], left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = plan(MODEL.graph(), frozenset(MADE))
    records = [record(0, "fine"), record(1), record(2), record(3, "fine"), record(3, "fine", "output")]
    asked: list[int] = []

    def ask(wanted: Any) -> dict[OpRecord, Any]:
        asked.extend(sorted(r.index for r in wanted))
        return {r: alone[r.index] for r in wanted if r.index in alone}

    local: Any = SimpleNamespace(store=None, beyond=frozenset())
    isolation: Any = SimpleNamespace(ask=ask)
    monkeypatch.setattr(localizing, "contaminated", lambda case, store, given, beyond: [r for r in given if r.op == 3])
    found = stages()._not_proven(local, isolation, records, readings)
    assert [r.index for r in found] == left
    assert asked == [1, 2, 3, 3]
    monkeypatch.setattr(localizing, "contaminated", lambda *given: [])
    asked.clear()
    assert [r.index for r in stages()._not_proven(local, isolation, records, readings)] == [1, 2]
    assert asked == []


def look_again(monkeypatch: pytest.MonkeyPatch, doubts: list[dict[Any, str]], differs: str) -> tuple[Any, list[int]]:
    warmups: list[int] = []

    def recheck(*given: Any) -> Any:
        warmups.append(given[7])
        return SimpleNamespace(doubts=doubts.pop(0))

    monkeypatch.setattr(localizing, "recheck_suspects", recheck)
    monkeypatch.setattr(_Localizer, "_not_proven", lambda *given: [])
    first: Any = SimpleNamespace(differs=differs, done=SimpleNamespace(runtime="2.3.0"))
    nothing: Any = None
    return stages()._look_again(first, nothing, nothing, [], [], frozenset()), warmups


def test_of_runs_that_differ_suspects_are_read_until_the_fault_shows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    doubt = {"suspect": "A doubt."}
    assert look_again(monkeypatch, [doubt, {}], "")[1] == [0]
    assert look_again(monkeypatch, [doubt, doubt, {}, doubt], "'y'")[1] == [0, 1, 0]
    assert look_again(monkeypatch, [{}], "'y'")[1] == [0]
    assert look_again(monkeypatch, [doubt] * 9, "'y'")[1] == [0, 1, 0, 1, 0, 1]


def test_what_an_answer_took_is_what_its_device_did_since(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    clock = SimpleNamespace(monotonic=iter([1000.0, 1007.5]).__next__)
    monkeypatch.setattr("harness.localize.find.localizer.time", clock)
    found = stages()
    found.bench.device.compiles, found.bench.device.runs = 3, 5
    found.compiles, found.runs = 1, 2
    tensors = SimpleNamespace(keep_only=kept.append)
    bench: Any = SimpleNamespace(**{**vars(found.bench), "run": SimpleNamespace(tensors=tensors)})
    found.bench = bench
    monkeypatch.setattr(localizing, "write_rows", lambda run, records: records)
    done = SimpleNamespace(runtime="2.3.0", adapter="Adreno", residency=Residency(True))
    first: Any = SimpleNamespace(done=done, outputs=OUTPUTS, notes=("First.",), differs="'y'", half=False)
    outcome = _Outcome("culprits", SURE, True, [record(2), record(0, "fine")])
    answer = found._localization(first, outcome)
    assert (answer.device_compiles, answer.device_runs, answer.certified, answer.status) == (2, 3, True, "culprits")
    assert [r.index for r in answer.records] == [0, 2]
    assert answer.notes == ("First.", "Before.")
    assert answer.device == {"name": "phone", "runtime": "2.3.0", "gpu": "Adreno"}
    assert (answer.differs, answer.half, answer.explained, answer.culprits) == ("'y'", False, EXPLAINED, SURE.culprits)
    assert (answer.model.path, answer.model.ops) == ("", 4)
    assert kept == [["output-y", "0001-EXP", "0002-ABS"]]
    assert answer.seconds == 7.5
