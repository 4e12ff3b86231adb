"""The host as a device, with the real runtime in a real worker that is shot, stopped and starved."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.beside import beside
from harness.core.choices import Accelerator
from harness.core.errors import DeviceError
from harness.core.job import Completed, Crashed, Job, Lost, Options, Rejected, TimedOut
from harness.devices import base
from harness.devices.base import LOG_LIMIT, Device
from harness.devices.execute import make_job
from harness.devices.host.device import HostDevice, HostLauncher
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import f32, i32, normal

CPU, GPU, REFERENCE = Options("cpu"), Options("gpu"), Options("reference")
ONES = np.ones((1, 4), np.float32)
EVERYWHERE = ("cpu", "reference", pytest.param("gpu", marks=pytest.mark.gpu))


@pytest.fixture
def fresh() -> Iterator[HostDevice]:
    device = HostDevice()
    yield device
    device.close()


@pytest.fixture
def quick(plus_one: Model) -> Job:
    return make_job(plus_one, {"x": ONES}, CPU, timeout=20)


@pytest.fixture
def endless(plus_one: Model) -> Job:
    """A job that takes far longer than any test waits."""
    return make_job(plus_one, {"x": ONES}, CPU, timeout=20, iterations=1 << 20)


def completed(device: Device, job: Job) -> Completed:
    outcome = device.run(job)
    assert isinstance(outcome, Completed), outcome
    return outcome


def after(seconds: float, do: Any) -> threading.Timer:
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


def kill(device: HostDevice, number: signal.Signals) -> None:
    assert device.launcher.pid is not None
    os.kill(device.launcher.pid, number)


class TestWhatComesBack:
    @pytest.mark.parametrize("accelerator", EVERYWHERE)
    def test_a_float_model_runs(self, host: HostDevice, plus_one: Model, accelerator: Accelerator) -> None:
        values = normal((1, 4))
        outcome = completed(host, make_job(plus_one, {"x": values}, Options(accelerator), timeout=60))
        assert np.allclose(outcome.outputs["y"], values + 1, atol=2e-3 if accelerator == "gpu" else 0)
        assert outcome.residency.full == (accelerator == "gpu")
        assert outcome.runtime == host.facts().runtime
        assert bool(outcome.adapter) == (accelerator == "gpu")

    @pytest.mark.parametrize("accelerator", ["cpu", "reference"])
    def test_every_type_and_a_scalar_come_back_right(self, host: HostDevice, accelerator: Accelerator) -> None:
        graph = GraphBuilder()
        wide = graph.input("wide", (3,), np.int64)
        flags = graph.input("flags", (2, 2), np.bool_)
        counts = graph.input("counts", (4,), np.int32)
        scalar = graph.input("scalar", ())
        graph.output(graph.binary("ADD", wide, graph.constant(np.asarray([1 << 40, 1, -1]))), "wide")
        graph.output(graph.op("LOGICAL_NOT", [flags], (2, 2)), "flags")
        graph.output(graph.binary("MUL", counts, graph.constant(i32([2]))), "counts")
        graph.output(graph.unary("NEG", scalar), "scalar")
        inputs: dict[str, np.ndarray[Any, Any]] = {
            "wide": np.asarray([1, -5, 1 << 50], np.int64),
            "flags": np.asarray([[True, False], [False, False]]),
            "counts": i32([1, -2, 3, 1 << 29]),
            "scalar": f32(2.5),
        }
        got = completed(host, make_job(graph.build(), inputs, Options(accelerator), timeout=20)).outputs
        assert {name: (v.dtype.name, v.shape) for name, v in got.items()} == {
            "wide": ("int64", (3,)),
            "flags": ("bool", (2, 2)),
            "counts": ("int32", (4,)),
            "scalar": ("float32", ()),
        }
        assert got["wide"].tolist() == [1 + (1 << 40), -4, (1 << 50) - 1]
        assert got["flags"].tolist() == [[False, True], [True, True]]
        assert got["counts"].tolist() == [2, -4, 6, 1 << 30]
        assert got["scalar"].item() == -2.5

    @pytest.mark.parametrize("accelerator", ["cpu", "reference"])
    @pytest.mark.parametrize("signature", ["serving_default", ""])
    def test_outputs_keep_their_names_whatever_their_order(
        self, host: HostDevice, accelerator: Accelerator, signature: str
    ) -> None:
        graph = GraphBuilder()
        b, a = graph.input("b", (2,)), graph.input("a", (2,))
        graph.output(graph.binary("SUB", b, a, name="zeta"))
        graph.output(graph.binary("ADD", b, a, name="alpha"))
        graph.output(graph.binary("MUL", b, a, name="mid"))
        inputs = {"a": f32([1, 2]), "b": f32([10, 20])}
        job = make_job(graph.build(signature), inputs, Options(accelerator), timeout=20)
        got = completed(host, job).outputs
        assert {name: values.tolist() for name, values in got.items()} == {
            "zeta": [9, 18],
            "alpha": [11, 22],
            "mid": [10, 40],
        }

    def test_only_the_wanted_outputs_travel(self, host: HostDevice) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (4,))
        graph.output(graph.unary("ABS", x), "a")
        graph.output(graph.unary("NEG", x), "b")
        job = make_job(graph.build(), {"x": f32([-1, 2, -3, 4])}, CPU, timeout=20, wanted=["b"])
        assert {n: v.tolist() for n, v in completed(host, job).outputs.items()} == {"b": [1, -2, 3, -4]}

    @pytest.mark.parametrize("accelerator", EVERYWHERE)
    @pytest.mark.parametrize(("warmup", "iterations"), [(0, 1), (3, 5), (0, 7), (2, 0)])
    def test_there_are_as_many_samples_as_iterations(
        self, host: HostDevice, plus_one: Model, accelerator: Accelerator, warmup: int, iterations: int
    ) -> None:
        options = Options(accelerator)
        runs = host.runs
        job = make_job(plus_one, {"x": ONES}, options, timeout=60, warmup=warmup, iterations=iterations)
        outcome = completed(host, job)
        assert len(outcome.samples) == iterations
        assert all(s.write_ns > 0 and s.run_ns > 0 and s.read_ns > 0 for s in outcome.samples)
        assert np.allclose(outcome.outputs["y"], 2)
        assert host.runs - runs == warmup + iterations

    @pytest.mark.gpu
    def test_asking_without_running_brings_nothing_back(self, host: HostDevice, plus_one: Model) -> None:
        outcome = completed(host, make_job(plus_one, {}, GPU, timeout=60, wanted=(), iterations=0))
        assert (outcome.outputs, outcome.samples, outcome.residency.full) == ({}, (), True)

    @pytest.mark.gpu
    def test_half_and_single_precision_differ_as_they_must(self, host: HostDevice, plus_one: Model) -> None:
        values = {"x": f32([[2048, 1 / 3, 4096.5, 0]])}
        half = completed(host, make_job(plus_one, values, Options("gpu", "fp16"), timeout=60)).outputs["y"]
        single = completed(host, make_job(plus_one, values, Options("gpu", "fp32"), timeout=60)).outputs["y"]
        assert single[0, 0] == 2049
        assert half[0, 0] in (2048, 2050)
        assert np.array_equal(single, values["x"] + 1)


class TestWhatIsKept:
    def test_a_model_is_sent_once(self, fresh: HostDevice) -> None:
        graph = GraphBuilder()
        weights = np.ones((256, 256), np.float32)
        graph.output(graph.fully_connected(graph.input("x", (1, 256)), weights), "y")
        job = make_job(graph.build(), {"x": np.ones((1, 256), np.float32)}, CPU, timeout=20)
        completed(fresh, job)
        assert fresh._link is not None
        first = fresh._link.sent_bytes
        completed(fresh, job)
        again = fresh._link.sent_bytes - first
        assert first > weights.nbytes
        assert again < 4096

    def test_a_model_survives_the_worker(self, fresh: HostDevice, quick: Job) -> None:
        completed(fresh, quick)
        fresh.stop()
        completed(fresh, quick)
        assert fresh._link is not None
        assert fresh._link.sent_bytes < len(quick.model)

    @pytest.mark.parametrize("accelerator", EVERYWHERE)
    def test_the_same_options_compile_once(self, fresh: HostDevice, plus_one: Model, accelerator: Accelerator) -> None:
        options = Options(accelerator)
        job = make_job(plus_one, {"x": ONES}, options, timeout=60)
        first, second = completed(fresh, job), completed(fresh, job)
        assert (first.compiled, second.compiled) == (True, False)
        assert first.compile_ns > 0 == second.compile_ns
        assert fresh.compiles == 1
        assert np.array_equal(first.outputs["y"], second.outputs["y"])

    def test_other_options_and_models_compile_again(self, fresh: HostDevice, plus_one: Model, quick: Job) -> None:
        completed(fresh, quick)
        assert completed(fresh, make_job(plus_one, {"x": ONES}, Options("cpu", threads=2), timeout=20)).compiled
        assert completed(fresh, quick).compiled
        assert completed(fresh, make_job(plus_one, {"x": ONES}, CPU, timeout=20, final=True)).compiled is False
        assert completed(fresh, quick).compiled
        assert fresh.compiles == 4


class TestRefusals:
    @pytest.mark.gpu
    def test_an_int64_arg_max_is_refused_by_name(self, host: HostDevice) -> None:
        graph = GraphBuilder()
        x = graph.unary("RELU", graph.input("x", (1, 8)))
        options = schema.ArgMaxOptionsT()
        options.outputType = schema.TensorType.INT64
        graph.output(graph.op("ARG_MAX", [x, graph.constant(i32(1))], (1,), options, dtype=np.int64), "y")
        outcome = host.run(make_job(graph.build(), {"x": np.ones((1, 8), np.float32)}, GPU, timeout=60))
        assert isinstance(outcome, Rejected)
        assert [op.split(":")[0] for op in outcome.ops] == ["ARG_MAX"]
        assert outcome.reason.startswith("the GPU delegate refuses ARG_MAX")

    @pytest.mark.gpu
    def test_rank_five_is_refused_and_never_run_on_the_cpu_instead(self, host: HostDevice, plus_one: Model) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 2, 2, 2, 2))
        graph.output(graph.unary("RELU", graph.transpose(x, (0, 2, 1, 4, 3))), "y")
        pid = host.launcher.pid
        compiles = host.compiles
        outcome = host.run(make_job(graph.build(), {"x": np.ones((1, 2, 2, 2, 2), np.float32)}, GPU, timeout=60))
        assert isinstance(outcome, Rejected)
        assert any(op.startswith("TRANSPOSE: ") for op in outcome.ops)
        assert host.compiles == compiles
        completed(host, make_job(plus_one, {"x": ONES}, GPU, timeout=60))
        assert host.launcher.pid == pid

    @pytest.mark.parametrize("accelerator", EVERYWHERE)
    def test_an_unresolved_custom_op_is_refused_by_name(self, host: HostDevice, accelerator: Accelerator) -> None:
        graph = GraphBuilder()
        graph.output(graph.op("CUSTOM", [graph.input("x", (1, 4))], (1, 4), custom="MyOwnOp"), "y")
        outcome = host.run(make_job(graph.build(), {"x": ONES}, Options(accelerator), timeout=60))
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "the runtime has no custom op 'MyOwnOp'"
        assert outcome.ops == ("CUSTOM: the runtime has no custom op 'MyOwnOp'",)

    def test_an_op_that_fails_while_running_is_a_refusal_with_the_runtimes_reason(self, host: HostDevice) -> None:
        graph = GraphBuilder()
        index = graph.input("index", (1,), np.int32)
        graph.output(
            graph.op("GATHER", [graph.constant([1.0, 2.0]), index], (1,), schema.GatherOptionsT(), dtype=np.float32),
            "y",
        )
        job = make_job(graph.build(), {"index": i32([7])}, REFERENCE, timeout=20)
        outcome = host.run(job)
        assert isinstance(outcome, Rejected)
        assert "GATHER" in outcome.reason or "gather" in outcome.reason


class TestTrouble:
    def test_a_crash_is_told_with_its_signal_and_the_next_job_works(
        self, fresh: HostDevice, quick: Job, endless: Job
    ) -> None:
        completed(fresh, quick)
        timer = after(0.3, lambda: kill(fresh, signal.SIGSEGV))
        outcome = fresh.run(endless)
        timer.join()
        assert isinstance(outcome, Crashed)
        assert (outcome.reason, outcome.signal) == ("the worker was ended by SIGSEGV", "SIGSEGV")
        assert completed(fresh, quick).outputs["y"].tolist() == [[2, 2, 2, 2]]

    def test_a_hang_is_killed_at_the_timeout_and_the_next_job_works(
        self, fresh: HostDevice, quick: Job, plus_one: Model
    ) -> None:
        completed(fresh, quick)
        stopped = fresh.launcher.pid
        timer = after(0.3, lambda: kill(fresh, signal.SIGSTOP))
        began = time.monotonic()
        outcome = fresh.run(make_job(plus_one, {"x": ONES}, CPU, timeout=1.0, iterations=1 << 20))
        timer.join()
        assert isinstance(outcome, TimedOut)
        assert outcome.reason == "no answer within 1 s"
        assert 1.0 <= time.monotonic() - began < 3.0
        assert stopped is not None
        assert not psutil.pid_exists(stopped)
        assert completed(fresh, quick).outputs["y"].tolist() == [[2, 2, 2, 2]]

    def test_a_worker_that_died_between_jobs_is_replaced_and_no_job_is_blamed(
        self, fresh: HostDevice, quick: Job
    ) -> None:
        completed(fresh, quick)
        before = fresh.launcher.pid
        kill(fresh, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(before)] if psutil.pid_exists(before or 0) else [], timeout=5)
        assert completed(fresh, quick).compiled
        assert fresh.launcher.pid not in (None, before)

    def test_a_worker_outlives_the_work_that_started_it(self, fresh: HostDevice, quick: Job) -> None:
        """It is to die with its parent, which to Linux is the thread that started it."""
        with beside(lambda: completed(fresh, quick), fresh.stop) as future:
            assert future.result().compiled
        assert fresh.launcher.pid is not None
        worker = psutil.Process(fresh.launcher.pid)
        with pytest.raises(psutil.TimeoutExpired):
            worker.wait(0.5)
        assert not completed(fresh, quick).compiled

    def test_a_worker_that_leaves_the_conversation_but_lives_is_lost(
        self, fresh: HostDevice, endless: Job, quick: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        completed(fresh, quick)
        link = fresh._link
        assert link is not None
        monkeypatch.setattr(fresh.launcher, "death", lambda: None)  # as if it went on for hours
        timer = after(0.3, lambda: link._sock.shutdown(2))
        outcome = fresh.run(endless)
        timer.join()
        assert isinstance(outcome, Lost)
        completed(fresh, quick)

    def test_a_huge_tensor_is_refused_before_it_takes_memory(self, fresh: HostDevice, quick: Job) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 4))
        wide = graph.op("BROADCAST_TO", [x, graph.constant(i32([1 << 20, 1 << 18, 4]))], (1 << 20, 1 << 18, 4))
        graph.output(graph.reduce("REDUCE_MAX", wide, 0), "y")
        outcome = fresh.run(make_job(graph.build(), {"x": ONES}, REFERENCE, timeout=20))
        assert isinstance(outcome, (Rejected, Crashed))
        completed(fresh, quick)

    def test_the_log_of_a_job_holds_only_its_own_words_and_is_bounded(self, tmp_path: Path) -> None:
        launcher = HostLauncher("python", ())
        try:
            launcher._log.path.write_text("before\n")
            mark = launcher.log_mark()
            with launcher._log.path.open("a") as file:
                file.write("after\n")
            assert launcher.log(mark) == "after\n"
            with launcher._log.path.open("a") as file:
                file.write("x" * (2 * LOG_LIMIT) + "end")
            assert len(launcher.log(mark)) == LOG_LIMIT
            assert launcher.log(mark).endswith("end")
        finally:
            launcher.close()

    def test_a_python_that_is_not_there_is_a_device_error(self) -> None:
        launcher = HostLauncher("/nonexistent/python")
        with pytest.raises(DeviceError, match=r"The worker cannot be started with /nonexistent/python .*No such file"):
            launcher.start()
        launcher.close()

    def test_a_python_without_the_runtime_says_what_it_lacks(self, tmp_path: Path) -> None:
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\necho \"No module named 'ai_edge_litert'\" >&2\nexit 1\n")
        python.chmod(0o755)
        device = Device("host@0.0.0", "host", HostLauncher(str(python)))
        with pytest.raises(DeviceError) as caught:
            device.facts()
        assert caught.value.message == (
            "Device 'host@0.0.0' did not start: the worker ended with exit code 1. No module named 'ai_edge_litert'"
        )

    def test_another_protocol_is_refused_in_words(
        self, fresh: HostDevice, quick: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(base, "PROTOCOL", 2)
        with pytest.raises(DeviceError) as caught:
            fresh.run(quick)
        assert caught.value.message == (
            "Device 'host' speaks another protocol: protocol 2 is asked for, this worker speaks 1."
        )

    def test_closing_leaves_nothing_behind(self, quick: Job) -> None:
        device = HostDevice()
        completed(device, quick)
        folder, pid = device.launcher._folder, device.launcher.pid
        assert folder.is_dir()
        assert pid is not None
        device.close()
        assert not folder.exists()
        assert not psutil.pid_exists(pid)
        device.close()  # twice does no harm
