"""A phone without an app: LiteRT's tool over `adb shell`, with the outcomes that the app has."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_tests.corpus import CORPUS, REPORTED
from harness.api.on_device import OnDevice
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Completed, Crashed, Job, Lost, Options, Rejected, TimedOut
from harness.devices.android import recovery
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.android.no_app.device import ToolDevice
from harness.devices.android.no_app.folder import JOBS, tools_in
from harness.devices.execute import make_job
from harness.devices.registry import find_phone, open_device
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from tests.arrays import normal
from tests.standin.conftest import Works
from tests.standin.phone import Phone, make_tools
from tests.standin.scenes import crossed_signature, mixed_types, small_network

CPU, GPU = Options("cpu"), Options("gpu")
ONES = np.ones((1, 4), np.float32)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "RETURN_SECONDS", 30.0)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tools(tmp_path_factory.mktemp("litert") / "android_arm64")


@pytest.fixture(scope="module")
def device(phone: Phone, tools: Path) -> Iterator[ToolDevice]:
    with open_device(phone.serial, phone=PhoneOptions(tools=tools)) as opened:
        assert isinstance(opened, ToolDevice)
        yield opened


@pytest.fixture
def quick(plus_one: Model) -> Job:
    return make_job(plus_one, {"x": ONES}, CPU, timeout=60)


@pytest.fixture
def fails(phone: Phone) -> Iterator[Callable[..., None]]:
    """Has the tool fail in some way."""
    yield lambda **how: phone.write("tool", how)
    (phone.state / "tool.json").unlink(missing_ok=True)


Fails = Callable[..., None]


def left(phone: Phone) -> list[str]:
    """What jobs left on the phone."""
    folder = phone.data.parent / JOBS.removeprefix("/")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def tool_runs() -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if f"--graph={JOBS}".encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False


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

    def test_of_float16_weights(self, phone: Phone, device: ToolDevice, apk: Path) -> None:
        model = CORPUS[-1].build()
        assert model.graph().constant_ops
        job = make_job(model, random_inputs(model.graph(), 3), GPU, timeout=120)
        with AndroidDevice("app", find_phone(phone.serial), PhoneOptions(apk)) as app:
            expected = app.run(job)
        found = device.run(job)
        assert isinstance(expected, Completed) and isinstance(found, Completed), (expected, found)
        assert {n: v.tobytes() for n, v in found.outputs.items()} == {
            n: v.tobytes() for n, v in expected.outputs.items()
        }
        assert found.residency.full and found.residency.refused == ()


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

    def test_leaves_its_model_for_the_next_one_and_nothing_in_the_end(
        self, phone: Phone, device: ToolDevice, works: Works
    ) -> None:
        works()
        (folder, model) = left(phone)
        assert model == f"{folder}/model.tflite"
        before = (phone.data.parent / JOBS.removeprefix("/") / model).stat().st_mtime_ns
        works()
        assert (phone.data.parent / JOBS.removeprefix("/") / model).stat().st_mtime_ns == before
        device.stop()
        assert left(phone) == []

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


class TestTheTool:
    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL], ids=lambda n: n.name)
    def test_ended_by_a_signal_is_a_crash_with_its_name(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails, number: signal.Signals
    ) -> None:
        fails(do="crash", signal=int(number))
        outcome = device.run(quick)
        assert isinstance(outcome, Crashed), outcome
        assert outcome.signal == number.name
        assert outcome.reason.startswith(f"run_model was ended by {number.name}")
        assert left(phone) == []
        fails()
        works()

    def test_that_hangs_is_ended_at_the_deadline(
        self, phone: Phone, device: ToolDevice, works: Works, plus_one: Model, fails: Fails
    ) -> None:
        works()
        fails(do="hang")
        outcome = device.run(make_job(plus_one, {"x": ONES}, CPU, timeout=5))
        assert isinstance(outcome, TimedOut), outcome
        assert not tool_runs() and left(phone) == []
        fails()
        works()

    def test_interrupted_leaves_nothing(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails
    ) -> None:
        works()
        fails(do="hang")

        def interrupt() -> None:
            while not tool_runs():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell's background ignores it
        try:
            threading.Thread(target=interrupt).start()
            with pytest.raises(KeyboardInterrupt):
                device.run(quick)
        finally:
            signal.signal(signal.SIGINT, before)
        assert not tool_runs() and left(phone) == []
        fails()
        works()

    @pytest.mark.parametrize(
        ("how", "reason"),
        [
            ("short", "output 'y' came as float32 [3], not float32 [1, 4]"),
            ("wild", "run_model printed output 'y' damaged: no such values"),
            ("late", "run_model printed output 'y' damaged: value 1 of output 0 came after 0"),
            ("flood", "run_model said more than the values of its outputs can take"),
        ],
    )
    def test_that_prints_something_else_is_lost(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails, how: str, reason: str
    ) -> None:
        fails(do=how)
        outcome = device.run(quick)
        assert isinstance(outcome, Lost), outcome
        assert outcome.reason == f"{reason}; {phone.serial} is attached and did not reboot"
        fails()
        works()

    def test_that_refuses_a_model_says_why(self, device: ToolDevice, works: Works) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
        model = graph.build()
        model.root.operatorCodes[0].builtinCode = model.root.operatorCodes[0].deprecatedBuiltinCode = 32
        model.root.operatorCodes[0].customCode = "Unheard"
        model.root.subgraphs[0].operators[0].builtinOptions = None
        model.root.subgraphs[0].operators[0].builtinOptionsType = 0
        model.edited()
        outcome = device.run(make_job(model, {"x": ONES}, CPU, timeout=60))
        assert isinstance(outcome, Rejected), outcome
        assert outcome.reason == "the runtime has no custom op 'Unheard'"
        works()


class TestTheFolder:
    def test_is_pushed_once_and_again_when_it_changes(self, phone: Phone, tmp_path: Path, plus_one: Model) -> None:
        said: list[str] = []
        folder = make_tools(tmp_path / "tools")
        (folder / "libother.so").write_bytes((folder / "libLiteRt.so").read_bytes())

        def run() -> None:
            adb = find_phone(phone.serial)
            with ToolDevice("pixel8a", adb, folder, progress=said.append) as device:
                assert isinstance(device.run(make_job(plus_one, {"x": ONES}, CPU, timeout=60)), Completed)

        run()
        run()
        pushed = f"pushing run_model to {phone.serial} (once)"
        assert said == [pushed]
        there = phone.data.parent / tools_in(folder).there.removeprefix("/")
        (there / "libother.so").write_bytes(b"tampered")
        run()
        assert said == [pushed] * 2
        (folder / "libother.so").rename(folder / "libthird.so")
        run()
        assert said == [pushed] * 3

    def test_without_a_library_is_one_sentence(self, phone: Phone, tmp_path: Path, quick: Job) -> None:
        folder = make_tools(tmp_path / "tools")
        (folder / "libLiteRt.so").unlink()
        expected = rf'run_model of {folder} does not start on {phone.serial}: .*library "libLiteRt.so" not found'
        with (
            ToolDevice("pixel8a", find_phone(phone.serial), folder) as device,
            pytest.raises(DeviceError, match=expected),
        ):
            device.run(quick)

    def test_with_a_tool_that_cannot_be_started_is_one_sentence(self, phone: Phone, tmp_path: Path, quick: Job) -> None:
        folder = make_tools(tmp_path / "tools")
        (folder / "run_model").write_text("#!/no/such/interpreter\n", "utf-8")
        with (
            ToolDevice("pixel8a", find_phone(phone.serial), folder) as device,
            pytest.raises(DeviceError, match=rf"^run_model of {folder} does not start on {phone.serial}: "),
        ):
            device.run(quick)


class TestThePhone:
    def test_unplugged_during_a_run_is_lost_and_comes_back(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        works()
        monkeypatch.setattr(recovery, "RETURN_SECONDS", 1.0)
        fails(do="hang")

        def unplug() -> None:
            while not tool_runs():
                time.sleep(0.01)
            phone.stop_adbd()

        threading.Thread(target=unplug).start()
        outcome = device.run(quick)
        assert isinstance(outcome, Lost), outcome
        assert re.fullmatch(
            rf"the connection broke while run_model ran; {phone.serial} is not there: adb says (offline|absent)",
            outcome.reason,
        )
        fails()
        monkeypatch.setattr(recovery, "RETURN_SECONDS", 30.0)
        phone.boot()
        works()
        assert not tool_runs()  # what the pulled cable left

    def test_that_reboots_during_a_run_is_told_by_the_boot_id(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails
    ) -> None:
        before = works().boot_id
        fails(do="hang")

        def reboot() -> None:
            while not tool_runs():
                time.sleep(0.01)
            fails()
            phone.reboot()

        threading.Thread(target=reboot).start()
        outcome = device.run(quick)
        after = works().boot_id
        assert isinstance(outcome, Lost), outcome
        assert outcome.reason == (
            f"the phone rebooted during the run (boot id {before}, then {after}; its reason: kernel_panic)"
        )

    def test_that_is_full_rejects_the_model(self, phone: Phone, device: ToolDevice, works: Works) -> None:
        works()
        graph = GraphBuilder()
        weights = np.ones(1 << 20, np.float32)
        graph.output(graph.binary("ADD", graph.input("x", (1 << 20,)), graph.constant(weights)), "y")
        job = make_job(graph.build(), {"x": weights}, CPU, timeout=60, wanted=())
        filler = phone.data / "filler"
        with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1 << 20))
        outcome = device.run(job)
        filler.unlink()
        assert isinstance(outcome, Rejected), outcome
        assert outcome.reason == "the model cannot be stored (No space left on device)"
        works()

    def test_that_is_full_has_no_room_for_the_tools(
        self, phone: Phone, tmp_path: Path, device: ToolDevice, works: Works, quick: Job
    ) -> None:
        folder = make_tools(tmp_path / "tools")
        (folder / "libbig.so").write_bytes((folder / "libLiteRt.so").read_bytes() + os.urandom(300 << 20))
        with (
            ToolDevice("pixel8a", find_phone(phone.serial), folder) as full,
            pytest.raises(DeviceError, match=rf"^{phone.serial} has no room for run_model\. "),
        ):
            full.run(quick)
        shutil.rmtree(folder)
        device.stop()
        works()  # although it had to make room


def test_the_app_and_the_tools_share_one_lock(phone: Phone, apk: Path, device: ToolDevice, works: Works) -> None:
    works()
    with AndroidDevice("app", find_phone(phone.serial), PhoneOptions(apk)) as app:
        assert isinstance(app, AndroidDevice)
        app.facts()
        locks: list[Any] = [app.launcher._lock, device.launcher._lock]
        assert locks[0].path == locks[1].path


class TestAsACommand:
    """The whole way from a command to its answer."""

    def test_compare_gives_the_figures_that_the_app_gives(
        self, phone: Phone, apk: Path, tools: Path, device: ToolDevice, tmp_path: Path
    ) -> None:
        device.stop()
        answers = [
            OnDevice(phone.serial, tmp_path / name, 120, options).compare(small_network())
            for name, options in (("app", PhoneOptions(apk)), ("tools", PhoneOptions(tools=tools)))
        ]
        app, without = answers
        assert without.outputs == app.outputs
        assert without.done.residency.full and app.done.residency.full

    @pytest.mark.gpu
    def test_localize_blames_the_same_op(self, phone: Phone, tools: Path, device: ToolDevice, tmp_path: Path) -> None:
        device.stop()
        bug = min((bug for bug in REPORTED if "host" in bug.broken), key=lambda bug: len(bug.build().to_bytes()))
        answer = OnDevice(phone.serial, tmp_path, 120, PhoneOptions(tools=tools)).localize(bug.build())
        assert tuple((c.record.index, c.record.op, c.cause) for c in answer.culprits) == bug.culprits

    def test_bench_says_that_the_tool_times_no_run(
        self, phone: Phone, tools: Path, tmp_path: Path, plus_one: Model
    ) -> None:
        with pytest.raises(UsageError, match=r"to each of several runs\. Measure it with the app: unset"):
            OnDevice(phone.serial, tmp_path, 120, PhoneOptions(tools=tools)).bench(plus_one)
