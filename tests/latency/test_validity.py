"""Every reason for which a run does not count, by making it happen: on this machine's own processes where it can."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.core.choices import Backend
from harness.core.job import Completed, Job, Outcome, Sample
from harness.devices.base import Sink
from harness.devices.host.device import HostDevice, HostLauncher
from harness.graph.build import GraphBuilder
from harness.latency.measure import Measured, Plan, Subject, measure
from harness.latency.record import Conditions
from harness.latency.stats import Values
from harness.latency.validity import flaws
from tests.latency.conftest import Saying, Script, timed

SHORT = Plan(samples=60, seconds=0.6, rounds=12, replications=1, timeout=120)
UNTIMED = Plan(samples=120, seconds=0.0, rounds=24, replications=2)

Subjects = Callable[..., Subject]


def reasons(measured: Measured) -> list[str]:
    return [flaw.reason for flaw in flaws(measured, measured.timed())]


def one(subject: Subject, plan: Plan, open_device: Callable[[str], HostDevice]) -> Measured:
    (measured,) = measure([subject], plan, open_device)
    return measured


@contextmanager
def hogs(count: int) -> Iterator[None]:
    spin = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(spin) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


class TestOnThisMachine:
    def test_other_programs_on_every_core(self, subject: Subjects) -> None:
        with hogs(3 * (os.cpu_count() or 1)):
            measured = one(subject("host", 4), SHORT, HostDevice)
        assert "busy" in reasons(measured)

    def test_a_process_that_is_stopped_for_a_while(self, subject: Subjects) -> None:
        class Stopped(HostDevice):
            jobs = 0

            def run(self, job: Job, sink: Sink | None = None) -> Outcome:
                self.jobs += 1
                if self.jobs == 6:
                    self.facts()
                    pid = self.launcher.pid
                    assert pid is not None
                    # Once it runs: stopped before that, it would lose no sample.
                    threading.Timer(0.05, os.kill, (pid, signal.SIGSTOP)).start()
                    threading.Timer(1.55, os.kill, (pid, signal.SIGCONT)).start()
                    job = replace(job, iterations=2000)
                    done = super().run(job, sink)
                    assert isinstance(done, Completed)
                    longest = int(np.argmax([s.write_ns + s.run_ns + s.read_ns for s in done.samples]))
                    return replace(done, samples=done.samples[max(longest - 3, 0) : longest + 3])
                return super().run(job, sink)

        assert "stalled" in reasons(one(subject("host", 1), SHORT, Stopped))

    @pytest.mark.gpu
    def test_a_clock_that_stops_when_the_work_is_enqueued(self, subject: Subjects) -> None:
        class EnqueueOnly(HostDevice):
            """The host's GPU, timed as those do it who look at `run` alone."""

            def run(self, job: Job, sink: Sink | None = None) -> Outcome:
                done = super().run(job, sink)
                assert isinstance(done, Completed)
                return replace(done, samples=tuple(Sample(s.write_ns, s.run_ns, 0) for s in done.samples))

        cell = subject("host", 8, accelerator="gpu")
        plan = replace(SHORT, samples=40, rounds=2)
        assert "enqueue-only" in reasons(one(cell, plan, EnqueueOnly))

    @pytest.mark.gpu
    def test_a_gpu_job_that_the_runtime_quietly_gives_to_the_cpu(self, subject: Subjects, tmp_path: Path) -> None:
        graph = GraphBuilder()
        graph.output(graph.unary("TANH", graph.input("x", (1, 2, 3, 4, 5))), "y")  # the GPU refuses rank 5
        measured = one(
            subject("host", model=graph.build(), accelerator="gpu"), SHORT, lambda name: _falling_back(name, tmp_path)
        )
        assert measured.processes[0].first.residency.full  # as the runtime itself puts it
        (found,) = [flaw for flaw in flaws(measured, measured.timed()) if flaw.reason == "fallback"]
        assert "No operations will run on the GPU" in found.detail


def _falling_back(name: str, folder: Path) -> HostDevice:
    """The host with a worker that asks for GPU | CPU, as most programs do."""
    lines = [
        "from ai_edge_litert import compiled_model as cm",
        "plain = cm.Options",
        "cm.Options = lambda accelerator, **rest: plain(accelerator | cm.HardwareAccelerator.CPU, **rest)",
    ]
    (folder / "sitecustomize.py").write_text("\n".join(lines), "utf-8")
    device = HostDevice(name)
    device.launcher.close()
    device.launcher = HostLauncher(sys.executable, (folder, Path(harness.__file__).parent.parent))
    device._launcher = device.launcher
    return device


