"""The worker by itself, asked over a bare link: it refuses what is wrong, says why, and lives on."""

from __future__ import annotations

import hashlib
from typing import Any, NoReturn

import numpy as np
import pytest

from harness.devices import worker
from harness.devices.link import PROTOCOL
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import f32

ONES = np.ones((1, 4), np.float32)


def options(accelerator: str = "cpu", precision: str = "default", threads: Any = 0) -> dict[str, Any]:
    return {"accelerator": accelerator, "precision": precision, "threads": threads}


@pytest.fixture
def sent(raw_worker: Any, plus_one: Model) -> dict[str, Any]:
    """A good request to run a model that the worker has."""
    data = plus_one.to_bytes()
    raw_worker.ask("put", [("model", np.frombuffer(data, np.uint8))], sha256=plus_one.sha256)
    return {
        "sha256": plus_one.sha256,
        "options": options(),
        "outputs": ["y"],
        "positions": [0],
        "warmup": 0,
        "iterations": 1,
        "final": False,
    }


def test_hello_states_versions_and_facts(raw_worker: Any) -> None:
    (answer,) = raw_worker.ask("hello", protocol=PROTOCOL)
    assert (answer.type, answer.fields["protocol"]) == ("hello", PROTOCOL)
    assert {"runtime", "python", "system", "cpu", "boot_id"} == set(answer.fields["facts"])


@pytest.mark.parametrize("protocol", [PROTOCOL + 1, 0, "1", None])
def test_another_protocol_is_refused(raw_worker: Any, protocol: Any) -> None:
    assert raw_worker.refusal("hello", protocol=protocol) == (
        f"protocol {protocol!r} is asked for, this worker speaks {PROTOCOL}"
    )


def test_a_model_is_kept_under_its_digest(raw_worker: Any) -> None:
    data = b"any bytes at all"
    digest = hashlib.sha256(data).hexdigest()
    assert raw_worker.ask("has", sha256=digest)[0].fields == {"present": False}
    assert raw_worker.ask("put", [("model", np.frombuffer(data, np.uint8))], sha256=digest)[0].type == "put"
    assert raw_worker.ask("has", sha256=digest)[0].fields == {"present": True}


def test_bytes_with_another_digest_are_not_kept(raw_worker: Any) -> None:
    digest = hashlib.sha256(b"other").hexdigest()
    other = np.frombuffer(b"other", np.uint8)
    for payloads in ([("model", other[:3])], [], [("weights", other)]):
        assert raw_worker.refusal("put", payloads, sha256=digest) == (
            "the model's bytes do not have the announced sha256"
        )
    assert raw_worker.ask("has", sha256=digest)[0].fields == {"present": False}


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 65, None, 7, ["0" * 64]])
def test_a_digest_that_is_none_is_refused(raw_worker: Any, digest: Any) -> None:
    for kind in ("has", "put"):
        assert raw_worker.refusal(kind, sha256=digest) == f"{digest!r} is not a sha256"


def test_an_unknown_request_is_refused(raw_worker: Any) -> None:
    assert raw_worker.refusal("format_disk") == "unknown request 'format_disk'"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sha256": "0" * 64}, "model 000000000000 was not sent"),
        ({"options": None}, "the options lack accelerator, precision or threads, or hold more"),
        ({"options": {"accelerator": "cpu"}}, "the options lack accelerator"),
        ({"options": options() | {"extra": 1}}, "or hold more"),
        ({"options": options("gpu") | {"backend": "opencl"}}, "this runtime's Python API has no choice of backend"),
        ({"options": options("gpu") | {"fallback": "npu"}}, "fallback is one of none, cpu"),
        ({"options": options("cpu") | {"fallback": "cpu"}}, "the fallback is the GPU's option"),
        ({"options": options() | {"accelerator": 3}}, "accelerator is a word"),
        ({"options": options("tpu")}, "this device has no accelerator 'tpu'"),
        ({"options": options("npu")}, "this device has no accelerator 'npu'"),
        ({"options": options("gpu", "fp8")}, "precision one of default, fp16, fp32, fp16-fp32acc"),
        ({"options": options("gpu") | {"precision": ["fp16"]}}, "precision one of"),
        ({"options": options("cpu", "fp16")}, "the CPU computes in single precision, not fp16"),
        ({"options": options("reference", "fp16")}, "the CPU computes in single precision, not fp16"),
        ({"options": options("cpu", "fp16-fp32acc")}, "the CPU computes in single precision, not fp16-fp32acc"),
        ({"options": options("gpu", "fp16-fp32acc")}, "no fp16 with fp32 accumulation"),
        ({"options": options(threads=-1)}, "-1 is no number of threads"),
        ({"options": options(threads=True)}, "True is no number of threads"),
        ({"options": options(threads="4")}, "'4' is no number of threads"),
        ({"outputs": "y"}, "outputs and positions are two lists of one length"),
        ({"outputs": ["y", "z"]}, "outputs and positions are two lists of one length"),
        ({"outputs": [1]}, "outputs are names, positions are small numbers"),
        ({"positions": [-1]}, "outputs are names, positions are small numbers"),
        ({"positions": [1 << 20]}, "outputs are names, positions are small numbers"),
        ({"positions": [0.5]}, "outputs are names, positions are small numbers"),
        ({"outputs": ["y", "y"], "positions": [0, 0]}, "each output is wanted once"),
        ({"outputs": ["other"], "positions": [1]}, "the model has no output 1"),
        ({"warmup": -1}, "warmup and iterations are numbers below a million"),
        ({"iterations": 1 << 21}, "warmup and iterations are numbers below a million"),
        ({"iterations": None}, "warmup and iterations are numbers below a million"),
        ({"iterations": 0}, "of a model that runs at least once"),
    ],
)
def test_a_malformed_run_is_refused_and_the_next_one_works(
    raw_worker: Any, sent: dict[str, Any], changes: dict[str, Any], why: str
) -> None:
    pid = raw_worker.launcher.pid
    assert why in raw_worker.refusal("run", [("x", ONES)], **(sent | changes))
    output, end = raw_worker.ask("run", [("x", ONES)], **sent)
    assert output.payloads["y"].tolist() == [[2, 2, 2, 2]]
    assert end.type == "completed"
    assert raw_worker.launcher.pid == pid


