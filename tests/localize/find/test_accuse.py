"""Which suspects are blamed: what is over its limit, and what does harm; not what leaves float16's range without."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.job import Completed, Options, Residency
from harness.core.progress import SILENT
from harness.graph.build import GraphBuilder
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Impact
from harness.localize.find import accuse as accusing
from harness.localize.find.accuse import MOST_TRIED, Evidence, accuse, behind_nan, culprit_of, suspects
from harness.localize.find.findings import Findings
from harness.localize.find.recheck import Recheck
from harness.localize.probe.local_error import Reading
from harness.numerics.fp16 import SMALLEST_NORMAL, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, Judgement, judge
from harness.remedies.cause import Cause
from tests.arrays import f32, normal
from tests.chains import chain
from tests.localize.attention import Localize
from tests.localize.planted import SHIFTED, Half

EXACT = normal((1024,), 1)
SIZE = float(np.sqrt(np.mean(EXACT.astype(np.float64) ** 2)))
MODEL = chain("TANH", "EXP", "ABS", shape=EXACT.shape)
MADE = [op.outputs[0] for op in MODEL.graph().ops]


def judged(actual: Any, factor: float = LOCAL_FACTOR) -> Judgement:
    return judge(compare(actual, EXACT, SMALLEST_NORMAL), compare(EXACT, EXACT), roundoff=UNIT_ROUNDOFF, factor=factor)


def off(roundings: float) -> Judgement:
    return judged(EXACT + f32(roundings * UNIT_ROUNDOFF * SIZE))


def flushed() -> Judgement:
    exact = EXACT.copy()
    exact[:9] = 1e-6
    lost = exact.copy()
    lost[:9] = 0
    return judge(
        compare(lost, exact, SMALLEST_NORMAL), compare(exact, exact), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR
    )


def infinite() -> Judgement:
    values = EXACT.copy()
    values[0] = np.inf
    return judged(values)


def record(op: int, local: Judgement | None, verdict: Any = "fine", reading: Any = "copy") -> OpRecord:
    return OpRecord(
        op, MODEL.graph().ops[op].name, op, "y", MADE[op], EXACT.shape, "float32", verdict, local, 0, 1, reading
    )


OVER, NEAR, FAR = off(40), off(20), off(2)


def test_suspects_are_what_is_over_its_limit_one_for_each_tensor_as_ops_read_it() -> None:
    assert FACTOR < NEAR.ratio < LOCAL_FACTOR < OVER.ratio
    as_given, as_read = record(1, OVER, "culprit", "output"), record(1, OVER, "culprit")
    early, near = record(0, OVER, "culprit"), record(2, NEAR)
    assert suspects([near, as_read, as_given, early]) == [early, as_read]
    assert suspects([as_given, record(1, FAR), near]) == [as_given]


def test_without_one_they_are_what_lost_values_or_came_near_its_limit() -> None:
    lost, near, far = record(0, flushed()), record(1, NEAR), record(2, FAR)
    assert suspects([near, far, lost]) == [lost, near]
    assert suspects([far, record(0, None)]) == []


def test_of_those_no_more_are_tried_than_one_can_wait_for() -> None:
    many = [replace(record(0, NEAR), index=i, tensor=i) for i in range(MOST_TRIED + 5)]
    assert suspects(many) == many[:MOST_TRIED]
    over = [replace(r, verdict="culprit") for r in many]
    assert suspects(over) == over


class Probe:
    """Says of each op whether its error does harm, and keeps which were asked on an ideal device too."""

    def __init__(self, harmful: set[int]) -> None:
        self.harmful, self.spread = harmful, set[int]()

    def of_one(self, reading: Reading, *, spreads: bool = False) -> tuple[Impact, ...]:
        if spreads:
            self.spread.add(reading.op)
        return (Impact("y", OVER if reading.op in self.harmful else FAR, 1.0),)

    def impact_on_outputs(self, readings: list[Reading], outputs: Any, known: tuple[Impact, ...]) -> tuple[Impact, ...]:
        return (Impact("y", OVER, 1.0, left=len(readings)),)


def accused(
    records: list[OpRecord],
    harmful: set[int],
    monkeypatch: pytest.MonkeyPatch,
    *,
    beyond: Collection[int] = (),
    doubts: dict[OpRecord, str] | None = None,
    unchanged: bool = True,
) -> tuple[Findings, list[OpRecord], Probe]:
    """What is found where the errors of these ops do harm; `beyond` are ops whose exact results leave the range."""
    probe = Probe(harmful)
    monkeypatch.setattr(accusing, "ImpactProbe", lambda local, ideal: probe)
    case = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60)
    done = Completed({}, Residency(True), (), 1, True, "2.3.0", "in process", "")
    first: Any = SimpleNamespace(done=done, ideal={}, outputs=(), beyond=frozenset(MADE[op] for op in beyond))
    local: Any = SimpleNamespace(case=case)
    bench: Any = SimpleNamespace(progress=SILENT, host=SimpleNamespace(stop=lambda: None))
    isolation: Any = SimpleNamespace(answers={})
    look = Recheck(records, doubts or {}, frozenset(MADE))
    findings, after = accuse(Evidence(bench, first, local, isolation, look, unchanged))
    return findings, after, probe


@pytest.mark.parametrize(
    ("verdict", "ranged", "harmful", "blamed", "cleared"),
    [
        ("culprit", False, True, True, False),
        ("culprit", False, False, True, False),  # its own arithmetic does not explain it, whoever feels it
        ("culprit", True, True, True, False),
        ("culprit", True, False, False, True),
        ("fine", False, True, True, False),
        ("fine", False, False, False, False),
        ("fine", True, False, False, False),
    ],
)
def test_a_suspect_is_blamed_for_harm_or_for_what_nothing_explains(
    verdict: str, ranged: bool, harmful: bool, blamed: bool, cleared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect = record(1, OVER if verdict == "culprit" else NEAR, verdict)
    records = [record(0, FAR), suspect, record(2, FAR)]
    findings, after, probe = accused(records, {1} if harmful else set(), monkeypatch, beyond={1} if ranged else set())
    assert [c.record.index for c in findings.culprits] == ([1] if blamed else [])
    assert [r.verdict for r in after] == ["fine", "culprit" if blamed else "fine", "fine"]
    assert findings.notes == (("1 op leaves float16's range without harm to any output.",) if cleared else ())
    assert probe.spread == ({1} if ranged and verdict == "culprit" else set())
    assert findings.explained == ((Impact("y", OVER, 1.0, left=1),) if blamed else ())


def test_infinity_where_the_exact_result_is_finite_leaves_the_range_too(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(0, infinite(), "culprit"), record(1, infinite(), "culprit"), record(2, FAR)]
    findings, after, _ = accused(records, set(), monkeypatch)
    assert findings.culprits == ()
    assert findings.notes == ("2 ops leave float16's range without harm to any output.",)
    assert {r.verdict for r in after} == {"fine"}


@pytest.mark.parametrize(
    ("doubt", "unchanged", "certified"),
    [("", True, True), ("", False, False), ("A direct tap reads differently.", True, False)],
)
def test_a_culprit_is_certified_where_no_doubt_is_left(
    doubt: str, unchanged: bool, certified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect = record(1, OVER, "culprit")
    findings, _, _ = accused([suspect], {1}, monkeypatch, doubts={suspect: doubt} if doubt else {}, unchanged=unchanged)
    (culprit,) = findings.culprits
    assert (culprit.certified, culprit.note, culprit.isolated) == (certified, doubt, False)


def test_all_guilty_ones_are_felt_together(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(i, OVER, "culprit") for i in range(3)]
    findings, _, _ = accused(records, {0, 2}, monkeypatch)
    assert [c.record.index for c in findings.culprits] == [0, 1, 2]
    assert [i.left for i in findings.explained] == [3]


def test_nobody_is_accused_where_nobody_is_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(i, FAR) for i in range(3)]
    findings, after, _ = accused(records, {0, 1, 2}, monkeypatch)
    assert (findings, after) == (Findings(), records)


SAID = "Validation error: Dispatch workgroup count X (70000) exceeds max compute workgroups per dimension (65535).\n"


@pytest.mark.parametrize(
    ("size", "log", "half", "fed", "cause"),
    [
        (2049, SAID, True, 1.0, "limits"),
        (2048, SAID, True, 1.0, "kernel"),  # too small for a limit of any device
        (2049, "", True, 1.0, "kernel"),
        (2049, SAID, True, 1e5, "overflow"),
        (2049, SAID, False, 1e5, "limits"),
    ],
)
def test_the_cause_is_what_the_figures_the_log_and_the_inputs_say(
    size: int, log: str, half: bool, fed: float, cause: str
) -> None:
    """Of an op that gave zeros alone."""
    model = chain("TANH", shape=(size,))
    case = Case(model, {"x": f32([fed] * size)}, Options("gpu", precision="default" if half else "fp32"), timeout=60)
    first: Any = SimpleNamespace(done=Completed({}, Residency(True), (), 1, True, "2.3.0", "in process", log))
    nothing: Any = None
    local: Any = SimpleNamespace(case=case)
    known = Evidence(nothing, first, local, nothing, nothing, True)
    suspect = replace(record(0, judged(np.zeros_like(EXACT)), "culprit"), shape=(size,))
    assert culprit_of(known, suspect, "", (), certified=True).cause == cause


@pytest.mark.parametrize(
    ("given", "made", "cause"),
    [
        ((2049, 1), (1,), "limits"),  # what it reads is large enough
        ((1,), (1, 2049), "limits"),  # or what it makes
        ((2048, 2048), (2048, 2048), "kernel"),  # by one side, not by all of them
        ((), (), "kernel"),
    ],
)
def test_a_limit_is_met_by_the_longest_side_of_what_an_op_reads_or_makes(
    given: tuple[int, ...], made: tuple[int, ...], cause: str
) -> None:
    tensors = (SimpleNamespace(shape=given), SimpleNamespace(shape=None), SimpleNamespace(shape=(4096,)))
    op = SimpleNamespace(index=0, inputs=(0, 1, -1), outputs=(2,))  # -1: an input that is left out
    case = SimpleNamespace(graph=SimpleNamespace(tensors=tensors, ops=[op], inputs=()), options=Options(), inputs={})
    done = Completed({}, Residency(True), (), 1, True, "2.3.0", "in process", SAID)
    known: Any = SimpleNamespace(local=SimpleNamespace(case=case), first=SimpleNamespace(done=done))
    suspect = replace(record(0, judged(np.zeros_like(EXACT))), shape=made)
    impact = (Impact("y", OVER, 1.0),)
    found = culprit_of(known, suspect, "A note.", impact, certified=False)
    convicted = replace(suspect, verdict="culprit")
    assert found == Culprit(convicted, Cause(cause), "all zeros", certified=False, note="A note.", impact=impact)


def test_what_one_culprit_does_is_known_and_what_several_do_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Impact, ...]] = []
    ask = Probe.impact_on_outputs

    def asked(self: Probe, readings: Any, outputs: Any, known: tuple[Impact, ...]) -> tuple[Impact, ...]:
        told.append(known)
        return ask(self, readings, outputs, known)

    monkeypatch.setattr(Probe, "impact_on_outputs", asked)
    accused([record(1, OVER, "culprit")], {1}, monkeypatch)
    accused([record(i, OVER, "culprit") for i in (0, 1)], {1}, monkeypatch)
    assert told == [(Impact("y", OVER, 1.0),), ()]


@pytest.mark.parametrize(("answer", "isolated"), [(None, False), (FAR, False), (OVER, True)])
def test_a_culprit_is_isolated_where_it_was_asked_alone_and_failed(
    answer: Judgement | None, isolated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accusing, "ImpactProbe", lambda local, ideal: Probe({1}))
    known, stopped = evidence([record(1, OVER, "culprit")])
    if answer is not None:
        known.isolation.answers[known.readings[MADE[1], True]] = answer
    (culprit,) = accuse(known)[0].culprits
    assert (culprit.isolated, len(stopped)) == (isolated, 1)


def evidence(records: list[OpRecord], found: Any = None) -> tuple[Evidence, list[str]]:
    """Of a chain of which every result was read; in isolation ops do what is `found`. And each stop of the host."""
    stopped: list[str] = []
    case = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60)
    done = Completed({}, Residency(True), (), 1, True, "2.3.0", "in process", "")
    bench: Any = SimpleNamespace(progress=SILENT, host=SimpleNamespace(stop=lambda: stopped.append("host")))
    first: Any = SimpleNamespace(done=done, ideal={"y": "ideals"}, outputs=("outputs",), beyond=frozenset())
    local: Any = SimpleNamespace(case=case, store="store", beyond="beyond")
    isolation: Any = SimpleNamespace(answers={}, ask=found)
    return Evidence(bench, first, local, isolation, Recheck(records, {}, frozenset(MADE)), True), stopped


def blamed(op: int, reading: Any = "copy") -> Culprit:
    return Culprit(record(op, OVER, "culprit", reading), Cause.KERNEL, None, certified=True)


def test_what_stands_is_felt_together_by_what_was_read_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known, stopped = evidence([])
    asked: list[Any] = []

    def felt(readings: Any, outputs: Any) -> tuple[Impact, ...]:
        asked.append((readings, outputs))
        return (Impact("y", OVER, 1.0),)

    probe = SimpleNamespace(impact_on_outputs=felt)
    monkeypatch.setattr(accusing, "ImpactProbe", lambda local, ideal: probe if ideal == {"y": "ideals"} else None)
    assert known.impact_on_outputs([]) == ()
    assert known.impact_on_outputs([blamed(0), blamed(1, "window")]) == ()  # nobody read the second one's error
    assert (asked, stopped) == ([], [])
    assert known.impact_on_outputs([blamed(0), blamed(2)]) == (Impact("y", OVER, 1.0),)
    ((readings, outputs),) = asked
    assert [(r.tensor, r.from_output) for r in readings] == [(MADE[0], None), (MADE[2], None)]
    assert (outputs, stopped) == (("outputs",), ["host"])


def test_without_a_tensor_that_is_not_believed_its_op_is_read_together_with_the_next() -> None:
    known, _ = evidence([])
    second, third = blamed(1), blamed(2)
    apart = known.readings_of([second, third])
    assert {r.index: reading.ops for r, reading in apart.items()} == {1: (1,), 2: (2,)}
    assert known.readings_of([third], without=frozenset({MADE[1]}))[third.record].ops == (1, 2)


class TestBehindNan:
    """TANH #0 is a culprit, and its NaN reaches ABS #2."""

    @staticmethod
    def hidden(
        monkeypatch: pytest.MonkeyPatch, alone: dict[int, Judgement], spoilt: Collection[int] = (1, 2)
    ) -> tuple[list[Culprit], list[int], list[int]]:
        """What is found, whom `contaminated` was asked of, and who was asked in isolation."""
        records = [record(0, OVER, "culprit"), record(1, FAR), record(2, FAR), record(2, FAR, "fine", "output")]
        considered: list[int] = []
        asked: list[int] = []

        def contaminated(case: Any, store: Any, readings: Any, beyond: Any) -> list[Reading]:
            assert (store, beyond) == ("store", "beyond")
            considered.extend(r.op for r in readings)
            return [r for r in readings if r.op in spoilt]

        def ask(readings: dict[OpRecord, Reading]) -> dict[OpRecord, Judgement]:
            asked.extend(r.index for r in readings)
            assert all(r.key == (reading.tensor, reading.from_output is None) for r, reading in readings.items())
            return {r: alone[r.index] for r in readings if r.index in alone}

        monkeypatch.setattr(accusing, "contaminated", contaminated)
        known, _ = evidence(records, ask)
        return behind_nan(known, [blamed(0)]), considered, asked

    def test_what_fails_alone_is_a_culprit_that_its_window_shows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found, considered, asked = self.hidden(monkeypatch, {1: OVER, 2: FAR})
        (culprit,) = found
        assert culprit.record == replace(record(1, OVER), verdict="culprit", reading="window")
        assert (culprit.certified, culprit.isolated, culprit.impact) == (False, True, ())
        assert culprit.note == (
            "Another culprit's NaN or infinity, or what became of it, came in; this op fails by itself."
        )
        assert considered == asked == [1, 2, 2]  # not the culprit itself

    def test_where_nothing_came_in_nobody_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.hidden(monkeypatch, {1: OVER, 2: OVER}, spoilt=()) == ([], [1, 2, 2], [])

    def test_ops_that_were_judged_as_one_are_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        considered: list[int] = []

        def contaminated(case: Any, store: Any, readings: Any, beyond: Any) -> list[Reading]:
            considered.extend(r.op for r in readings)
            return []

        monkeypatch.setattr(accusing, "contaminated", contaminated)
        known, _ = evidence([])
        known = replace(known, look=Recheck([], {}, frozenset(MADE[::2])))
        assert behind_nan(known, []) == []
        assert considered == [0]  # EXP #1 is read with ABS #2


def test_an_op_that_is_wrong_is_named_though_no_output_feels_it(find: Localize) -> None:
    """Beside another one that each output feels."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 64))
    quiet, loud = graph.unary("TANH", x), graph.unary("EXP", x)
    graph.output(graph.binary("ADD", graph.binary("MUL", quiet, graph.constant([1e-7])), loud), "y")
    model = graph.build()
    answer = find(Half(model, {quiet: SHIFTED, loud: SHIFTED}), model)
    assert [c.record.index for c in answer.culprits] == [0, 1]
