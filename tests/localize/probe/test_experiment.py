"""Questions to a device that come to nothing, for want of a truth to hold its answer against; and what counts as the
same answer again."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.errors import DeviceError, HarnessError, UsageError
from harness.core.job import Crashed, Job, Lost, Options, Rejected, TimedOut
from harness.graph.inputs import random_inputs
from harness.localize.probe.experiment import Experiments, Observation, OutputComparison, Specimen, _same
from harness.numerics.fp16 import UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, judge
from tests.arrays import f32, i32
from tests.chains import chain
from tests.localize.planted import InProcess


@pytest.mark.parametrize("error", [UsageError("its inputs are odd", ""), DeviceError("the host ran out of memory", "")])
def test_what_the_host_cannot_compute_is_impossible_and_asks_nothing(
    error: HarnessError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*words: Any) -> NoReturn:
        raise error

    model, device = chain("RELU"), InProcess()
    monkeypatch.setattr(Experiments, "truth", failing)
    experiments = Experiments(device, InProcess(), 60)
    seen = experiments.observe(Specimen(model, random_inputs(model.graph(), 0)), Options())
    assert (seen.ending, seen.reason, seen.worst, seen.fails) == ("impossible", error.message, None, False)
    assert (experiments.questions, device.jobs) == (0, [])


HALF, SINGLE = Options("gpu"), Options("gpu", precision="fp32")
EXACT = f32([1, -2, 4, 8])


def output(actual: Any, exact: Any = EXACT, ideal: Any = None) -> OutputComparison:
    """Compared with the exact values; an ideal device is off by 0.01 where no other is given."""
    ideal = exact + f32([0, 0.01, 0, 0]) if ideal is None else ideal
    found = judge(compare(actual, exact), compare(ideal, exact), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR)
    return OutputComparison("y", actual, exact, found)


@pytest.mark.parametrize(
    ("again", "same"),
    [
        ([1, -2, 4, 8], True),
        ([1, -2.019, 4, 8], True),
        ([1, -2, 4, 7.981], True),
        ([1, -2, 4, 8.021], False),
        ([1, -2, np.nan, 8], False),
        ([1, -2, 4, np.inf], False),
    ],
)
def test_two_answers_are_the_same_within_twice_what_rounding_explains(again: list[float], same: bool) -> None:
    """Each may be off by as much, to either side."""
    assert _same(output(EXACT), f32(again), UNIT_ROUNDOFF) is same


@pytest.mark.parametrize(
    ("again", "same"),
    [
        ([np.nan, -2, 4, np.inf], True),
        ([np.nan, -2.015, 4, np.inf], True),
        ([np.nan, -3, 4, np.inf], False),
        ([1, -2, 4, np.inf], False),
        ([np.nan, np.nan, 4, np.inf], False),
    ],
)
def test_what_is_not_finite_has_to_stand_in_the_same_places(again: list[float], same: bool) -> None:
    assert _same(output(f32([np.nan, -2, 4, np.inf])), f32(again), UNIT_ROUNDOFF) is same


def test_answers_without_a_finite_value_are_the_same() -> None:
    nothing = f32([np.nan] * 4)
    assert _same(output(nothing), nothing, UNIT_ROUNDOFF)


def test_where_an_ideal_device_makes_no_error_two_roundings_of_the_size_are_the_same() -> None:
    size = float(np.sqrt(np.mean(EXACT**2)))
    for roundings, same in ((1.9, True), (2.1, False)):
        again = EXACT + f32([roundings * UNIT_ROUNDOFF * size, 0, 0, 0])
        assert _same(output(EXACT, ideal=EXACT), again, UNIT_ROUNDOFF) is same


def test_whole_numbers_are_the_same_where_they_are_equal() -> None:
    numbers = i32([1, 2, 3])
    seen = output(numbers, numbers, numbers)
    assert _same(seen, i32([1, 2, 3]), UNIT_ROUNDOFF)
    assert not _same(seen, i32([1, 2, 4]), UNIT_ROUNDOFF)


class Varied(InProcess):
    """Gives the right output of a RELU with something added to its first element, another each run."""

    def __init__(self, *added: float) -> None:
        super().__init__("varied")
        self.added = list(added)

    def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
        outputs["y"].flat[0] += self.added.pop(0)
        return outputs


def observed(*added: float, options: Options = HALF, warmup: int = 0) -> tuple[Observation, Varied, Experiments]:
    """A specimen run as often as there are things to add."""
    device, model = Varied(*added), chain("RELU", shape=(4,))
    experiments = Experiments(device, InProcess(), 60)
    inputs = {"x": f32([1, 2, 4, 8])}
    return experiments.observe(Specimen(model, inputs), options, runs=len(added), warmup=warmup), device, experiments


def test_one_run_that_is_right_says_so() -> None:
    seen, device, experiments = observed(0)
    assert (seen.ending, seen.reason, seen.repeatable, seen.runs, seen.half) == ("right", "", True, None, True)
    assert (len(device.jobs), experiments.questions, seen.ratio) == (1, 1, 0.0)


def test_several_runs_are_of_one_compiled_model_that_is_warmed_up_once() -> None:
    seen, device, experiments = observed(1, 1, 1, warmup=2)
    assert (seen.ending, seen.repeatable, seen.runs) == ("wrong", True, None)
    assert [job.warmup for job in device.jobs] == [2, 0, 0]
    assert (device.compiles, experiments.questions, len(seen.samples)) == (1, 1, 3)


def test_of_runs_that_differ_it_is_counted_how_many_are_wrong() -> None:
    seen, _, _ = observed(1, 0, 3, 0)
    assert (seen.ending, seen.repeatable, seen.runs) == ("wrong", False, (2, 4))
    seen, _, _ = observed(0, 1, 3)
    assert (seen.ending, seen.repeatable, seen.runs) == ("right", False, (2, 3))
    seen, _, _ = observed(1, 0)
    assert (seen.ending, seen.repeatable, seen.runs) == ("wrong", False, (1, 2))


def test_float32_is_held_to_its_own_rounding() -> None:
    assert observed(1e-3)[0].ending == "right"
    seen = observed(1e-3, options=SINGLE)[0]
    assert (seen.ending, seen.half) == ("wrong", False)
    assert observed(1e-7, options=SINGLE)[0].ending == "right"


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (Crashed("the worker was ended by SIGSEGV"), "crash"),
        (TimedOut(60), "hang"),
        (Rejected("the GPU delegate refuses it"), "refused"),
    ],
)
@pytest.mark.parametrize("options", [HALF, SINGLE], ids=["half", "single"])
def test_a_run_that_does_not_complete_is_seen_as_it_ended(
    outcome: Crashed | TimedOut | Rejected, ending: str, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Varied, "run", lambda self, job, sink=None: outcome)
    seen, _, experiments = observed(0, options=options)
    assert (seen.ending, seen.reason, seen.worst, seen.half) == (ending, outcome.reason, None, options is HALF)
    assert experiments.questions == 1


def test_a_device_that_is_lost_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Varied, "run", lambda self, job, sink=None: Lost("the cable came off", "its log"))
    with pytest.raises(DeviceError, match="varied was lost: the cable came off") as caught:
        observed(0)
    assert caught.value.log == "its log"


def ended(ending: Any, actual: Any = None, **more: Any) -> Observation:
    worst = None if actual is None else output(f32(actual))
    return Observation(ending, "why", worst, repeatable=True, **more)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (ended("crash"), ended("crash"), True),
        (ended("crash"), ended("hang"), False),
        (ended("right"), ended("right"), False),
        (ended("refused"), ended("refused"), False),
        (ended("wrong", [1, -2, 4, np.nan]), ended("wrong", [np.nan, -2, 4, 8]), True),
        (ended("wrong", [1, -2, 4, np.nan]), ended("wrong", [1, -2, 4, 9]), False),
        (ended("wrong", [1, -2, 4, 9]), ended("wrong", [2, -2, 4, 8]), True),
        (ended("wrong", [1, -2, 4, 9]), ended("wrong", [-1, 2, -4, -8]), False),
        (ended("wrong", [1, -2, 4, 9]), ended("wrong"), False),
    ],
)
def test_failures_are_alike_where_they_end_alike_with_the_same_kind_of_error(
    one: Observation, other: Observation, alike: bool
) -> None:
    assert one.alike(other) is alike
    assert other.alike(one) is alike


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (ended("crash"), "crashed: why"),
        (Observation("hang"), "hung"),
        (ended("refused"), "refused: why"),
        (ended("impossible"), "could not be asked: why"),
        (ended("right", EXACT), "right"),
        (ended("wrong", [1, -2, 4, 9]), "wrong, 100x what the arithmetic explains"),
        (ended("wrong", [1, -2, 4, np.nan]), "wrong, NaN or infinite"),
    ],
)
def test_how_it_ended_is_said_in_few_words(seen: Observation, words: str) -> None:
    assert seen.words() == words
    assert seen.ratio == (0.0 if seen.worst is None else seen.worst.judgement.ratio)
    assert seen.fails is (seen.ending in ("wrong", "crash", "hang"))
