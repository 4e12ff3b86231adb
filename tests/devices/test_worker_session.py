"""What the worker does with a model over several requests, with an engine that notes how it is used."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import platform
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.devices import worker
from harness.devices.link import PROTOCOL, Link, LinkError, Message
from harness.devices.worker import Refusal, Request, Worker

DATA = b"a model"
DIGEST = hashlib.sha256(DATA).hexdigest()
CPU: dict[str, Any] = {"accelerator": "cpu", "precision": "default", "threads": 0}
RUN: dict[str, Any] = {
    "sha256": DIGEST,
    "options": CPU,
    "outputs": ["y"],
    "positions": [0],
    "warmup": 0,
    "iterations": 1,
    "final": False,
}


class Engine:
    """Notes each step. The clock goes on by 1 ns to write, 10 to run and 100 to read."""

    made: ClassVar[list[Engine]] = []
    full = True

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self.path, self.options, self.steps = path, options, list[str]()
        CLOCK[0] += 1000
        Engine.made.append(self)

    def write(self, inputs: dict[str, Array]) -> None:
        self.steps.append(f"write {','.join(inputs)}")
        CLOCK[0] += 1

    def run(self) -> None:
        self.steps.append("run")
        CLOCK[0] += 10

    def read(self, index: int) -> Array:
        if index > 7:
            raise Refusal(f"the model has no output {index}")
        self.steps.append(f"read {index}")
        CLOCK[0] += 100
        return np.asarray([index], np.int32)

    def release(self, index: int) -> None:
        self.steps.append(f"release {index}")

    def position(self, name: str) -> int:
        return {"y": 0, "z": 2}.get(name, -1)


class Plain(Engine):
    full = False


CLOCK = [0]


class Said:
    """A link whose other side asks these in turn; keeps the answers."""

    def __init__(self, *asked: Message, gone: bool = False) -> None:
        self.asked, self.gone = list(asked), gone
        self.answers: list[tuple[str, int, dict[str, Any]]] = []

    def receive(self) -> Message:
        if not self.asked:
            raise LinkError("the other side closed the connection")
        return self.asked.pop(0)

    def send(self, kind: str, ident: int, /, payloads: Any = (), **fields: Any) -> None:
        if self.gone:
            raise LinkError("the connection broke while sending")
        told = {name: values.tolist() for name, values in payloads}
        self.answers.append((kind, ident, fields | ({"payloads": told} if told else {})))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store that holds the model; engines that note how they are used."""
    monkeypatch.setattr(worker, "Compiled", Engine)
    monkeypatch.setattr(worker, "Reference", Plain)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: CLOCK[0])
    (tmp_path / f"{DIGEST}.tflite").write_bytes(DATA)
    yield tmp_path
    Engine.made.clear()


def served(store: Path, *asked: Message, gone: bool = False) -> list[tuple[str, int, dict[str, Any]]]:
    """The answers to requests. Whoever asks hangs up, or says `bye`."""
    link = Said(*asked, gone=gone)
    Worker(link, store).serve()  # type: ignore[arg-type]
    return link.answers


def run(ident: int, **changes: Any) -> Message:
    return Message("run", ident, RUN | changes, {"x": np.ones(1, np.float32)})


def test_each_run_is_timed_and_the_last_one_s_outputs_are_sent(store: Path) -> None:
    answers = served(store, run(5, warmup=2, iterations=3, outputs=["z", "other", "y"], positions=[9, 5, 9]))
    assert answers == [
        ("output", 5, {"payloads": {"z": [2]}}),
        ("output", 5, {"payloads": {"other": [5]}}),  # by its position where the runtime has no such name
        ("output", 5, {"payloads": {"y": [0]}}),
        ("completed", 5, {"samples": [[1, 10, 300]] * 3, "compile_ns": 1000, "compiled": True, "full": True}),
    ]
    (engine,) = Engine.made
    assert engine.steps == ["write x", "run", "read 2", "read 5", "read 0"] * 5
    assert (engine.path, engine.options) == (str(store / f"{DIGEST}.tflite"), CPU)


