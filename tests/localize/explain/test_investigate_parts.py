"""What an investigation makes of what it was told: the tensors to compare with, the words for a limit, the rewrites
that mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import label_of
from harness.localize.base.result import Culprit, Trial
from harness.localize.explain import investigate
from harness.localize.explain.classify import Symptoms
from harness.localize.explain.investigate import Group, Investigator, _beyond, named_near_its_limit
from harness.localize.explain.limits import Limit
from harness.localize.probe.excess import Excess
from harness.localize.probe.experiment import Ending, Experiments, Observation, OutputComparison, Specimen
from harness.localize.probe.tensor_values import TensorValues
from harness.numerics.fp16 import UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, Judgement, judge
from harness.remedies.cause import Cause
from tests.arrays import f32
from tests.chains import chain
from tests.localize.explains import A, B, C, culprit, judged
from tests.localize.planted import InProcess


def seen(actual: Sequence[float], exact: Sequence[float], ending: Ending = "wrong") -> Observation:
    given, right = f32(actual), f32(exact)
    judgement = judge(compare(given, right), compare(right, right), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR)
    output = OutputComparison("y0", given, right, judgement)
    return Observation(ending, "", output, (output,))


def test_what_was_asked_is_kept_with_how_it_ended() -> None:
    group, wrong = Group([0]), seen([0], [1])
    assert group.note("alone", wrong) is wrong
    group.note("again", Observation("crash"))
    assert group.trials == [Trial("alone", "wrong", wrong.ratio), Trial("again", "crash", 0.0)]


def test_what_mends_are_rewrites_that_were_right_and_then_those_not_asked() -> None:
    local = [(A, Observation("right")), (B, Observation("wrong")), (C, Observation("refused"))]
    assert Group([0], local=local, unasked=[B]).mending == [A, B]


@pytest.mark.parametrize(
    ("observation", "made"),
    [
        (seen([0, 2], [1, 2]), False),
        (seen([9, 2], [1, 2]), True),
        (replace(seen([9, 2], [1, 2]), said=Excess("too much")), False),
        (seen([0, 2], [1, 2], "right"), True),
        (replace(seen([1, 2], [1, 2], "right"), said=Excess("too much")), True),
        (Observation("crash"), True),
    ],
)
def test_a_dispatch_was_not_made_where_all_that_is_wrong_is_zero_or_the_runtime_says_so(
    observation: Observation, made: bool
) -> None:
    assert Investigator._not_made(observation) is not made


def test_each_wrong_output_has_to_be_zero_where_it_is_wrong() -> None:
    zero, other, right = (seen(values, [1, 2]).outputs[0] for values in ([0, 2], [9, 2], [1, 2]))
    for outputs, made in (((zero, right), False), ((right, zero, zero), False), ((zero, other), True)):
        assert Investigator._not_made(Observation("wrong", "", zero, outputs)) is not made


FOUND = Symptoms("PAD", True, Cause.LIMITS)
LIMIT = Limit(5, 6, "elements", Specimen(chain("ABS"), {}))
SAID = Observation("wrong", said=Excess("too much"))


@pytest.mark.parametrize(
    ("looks", "findings", "words"),
    [
        ("all zeros", replace(FOUND, limit=LIMIT, failing=SAID), f"all zeros; {LIMIT}"),
        ("all zeros", replace(FOUND, failing=SAID), "all zeros; too much"),
        (None, replace(FOUND, failing=SAID), "too much"),
        ("all zeros", replace(FOUND, failing=Observation("wrong")), "all zeros"),
        ("all zeros", FOUND, "all zeros"),
        (None, FOUND, None),
    ],
)
def test_a_limit_is_told_by_its_size_or_in_the_runtimes_words(
    looks: str | None, findings: Symptoms, words: str | None
) -> None:
    assert _beyond(looks, findings) == words


def alone(ratio: float, ending: Ending = "right") -> Observation:
    output = OutputComparison("y0", f32([1]), f32([1]), judged(ratio))
    return Observation(ending, "", output, (output,))


@pytest.mark.parametrize(
    ("cause", "observation", "near"),
    [
        ("rounding", alone(20), True),
        ("accumulation", alone(20), True),
        ("kernel", alone(20), False),
        ("rounding", alone(16), False),
        ("rounding", alone(20, "impossible"), False),
        ("rounding", Observation("right"), False),
    ],
)
def test_digits_are_lost_near_the_limit_where_as_many_are_lost_alone(
    cause: str, observation: Observation, near: bool
) -> None:
    assert named_near_its_limit(culprit(0, 20, cause), observation) is near


def others(folder: Path) -> tuple[Investigator, Case]:
    """12 ABS in a row on [4], a SUM of all of it #12 of another size, ADD #13 of the first and the last ABS, NEG #14
    behind it."""
    graph = GraphBuilder()
    made = [graph.unary("ABS", graph.input("x", (4,)))]
    for _ in range(11):
        made.append(graph.unary("ABS", made[-1]))
    graph.output(graph.reduce("SUM", made[-1], 0), "s")
    graph.output(graph.unary("NEG", graph.binary("ADD", made[0], made[-1])), "y")
    model = graph.build()
    case = Case(model, {"x": f32([1, 2, 3, 4])}, Options(), timeout=60)
    store = TensorStore(folder)
    for op in model.graph().ops:
        if op.index != 9:
            t, shape = op.outputs[0], case.graph.tensors[op.outputs[0]].shape or ()
            store.put(label_of(case.graph, t), "reference", np.full(shape, op.index, np.float32), "t")
    known = TensorValues(case, store, store, {}, frozenset())
    return Investigator(Experiments(InProcess(), InProcess(), 60), known, []), case


@pytest.mark.parametrize(
    ("op", "ops"),
    [
        (13, [5, 6, 7, 8, 10, 4]),  # the last eight before it, but for what it reads (11) and what is not known (9)
        (3, [0, 1]),
        (0, []),
        (12, []),
    ],
)
def test_tensors_of_the_same_size_made_last_are_compared_with(tmp_path: Path, op: int, ops: list[int]) -> None:
    investigator, case = others(tmp_path)
    assert investigate.MOST_OTHERS == 8
    tensor = case.graph.tensors[case.graph.ops[op].outputs[0]]
    record = OpRecord(op, "ADD", op, tensor.name, tensor.index, tensor.shape or (), "float32", "culprit")
    found = investigator._others(Culprit(record, Cause.KERNEL, None, certified=True))
    assert sorted(int(values[0]) for values in found.values()) == sorted(ops)
    names = {case.graph.tensors[case.graph.ops[o].outputs[0]].name for o in ops}
    assert set(found) == names


def test_a_culprit_of_a_run_of_ops_consists_of_all_of_them(tmp_path: Path) -> None:
    investigator, case = others(tmp_path)
    tensor = case.graph.tensors[case.graph.ops[3].outputs[0]]
    record = OpRecord(3, "ABS", 1, tensor.name, tensor.index, (4,), "float32", "culprit", judgement())
    assert investigator.ops(Culprit(record, Cause.KERNEL, None, certified=True)) == {1, 2, 3}


def judgement() -> Judgement:
    return judged(99)
