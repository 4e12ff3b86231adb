"""Which op a runtime refuses that does not say so: asked of parts of the model, in few compiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.api.audit import audit_command
from harness.core.choices import Accelerator
from harness.core.errors import EXIT_DEVICE, EXIT_MISUSE, DeviceError, DeviceRefused
from harness.core.job import Completed, Crashed, Job, Lost, Options, Outcome, Rejected, Residency, TimedOut
from harness.devices.base import Device
from harness.devices.execute import failure
from harness.devices.refusal import COMPLAINED
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.explain.refused import MOST_COMPILES, Refusing
from tests.chains import chain
from tests.cli.conftest import Cli, cli  # noqa: F401 - a fixture
from tests.localize.planted import InProcess

DONE = Completed({}, Residency(True), (), 0, True, "1", "", "")


class Refuses:
    """Refuses models that have an op of some kind, and says nothing of it."""

    name = "phone"

    def __init__(self, kind: str, reason: str = "Failed to build") -> None:
        self.kind, self.reason, self.asked = kind, reason, 0

    def run(self, job: Job, sink: Any = None) -> Outcome:
        assert (job.iterations, job.outputs, job.inputs) == (0, (), {})
        self.asked += 1
        kinds = {op.name for op in Model.from_bytes(job.model).graph().ops}
        return Rejected(self.reason) if self.kind in kinds else DONE


class Complains(Refuses):
    """As a browser does, only where such a model runs, and of a number that depends on the model."""

    def run(self, job: Job, sink: Any = None) -> Outcome:
        ops = Model.from_bytes(job.model).graph().ops
        if job.iterations == 0:  # the question whether it refuses everything
            assert [op.name for op in ops] == ["RELU"]
            return DONE
        assert (job.iterations, len(job.outputs)) == (1, 1) and all(a.size for a in job.inputs.values())
        self.asked += 1
        reason = f"{COMPLAINED}{60000 + len(ops)} workgroups"
        return Rejected(reason) if self.kind in {op.name for op in ops} else DONE


def refusing(device: Refuses, model: Model) -> Refusing:
    return Refusing(cast(Device, device), model, Options(), 10)


def test_the_op_is_found_among_many_in_few_compiles() -> None:
    device = Refuses("TANH")
    model = chain(*["RELU"] * 40, "TANH", *["ABS"] * 60)
    assert refusing(device, model).ops(Rejected(device.reason)).lines == ("TANH #40: Failed to build",)
    assert device.asked <= 2 * 7 + 3


def test_each_op_that_is_refused_is_found() -> None:
    device = Refuses("TANH")
    assert refusing(device, chain("RELU", "TANH", "ABS", "TANH")).ops(Rejected(device.reason)).lines == (
        "TANH #1: Failed to build",
        "TANH #3: Failed to build",
    )


def test_a_part_refused_for_another_reason_is_no_answer() -> None:
    device = Refuses("TANH", "something about inputs")
    assert refusing(device, chain("RELU", "TANH", "ABS")).ops(Rejected("Failed to build")).lines == ("Failed to build",)


def test_the_compiles_are_bounded() -> None:
    device = Refuses("TANH")
    refusing(device, chain(*["RELU", "TANH"] * 50)).ops(Rejected(device.reason))
    assert device.asked <= MOST_COMPILES


def test_a_complaint_that_only_a_run_brings_is_traced_to_its_op_by_running_parts() -> None:
    device = Complains("TANH")
    reason = f"{COMPLAINED}60043 workgroups"
    found = refusing(device, chain(*["RELU"] * 20, "TANH", *["ABS"] * 22)).ops(Rejected(reason))
    assert found.lines == (f"TANH #20: {reason}",) and device.asked > 1
    other = f"{COMPLAINED}another thing"
    assert refusing(device, chain("RELU", "TANH", "ABS")).ops(Rejected(other)).lines == (other,)


def test_ops_that_the_runtime_named_are_not_asked_for() -> None:
    device = Refuses("TANH")
    outcome = Rejected("the GPU delegate refuses TANH", ("TANH: no",))
    error = failure("phone", outcome, "running the model")
    assert isinstance(error, DeviceRefused)
    assert refusing(device, chain("TANH")).explained(error) is error
    assert device.asked == 0


def test_the_sentence_ends_with_the_op() -> None:
    device = Refuses("TANH")
    error = failure("phone", Rejected("Failed to build", (), "words"), "running the model")
    assert isinstance(error, DeviceRefused)
    told = refusing(device, chain("RELU", "TANH")).explained(error)
    assert told.message == "phone rejected the model: Failed to build; the op is TANH #1."
    assert (told.exit_code, cast(DeviceRefused, told).log) == (EXIT_DEVICE, "words")


def test_where_the_log_has_the_tensor_of_unknown_size_its_op_is_named_without_asking() -> None:
    model = chain("RELU", "TANH", "ABS")
    device = Refuses("TANH")
    (made,) = model.graph().ops[1].outputs
    log = f"WARNING: … a graph that has dynamic-sized tensors (tensor#{made} is a dynamic-sized tensor).\n"
    assert refusing(device, model).ops(Rejected("no", (), log)).lines == ("TANH #1: no",)
    assert device.asked == 0


def test_where_the_log_names_no_tensor_the_runtime_is_asked_which_it_sizes_late() -> None:
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (2, 4)))
    size = graph.unary("ABS", graph.input("size", (1,), np.int32))
    flat = graph.op("RESHAPE", [x, size], (8,), schema.ReshapeOptionsT())
    graph.output(graph.unary("TANH", flat), "y")
    device = Refuses("TANH")
    log = "WARNING: … a graph that has dynamic-sized tensors (tensor#-1 is a dynamic-sized tensor).\n"
    refused = refusing(device, graph.build())
    assert refused.ops(Rejected("no", (), log)).lines == ("RESHAPE #2: no",)
    assert device.asked == 0
    error = failure("phone", Rejected("no", (), log), "running the model")
    assert isinstance(error, DeviceRefused)
    assert str(refused.explained(error)) == (
        "phone rejected the model: no; the op is RESHAPE #2. "
        "Export the model with fixed input shapes, so that sizes it computes of them become constants."
    )


@pytest.mark.parametrize(("late", "named"), [({2, 3, 4}, "TANH #2"), ({3, 4}, "RESHAPE #3"), ({4}, "RESHAPE #3")])
def test_a_reshape_to_a_computed_size_is_to_blame_for_what_is_not_prepared_behind_it(
    late: set[int], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows the file's shape before it runs, on some releases."""
    graph = GraphBuilder()
    size = graph.unary("ABS", graph.unary("NEG", graph.input("size", (1,), np.int32)))
    x = graph.unary("TANH", graph.input("x", (2, 4)))
    graph.output(graph.unary("EXP", graph.op("RESHAPE", [x, size], (8,), schema.ReshapeOptionsT())), "y")
    model = graph.build()
    ops = model.graph().ops
    shapes = {op.outputs[0]: None if op.index in late else (8,) for op in ops}
    monkeypatch.setattr("harness.localize.explain.refused.shapes_at", lambda model, inputs: shapes)
    log = "WARNING: … a graph that has dynamic-sized tensors (tensor#-1 is a dynamic-sized tensor).\n"
    assert refusing(Refuses("EXP"), model).ops(Rejected("no", (), log)).lines == (f"{named}: no",)