@pytest.mark.parametrize(("warmup", "iterations", "samples"), [(1, 0, 0), (0, 1, 1), (1, 1, 1), (3, 2, 2)])
def test_warm_up_runs_are_run_and_not_told(store: Path, warmup: int, iterations: int, samples: int) -> None:
    *outputs, (kind, _, told) = served(store, run(1, warmup=warmup, iterations=iterations))
    assert (kind, told["samples"]) == ("completed", [[1, 10, 100]] * samples)
    assert len(outputs) == 1
    assert Engine.made[0].steps.count("run") == warmup + iterations


def test_a_run_of_no_iteration_only_compiles(store: Path) -> None:
    none = {"outputs": [], "positions": [], "iterations": 0}
    told = {"samples": [], "compile_ns": 1000, "compiled": True, "full": True}
    assert served(store, run(1, **none)) == [("completed", 1, told)]
    assert Engine.made[0].steps == []


def test_the_last_model_is_kept_as_long_as_the_same_is_asked(store: Path) -> None:
    other = hashlib.sha256(b"").hexdigest()
    (store / f"{other}.tflite").write_bytes(b"")
    turned = dict(reversed(CPU.items()))
    asked = [run(1), run(2, options=turned), run(3, options=CPU | {"threads": 2}), run(4), run(5, sha256=other), run(6)]
    completed = [told for kind, _, told in served(store, *asked) if kind == "completed"]
    assert [told["compiled"] for told in completed] == [True, False, True, True, True, True]
    assert [told["compile_ns"] for told in completed] == [1000, 0, 1000, 1000, 1000, 1000]
    assert len(Engine.made) == 5


def test_a_final_run_frees_its_outputs_and_the_model(store: Path) -> None:
    answers = served(store, run(1, final=True, iterations=2), run(2))
    assert [told["compiled"] for kind, _, told in answers if kind == "completed"] == [True, True]
    first, second = Engine.made
    assert first.steps == ["write x", "run", "read 0", "write x", "run", "read 0", "release 0"]
    assert second.steps == ["write x", "run", "read 0"]


def test_a_final_run_that_fails_frees_the_model_and_another_one_keeps_it(store: Path) -> None:
    wrong: dict[str, Any] = {"outputs": ["other"], "positions": [9]}
    answers = served(store, run(1, **wrong), run(2), run(3, final=True, **wrong), run(4))
    assert [kind for kind, _, _ in answers] == ["failed", "output", "completed", "failed", "output", "completed"]
    assert answers[0] == ("failed", 1, {"kind": "rejected", "reason": "the model has no output 9"})
    assert [told["compiled"] for kind, _, told in answers if kind == "completed"] == [False, True]


