"""Jobs from models, and the one sentence for each way that a job can end badly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.errors import EXIT_DEVICE, DeviceRefused, DeviceSilent, UsageError
from harness.core.job import Crashed, Job, Lost, Options, Outcome, OutputPort, Rejected, TimedOut
from harness.devices.base import Device, Sink
from harness.devices.execute import completed, failure, make_job, output_ports
from harness.devices.worker import NO_READING
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import normal
from tests.localize.planted import InProcess
from tests.standin.scenes import crossed_signature


@pytest.fixture
def two_outputs() -> Model:
    graph = GraphBuilder()
    x = graph.input("x", (2, 3))
    graph.output(graph.unary("RELU", x), "first")
    graph.output(graph.op("CAST", [x], (2, 3), schema.CastOptionsT(), dtype=np.int32), "second")
    return graph.build()


def test_ports_have_names_places_types_and_sizes(two_outputs: Model) -> None:
    ports = output_ports(two_outputs)
    assert ports == (
        OutputPort("first", 0, np.dtype(np.float32), (2, 3)),
        OutputPort("second", 1, np.dtype(np.int32), (2, 3)),
    )
    assert [port.nbytes for port in ports] == [24, 24]


@pytest.mark.parametrize(("field", "value"), [("shapeSignature", np.asarray([-1, 3], np.int32)), ("type", 5)])
def test_an_output_of_unknown_size_is_misuse(two_outputs: Model, field: str, value: Any) -> None:
    setattr(two_outputs.root.subgraphs[0].tensors[1], field, value)
    two_outputs.edited()
    with pytest.raises(UsageError, match="Output 'first' has type"):
        output_ports(two_outputs)


def test_a_job_carries_the_model_and_only_what_is_wanted(two_outputs: Model) -> None:
    inputs = {"x": normal((2, 3))}
    job = make_job(two_outputs, inputs, Options("cpu"), timeout=3, wanted=["second"], warmup=2, iterations=4)
    assert job.model == two_outputs.to_bytes()
    assert job.sha256 == hashlib.sha256(job.model).hexdigest()
    assert [(port.name, port.position) for port in job.outputs] == [("second", 1)]
    assert (job.timeout, job.warmup, job.iterations, job.final, job.inputs) == (3, 2, 4, False, inputs)
    assert make_job(two_outputs, inputs, Options(), timeout=1, wanted=()).outputs == ()
    assert len(make_job(two_outputs, inputs, Options(), timeout=1).outputs) == 2


def test_inputs_and_positions_follow_the_subgraph_where_the_signature_has_another_order() -> None:
    model = crossed_signature()
    assert [port.name for port in model.graph().outputs] == ["sum", "difference"]
    job = make_job(model, {"b": normal((2,)), "a": normal((2,))}, Options(), timeout=1)
    assert [(port.name, port.position) for port in job.outputs] == [("sum", 1), ("difference", 0)]
    assert list(job.inputs) == ["a", "b"]


@pytest.mark.parametrize("names", [("first", "second"), ("first", "second", "third")])
def test_one_tensor_that_is_several_outputs_has_as_many_positions(names: tuple[str, ...]) -> None:
    graph = GraphBuilder()
    y = graph.unary("RELU", graph.input("x", (2,)))
    for name in names:
        graph.output(y, name)
    assert [port.position for port in output_ports(graph.build())] == list(range(len(names)))


@pytest.mark.parametrize(
    ("accelerator", "precision", "half"),
    [
        ("gpu", "default", True),
        ("gpu", "fp16", True),
        ("gpu", "fp16-fp32acc", True),
        ("gpu", "fp32", False),
        ("npu", "default", True),
        ("cpu", "default", False),
        ("cpu", "fp16", False),
        ("reference", "default", False),
    ],
)
def test_values_are_halves_on_accelerators_unless_told_otherwise(accelerator: Any, precision: Any, half: bool) -> None:
    assert Options(accelerator, precision).half is half


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (
            Rejected("the GPU delegate refuses X (no).", ("X: no",)),
            "phone rejected the model while warming up: the GPU delegate refuses X (no). ",
        ),
        (
            Rejected("the runtime has no custom op 'Mine'", ("CUSTOM: Mine",)),
            "phone rejected the model while warming up: the runtime has no custom op 'Mine'. "
            "Replace that op by builtin ones when exporting the model.",
        ),
        (
            Rejected("the runtime gave up waiting for an output (code=3)"),
            "phone gave no answer while warming up: the runtime gave up waiting for an output (code=3). Run it again",
        ),
        (
            Rejected("the model cannot be stored (No space left on device)"),
            "phone rejected the model while warming up: the model cannot be stored (No space left on device). Free",
        ),
        (Rejected("no shaders."), "phone rejected the model while warming up: no shaders. "),
        (Crashed("the app ended."), "phone crashed while warming up: the app ended. "),
        (TimedOut(2.5), "phone gave no answer within 2.5 s while warming up and was killed. "),
        (
            Crashed("the worker was ended by SIGSEGV", "SIGSEGV"),
            "phone crashed while warming up: the worker was ended by SIGSEGV. ",
        ),
        (Lost("the other side closed the connection"), "phone was lost while warming up: the other side closed "),
    ],
)
def test_every_failure_is_one_sentence_and_a_next_step(outcome: Any, sentence: str) -> None:
    error = failure("phone", outcome, "warming up")
    assert error.exit_code == EXIT_DEVICE
    assert str(error).startswith(sentence)
    assert error.next_step.endswith(".")
    assert ".." not in str(error)


def test_a_runtime_that_gives_up_waiting_is_slow_and_refuses_nothing() -> None:
    """Else the search for a refused op would begin."""
    outcome = Rejected("the runtime gave up waiting for an output (code=3)")
    assert type(failure("phone", outcome, "running")) is DeviceSilent
    assert type(failure("phone", Rejected("no"), "running")) is DeviceRefused


def test_a_job_that_must_complete_raises_with_the_devices_name(
    scripted: Callable[..., tuple[Device, Any]], two_outputs: Model
) -> None:
    device, _ = scripted(run=lambda link, request: link.close())
    job = make_job(two_outputs, {"x": normal((2, 3))}, Options(), timeout=2)
    with pytest.raises(Exception, match="scripted was lost while testing: the other side closed the connection") as e:
        completed(device, job, "testing")
    assert type(e.value).__name__ == "DeviceError"


class Impatient(InProcess):
    """The runtime gives up waiting `times` times."""

    def __init__(self, times: int, *, asks_again: bool = False) -> None:
        super().__init__()
        self.times, self.asks_again = times, asks_again

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        done = super().run(job, sink)
        return Rejected(f"{NO_READING} (code=3)") if len(self.jobs) <= self.times else done


@pytest.mark.parametrize(
    ("times", "asks_again", "asked", "answers"),
    [(0, False, 1, True), (2, False, 3, True), (3, False, 3, False), (1, True, 1, False)],
)
def test_a_runtime_that_gives_up_waiting_is_asked_again_where_the_device_does_not(
    two_outputs: Model, times: int, asks_again: bool, asked: int, answers: bool
) -> None:
    device = Impatient(times, asks_again=asks_again)
    job = make_job(two_outputs, {"x": normal((2, 3))}, Options(), timeout=2)
    with nullcontext() if answers else pytest.raises(DeviceSilent, match="gave up waiting"):
        completed(device, job, "testing")
    assert len(device.jobs) == asked
