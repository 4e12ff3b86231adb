"""What a reproducer has to show: the failure of the culprit, by as much, each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from harness.core.job import Options
from harness.localize.base.result import Culprit, Trial
from harness.localize.explain import explainer
from harness.localize.explain.classify import Symptoms
from harness.localize.explain.explainer import _ending
from harness.localize.explain.investigate import Group
from harness.localize.explain.limits import Limit
from harness.localize.explain.reproducer import Circumstances
from harness.localize.explain.shrink import Shrunk
from harness.localize.probe.excess import Excess
from harness.localize.probe.experiment import (
    UNSTEADY_RUNS,
    Ending,
    Experiments,
    Observation,
    OutputComparison,
    Specimen,
)
from harness.localize.probe.subgraph import Subgraph
from harness.remedies.cause import Cause
from tests.arrays import f32
from tests.chains import chain
from tests.localize.explains import OPS, A, Explains, culprit, judged


def seen(ending: Ending, ratio: float | None = None, *, same: bool = True) -> Observation:
    if ratio is None:
        return Observation(ending, "why", repeatable=same)
    worst = OutputComparison("y0", f32([2]), f32([1]), judged(ratio))
    return Observation(ending, "", worst, (worst,), same)


class Reproduces:
    """What comes of reproducing one culprit: `answers` by name of the first op of what is asked, in float16 and in
    float32; what was written."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        first: Observation,
        answers: dict[str, Observation],
        single: dict[str, Observation] | None = None,
        smaller: str = "ABS",
        limit: Limit | None = None,
        cause: str = "kernel",
        blamed: Culprit | None = None,
    ) -> None:
        self.asked: list[tuple[str, int, str]] = []
        self.written: list[tuple[Path, str, Circumstances]] = []
        self.begun: list[str] = []
        self.fails: Callable[[Specimen], bool] = lambda specimen: False
        self.explains = Explains(blamed or culprit(OPS[0], cause=cause), folder=Path("here"))

        def observe(it: Experiments, specimen: Specimen, options: Options, *, runs: int = 1) -> Observation:
            name = kind(specimen)
            self.asked.append((name, runs, options.precision))
            return ((single or {}) if options.precision == "fp32" else answers)[name]

        def shrink(experiments: Experiments, begin: Specimen, fails: Callable[[Specimen], bool]) -> Shrunk:
            self.begun.append(kind(begin))
            self.fails = fails
            return Shrunk(of(smaller))

        def write(
            folder: Path, shrunk: Shrunk, exact: Any, found: Observation, about: Circumstances, allowed: Any
        ) -> None:
            assert allowed is None  # asked where a limit of the device is exceeded
            self.written.append((folder, kind(shrunk.specimen), about))

        monkeypatch.setattr(Experiments, "observe", observe)
        monkeypatch.setattr(Experiments, "truth", lambda *_: ({}, {}))
        monkeypatch.setattr(explainer, "shrink", shrink)
        monkeypatch.setattr(explainer, "write_reproducer", write)
        right = None if single is None else seen("right")
        findings = Symptoms("ABS", True, Cause(cause), failing=first, alone=True, single=right, limit=limit)
        part = Subgraph(of("EXP"), {OPS[0]: 0}, (), ())
        trials = [Trial("alone", "wrong", 50.0)]
        self.explains._reproduce(Group([0], findings, part, trials=trials, local=[(A, seen("right"))]))


def of(name: str) -> Specimen:
    return Specimen(chain(*name.split()), {})


def kind(specimen: Specimen) -> str:
    return " ".join(op.name for op in specimen.model.graph().ops)