class Dies(Refuses):
    """Goes down with the op, unless another one that it refuses is all there is."""

    def run(self, job: Job, sink: Any = None) -> Outcome:
        outcome = super().run(job, sink)
        kinds = {op.name for op in Model.from_bytes(job.model).graph().ops}
        if isinstance(outcome, Rejected):
            return Crashed("it died", "SIGABRT", "")
        return Rejected("the GPU delegate refuses NEG", ("NEG: no",)) if "NEG" in kinds else outcome


def test_after_a_crash_the_ops_that_were_refused_and_the_one_that_ends_the_process_are_told() -> None:
    device = Dies("TANH")
    log = (
        "ERROR: Following operations are not supported by GPU delegate:\nNEG: no\n"
        "3 operations will run on the GPU, and the remaining 1 operations will run on the CPU.\n"
    )
    found = refusing(device, chain("RELU", "NEG", "TANH", "ABS")).ops_of_crash(Crashed("it died", "SIGABRT", log)).lines
    assert found == ("NEG: no", "TANH #2: it died")


def test_a_crash_of_the_whole_alone_is_blamed_on_no_op() -> None:
    device = Dies("EXP")
    assert refusing(device, chain("RELU", "TANH", "ABS")).ops_of_crash(Crashed("it died", "SIGABRT", "")).lines == ()