class TestOnAScriptedDevice:
    def test_a_quiet_device_is_valid(self, subject: Subjects, script: Script) -> None:
        rng = np.random.default_rng(0)
        script.say = lambda process, job: Saying(lambda n: 1e6 * np.exp(rng.normal(0, 0.02)))
        (measured,) = measure([subject()], UNTIMED, script.open)
        assert reasons(measured) == []

    @pytest.mark.parametrize("thermal", ["moderate", "severe", "shutdown"])
    def test_a_hot_phone(self, subject: Subjects, script: Script, thermal: str) -> None:
        script.say = lambda process, job: Saying(thermal=thermal if job == 5 else "light")
        (measured,) = measure([subject()], UNTIMED, script.open)
        (found,) = flaws(measured, measured.timed())
        assert found.reason == "throttled"
        assert thermal in found.detail

    def test_a_phone_that_rebooted_in_between(self, subject: Subjects, script: Script) -> None:
        script.say = lambda process, job: Saying(boot_id="first" if process == 0 else "second")
        (measured,) = measure([subject()], UNTIMED, script.open)
        (found,) = flaws(measured, measured.timed())
        assert (found.reason, found.detail) == ("rebooted", "The device's boot id changed from first to second.")

    def test_a_runtime_that_was_replaced_in_between(self, subject: Subjects, script: Script) -> None:
        script.say = lambda process, job: Saying(runtime="2.3.0" if process == 0 else "2.4.0")
        (measured,) = measure([subject()], UNTIMED, script.open)
        (found,) = flaws(measured, measured.timed())
        assert (found.reason, found.detail) == ("runtime-changed", "The runtime changed from 2.3.0 to 2.4.0.")

    def test_a_gpu_that_took_a_part(self, subject: Subjects, script: Script) -> None:
        script.say = lambda process, job: Saying(delegated=1)
        (measured,) = measure([subject(accelerator="gpu")], UNTIMED, script.open)
        (found,) = flaws(measured, measured.timed())
        assert (found.reason, found.detail) == ("fallback", "The GPU took 1 of 2 nodes; the CPU ran the rest.")

    def test_a_gpu_of_which_nothing_is_said(self, subject: Subjects, script: Script) -> None:
        script.say = lambda process, job: Saying(full=False)
        (measured,) = measure([subject(accelerator="gpu")], UNTIMED, script.open)
        assert reasons(measured) == ["fallback"]

    @pytest.mark.parametrize(("backend", "reasons_against"), [("default", ["other-backend"]), ("opengl", [])])
    def test_opengl_where_opencl_did_not_load(
        self, subject: Subjects, script: Script, backend: Backend, reasons_against: list[str]
    ) -> None:
        log = "INFO: Replacing 2 out of 2 node(s) with delegate (LITERT_OPENGL) node, yielding 1 partitions for main.\n"
        script.say = lambda process, job: Saying(log=log)
        cell = subject(accelerator="gpu")
        cell = replace(cell, options=replace(cell.options, backend=backend))
        (measured,) = measure([cell], UNTIMED, script.open)
        assert reasons(measured) == reasons_against

    def test_processes_that_disagree(self, subject: Subjects, script: Script) -> None:
        script.say = lambda process, job: Saying(lambda n: 1e6 if process == 0 else 1.1e6)
        (measured,) = measure([subject()], UNTIMED, script.open)
        assert "replications" in reasons(measured)

    def test_times_that_keep_growing(self, subject: Subjects, script: Script) -> None:
        script.say = lambda process, job: Saying(lambda n: 1e6 * (1 + n / 500))
        (measured,) = measure([subject()], UNTIMED, script.open)
        assert reasons(measured) == ["trending"]

    def test_two_heaps(self, subject: Subjects, script: Script) -> None:
        script.say = lambda process, job: Saying(lambda n: 1e6 if n % 3 else 1.5e6)
        (measured,) = measure([subject()], UNTIMED, script.open)
        assert reasons(measured) == ["bimodal"]


def with_conditions(subject: Subject, script: Script, seen: list[Conditions]) -> Measured:
    (measured,) = measure([subject], UNTIMED, script.open)
    for process in measured.processes:
        process.rounds = [replace(r, conditions=seen[i % len(seen)]) for i, r in enumerate(process.rounds)]
    return measured


class TestOnGivenConditions:
    @pytest.mark.parametrize(
        ("seen", "reason", "said"),
        [
            (Conditions(throttled=2), "throttled", "thermal throttling event"),
            (Conditions(headroom=1.02), "throttled", "thermal headroom reached 1.02"),
            (Conditions(waited=0.2), "busy", "waited for a core 20% of its time"),
            (Conditions(foreign=0.5), "busy", "took 50% of all cores"),
            (Conditions(stolen=0.1), "busy", "lost 10% of all cores to the hypervisor"),
        ],
    )
    def test_what_the_kernel_or_the_phone_tells(
        self, subject: Subjects, script: Script, seen: Conditions, reason: str, said: str
    ) -> None:
        measured = with_conditions(subject(), script, [seen])
        (found,) = flaws(measured, measured.timed())
        assert found.reason == reason
        assert said in found.detail

    def test_a_disturbance_now_and_then_is_none(self, subject: Subjects, script: Script) -> None:
        quiet = Conditions(waited=0.0, foreign=0.02, stolen=0.0, headroom=0.7, throttled=0)
        assert reasons(with_conditions(subject(), script, [quiet] * 7 + [replace(quiet, waited=0.5)])) == []

    def test_clocks_that_fall(self, subject: Subjects, script: Script) -> None:
        (measured,) = measure([subject()], UNTIMED, script.open)
        for process in measured.processes:
            half = len(measured.rounds) // 2
            clock = [2800.0 if process is measured.processes[0] else 1400.0] * half
            process.rounds = [
                replace(r, conditions=Conditions(clock_mhz=mhz)) for r, mhz in zip(process.rounds, clock, strict=False)
            ]
        (found,) = flaws(measured, measured.timed())
        assert (found.reason, found.detail) == ("throttled", "The slowest core's clock fell from 2800 to 1400 MHz.")


def test_a_single_long_iteration_is_a_stall_and_a_somewhat_long_one_is_not(subject: Subjects, script: Script) -> None:
    (measured,) = measure([subject()], UNTIMED, script.open)
    usual: list[Values] = [np.full(10, 5.0) for _ in range(10)]
    for longest, expected in ((500.0, ["stalled"]), (100.0, [])):
        levels = [[list(r) for r in usual]]
        levels[0][4][4] = longest
        assert [flaw.reason for flaw in flaws(measured, timed(levels))] == expected