class TestReproduce:
    def test_what_still_fails_is_written_with_how_it_was_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = Reproduces(monkeypatch, seen("wrong", 100), {"ABS": seen("wrong", 100)})
        folder = Path("here") / "reproducers" / f"{OPS[0]:04d}-ABS"
        about = Circumstances(
            Cause.KERNEL, None, "phone", "Mali", "2.3.0", Options("gpu", precision="fp16"),
            [("alone", "wrong, 50x")], [("A", "right")],
        )  # fmt: skip
        ((*where, said),) = found.written
        assert [*where, replace(said, known=None)] == [folder, "ABS", about]
        assert said.known is not None and said.known.sentence.startswith("Not known")
        assert found.explains.culprits[0].reproducer == str(folder)
        assert found.begun == ["EXP"]
        assert found.asked == [("ABS", 1, "fp16")]
        assert found.explains.progress.told == [(f"ABS #{OPS[0]}: the smallest that fails", 12.0)]
        assert found.explains.notes == []

    @pytest.mark.parametrize(
        ("first", "again", "fails"),
        [
            (100, 63.9, False),
            (100, 64, True),  # twice an op's limit
            (50, 49.9, False),  # or as much as the culprit
            (50, 50, True),
        ],
    )
    def test_a_smaller_one_fails_by_twice_the_limit_or_as_much_as_the_culprit(
        self, first: float, again: float, fails: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = {"ABS": seen("wrong", again), "NEG": seen("wrong", again), "ABS NEG": seen("wrong", again)}
        found = Reproduces(monkeypatch, seen("wrong", first), answers)
        assert found.fails(of("ABS")) is fails
        assert found.fails(of("ABS NEG")) is fails
        assert not found.fails(of("NEG"))  # the culprit is not in it

    def test_of_a_run_of_ops_none_has_to_be_in_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        blamed = culprit(OPS[2], first=OPS[1])
        answers = {"ABS": seen("wrong", 99), "EXP": seen("wrong", 99)}
        found = Reproduces(monkeypatch, seen("wrong", 99), answers, blamed=blamed)
        assert found.fails(of("EXP"))
        assert found.written[0][0].name == f"{OPS[1]:04d}-{OPS[2]:04d}"

    def test_a_smaller_one_that_ends_otherwise_does_not_fail_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = {
            "ABS": seen("crash"),
            "ABS NEG": seen("hang"),
            "ABS ABS": seen("wrong", 99),
            "NEG ABS": seen("right"),
        }
        found = Reproduces(monkeypatch, seen("crash"), answers)
        assert [found.fails(of(name)) for name in answers] == [True, False, False, False]
        assert len(found.written) == 1

    def test_what_differs_each_time_has_to_do_so_in_four_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = {"ABS": seen("right", 1, same=False), "NEG": seen("wrong", 99)}
        found = Reproduces(monkeypatch, seen("right", 1, same=False), answers)
        assert [found.fails(of(name)) for name in answers] == [True, False]
        assert {runs for _, runs, _ in found.asked} == {UNSTEADY_RUNS}
        assert len(found.written) == 1

    def test_one_that_float32_gets_wrong_where_it_got_the_whole_right_is_another_fault(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = {"ABS": seen("wrong", 99), "EXP": seen("wrong", 99)}
        for ending, written in (("wrong", "EXP"), ("right", "ABS")):
            single = {"ABS": seen(cast(Ending, ending), 99)}
            found = Reproduces(monkeypatch, seen("wrong", 99), answers, single)
            assert [kind for _, kind, _ in found.written] == [written]
            assert found.asked == [("ABS", 1, "fp32"), (written, 1, "fp16")]

    def test_where_it_is_right_in_the_end_nothing_is_written_and_that_is_said(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = Reproduces(monkeypatch, seen("wrong", 99), {"ABS": seen("right", 1)})
        assert found.written == []
        assert found.explains.notes == [f"ABS #{OPS[0]} does not fail each time it is run alone."]
        assert found.explains.culprits[0].reproducer is None

    @pytest.mark.parametrize(("cause", "begun"), [("limits", "TANH"), ("kernel", "EXP")])
    def test_that_of_a_limit_begins_with_the_size_behind_it(
        self, cause: str, begun: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit = Limit(5000, 5001, "elements", of("TANH"))
        first = replace(seen("wrong", 99), said=Excess("too much"))
        found = Reproduces(monkeypatch, first, {"ABS": seen("wrong", 99)}, limit=limit, cause=cause)
        assert found.begun == [begun]

    def test_without_a_part_or_a_failure_there_is_nothing_to_reproduce(self) -> None:
        explains = Explains(culprit(OPS[0]))
        part = Subgraph(of("ABS"), {}, (), ())
        findings = Symptoms("ABS", True, Cause.KERNEL, failing=seen("wrong", 99))
        for nothing in (
            Group([0], findings, None),
            Group([0], None, part),
            Group([0], replace(findings, failing=None), part),
        ):
            explains._reproduce(nothing)
        assert (explains.progress.told, explains.culprits[0].reproducer) == ([], None)


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (Trial("what", "wrong", 33.333), "wrong, 33.3x"),
        (Trial("what", "wrong", 9.9e29), "wrong, 9.9e+29x"),
        (Trial("what", "wrong", 1e30), "wrong"),
        (Trial("what", "wrong", np.inf), "wrong"),
        (Trial("what", "right", 1.0), "right"),
        (Trial("what", "crash"), "crash"),
    ],
)
def test_an_experiment_ended_in_few_words(trial: Trial, words: str) -> None:
    assert _ending(trial) == words
