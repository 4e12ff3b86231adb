"""Which culprits are explained together, which rewrites are tried together, and what is told on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from harness.core.choices import Accelerator
from harness.core.errors import DeviceError, HarnessError, UnresolvedError, UsageError
from harness.localize.base.result import Culprit, OutputVerdict, Remedy
from harness.localize.explain import explainer
from harness.localize.explain.classify import Symptoms
from harness.localize.explain.explainer import _Explainer, explain
from harness.localize.explain.investigate import Group, Investigator
from harness.localize.explain.remedy_trials import TrialPlan
from harness.localize.probe.experiment import Observation
from harness.numerics.usefulness import Shortfall
from harness.remedies.catalogue import Rewrite
from harness.remedies.cause import Cause
from harness.remedies.options import FLOAT32, LONG_SUMS, OtherOptions
from tests.localize.explains import MODEL, OPS, A, B, C, D, Explains, culprit, judged


class TestGroups:
    def test_culprits_alike_in_op_shapes_and_cause_are_explained_together_the_worst_first(self) -> None:
        one, two, three, four = OPS[:4]
        explains = Explains(culprit(one, 40), culprit(two, 90), culprit(three, 50), culprit(four, 80))
        assert [group.members for group in explains._groups()] == [[2, 0], [1, 3]]

    def test_one_without_a_judgement_comes_last_and_equal_ones_stay_in_order(self) -> None:
        explains = Explains(culprit(OPS[0], None), culprit(OPS[2], 40))
        assert [group.members for group in explains._groups()] == [[1, 0]]
        assert [explains._ratio(each) for each in explains.culprits] == [0.0, 40.0]
        assert [g.members for g in Explains(culprit(OPS[0], 40), culprit(OPS[2], 40))._groups()] == [[0, 1]]

    @pytest.mark.parametrize(
        "other",
        [
            culprit(OPS[1]),  # another op
            culprit(OPS[4]),  # on another shape
            culprit(OPS[2], cause="rounding"),
            culprit(OPS[2], first=OPS[1]),  # a run of two ops
        ],
    )
    def test_those_that_differ_are_explained_apart(self, other: Culprit) -> None:
        assert [group.members for group in Explains(culprit(OPS[0]), other)._groups()] == [[0], [1]]

    @pytest.mark.parametrize(
        ("most", "note"),
        [
            (1, ["2 kinds of culprit are left unexplained."]),
            (2, ["1 kind of culprit is left unexplained."]),
            (3, []),
            (4, []),
        ],
    )
    def test_no_more_groups_are_explained_than_allowed(
        self, most: int, note: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(explainer, "MOST_GROUPS", most)
        explains = Explains(culprit(OPS[0]), culprit(OPS[1]), culprit(OPS[4]))
        done: list[tuple[str, list[int]]] = []
        monkeypatch.setattr(Investigator, "investigate", lambda self, group: done.append(("ask", group.members)))
        for step in ("_conclude", "_reproduce"):
            monkeypatch.setattr(explains, step, lambda group, step=step: done.append((step, group.members)))
        remedies: list[int] = []
        monkeypatch.setattr(explains, "_try_remedies", lambda groups: remedies.append(len(groups)))
        explains.explain()
        assert explains.notes == note
        asked = range(min(most, 3))
        assert done == [(step, [i]) for i in asked for step in ("ask", "_conclude", "_reproduce")]
        assert explains.progress.told == [
            (f"{('ABS', 'NEG', 'ABS')[i]} #{OPS[(0, 1, 4)[i]]}: experiments", 8.0) for i in asked
        ]
        assert remedies == [3]


def group(members: list[int], *mending: Rewrite) -> Group:
    return Group(members, local=[(each, Observation("right")) for each in mending])


def made_by(*ops: int) -> tuple[int, ...]:
    return tuple(MODEL.graph().ops[o].outputs[0] for o in ops)


class TestPlans:
    EXPLAINS = (culprit(OPS[0]), culprit(OPS[1]), culprit(OPS[2]), culprit(OPS[3]))

    def plans(self, *groups: Group) -> tuple[list[TrialPlan], list[str]]:
        explains = Explains(*self.EXPLAINS)
        return explains._plans(groups), explains.notes

    def test_where_nothing_helped_there_is_no_plan_and_nothing_to_say(self) -> None:
        assert self.plans(group([0]), group([1])) == ([], [])
        assert self.plans() == ([], [])

    def test_each_rewrite_of_one_group_is_a_plan_up_to_three(self) -> None:
        tensors = made_by(OPS[0], OPS[2])
        found, notes = self.plans(group([2, 0], A, B, C, D))
        assert found == [TrialPlan(((each, tensors),)) for each in (A, B, C)]
        assert notes == []

    def test_the_ith_rewrites_go_together_and_those_of_the_first_plan_alone_too(self) -> None:
        one, two = made_by(OPS[0]), made_by(OPS[1])
        found, notes = self.plans(group([0], A, B), group([1], C))
        assert found == [
            TrialPlan(((A, one), (C, two))),
            TrialPlan(((B, one), (C, two))),
            TrialPlan(((A, one),)),
            TrialPlan(((C, two),)),
        ]
        assert notes == []

    def test_one_rewrite_of_several_groups_is_one_step(self) -> None:
        found, _ = self.plans(group([0], A), group([1], A))
        assert found == [TrialPlan(((A, made_by(OPS[0], OPS[1])),))]

    def test_more_kinds_than_three_are_not_tried_alone(self) -> None:
        found, _ = self.plans(group([0], A), group([1], B), group([2], C), group([3], D))
        assert found == [TrialPlan(tuple((each, made_by(OPS[i])) for i, each in enumerate((A, B, C, D))))]
        found, _ = self.plans(group([0], A), group([1], B), group([2], C))
        assert [len(plan.steps) for plan in found] == [3, 1, 1, 1]

    def test_groups_that_nothing_helps_are_named(self) -> None:
        found, notes = self.plans(group([0], A), group([1, 3]), group([2]))
        assert found == [TrialPlan(((A, made_by(OPS[0])),))]
        assert notes == [
            f"No rewrite was found for NEG #{OPS[1]}, NEG #{OPS[3]}, ABS #{OPS[2]}; remedies leave that as it is."
        ]


def remedy(name: str, run_ms: float | None = 1.0) -> Remedy:
    return Remedy(name, 1.0, 0.0, 1.0, 1.0, run_ms, True)


class Tries:
    """The whole model, on which every plan is a remedy but those of B, which was tried before, and D, which does not
    run."""

    def __init__(self, run_ms: float | None) -> None:
        self.run_ms, self.ops = run_ms, frozenset[int]()

    def untouched(self) -> float | None:
        return self.run_ms

    def rewritten(self, plan: TrialPlan) -> Remedy | None:
        return None if plan.name == "B" else remedy(plan.name, None if plan.name == "D" else 1.0)

    def with_options(self, other: OtherOptions) -> Remedy:
        return remedy(other.name)

    def on_cpu(self, ops: frozenset[int]) -> Remedy:
        self.ops = ops
        return remedy("on the CPU")


class TestRemedies:
    @staticmethod
    def tried(
        explains: Explains, run_ms: float | None, act: Callable[[], None]
    ) -> tuple[list[str], list[tuple[str, float]]]:
        explains.whole = Tries(run_ms)  # type: ignore[assignment]
        act()
        first, *others = explains.culprits
        assert all(other.remedies == first.remedies for other in others)
        return sorted(remedy.name for remedy in first.remedies), explains.progress.told

    @pytest.mark.parametrize(("run_ms", "guess"), [(500.0, 7.0), (None, 5.0)])
    def test_each_is_announced_with_four_times_the_models_own_time(self, run_ms: float | None, guess: float) -> None:
        explains = Explains(culprit(OPS[0]), culprit(OPS[1]))
        groups = [group([0], A, B), group([1], A, B)]
        names, told = self.tried(explains, run_ms, lambda: explains._try_remedies(groups))
        assert names == ["A", FLOAT32.name, "on the CPU"]
        assert told == [
            ("the untouched model, timed", 10.0),
            ("remedy: A", guess),
            ("remedy: B", guess),
            (f"remedy: {FLOAT32.name}", guess),
            ("remedy: the culprits on the CPU", guess),
        ]
        assert explains.run_ms == run_ms
        assert cast(Tries, explains.whole).ops == {OPS[0], OPS[1]}

    def test_the_cpu_is_not_helped_by_itself_nor_float32_by_float32(self) -> None:
        explains = Explains(culprit(OPS[0]), accelerator="cpu")
        assert self.tried(explains, 1.0, lambda: explains._try_remedies([group([0], A)]))[0] == ["A"]
        explains = Explains(culprit(OPS[0]), precision="fp32")
        assert self.tried(explains, 1.0, lambda: explains._try_remedies([group([0], A)]))[0] == ["A", "on the CPU"]

    @pytest.mark.parametrize("asked", [True, False])
    def test_float32_sums_are_tried_where_they_were_asked_of_a_culprit(self, asked: bool) -> None:
        sums = Observation("right") if asked else None
        findings = Symptoms("ABS", True, Cause.KERNEL, long_sums=sums)
        explains = Explains(culprit(OPS[0]), culprit(OPS[1]))
        groups = [Group([0]), Group([1], findings=findings)]
        names, _ = self.tried(explains, 1.0, lambda: explains._try_remedies(groups))
        assert (LONG_SUMS.name in names) is asked

    @pytest.mark.parametrize(("accelerator", "cpu"), [("gpu", True), ("cpu", False)])
    def test_for_lost_digits_those_rewrites_are_kept_that_ran(
        self, accelerator: Accelerator, cpu: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(explainer, "KEEP_DIGITS", (A, B, D))
        one, two = (replace(culprit(op), window=(op,)) for op in OPS[:2])
        explains = Explains(one, two, one, accelerator=accelerator)
        names, told = self.tried(explains, 500.0, explains.keep_digits)
        options = [FLOAT32.name] if cpu else []
        assert names == ["A", *options, *(["on the CPU"] if cpu else [])]
        assert told[:4] == [("the untouched model, timed", 10.0), *((f"remedy: {name}", 7.0) for name in "ABD")]
        if cpu:
            assert told[-1] == ("remedy: the ops that lose the digits on the CPU", 7.0)
            assert cast(Tries, explains.whole).ops == {OPS[0], OPS[1]}


@pytest.mark.parametrize(
    "error", [DeviceError("the phone is gone", ""), UsageError("it is odd", ""), UnresolvedError("who knows", "")]
)
def test_trouble_on_the_way_is_a_note_and_leaves_no_scratch(
    error: HarnessError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(self: _Explainer, scratch: Path) -> None:
        scratch.mkdir()
        self.bench.device.compiles += 3
        self.bench.device.runs += 5
        raise error

    monkeypatch.setattr(_Explainer, "prepare", prepare)
    explains = Explains(culprit(OPS[0]), folder=tmp_path)
    bench, answer = explains.bench, replace(explains.answer, notes=("before",))
    bench.device.compiles, bench.device.runs = 10, 20
    found = explain(bench, explains.case, answer)
    assert found.notes == ("before", f"Explaining the culprits ended early: {error.message}")
    assert found.culprits == answer.culprits
    assert found.explanation is not None
    assert (found.explanation.device_compiles, found.explanation.device_runs) == (3, 5)
    assert 0 <= found.explanation.seconds < 60
    assert list(tmp_path.iterdir()) == []


def test_outputs_of_no_use_are_excused_unless_they_are_all_that_is_wrong(tmp_path: Path) -> None:
    shortfall = (Shortfall("spread", 0.5, 0.1),)
    useless = OutputVerdict("useless", judged(1), 1.0, shortfalls=shortfall)
    fine, wrong = OutputVerdict("fine", judged(1), 1.0), OutputVerdict("wrong", judged(99), 1.0)
    explains = Explains(culprit(OPS[0]), folder=tmp_path)
    answer = explains.answer
    for outputs, excused in (((useless, fine, wrong), {"useless"}), ((useless, fine), set())):
        told = replace(answer, outputs=outputs)
        assert _Explainer(explains.bench, explains.case, told).excused == excused
    assert not _Explainer(explains.bench, explains.case, answer).unsteady
    assert _Explainer(explains.bench, explains.case, replace(answer, differs="y by 1")).unsteady
