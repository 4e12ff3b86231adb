"""A phone as a device: what the host's own runtime gives, bit by bit, and what only a phone can tell."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus import CORPUS, Bug
from harness.core.choices import Accelerator
from harness.core.errors import DeviceRefused
from harness.core.job import Completed, Crashed, Options, Rejected
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.execute import UNTOUCHED, completed, make_job
from harness.devices.host.device import HostDevice
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from tests.standin.phone import Phone
from tests.standin.scenes import other_types


@pytest.fixture(scope="module")
def device(phone: Phone, apk: Path) -> Iterator[AndroidDevice]:
    with AndroidDevice("pixel8a", find_phone(phone.serial), PhoneOptions(apk)) as opened:
        assert isinstance(opened, AndroidDevice)
        yield opened


@pytest.fixture(scope="module")
def host() -> Iterator[HostDevice]:
    with HostDevice() as opened:
        assert isinstance(opened, HostDevice)
        yield opened


@pytest.mark.gpu
@pytest.mark.parametrize("bug", [bug for bug in CORPUS if not bug.unwritten], ids=lambda bug: bug.name)
def test_the_same_runtime_gives_the_same_bits(device: AndroidDevice, host: HostDevice, bug: Bug) -> None:
    model = bug.build()
    inputs = random_inputs(model.graph(), 0)
    accelerators: tuple[Accelerator, ...] = ("cpu", "gpu")
    for accelerator in accelerators:
        job = make_job(model, inputs, Options(accelerator), timeout=120)
        if accelerator == "gpu" and any(cause == "crash" for _, _, cause in bug.culprits):
            ended, away = host.run(job), device.run(job)
            assert isinstance(ended, Crashed) and isinstance(away, Crashed)
            # A JVM makes SIGABRT of a signal that it catches itself.
            assert away.signal in (ended.signal, "SIGABRT")
            continue
        here, there = completed(host, job, "running it"), completed(device, job, "running it")
        assert list(here.outputs) == list(there.outputs)
        for name, values in here.outputs.items():
            assert values.tobytes() == there.outputs[name].tobytes(), (accelerator, name)
        assert (here.runtime, here.adapter) == (there.runtime, there.adapter)
        assert here.residency.full == there.residency.full


class TestWhatARunTells:
    @pytest.mark.gpu
    def test_a_run_says_where_it_ran(self, phone: Phone, device: AndroidDevice) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 8))
        graph.output(graph.binary("MUL", graph.binary("ADD", x, graph.constant([1.0])), graph.constant([3.0])), "y")
        phone.change("condition", thermal=0)
        job = make_job(graph.build(), {"x": np.zeros((1, 8), np.float32)}, Options("gpu"), timeout=60)
        done = completed(device, job, "running it")
        assert (done.residency.full, done.residency.delegated, done.residency.total) == (True, 2, 2)
        assert done.residency.partitions == 1
        assert done.boot_id == (phone.state / "boot_id").read_text("ascii").strip() == device.launcher.boot_id
        assert done.thermal == "none"
        assert "Replacing 2 out of 2 node(s)" in done.log

    @pytest.mark.gpu
    def test_what_float16_has_travels_in_half_the_bytes_and_arrives_bit_for_bit(
        self, device: AndroidDevice, host: HostDevice
    ) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 64, 1024))
        graph.output(graph.unary("TANH", x), "y")
        model = graph.build()
        values = np.random.default_rng(0).normal(size=(1, 64, 1024)).astype(np.float32)
        nbytes = {}
        for options in (Options("gpu"), Options("gpu", "fp32"), Options("cpu")):
            job = make_job(model, {"x": values}, options, timeout=60)
            expected = completed(host, job, "running it").outputs["y"]
            before = device.received_bytes
            got = completed(device, job, "running it").outputs["y"]
            nbytes[options] = device.received_bytes - before
            assert got.dtype == np.float32 and got.tobytes() == expected.tobytes()
        half, single, plain = nbytes.values()
        assert single > plain - 4096 > values.nbytes - 4096 > values.nbytes / 2 + 4096 > half

    @pytest.mark.gpu
    def test_what_the_gpu_refuses_is_named(self, device: AndroidDevice) -> None:
        graph = GraphBuilder()
        graph.output(graph.unary("RELU", graph.input("x", (1, 2, 2, 2, 2, 2))), "y")
        job = make_job(graph.build(), {"x": np.zeros((1, 2, 2, 2, 2, 2), np.float32)}, Options("gpu"), timeout=60)
        outcome = device.run(job)
        assert isinstance(outcome, Rejected)
        assert any(op.startswith("RELU: ") for op in outcome.ops), outcome

    @pytest.mark.parametrize("wanted", ["half", "on grid uint8", "on grid int16"])
    def test_an_output_that_the_app_cannot_pass_on_is_refused_before_the_phone_is_asked(
        self, device: AndroidDevice, wanted: str
    ) -> None:
        model, inputs, expected = other_types()
        given = {"x": inputs["x"]}
        sent = device.sent_bytes
        job = make_job(model, given, Options("cpu"), timeout=60, wanted=[wanted])
        with pytest.raises(DeviceRefused) as refused:
            completed(device, job, UNTOUCHED)
        assert str(refused.value) == (
            f"pixel8a rejected the model: the app cannot pass on output '{wanted}' of type {expected[wanted].dtype}: "
            "LiteRT's Kotlin API has buffers of float32, int32, int64, int8 and bool only. "
            "Run it without the app, by LiteRT's own run_model: --tools DIR (docs/phone.md)."
        )
        assert device.sent_bytes == sent

    @pytest.mark.parametrize("name", ["in uint8", "in int16", "in float16"])
    def test_so_is_an_input(self, device: AndroidDevice, name: str) -> None:
        model, inputs, _ = other_types()
        outcome = device.run(make_job(model, {name: inputs[name]}, Options("cpu"), timeout=60, wanted=()))
        assert isinstance(outcome, Rejected)
        assert outcome.reason.startswith(f"the app cannot pass on input '{name}' of type {inputs[name].dtype}: ")

    def test_the_log_of_a_run_is_of_that_run(self, device: AndroidDevice) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
        job = make_job(graph.build(), {"x": np.zeros((1, 4), np.float32)}, Options("cpu"), timeout=60)
        first, second = device.run(job), device.run(job)
        assert isinstance(first, Completed) and isinstance(second, Completed)
        assert "INFO: answered" in first.log
        assert second.log.splitlines() == [line for line in second.log.splitlines() if "answered" in line]

    def test_a_small_job_takes_no_longer_than_its_round_trip_and_sends_its_model_once(
        self, device: AndroidDevice
    ) -> None:
        graph = GraphBuilder()
        weights = np.ones(1 << 16, np.float32)
        graph.output(graph.binary("ADD", graph.input("x", (1, 1)), graph.constant(weights)), "y")
        model = graph.build()
        job = make_job(model, {"x": np.zeros((1, 1), np.float32)}, Options("cpu"), timeout=60)
        completed(device, job, "running it")
        before, seconds = device.sent_bytes, []
        for _ in range(20):
            began = time.perf_counter()
            completed(device, job, "running it")
            seconds.append(time.perf_counter() - began)
        assert device.sent_bytes - before < 20 * 4096 < len(model.to_bytes())
        assert (
            statistics.median(seconds) < 0.2
        )  # benchmarks/phone.py measures; this only holds off a wait that crept in