@pytest.mark.parametrize("precision", ["default", "fp16", "fp32"])
def test_what_the_gpu_computes_in_is_left_to_the_runtime(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*words: Any) -> NoReturn:
        raise RuntimeError("there is no adapter")

    monkeypatch.setattr(worker, "_compiled", failing)
    with pytest.raises(worker.Refusal, match="there is no adapter"):
        worker.Compiled("model.tflite", options("gpu", precision))


@pytest.mark.parametrize("accelerator", ["cpu", "reference", pytest.param("gpu", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    "payloads",
    [
        [],
        [("x", ONES), ("y", ONES)],
        [("x", np.ones((1, 3), np.float32))],
        [("x", np.ones((1, 5), np.float32))],
        [("x", np.ones((4, 1), np.float32))],
        [("x", np.ones((1, 4), np.int32))],
        [("x", np.ones((1, 4), np.float64))],
        [("x", np.ones((0,), np.float32))],
    ],
    ids=["none", "too many", "short", "long", "turned", "int32", "float64", "empty"],
)
def test_inputs_that_do_not_fit_are_refused(
    raw_worker: Any, sent: dict[str, Any], accelerator: str, payloads: Any
) -> None:
    request = sent | {"options": options(accelerator)}
    raw_worker.ask("run", [("x", 7 * ONES)], **request)  # what an input left over from before would be
    assert raw_worker.refusal("run", payloads, **request)
    assert raw_worker.ask("run", [("x", ONES)], **request)[0].payloads["y"].tolist() == [[2, 2, 2, 2]]


@pytest.mark.parametrize("accelerator", ["cpu", "reference"])
def test_inputs_with_one_wrong_name_are_refused(raw_worker: Any, accelerator: str) -> None:
    graph = GraphBuilder()
    graph.output(graph.binary("SUB", graph.input("a", (2,)), graph.input("b", (2,))), "y")
    model = graph.build()
    raw_worker.ask("put", [("model", np.frombuffer(model.to_bytes(), np.uint8))], sha256=model.sha256)
    request: dict[str, Any] = {
        "sha256": model.sha256,
        "options": options(accelerator),
        "outputs": ["y"],
        "positions": [0],
    }
    request |= {"warmup": 0, "iterations": 1}
    raw_worker.refusal("run", [("b", f32([1, 2])), ("c", f32([5, 5]))], **request)
    (output, _) = raw_worker.ask("run", [("b", f32([1, 2])), ("a", f32([5, 5]))], **request)
    assert output.payloads["y"].tolist() == [4, 3]


@pytest.mark.parametrize("accelerator", ["cpu", "reference", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_bytes_that_are_no_model_are_refused(raw_worker: Any, sent: dict[str, Any], accelerator: str) -> None:
    data = b"no model at all"
    digest = hashlib.sha256(data).hexdigest()
    raw_worker.ask("put", [("model", np.frombuffer(data, np.uint8))], sha256=digest)
    request = sent | {"sha256": digest, "options": options(accelerator)}
    assert "latbuffer" in raw_worker.refusal("run", [("x", ONES)], **request)


def test_the_outputs_of_a_final_run_that_failed_are_not_used_again(raw_worker: Any, sent: dict[str, Any]) -> None:
    wanted = {"outputs": ["y", "other"], "positions": [0, 1], "final": True}
    raw_worker.ident += 1
    raw_worker.link.send("run", raw_worker.ident, None, [("x", ONES)], **(sent | wanted))
    assert [raw_worker.link.receive(None).type for _ in range(2)] == ["output", "failed"]
    assert raw_worker.ask("run", [("x", ONES)], **sent)[0].payloads["y"].tolist() == [[2, 2, 2, 2]]
