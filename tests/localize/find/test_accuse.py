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
from harness.localize.base.result import Impact
from harness.localize.find import accuse as accusing
from harness.localize.find.accuse import MOST_TRIED, Evidence, accuse, culprit_of, suspects
from harness.localize.find.findings import Findings
from harness.localize.find.recheck import Recheck
from harness.localize.probe.local_error import Reading
from harness.numerics.fp16 import SMALLEST_NORMAL, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, Judgement, judge
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


def test_an_op_that_is_wrong_is_named_though_no_output_feels_it(find: Localize) -> None:
    """Beside another one that each output feels."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 64))
    quiet, loud = graph.unary("TANH", x), graph.unary("EXP", x)
    graph.output(graph.binary("ADD", graph.binary("MUL", quiet, graph.constant([1e-7])), loud), "y")
    model = graph.build()
    answer = find(Half(model, {quiet: SHIFTED, loud: SHIFTED}), model)
    assert [c.record.index for c in answer.culprits] == [0, 1]
