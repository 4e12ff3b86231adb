"""The search for what ends the device, asked of a device whose endings are made up: what counts, and what is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.job import Options, Residency
from harness.graph.inputs import random_inputs
from harness.localize.base.case import Case
from harness.localize.base.result import Localization
from harness.localize.find import crash_search
from harness.localize.find.crash_search import HANG_SECONDS, MOST_QUESTIONS, find_fatal, find_unsteady
from harness.localize.probe import control
from harness.localize.probe.experiment import UNSTEADY_RUNS
from harness.localize.probe.search import find_windows
from harness.localize.probe.tensor_values import TensorValues
from tests.chains import chain

MODEL = chain("TANH", "EXP", "ABS", "NEG")
Ending = tuple[str, str, bool]
"""How a run ends, why, and whether all runs end so with the same values."""
GOOD: Ending = ("fine", "", True)


class Endings:
    """A device on which the whole model ends in one way, and each window, by its first and last op, in another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, whole: Ending, windows: dict[tuple[int, int], Ending]) -> None:
        self.whole, self.windows = whole, windows
        self.seconds, self.seed = 0.0, -1
        self.runs: set[int] = set()
        self.fallbacks: list[str] = []
        self.limits: list[int] = []
        self.stages: list[str] = []
        self.controls = 0
        self.impossible: set[tuple[int, int]] = set()
        device = SimpleNamespace(name="phone", compiles=10, runs=20)
        device.described = lambda runtime, gpu: {"name": "phone", "runtime": runtime, "gpu": gpu}
        device.facts = lambda: SimpleNamespace(runtime="2.3.0", gpu="Adreno")
        self.device = device
        progress = SimpleNamespace(stage=lambda what, seconds: self.stages.append(what))
        self.bench: Any = SimpleNamespace(
            device=device, host="host", run=SimpleNamespace(tensors="store"), progress=progress
        )

        def within(items: int, ask: Any, *, limit: int) -> Any:
            self.limits.append(limit)
            return find_windows(items, ask, limit=limit)

        monkeypatch.setattr(crash_search, "Experiments", self.experiments)
        monkeypatch.setattr(crash_search, "find_windows", within)
        monkeypatch.setattr(crash_search, "cut_out", self.cut_out)
        monkeypatch.setattr(control, "check", self.check)
        monkeypatch.setattr(TensorValues, "collect", lambda *given: SimpleNamespace(exact="exact"))

    def experiments(self, device: Any, host: Any, seconds: float, seed: int) -> Any:
        self.seconds, self.seed = seconds, seed
        return SimpleNamespace(observe=self.observe)

    def observe(self, specimen: Any, options: Options, *, runs: int) -> Any:
        self.device.compiles += 1
        self.device.runs += runs
        self.runs.add(runs)
        self.fallbacks.append(options.fallback)
        ops = getattr(specimen, "ops", None)
        ending, reason, repeatable = self.whole if ops is None else self.windows.get(ops, GOOD)
        return SimpleNamespace(ending=ending, reason=reason, repeatable=repeatable, beyond=False)

    def cut_out(self, model: Any, ops: Any, exact: Any) -> Any:
        assert exact == "exact"
        edges = ops[0], ops[-1]
        return None if edges in self.impossible else SimpleNamespace(specimen=SimpleNamespace(ops=edges))

    def check(self, device: Any, options: Options, timeout: float) -> None:
        assert (options.fallback, timeout) == ("none", self.timeout)
        device.compiles += 100
        device.runs += 1000
        self.controls += 1

    timeout = 30.0

    def found(self, search: Any = find_fatal, timeout: float = 30.0, scratch: Path = Path("scratch")) -> Any:
        self.timeout = timeout
        case = Case(MODEL, random_inputs(MODEL.graph(), 0), Options("gpu", fallback="cpu"), timeout=timeout, seed=7)
        answer: Localization | None = search(self.bench, case, scratch)
        return answer


def over(op: int, ending: Ending) -> dict[tuple[int, int], Ending]:
    """Every window with an op in it ends so."""
    return {(i, j): ending for i in range(4) for j in range(i, 4) if i <= op <= j}


CRASH: Ending = ("crash", "SIGSEGV in the delegate.", True)


