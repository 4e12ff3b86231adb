"""Rounds, phases, and when it is enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.core.errors import DeviceError
from harness.core.job import Crashed
from harness.devices.host.device import HostDevice
from harness.latency.measure import Measured, Plan, Subject, measure
from tests.latency.conftest import Saying, Script

Subjects = Callable[..., Subject]


def test_cells_have_their_turns_in_an_order_that_rotates(subject: Subjects, script: Script) -> None:
    plan = Plan(samples=40, seconds=0.0, rounds=8, replications=1)
    measure([subject("a"), subject("b"), subject("c")], plan, script.open)
    turns = [name for name, _ in script.jobs]
    assert turns[:9] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3  # compile, first inference, and what follows it
    assert turns[9:18] == ["b", "c", "a", "c", "a", "b", "a", "b", "c"]


def test_it_is_enough_when_both_the_samples_and_the_seconds_are_there(subject: Subjects) -> None:
    by_samples = Plan(samples=90, seconds=0.0, rounds=6, replications=2)
    by_seconds = Plan(samples=1, seconds=0.4, rounds=6, replications=2)
    for plan in (by_samples, by_seconds):
        (measured,) = measure([subject("host", 2)], plan, HostDevice)
        assert len(measured.processes) == 2
        for process in measured.processes:
            later = process.rounds[2:]
            counted = sum(len(turn.samples) - (not turn.untimed) for turn in later)
            assert counted >= plan.samples / 2
            assert sum(turn.wall_ns for turn in later) >= plan.seconds / 2 * 1e9


def test_each_replication_is_a_process_of_its_own(subject: Subjects, script: Script) -> None:
    (measured,) = measure([subject()], Plan(samples=30, seconds=0.0, rounds=6, replications=3), script.open)
    assert script.opened == 3
    assert [process.first.compile_ns for process in measured.processes] == [5_000_000] * 3
    assert {sample.replication for sample in measured.timed()} == {0, 1, 2}


def test_every_sample_is_kept_with_its_phase(subject: Subjects, script: Script) -> None:
    slow_start = [30e6] + [2e6] * 12
    script.say = lambda process, job: Saying(lambda n: slow_start[n] if n < len(slow_start) else 1e6)
    (measured,) = measure([subject()], Plan(samples=40, seconds=0.0, rounds=8, replications=1), script.open)
    samples = measured.timed()
    assert len(samples) == sum(iterations for _, iterations in script.jobs)
    assert [s.phase for s in samples[:14]] == ["first"] + ["warmup"] * 12 + ["steady"]
    assert measured.processes[0].warmup == 13
    for number in {s.round for s in samples if s.round > 1}:
        assert [s.phase for s in samples if s.round == number][:2] == ["resume", "steady"]
    assert {s.total_ns for s in samples if s.phase == "steady"} == {1_000_000}


def test_the_parts_of_a_sample_add_up(subject: Subjects, script: Script) -> None:
    script.say = lambda process, job: Saying(lambda n: 1_000_003)
    (measured,) = measure([subject()], Plan(samples=8, seconds=0.0, rounds=2, replications=1), script.open)
    assert {(s.write_ns, s.run_ns, s.read_ns) for s in measured.timed()} == {(100_000, 800_003, 100_000)}


def test_what_was_measured_before_a_crash_is_kept(subject: Subjects, script: Script) -> None:
    script.say = lambda process, job: Saying(outcome=Crashed("gone", "SIGSEGV") if job == 5 else None)
    kept: list[Measured] = []
    with pytest.raises(DeviceError, match="here crashed while timing cpu: gone"):
        measure([subject()], Plan(samples=100, seconds=0.0, rounds=10), script.open, keep=kept.append)
    (measured,) = kept
    assert len(measured.processes[0].rounds) == 4  # the first inference, what follows it, two turns


def test_on_the_host_each_cell_has_a_process_that_stays(subject: Subjects) -> None:
    opened: list[HostDevice] = []

    def open_device(name: str) -> HostDevice:
        opened.append(HostDevice(name))
        return opened[-1]

    plan = Plan(samples=16, seconds=0.0, rounds=4, replications=1)
    measured = measure([subject("host", 1), subject("host", 2)], plan, open_device)
    assert [device.compiles for device in opened] == [1, 1]
    for one in measured:
        assert one.processes[0].peak is not None
        assert one.processes[0].peak > 10_000_000
        assert one.outputs["y"].shape == (1, 64, 256)
