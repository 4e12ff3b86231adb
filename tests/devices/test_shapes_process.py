"""How the process that prepares a model is asked and what is made of its answer, without one."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import numpy as np
import pytest

import harness
from harness.core.errors import UsageError
from harness.devices import shapes
from harness.devices.captured import Captured
from harness.devices.shapes import Unanswered, Undecided, shapes_at
from tests.chains import chain

ROOT = str(Path(harness.__file__).parent.parent)


class Process:
    """Answers with this text; notes how it was asked."""

    def __init__(self, done: Captured) -> None:
        self.done, self.asked, self.options = done, list[Any](), dict[str, Any]()

    def __call__(self, command: Sequence[str], seconds: float, **options: Any) -> Captured:
        assert (Path(options["cwd"]) / "model.tflite").stat().st_size > 0
        self.asked += [list(command), seconds, json.load(options.pop("stdin"))]
        self.options = options
        return self.done


def answering(monkeypatch: pytest.MonkeyPatch, done: Captured) -> Process:
    process = Process(done)
    monkeypatch.setattr(shapes, "captured", process)
    return process


@pytest.mark.parametrize("run", [True, False])
def test_the_process_is_asked_for_the_shapes_at_those_of_the_inputs(run: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/a", "", "b"]))
    process = answering(monkeypatch, Captured('{"shapes": [[2, 8], null, [1], [9]]}', 0))
    assert shapes_at(chain("RELU"), {0: (2, 8)}, run=run) == {0: (2, 8), 1: None}  # the model has two tensors
    command = [sys.executable, "-m", "harness.devices.shapes", "model.tflite"]
    assert process.asked == [command, 120, {"run": run, "inputs": {"0": [2, 8]}}]
    paths = process.options["env"]["PYTHONPATH"].split(os.pathsep)
    assert paths == [ROOT, "/a", str(Path("b").absolute())]
    assert (process.options["most"], process.options["stderr"]) == (64 << 20, subprocess.DEVNULL)
    assert not Path(process.options["cwd"]).exists()


def test_it_is_not_run_unless_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    process = answering(monkeypatch, Captured('{"shapes": []}', 0))
    assert shapes_at(chain("RELU"), {}) == {}
    assert process.asked[2]["run"] is False
    assert process.options["env"]["PYTHONPATH"] == ROOT


@pytest.mark.parametrize(
    ("done", "kind", "why"),
    [
        (Captured("", None, "time"), Undecided, "no answer within 120 s"),
        (Captured("", None, "size"), Unanswered, "its process said more than 64 MiB"),
        (Captured("", -int(signal.SIGKILL)), Undecided, "its process was ended by SIGKILL"),
        (Captured("", -1), Unanswered, "its process was ended by SIGHUP"),
        (Captured("", 1), Unanswered, "its process ended with exit code 1"),
        (Captured("", int(signal.SIGKILL)), Unanswered, "its process ended with exit code 9"),
        (Captured('{"refused": "why"}', 0), Unanswered, "why"),
    ],
)
def test_what_is_no_answer_says_why(
    done: Captured, kind: type[Exception], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, done)
    with pytest.raises(Unanswered) as caught:
        shapes_at(chain("RELU"), {})
    assert (type(caught.value), str(caught.value)) == (kind, why)


def test_no_room_for_the_model_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: Any, **options: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shapes, "captured", full)
    with pytest.raises(UsageError) as caught:
        shapes_at(chain("RELU"), {})
    assert caught.value.message == "The model cannot be prepared (No space left on device)."
    assert caught.value.next_step == "Free space, or set TMPDIR."


def prepared(tmp_path: Path, inputs: dict[int, list[int]], run: bool = False) -> dict[str, Any]:
    path = tmp_path / "model.tflite"
    path.write_bytes(chain("RELU").to_bytes())
    return shapes._prepared(str(path), inputs, run)


@pytest.mark.parametrize("run", [True, False])
def test_the_runtime_s_shapes_follow_those_of_the_inputs(run: bool, tmp_path: Path) -> None:
    assert prepared(tmp_path, {}, run) == {"shapes": [[1, 8], [1, 8]]}
    assert prepared(tmp_path, {0: [3, 2]}, run) == {"shapes": [[3, 2], [3, 2]]}


class Runtime:
    """An interpreter with tensors of its own; what has no memory yet raises."""

    failing: Exception | None = None
    steps: ClassVar[list[Any]] = []

    def __init__(self, path: str, **options: Any) -> None:
        assert options["num_threads"] == 1
        if Runtime.failing:
            raise Runtime.failing

    def resize_tensor_input(self, tensor: int, shape: list[int]) -> None:
        Runtime.steps.append((tensor, shape))

    def allocate_tensors(self) -> None:
        Runtime.steps.append("allocate")

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 3, "shape": np.asarray([2]), "dtype": np.int8}]

    def set_tensor(self, index: int, values: Any) -> None:
        Runtime.steps.append((index, values.tolist(), values.dtype.name))

    def invoke(self) -> None:
        Runtime.steps.append("invoke")

    def get_tensor_details(self) -> list[dict[str, Any]]:
        kinds = {1: np.float32, 2: np.object_, 4: np.float32}
        return [{"index": i, "shape": np.asarray([i]), "dtype": kind} for i, kind in kinds.items()]

    def tensor(self, index: int) -> Any:
        def values() -> None:
            assert index != 2, "reading a variable's handle ends the process"
            if index == 1:
                raise ValueError("it has no memory yet")

        return values


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> type[Runtime]:
    from ai_edge_litert import interpreter

    monkeypatch.setattr(interpreter, "Interpreter", Runtime)
    Runtime.failing = None
    Runtime.steps.clear()
    return Runtime


def test_a_tensor_without_memory_or_number_has_no_shape(runtime: type[Runtime]) -> None:
    assert shapes._prepared("m", {3: [2]}, True) == {"shapes": [None, None, [2], None, [4]]}
    assert runtime.steps == [(3, [2]), "allocate", (3, [0, 0], "int8"), "invoke"]
    runtime.steps.clear()
    shapes._prepared("m", {}, False)
    assert runtime.steps == ["allocate"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("one\n  two "), "one two"),
        (ValueError("why"), "why"),
        (MemoryError(), "MemoryError"),
        (UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "x"), "a\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_what_the_runtime_refuses_is_told_in_one_line(runtime: type[Runtime], error: Exception, why: str) -> None:
    runtime.failing = error
    assert shapes._prepared("m", {}, False) == {"refused": why}


def test_an_error_of_another_kind_is_not_the_runtime_s(runtime: type[Runtime]) -> None:
    runtime.failing = KeyError("x")
    with pytest.raises(KeyError):
        shapes._prepared("m", {}, False)


def test_the_process_answers_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["shapes", "model.tflite"])
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"run": true, "inputs": {"12": [1, 2]}}'))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=said.write, flush=said.flush))
    monkeypatch.setattr(shapes, "_prepared", lambda *words: {"asked": words})
    shapes.main()
    assert json.loads(said.getvalue()) == {"asked": ["model.tflite", {"12": [1, 2]}, True]}