def test_the_op_that_ends_the_device_is_told_with_why_and_with_what_it_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Endings(monkeypatch, CRASH, over(2, ("hang", "60 s", True)))
    answer = known.found()
    (culprit,) = answer.culprits
    record = culprit.record
    assert (record.op, record.first, record.index, record.dtype, record.verdict) == ("ABS", 2, 2, "float32", "culprit")
    made = MODEL.graph().tensors[MODEL.graph().ops[2].outputs[0]]
    assert (record.output, record.tensor, record.shape, record.reading) == (made.name, made.index, (1, 8), "window")
    assert (culprit.cause, culprit.signature, culprit.note) == ("hang", None, "60 s")
    assert (culprit.certified, culprit.isolated) == (False, True)
    assert (answer.status, answer.certified, answer.outputs) == ("culprits", False, ())
    assert (answer.records, answer.residency) == ((record,), Residency(False))
    assert answer.notes == ("The untouched model crashes the device: SIGSEGV in the delegate.",)
    assert answer.device == {"name": "phone", "runtime": "2.3.0", "gpu": "Adreno"}
    assert (answer.model.path, answer.model.sha256, answer.model.ops) == ("", MODEL.sha256, 4)


def test_only_what_the_search_asked_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Controls run before and after the search, and their compiles are not of it."""
    clock = SimpleNamespace(monotonic=iter([1000.0, 1007.5]).__next__)
    monkeypatch.setattr("harness.localize.find.crash_search.time", clock)
    known = Endings(monkeypatch, CRASH, over(2, CRASH))
    answer = known.found()
    asked = len(known.fallbacks)
    assert (known.controls, answer.device_compiles, answer.device_runs) == (2, asked, asked)
    assert answer.seconds == 7.5


def test_the_whole_model_runs_as_it_was_asked_for_and_windows_on_the_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Endings(monkeypatch, CRASH, over(2, CRASH))
    known.found()
    assert known.fallbacks[0] == "cpu" and set(known.fallbacks[1:]) == {"none"}
    assert (known.seed, known.runs, known.limits) == (7, {1}, [MOST_QUESTIONS])
    assert known.stages[:2] == ["the untouched model on phone once more", "reference on the host CPU"]
    assert "op 2" in known.stages and "ops 2 to 2" not in known.stages


@pytest.mark.parametrize(("timeout", "seconds"), [(30.0, 30.0), (HANG_SECONDS + 1, HANG_SECONDS)])
def test_a_window_is_given_no_longer_than_one_that_hangs_is_worth(
    timeout: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Endings(monkeypatch, CRASH, {})
    known.found(timeout=timeout)
    assert known.seconds == seconds


@pytest.mark.parametrize(
    ("search", "whole", "said"),
    [
        (find_fatal, ("crash", "why", True), "The untouched model crashes the device: why."),
        (find_fatal, ("hang", "", True), "The untouched model hangs the device."),
        (find_fatal, ("fine", "", True), None),
        (find_fatal, ("refused", "why", True), None),
        (find_fatal, ("crash", "why", False), None),  # not each time
        (find_unsteady, ("crash", "why", True), None),
        (find_unsteady, ("fine", "", True), None),
        (find_unsteady, ("fine", "why", False), "The untouched model gives other values in each run."),
    ],
)
def test_a_search_is_for_one_way_to_end_and_says_which(
    search: Any, whole: Ending, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Endings(monkeypatch, whole, {})
    answer = known.found(search)
    if said is None:
        assert (answer, known.controls, len(known.fallbacks)) == (None, 0, 1)
    else:
        assert (answer.notes[0], answer.status, answer.culprits) == (said, "unresolved", ())
    assert known.runs == {UNSTEADY_RUNS if search is find_unsteady else 1}


def test_values_that_change_are_a_cause_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    unsteady: Ending = ("fine", "", False)
    (culprit,) = Endings(monkeypatch, unsteady, over(1, unsteady)).found(find_unsteady).culprits
    assert (culprit.record.index, culprit.cause, culprit.note) == (1, "nondeterministic", "")


@pytest.mark.parametrize("ending", ["refused", "impossible", "cut"])
def test_a_window_that_cannot_be_asked_is_left_open(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Endings(monkeypatch, CRASH, {})
    every = [(i, j) for i in range(4) for j in range(i, 4)]
    if ending == "cut":
        known.impossible = set(every)
    else:
        known.windows = dict.fromkeys(every, (ending, "", True))
    answer = known.found()
    assert (answer.status, answer.culprits) == ("unresolved", ())
    assert len(answer.notes) == 2