def test_the_old_model_goes_before_the_next_is_made(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Said(run(1))
    worked = Worker(link, store)  # type: ignore[arg-type]
    worked.serve()
    held: list[Any] = []

    def fails(path: str, options: dict[str, Any]) -> None:
        held.append((worked._engine, worked._key))
        raise Refusal("no")

    monkeypatch.setattr(worker, "Reference", fails)
    request = Request.of(run(2, options=CPU | {"accelerator": "reference"}))
    with pytest.raises(Refusal):
        worked._compile(store / f"{DIGEST}.tflite", request)
    assert held == [(None, ())]
    assert (worked._engine, worked._key) == (None, ())


def test_the_reference_is_another_engine(store: Path) -> None:
    answers = served(store, run(1, options=CPU | {"accelerator": "reference"}))
    assert isinstance(Engine.made[0], Plain)
    assert answers[-1][2]["full"] is False


def test_a_model_that_is_not_there_leaves_the_last_one(store: Path) -> None:
    answers = served(store, run(1), run(2, sha256="0" * 64), run(3))
    assert answers[2] == ("failed", 2, {"kind": "rejected", "reason": "model 000000000000 was not sent"})
    assert answers[-1][2]["compiled"] is False


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Refusal("it may not"), "it may not"),
        (RuntimeError("ERROR: [a.cc:1] here\n└ why"), "why"),
        (ValueError("why"), "why"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_a_request_ends_in_is_told_and_the_next_is_served(
    store: Path, error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(engine: Engine) -> None:
        monkeypatch.setattr(Engine, "run", lambda engine: None)
        raise error

    monkeypatch.setattr(Engine, "run", fails)
    answers = served(store, run(7), run(8))
    assert answers[0] == ("failed", 7, {"kind": "rejected", "reason": reason})
    assert answers[-1][0] == "completed"


def test_an_error_of_the_worker_s_own_is_not_taken_for_a_refusal(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(engine: Engine) -> None:
        raise KeyError

    monkeypatch.setattr(Engine, "run", fails)
    with pytest.raises(KeyError):
        served(store, run(1))


def test_nothing_is_served_after_bye_or_to_who_has_gone(store: Path) -> None:
    has = Message("has", 2, {"sha256": DIGEST})
    assert served(store, Message("bye", 1), has) == []
    assert served(store, has) == [("has", 2, {"present": True})]
    link = Said(has, has, gone=True)
    Worker(link, store).serve()  # type: ignore[arg-type]
    assert link.asked == [has]


def test_what_nobody_knows_is_refused(store: Path) -> None:
    assert served(store, Message("dance", 3)) == [
        ("failed", 3, {"kind": "rejected", "reason": "unknown request 'dance'"})
    ]


def test_hello_tells_the_runtime_and_the_machine(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"ai-edge-litert": "2.3.0"}

    def distributions(name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(version=here[name])] if name in here else []

    monkeypatch.setattr(importlib.metadata, "distributions", distributions)
    monkeypatch.setattr(worker, "_boot_id", lambda: "b")
    for name in ("python_version", "platform", "processor", "machine"):
        monkeypatch.setattr(platform, name, lambda name=name: name)
    facts = {"runtime": "2.3.0", "python": "python_version", "system": "platform", "cpu": "processor"}
    hello = Message("hello", 1, {"protocol": PROTOCOL})
    told = {"protocol": PROTOCOL, "facts": facts | {"boot_id": "b"}, "abilities": ["inputs-by-digest"]}
    assert served(store, hello) == [("hello", 1, told)]
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert served(store, hello)[0][2]["facts"]["cpu"] == "machine"
    here.clear()
    here["ai-edge-litert-nightly"] = "2.4.0.dev20261026"
    assert served(store, hello)[0][2]["facts"]["runtime"] == "2.4.0.dev20261026"


def test_a_model_gets_its_name_only_when_it_is_whole(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(b"other").hexdigest()
    put = Message("put", 1, {"sha256": digest}, {"model": np.frombuffer(b"other", np.uint8)})
    written: list[str] = []
    really = Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        written.append(path.name)
        return really(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    assert served(store, put) == [("put", 1, {})]
    assert written == [f"{digest}.part"]
    assert (store / f"{digest}.tflite").read_bytes() == b"other"
    assert not (store / f"{digest}.part").exists()
    assert served(store / "none", put) == [
        ("failed", 1, {"kind": "rejected", "reason": "the model cannot be stored (No such file or directory)"})
    ]


def test_the_worker_serves_the_descriptor_and_the_store_it_is_given(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = socket.socketpair()
    died: list[bool] = []
    monkeypatch.setattr(worker, "die_with_parent", lambda: died.append(True))
    monkeypatch.setattr(sys, "argv", ["worker", str(there.detach()), str(store)])
    link = Link(here)
    link.send("has", 4, sha256=DIGEST)
    link.send("bye", 5)
    worker.main()
    answer = link.receive()
    assert (answer.type, answer.id, answer.fields) == ("has", 4, {"present": True})
    assert died == [True]
    link.close()


@pytest.mark.parametrize(("system", "asked"), [("linux", [(1, signal.SIGKILL)]), ("darwin", []), ("linuz", [])])
def test_only_linux_is_asked_to_end_it_with_its_parent(
    system: str, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: None) -> None:
            assert name is None

        def prctl(self, option: int, number: int) -> None:
            found.append((option, number))

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(sys, "platform", system)
    worker.die_with_parent()
    assert found == asked