def variable() -> Model:
    """x + state, where state is a tensor that keeps its value between runs."""
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (1, 8)))
    state = graph.tensor("state", (1, 8))
    graph.output(graph.unary("ABS", graph.binary("ADD", x, state)), "y")
    root = graph.build().root
    root.subgraphs[0].tensors[state].isVariable = True
    return Model(root)


def badly_quantized() -> Model:
    """A constant quantized along an axis that it does not have."""
    graph = GraphBuilder()
    weights = graph.constant(np.ones((2, 2), np.int8))
    real = graph.op("DEQUANTIZE", [weights], (2, 2), schema.DequantizeOptionsT(), dtype=np.float32)
    graph.output(graph.binary("ADD", graph.input("x", (2, 2)), real), "y")
    root = graph.build().root
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = np.ones(2, np.float32), np.zeros(2, np.int64)
    quantization.quantizedDimension = 3
    root.subgraphs[0].tensors[weights].quantization = quantization
    return Model(root)


@pytest.mark.parametrize(("accelerator", "other"), [("gpu", True), ("cpu", False)])
def test_the_cpu_is_advised_where_it_is_not_what_refused(accelerator: Accelerator, other: bool) -> None:
    device = Refuses("TANH")
    refusing = Refusing(cast(Device, device), chain("RELU", "TANH"), Options(accelerator), 10)
    told = refusing.explained(DeviceRefused("phone rejected the model.", "", reason=device.reason, ops=()))
    assert "the op is TANH #1" in str(told)
    assert ("--accelerator cpu" in str(told)) is other


def saved(folder: Path, model: Model) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(model.to_bytes())
    return path


@pytest.mark.gpu
@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_reason_that_is_only_in_the_log_is_told_with_the_op(cli: Cli, tmp_path: Path, command: str) -> None:  # noqa: F811
    said = cli(command, saved(tmp_path, variable()))
    assert said.code == EXIT_DEVICE
    assert said.sentence.startswith(
        "host rejected the model: Failed to load model from file (Variable tensors not yet "
        "supported); the op is ADD #1. Re-author it, or run the model with"
    )


@pytest.mark.gpu
def test_audit_says_the_same(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    said = cli("audit", saved(tmp_path, variable()), "--json")
    assert said.code == EXIT_DEVICE
    assert said.json["unsupported"] == ["ADD #1: Failed to load model from file (Variable tensors not yet supported)"]
    assert said.json["fallback"] is False
    told = " ".join(cli("audit", tmp_path / "model.tflite").out.split())
    assert "It does not run with --fallback cpu either" in told


class ThenSays(InProcess):
    """Refuses a model, and says of it with the fallback what is given."""

    def __init__(self, then: Outcome | DeviceError) -> None:
        super().__init__("phone")
        self.then = then

    def run(self, job: Job, sink: Any = None) -> Outcome:
        if job.options.fallback != "cpu":
            return Rejected("the GPU delegate refuses TANH", ("TANH: no",))
        if isinstance(self.then, DeviceError):
            raise self.then
        return self.then


@pytest.mark.parametrize(
    ("then", "fallback"),
    [
        (Rejected("Variable tensors not yet supported"), False),
        (Rejected("the model cannot be stored: no space"), None),
        (TimedOut(5), None),
        (Crashed("killed", "SIGKILL"), None),
        (Lost("the line is gone"), None),
        (DeviceError("the phone is gone"), None),
    ],
)
def test_what_is_no_answer_on_the_fallback_is_told_as_none(
    then: Outcome | DeviceError, fallback: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.api.audit.open_device", lambda name: ThenSays(then))
    found = audit_command(saved(tmp_path, chain("RELU", "TANH")), None, "phone", 60)
    assert (found.unsupported, found.fallback) == (("TANH: no",), fallback)


@pytest.mark.gpu
@pytest.mark.parametrize("command", ["run", "compare", "audit"])
def test_a_file_that_the_runtime_cannot_load_is_the_files_fault(cli: Cli, tmp_path: Path, command: str) -> None:  # noqa: F811
    said = cli(command, saved(tmp_path, badly_quantized()))
    assert said.code == EXIT_MISUSE
    assert said.sentence == (
        "The runtime cannot load this file, on the CPU either: quantized_dimension must be in range [0, 2). Was 3. "
        "Tensor 0 has invalid quantization parameters. "
        "Export the model again, or with another release of the converter."
    )
