"""The tool over `adb shell` gives the bits that the app gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus import CORPUS
from harness.core.job import Completed, Options
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.android.no_app.device import ToolDevice
from harness.devices.execute import make_job
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from tests.arrays import normal
from tests.standin.phone import Phone
from tests.standin.scenes import crossed_signature, halves_behind_an_op, mixed_types, other_types, small_network

CPU, GPU = Options("cpu"), Options("gpu")


class TestTheSameBits:
    @pytest.mark.parametrize(
        "options", [CPU, GPU, Options("gpu", "fp32")], ids=lambda o: f"{o.accelerator}-{o.precision}"
    )
    def test_as_from_the_app(self, phone: Phone, device: ToolDevice, apk: Path, options: Options) -> None:
        job = make_job(small_network(), {"x": normal((1, 16), seed=7)}, options, timeout=120)
        with AndroidDevice("app", find_phone(phone.serial), PhoneOptions(apk)) as app:
            expected = app.run(job)
        found = device.run(job)
        assert isinstance(expected, Completed) and isinstance(found, Completed), (expected, found)
        assert found.outputs["y"].tobytes() == expected.outputs["y"].tobytes()
        assert found.outputs["y"].dtype == np.float32 and found.outputs["y"].shape == (1, 16)
        assert found.residency.full == (options.accelerator == "gpu")
        if options.accelerator == "gpu":
            assert (found.residency.delegated, found.residency.total) in ((3, 3), (None, None))
            assert found.adapter

    def test_of_every_type(self, device: ToolDevice) -> None:
        model, inputs, expected = mixed_types()
        outcome = device.run(make_job(model, inputs, CPU, timeout=60))
        assert isinstance(outcome, Completed), outcome
        assert set(outcome.outputs) == set(expected)
        for name, values in expected.items():
            assert outcome.outputs[name].dtype == values.dtype
            assert outcome.outputs[name].tobytes() == values.tobytes(), name

    def test_of_types_that_the_app_cannot_pass_on(self, device: ToolDevice) -> None:
        model, inputs, expected = other_types()
        outcome = device.run(make_job(model, inputs, CPU, timeout=60))
        assert isinstance(outcome, Completed), outcome
        assert set(outcome.outputs) == set(expected)
        for name, values in expected.items():
            assert outcome.outputs[name].dtype == values.dtype, name
            assert outcome.outputs[name].tobytes() == values.tobytes(), name

    def test_of_values_that_no_text_of_six_digits_holds(self, device: ToolDevice) -> None:
        graph = GraphBuilder()
        graph.output(graph.reshape(graph.input("x", (2, 4)), (8,)), "y")
        x = np.asarray([[np.nan, -0.0, 1e-45, np.inf], [1 + 2**-23, -np.inf, 3.4028235e38, 0.1]], np.float32)
        outcome = device.run(make_job(graph.build(), {"x": x}, CPU, timeout=60))
        assert isinstance(outcome, Completed), outcome
        assert outcome.outputs["y"].tobytes() == x.tobytes()

    def test_of_a_signature_in_another_order(self, device: ToolDevice) -> None:
        inputs = {"a": np.asarray([5, 7], np.float32), "b": np.asarray([1, 2], np.float32)}
        outcome = device.run(make_job(crossed_signature(), inputs, CPU, timeout=60))
        assert isinstance(outcome, Completed), outcome
        assert {n: v.tolist() for n, v in outcome.outputs.items()} == {"difference": [4, 5], "sum": [6, 9]}

    def test_of_names_that_are_no_file_names(self, device: ToolDevice) -> None:
        graph = GraphBuilder()
        names = ["/etc/x", "../y", "a'; rm -rf $HOME #", "ü\n"]
        handles = [graph.input(name, (2,)) for name in names]
        for name, handle in zip(names, handles, strict=True):
            graph.output(graph.unary("NEG", handle), f"-{name}")
        inputs = {name: np.asarray([i, i + 0.5], np.float32) for i, name in enumerate(names)}
        outcome = device.run(make_job(graph.build(), inputs, CPU, timeout=60))
        assert isinstance(outcome, Completed), outcome
        for name, values in inputs.items():
            assert np.array_equal(outcome.outputs[f"-{name}"], -values)

    @pytest.mark.parametrize("build", [CORPUS[-1].build, lambda: halves_behind_an_op()[0]], ids=["mlp", "behind"])
    def test_of_float16_weights(self, phone: Phone, device: ToolDevice, apk: Path, build: Callable[[], Model]) -> None:
        model = build()
        assert model.graph().constant_ops
        job = make_job(model, random_inputs(model.graph(), 3), GPU, timeout=120)
        with AndroidDevice("app", find_phone(phone.serial), PhoneOptions(apk)) as app:
            expected = app.run(job)
        found = device.run(job)
        assert isinstance(expected, Completed) and isinstance(found, Completed), (expected, found)
        assert {n: v.tobytes() for n, v in found.outputs.items()} == {
            n: v.tobytes() for n, v in expected.outputs.items()
        }
        assert found.residency == expected.residency
