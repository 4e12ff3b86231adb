"""What makes two probes the same, what a failure is written down as, and which runs make up for recorded ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Completed, Crashed, Job, Lost, Options, Outcome, OutputPort, Rejected, Residency, TimedOut
from harness.devices.execute import NO_ROOM, make_job
from harness.devices.worker import NO_READING
from harness.localize.probe.journal.device import (
    Journaled,
    _Compiled,
    _ending,
    _quarantined,
    inputs_digest,
    is_passing,
    key_of,
)
from harness.localize.probe.journal.log import RecordedFailure
from tests.arrays import f32
from tests.localize.frail import CASE, CHAIN, Frail, opened

PORT = OutputPort("y", 0, np.dtype(np.float32), (2,))
JOB = Job(b"m", "m", {"x": f32([1, 2])}, (PORT,), Options("gpu"), warmup=1, iterations=2)


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, sha256="n"),
        replace(JOB, inputs={"x": f32([1, 3])}),
        replace(JOB, options=Options("gpu", precision="fp32")),
        replace(JOB, outputs=()),
        replace(JOB, outputs=(replace(PORT, name="z"),)),
        replace(JOB, outputs=(replace(PORT, position=1),)),
        replace(JOB, outputs=(replace(PORT, dtype=np.dtype(np.int32)),)),
        replace(JOB, outputs=(replace(PORT, shape=(1, 2)),)),
        replace(JOB, warmup=2),
        replace(JOB, iterations=1),
        replace(JOB, warmup=2, iterations=1),
    ],
)
def test_what_decides_an_outcome_makes_another_probe(other: Job) -> None:
    assert key_of(other) != key_of(JOB)


def test_the_patience_and_what_is_freed_make_no_other_probe() -> None:
    assert key_of(replace(JOB, timeout=1, final=True)) == key_of(JOB)
    assert len(key_of(JOB)) == 32


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"a": f32([1, 2])},
        {"a": f32([1, 2]), "b": f32([3])},
        {"a": f32([1, 2]), "c": f32([4])},
        {"a": f32([[1, 2]]), "b": f32([4])},
        {"a": f32([1, 2]).view(np.int32), "b": f32([4])},
        {"a": f32([1, 2, 4]), "b": f32([])},
    ],
)
def test_inputs_with_other_names_types_shapes_or_values_have_another_digest(other: dict[str, Array]) -> None:
    assert inputs_digest(other) != inputs_digest({"a": f32([1, 2]), "b": f32([4])})


def test_the_order_and_the_layout_of_inputs_do_not_matter() -> None:
    square = f32([[1, 2], [3, 4]])
    one, other = {"a": square, "b": f32([4])}, {"b": f32([4]), "a": np.asfortranarray(square)}
    assert inputs_digest(one) == inputs_digest(other)
    assert len(inputs_digest({})) == 64


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (TimedOut(5), "hung"),
        (Crashed("it died", "SIGSEGV"), "crashed"),
        (Crashed("it died"), "crashed"),
        (Crashed("it was killed", "SIGKILL"), "lost"),
        (Crashed("it was killed", "SIGTERM"), "lost"),
        (Lost("the cable"), "lost"),
    ],
)
def test_a_failure_is_written_down_as(outcome: Any, ending: str) -> None:
    assert _ending(outcome) == ending


@pytest.mark.parametrize(
    ("reason", "passing"),
    [
        (NO_ROOM, True),
        (f"{NO_READING} (code=3)", True),
        (f"it says: {NO_ROOM}", False),
        ("no such op", False),
    ],
)
def test_a_refusal_of_the_moment_says_nothing_of_the_model(reason: str, passing: bool) -> None:
    assert is_passing(Rejected(reason)) is passing


CRASH, SECOND, HANG = RecordedFailure("crash", "one"), RecordedFailure("crash", "two"), RecordedFailure("hang", "60 s")


@pytest.mark.parametrize(
    ("failures", "cause", "reason"),
    [
        ([CRASH, SECOND], "crash", "two"),
        ([CRASH, HANG], "crash", "one"),
        ([HANG, SECOND], "crash", "two"),
        ([HANG, RecordedFailure("hang", "90 s")], "hang", "90 s"),
    ],
)
def test_a_probe_that_crashed_once_is_left_out_for_that_with_its_last_reason(
    failures: list[RecordedFailure], cause: str, reason: str
) -> None:
    found = _quarantined(JOB, failures)
    assert (found.model, found.outputs, found.cause, found.reason) == ("m", ("y",), cause, reason)


DONE = Completed({}, Residency(True), (), 0, True, "1", "", "")


class TestCompiled:
    """A job is 3 runs."""

    def test_recorded_runs_of_a_model_are_made_up_for_by_its_first_live_one(self) -> None:
        state = _Compiled()
        assert state.runs_to_make_up(JOB) == 0
        state = state.after(JOB, DONE, live=False)
        assert (state.runs, state.live, state.runs_to_make_up(JOB)) == (3, 0, 3)
        state = state.after(JOB, DONE, live=False)
        assert (state.runs, state.live, state.runs_to_make_up(JOB)) == (6, 0, 6)
        state = state.after(JOB, DONE, live=True)
        assert (state.runs, state.live, state.runs_to_make_up(JOB)) == (9, 9, 0)
        state = state.after(JOB, DONE, live=False)
        assert (state.runs, state.live, state.runs_to_make_up(JOB)) == (12, 9, 3)

    @pytest.mark.parametrize("other", [replace(JOB, sha256="n"), replace(JOB, options=Options("cpu"))])
    def test_another_model_or_other_options_begin_anew(self, other: Job) -> None:
        state = _Compiled().after(JOB, DONE, live=False)
        assert state.runs_to_make_up(other) == 0
        state = state.after(other, DONE, live=False)
        assert (state.runs_to_make_up(other), state.runs_to_make_up(JOB)) == (3, 0)

    def test_other_inputs_of_a_compiled_model_go_on(self) -> None:
        state = _Compiled().after(JOB, DONE, live=False)
        assert state.runs_to_make_up(replace(JOB, inputs={}, outputs=(), warmup=0)) == 3

    @pytest.mark.parametrize(
        ("job", "outcome"), [(replace(JOB, final=True), DONE), (JOB, Crashed("it died")), (JOB, Rejected("no"))]
    )
    def test_what_is_freed_or_fails_leaves_nothing_compiled(self, job: Job, outcome: Any) -> None:
        assert _Compiled().after(JOB, DONE, live=False).after(job, outcome, live=False) == _Compiled()


CUT = [Lost("the other side closed the connection"), Crashed("the worker ended with exit code -9"), TimedOut(2)]


@pytest.mark.parametrize("ending", CUT, ids=lambda ending: type(ending).__name__)
def test_who_stops_a_device_during_a_run_wants_no_further_attempt_and_blames_nobody(
    tmp_path: Path, ending: Outcome
) -> None:
    device, job = Frail(), make_job(CHAIN, CASE.inputs, CASE.options, timeout=60)
    for _ in range(3):
        with opened(tmp_path, device) as bench:

            def cut(job: Job) -> Outcome:
                bench.device.stop()
                return ending

            device.does = cut
            assert bench.device.run(job) == ending
            assert isinstance(bench.device, Journaled) and not bench.device.failed
    assert len(device.jobs) == 3
    device.does = lambda job: None
    with opened(tmp_path, device) as bench:
        assert isinstance(bench.device.run(job), Completed)
        assert isinstance(bench.device, Journaled) and bench.device.probes().quarantined == ()
