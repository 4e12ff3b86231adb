"""The parts of the worker that need no runtime: which requests are sound, and how a runtime is asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.devices import worker
from harness.devices.link import Message
from harness.devices.worker import Compiled, Refusal, Request

CPU: dict[str, Any] = {"accelerator": "cpu", "precision": "default", "threads": 0}
GPU = CPU | {"accelerator": "gpu"}
GOOD: dict[str, Any] = {"options": CPU, "outputs": ["y"], "positions": [0], "warmup": 0, "iterations": 1}


def request(**changes: Any) -> Request:
    return Request.of(Message("run", 1, GOOD | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"options": CPU | {"threads": 1024}},
        {"options": CPU | {"fallback": "none"}},
        {"options": GPU | {"fallback": "cpu"}},
        {"options": GPU | {"precision": "fp16-fp32acc"}},
        {"positions": [1 << 16]},
        {"outputs": ["y", "z"], "positions": [0, 0]},
        {"outputs": [], "positions": [], "iterations": 0},  # only to compile it
        {"warmup": 1, "iterations": 0},
        {"warmup": 1 << 20, "iterations": 1 << 20},
    ],
)
def test_a_request_at_its_bounds_is_sound(changes: dict[str, Any]) -> None:
    made, wanted = request(**changes), GOOD | changes
    assert made.options == wanted["options"]
    assert made.outputs == list(zip(wanted["outputs"], wanted["positions"], strict=True))
    assert (made.warmup, made.iterations, made.final) == (wanted["warmup"], wanted["iterations"], False)


@pytest.mark.parametrize(
    ("final", "is_final"), [(True, True), (False, False), (None, False), (1, False), ("yes", False)]
)
def test_only_true_makes_a_run_the_last(final: Any, is_final: bool) -> None:
    assert request(final=final).final is is_final


WORDS = "accelerator is a word, precision one of default, fp16, fp32, fp16-fp32acc"
LACKING = "the options lack accelerator, precision or threads, or hold more"
LENGTHS = "outputs and positions are two lists of one length"
NAMES = "outputs are names, positions are small numbers"
COUNTS = "warmup and iterations are numbers below a million"
ONCE = "each output is wanted once, of a model that runs at least once"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"options": GPU | {"priority": "low", "backend": "opencl"}},
            "this runtime's Python API has no choice of backend, priority",
        ),
        ({"options": [*CPU]}, LACKING),
        ({"options": {"accelerator": "cpu", "precision": "default", "fallback": "none"}}, LACKING),
        ({"options": CPU | {"accelerator": None}}, WORDS),
        ({"options": CPU | {"precision": "fp64"}}, WORDS),
        ({"options": CPU | {"threads": 1025}}, "1025 is no number of threads"),
        ({"options": CPU | {"threads": 1.0}}, "1.0 is no number of threads"),
        ({"options": GPU | {"fallback": None}}, "fallback is one of none, cpu"),
        ({"options": CPU | {"fallback": "cpu"}}, "the fallback is the GPU's option"),
        ({"outputs": None}, LENGTHS),
        ({"positions": None}, LENGTHS),
        ({"positions": []}, LENGTHS),
        ({"outputs": ["y", 1], "positions": [0, 1]}, NAMES),
        ({"positions": [(1 << 16) + 1]}, NAMES),
        ({"positions": [False]}, NAMES),
        ({"warmup": (1 << 20) + 1}, COUNTS),
        ({"iterations": (1 << 20) + 1}, COUNTS),
        ({"warmup": None}, COUNTS),
        ({"iterations": -1}, COUNTS),
        ({"outputs": ["y", "y"], "positions": [0, 1]}, ONCE),
        ({"warmup": 0, "iterations": 0}, ONCE),
    ],
)  # fmt: skip
def test_a_request_beyond_its_bounds_is_refused_for_that(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Refusal) as caught:
        request(**changes)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("value", "counts"),
    [(0, True), (5, True), (-1, False), (6, False), (True, False), (1.0, False), ("1", False), (None, False)],
)
def test_a_count_is_a_number_from_none_to_its_limit(value: Any, counts: bool) -> None:
    assert worker._is_count(value, 5) is counts


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("one\n  two \n", "one two"),
        ("ERROR: [a.cc:1] here\n└ Failed to do it\n\t└ since\n", "Failed to do it since"),
        ("CompiledModel error 4\nwhy", "why"),
        ("ERROR: why", "ERROR: why"),
        ("ERROR: [a.cc:1] here", "ERROR: [a.cc:1] here"),
        ("", ""),
    ],
)
def test_a_runtime_s_sentence_is_told_without_its_places(said: str, plain: str) -> None:
    assert worker._plain(RuntimeError(said)) == plain


def test_a_sentence_that_is_no_utf_8_is_told_as_far_as_it_is() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        b"no op '\xff'\n".decode()
    assert worker._plain(caught.value) == "no op '�'"


@pytest.mark.parametrize("precision", ["default", "fp32"])
def test_the_cpu_computes_in_single_precision(precision: str) -> None:
    worker._only_single_precision(precision)


def test_the_boot_is_told_where_the_system_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: f" {path} in {encoding}\n")
    assert worker._boot_id() == "/proc/sys/kernel/random/boot_id in ascii"

    def none(path: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", none)
    assert worker._boot_id() == ""


def api(**more: Any) -> Any:
    """A runtime that tells how it was asked."""
    return SimpleNamespace(
        HardwareAccelerator=SimpleNamespace(CPU=1, GPU=4),
        CompiledModel=SimpleNamespace(from_file=lambda *words, **options: (words, options)),
        **more,
    )


OPTIONS = {"Options": lambda *w, **o: (w, o), "GpuOptions": dict, "CpuOptions": dict}


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (GPU, ((4,), {"gpu_options": {"enforce_f32": False}})),
        (GPU | {"precision": "fp16"}, ((4,), {"gpu_options": {"enforce_f32": False}})),
        (GPU | {"precision": "fp32"}, ((4,), {"gpu_options": {"enforce_f32": True}})),
        (GPU | {"fallback": "none"}, ((4,), {"gpu_options": {"enforce_f32": False}})),
        (GPU | {"fallback": "cpu"}, ((5,), {"gpu_options": {"enforce_f32": False}})),
        (CPU | {"threads": 3}, ((1,), {"cpu_options": {"num_threads": 3}})),
    ],
)
def test_the_runtime_is_asked_for_what_was_chosen(options: dict[str, Any], chosen: Any) -> None:
    assert worker._compiled(api(**OPTIONS), "m.tflite", options) == (("m.tflite",), {"options": chosen})


def test_a_runtime_without_options_is_asked_for_an_accelerator_alone() -> None:
    for options, hardware in ((GPU, 4), (GPU | {"precision": "fp16"}, 4), (CPU | {"precision": "fp32"}, 1)):
        assert worker._compiled(api(), "m.tflite", options) == (("m.tflite", hardware), {})
    with pytest.raises(Refusal, match=r"^this release's Python API has no options for the GPU$"):
        worker._compiled(api(), "m.tflite", GPU | {"precision": "fp32"})


class Buffer:
    """Keeps what was written, and gives it back; `lost` where it is not to be had."""

    def __init__(self, held: bytes = b"", lost: str = "") -> None:
        self.held, self.lost, self.destroyed = held, lost, 0

    def write(self, data: Array) -> None:
        assert data.dtype == np.int8 and data.ndim == 1
        self.held = data.tobytes()

    def read(self, count: int, dtype: Any) -> Array:
        assert dtype is np.int8
        if self.lost:
            raise RuntimeError(self.lost)
        return np.frombuffer(self.held, np.int8)[:count]

    def destroy(self) -> None:
        self.destroyed += 1


A, B = np.array([[1.0, 2.0]], np.float32), np.array([3, 4, 5], np.int64)


class Loaded:
    """A model of two inputs, `a` and `b`, and two outputs; `asked` gives what the release can be asked for."""

    def __init__(self, **asked: Any) -> None:
        self.ins, self.outs, self.ran = [Buffer(), Buffer()], [Buffer(A.tobytes() + b"rest"), Buffer(lost="late")], 0
        self.takes = {"a": {"shape": (1, 2), "dtype": "float32"}, "b": {"shape": (3,), "dtype": "int64"}}
        self.gives = {"z": {"shape": (), "dtype": "bool"}, "y": {"shape": (1, 2), "dtype": "float32"}}
        for name, answer in asked.items():
            setattr(self, name, answer)

    def get_signature_by_index(self, index: int) -> dict[str, Any]:
        assert index == 0
        return {"key": "serving", "inputs": ["a", "b"], "outputs": ["y", "z"]}

    def get_input_tensor_details(self, key: str) -> dict[str, Any]:
        assert key == "serving"
        return self.takes

    def get_output_tensor_details(self, key: str) -> dict[str, Any]:
        assert key == "serving"
        return self.gives

    def create_input_buffers(self, index: int) -> list[Buffer]:
        assert index == 0
        return self.ins

    def create_output_buffers(self, index: int) -> list[Buffer]:
        assert index == 0
        return self.outs

    def run_by_index(self, index: int, ins: list[Buffer], outs: list[Buffer]) -> None:
        assert (index, ins, outs) == (0, self.ins, self.outs)
        self.ran += 1


def compiled(monkeypatch: pytest.MonkeyPatch, loaded: Loaded, options: dict[str, Any] = CPU) -> Compiled:
    monkeypatch.setattr(worker, "_compiled", lambda cm, path, options: loaded)
    return Compiled("m.tflite", options)


@pytest.mark.parametrize(
    ("options", "asked", "full"),
    [
        (GPU, {"is_fully_accelerated": lambda: True}, True),
        (GPU, {}, True),  # such a release refuses what it does not take whole
        (GPU | {"fallback": "cpu"}, {"is_fully_accelerated": lambda: False}, False),
        (CPU, {"is_fully_accelerated": lambda: True}, False),
        (CPU, {}, False),
    ],
)
def test_a_model_is_full_where_the_gpu_took_all(
    options: dict[str, Any], asked: dict[str, Any], full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled(monkeypatch, Loaded(**asked), options).full is full


@pytest.mark.parametrize("more", [{}, {"fallback": "none"}])
def test_a_model_that_the_gpu_took_a_part_of_is_refused(more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match=r"^the GPU delegate took only a part of the model$"):
        compiled(monkeypatch, Loaded(is_fully_accelerated=lambda: False), GPU | more)


def test_a_release_that_tells_nothing_of_outputs_is_asked_through_its_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str]] = []

    def details(path: str, key: str) -> dict[str, Any]:
        asked.append((path, key))
        return {"y": {"shape": (2,), "dtype": "float32"}, "z": {"shape": (), "dtype": "bool"}}

    monkeypatch.setattr(worker, "_output_details", details)
    old = Loaded(get_output_tensor_details=None)
    assert compiled(monkeypatch, old).read(0).tolist() == [1.0, 2.0]
    assert asked == [("m.tflite", "serving")]


@pytest.mark.parametrize("inputs", [{"a": A, "b": B}, {"b": B, "a": A}, {"args_0": A, "args_1": B}])
def test_inputs_go_by_name_or_where_no_name_is_known_by_their_order(
    inputs: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Loaded()
    compiled(monkeypatch, loaded).write(inputs)
    assert [buffer.held for buffer in loaded.ins] == [A.tobytes(), B.tobytes()]


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"a": A}, "1 inputs came for a model that takes 2"),
        ({"a": A, "b": B, "c": B}, "3 inputs came for a model that takes 2"),
        ({"a": A, "c": B}, "inputs a, c came for a model that takes a, b"),
        ({"a": A[0], "b": B}, "input 'a' came as float32 [2], not float32 [1, 2]"),
        ({"a": A, "b": B[:2]}, "input 'b' came as int64 [2], not int64 [3]"),
        ({"a": A, "b": B.astype(np.int32)}, "input 'b' came as int32 [3], not int64 [3]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_for_that(
    inputs: dict[str, Array], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refusal) as caught:
        compiled(monkeypatch, Loaded()).write(inputs)
    assert str(caught.value) == why


def test_a_size_that_the_model_leaves_open_takes_any_and_none_is_still_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Loaded()
    loaded.takes = {"a": {"shape": (-1, 2), "dtype": "float32"}, "b": {"shape": (0,), "dtype": "int64"}}
    engine = compiled(monkeypatch, loaded)
    engine.write({"a": np.repeat(A, 3, 0), "b": B[:0]})
    assert loaded.ins[0].held == A.tobytes() * 3
    with pytest.raises(Refusal, match=r"^input 'b' came as int64 \[3\], not int64 \[0\]$"):
        engine.write({"a": A, "b": B})
    loaded.takes["b"] = {"shape": (), "dtype": "int64"}
    with pytest.raises(Refusal, match=r"^input 'b' came as int64 \[3\], not int64 \[\]$"):
        engine.write({"a": A, "b": B})


def test_a_type_of_the_model_that_the_wire_lacks_takes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Loaded()
    loaded.takes["b"] = {"shape": (3,), "dtype": "bfloat16"}
    with pytest.raises(Refusal, match=r"^input 'b' came as uint16 \[3\], not bfloat16 \[3\]$"):
        compiled(monkeypatch, loaded).write({"a": A, "b": B.astype(np.uint16)})


def test_outputs_are_read_at_their_size_and_a_late_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Loaded()
    engine = compiled(monkeypatch, loaded)
    engine.run()
    assert loaded.ran == 1
    assert [engine.position(name) for name in ("y", "z", "x")] == [0, 1, -1]
    values = engine.read(0)
    assert (values.dtype, values.tolist()) == (np.float32, A.tolist())
    with pytest.raises(Refusal, match=r"^the runtime gave up waiting for an output \(late\)$"):
        engine.read(1)
    with pytest.raises(Refusal, match=r"^the model has no output 2$"):
        engine.read(2)
    engine.release(1)
    assert [buffer.destroyed for buffer in loaded.outs] == [0, 1]
