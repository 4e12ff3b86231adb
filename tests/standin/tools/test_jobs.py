"""What a job without an app is: timed by the tool, refused where the tool cannot, tidy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.core.job import Completed, Options, Rejected
from harness.devices.android.no_app.device import ToolDevice
from harness.devices.android.no_app.folder import JOBS
from harness.devices.execute import make_job
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import normal
from tests.standin.conftest import Works
from tests.standin.phone import Phone, make_tools
from tests.standin.tools.conftest import ONES, left

CPU, GPU = Options("cpu"), Options("gpu")


def place(phone: Phone, name: str) -> Path:
    return phone.data.parent / JOBS.removeprefix("/") / name


def written(phone: Phone, names: list[str]) -> list[tuple[int, int]]:
    """What tells a file that was written anew: when, and which."""
    found = [place(phone, name).stat() for name in names]
    return [(about.st_mtime_ns, about.st_ino) for about in found]


class TestAJob:
    def test_is_timed_by_the_tool_itself(self, device: ToolDevice, plus_one: Model) -> None:
        for warmup in (0, 1, 3):
            outcome = device.run(make_job(plus_one, {"x": ONES}, CPU, timeout=60, warmup=warmup))
            assert isinstance(outcome, Completed), outcome
            (sample,) = outcome.samples
            assert 0 <= sample.run_ns < 10**9 and outcome.compile_ns > 0

    def test_without_outputs_only_compiles(self, device: ToolDevice, plus_one: Model) -> None:
        outcome = device.run(make_job(plus_one, {}, CPU, timeout=60, wanted=(), iterations=0))
        assert isinstance(outcome, Completed), outcome
        assert (outcome.outputs, outcome.samples) == ({}, ())
        assert "buffer 0:" not in outcome.log

    def test_leaves_its_model_and_inputs_for_the_next_one_and_nothing_in_the_end(
        self, phone: Phone, device: ToolDevice, works: Works
    ) -> None:
        works()
        (folder, inputs, *files) = left(phone)
        assert (inputs, files) == (f"{folder}/in", [f"{folder}/in/in_0000.raw", f"{folder}/model.tflite"])
        before = written(phone, files)
        works()
        assert written(phone, files) == before
        device.stop()
        assert left(phone) == []

    def test_pushes_what_another_value_model_or_hand_changed_and_nothing_else(
        self, phone: Phone, device: ToolDevice, works: Works, plus_one: Model
    ) -> None:
        def run(model: Model, x: Array) -> float:
            outcome = device.run(make_job(model, {"x": x}, CPU, timeout=60))
            assert isinstance(outcome, Completed), outcome
            return float(outcome.outputs["y"][0, 0])

        graph = GraphBuilder()
        graph.output(graph.binary("SUB", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
        minus_one = graph.build()
        works()
        files = left(phone)[2:]
        first = written(phone, files)
        assert run(plus_one, 5 * ONES) == 6
        second = written(phone, files)
        assert (second[0] == first[0], second[1] == first[1]) == (False, True)
        assert run(minus_one, 5 * ONES) == 4
        third = written(phone, files)
        assert (third[0] == second[0], third[1] == second[1]) == (True, False)
        place(phone, files[0]).write_bytes(ONES.tobytes()[:-1])
        assert run(minus_one, 5 * ONES) == 4
        place(phone, files[0]).unlink()
        assert run(minus_one, 5 * ONES) == 4
        shutil.rmtree(place(phone, left(phone)[0]))
        assert run(minus_one, 5 * ONES) == 4

    def test_leaves_no_input_to_a_model_that_has_fewer(self, phone: Phone, device: ToolDevice, works: Works) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.input("z", (1, 4))), "y")
        inputs = {"x": ONES, "z": 2 * ONES}
        assert isinstance(device.run(make_job(graph.build(), inputs, CPU, timeout=60)), Completed)
        assert len([name for name in left(phone) if name.endswith(".raw")]) == 2
        works()
        assert len([name for name in left(phone) if name.endswith(".raw")]) == 1

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (Options("npu"), "LiteRT's run_model is driven here for the CPU and the GPU, not for 'npu'"),
            (Options("gpu", "fp16-fp32acc"), "LiteRT's run_model has no precision fp16-fp32acc"),
            (Options("cpu", "fp16"), "the CPU computes in single precision, not fp16"),
            (Options("cpu", threads=2), "LiteRT's run_model has no choice of threads"),
            (Options("gpu", backend="opengl"), "LiteRT's run_model has no choice of backend"),
        ],
        ids=["npu", "fp16-fp32acc", "cpu-fp16", "threads", "backend"],
    )
    def test_that_the_tool_cannot_do_is_refused_before_the_phone_is_asked(
        self, tools: Path, plus_one: Model, options: Options, reason: str
    ) -> None:
        class Nobody:
            serial = "S0"

        with ToolDevice("nobody", Nobody(), tools) as device:  # type: ignore[arg-type]
            outcome = device.run(make_job(plus_one, {"x": ONES}, options, timeout=60))
            with pytest.raises(UsageError, match=r"^LiteRT's run_model gives no time of its own to each of 20 runs\."):
                device.run(make_job(plus_one, {"x": ONES}, CPU, timeout=60, iterations=20))
        assert outcome == Rejected(reason)

    def test_for_the_gpu_needs_the_accelerator(self, tmp_path: Path, phone: Phone, plus_one: Model) -> None:
        folder = make_tools(tmp_path / "tools")
        (folder / "libLiteRtClGlAccelerator.so").unlink()
        with ToolDevice("pixel8a", find_phone(phone.serial), folder) as device:
            outcome = device.run(make_job(plus_one, {"x": ONES}, GPU, timeout=60))
        assert isinstance(outcome, Rejected)
        assert outcome.reason == f"{folder} holds no GPU accelerator, such as libLiteRtClGlAccelerator.so"

    def test_that_the_gpu_takes_in_part_is_refused_as_by_the_app(self, device: ToolDevice) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 2, 2, 2, 2))
        graph.output(graph.unary("NEG", graph.reshape(graph.unary("NEG", x), (1, 16))), "y")
        job = make_job(graph.build(), {"x": normal((1, 2, 2, 2, 2), seed=3)}, GPU, timeout=120)
        outcome = device.run(job)
        assert isinstance(outcome, Rejected), outcome
        assert outcome.reason.startswith("the GPU delegate refuses ")
        assert outcome.ops and not [op for op in outcome.ops if "BITCAST" in op or "harness" in op]
        shared = device.run(make_job(graph.build(), job.inputs, Options("gpu", fallback="cpu"), timeout=120))
        assert isinstance(shared, Completed), shared
        assert (shared.residency.full, shared.residency.total) == (False, 3)
