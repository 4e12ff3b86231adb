"""What is asked of parts of a refused model, what an answer counts for, and how the ops found are named."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.errors import DeviceRefused, UsageError
from harness.core.job import Crashed, Job, Lost, Options, Outcome, Rejected, TimedOut
from harness.core.progress import Silent
from harness.devices.base import Device
from harness.devices.shapes import Unanswered
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.explain.refused import Refusing, _named, _part
from tests.chains import chain
from tests.localize.explain.test_refused import DONE, Dies, Refuses, badly_quantized, refusing


def computed(*kinds: str, behind: str = "RESHAPE") -> Model:
    """TANH #0 and NEG #1 of a size, then an op of a computed size, and ops behind it."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (2, 4)))
    size = graph.unary("NEG", graph.input("size", (1,), np.int32))
    if behind == "RESHAPE":
        t = graph.op("RESHAPE", [x, size], (8,), schema.ReshapeOptionsT())
    elif behind == "RESHAPE to a constant":
        t = graph.reshape(x, (8,))
    else:
        t = graph.binary(behind, x, graph.unary("ABS", x))
    for kind in kinds:
        t = graph.unary(kind, t)
    graph.output(t, "y")
    return graph.build()


UNNAMED = "WARNING: … a graph that has dynamic-sized tensors (tensor#-1 is a dynamic-sized tensor).\n"


@pytest.mark.parametrize(
    ("model", "late", "named"),
    [
        (computed("EXP"), 3, "RESHAPE #2"),
        (computed("EXP", behind="RESHAPE to a constant"), 3, "EXP #3"),
        (computed("EXP", behind="ADD"), 4, "EXP #4"),
        (computed(), 0, "TANH #0"),  # the last op, a RESHAPE to a computed size, is not before the first one
        (computed("EXP"), 1, "NEG #1"),
    ],
)
def test_only_a_reshape_to_a_computed_size_right_before_it_is_to_blame(
    model: Model, late: int, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = {op.outputs[0]: None if op.index == late else (8,) for op in model.graph().ops}
    monkeypatch.setattr("harness.localize.explain.refused.shapes_at", lambda model, inputs: shapes)
    device = Refuses("EXP")
    assert refusing(device, model).ops(Rejected("no", (), UNNAMED)).lines == (f"{named}: no",)
    assert device.asked == 0


@pytest.mark.parametrize("answers", [True, False])
def test_where_the_runtime_cannot_tell_either_the_parts_are_asked(
    answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shapes(model: Model, inputs: Any) -> dict[int, tuple[int, ...]]:
        if not answers:
            raise Unanswered("too slow")
        return {op.outputs[0]: (8,) for op in model.graph().ops}

    monkeypatch.setattr("harness.localize.explain.refused.shapes_at", shapes)
    device = Refuses("TANH", "no")
    assert refusing(device, chain("RELU", "TANH")).ops(Rejected("no", (), UNNAMED)).lines == ("TANH #1: no",)
    assert device.asked > 0


def test_a_named_tensor_that_no_op_makes_is_asked_of_the_runtime() -> None:
    """Tensor 0 is the input."""
    device, model = Refuses("TANH", "no"), chain("RELU", "TANH")
    log = UNNAMED.replace("#-1", f"#{model.graph().inputs[0].tensor}")
    assert refusing(device, model).ops(Rejected("no", (), log)).lines == ("TANH #1: no",)


def test_a_model_of_one_op_needs_no_question_but_the_control() -> None:
    device = Refuses("TANH")
    assert refusing(device, chain("TANH")).ops(Rejected(device.reason)).lines == ("TANH #0: Failed to build",)
    assert device.asked == 1


def test_ops_that_are_refused_together_alone_are_named_together() -> None:
    class Together(Refuses):
        def run(self, job: Job, sink: Any = None) -> Outcome:
            outcome = super().run(job, sink)
            kinds = {op.name for op in Model.from_bytes(job.model).graph().ops}
            return outcome if "EXP" in kinds else DONE

    device = Together("TANH")
    model = chain("RELU", "TANH", "EXP", "ABS")
    assert refusing(device, model).ops(Rejected(device.reason)).lines == ("ops #1 to #2 (TANH, EXP): Failed to build",)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["ABS"], "ABS #3"),
        (["ABS", "ABS"], "ops #3 to #4 (ABS)"),
        (["ABS", "EXP", "ABS"], "ops #3 to #5 (ABS, EXP)"),
        (["ABS", "EXP", "NEG", "RELU", "TANH", "SQRT"], "ops #3 to #8 (ABS, EXP, NEG, RELU, TANH, SQRT)"),
        (["ABS", "EXP", "NEG", "RELU", "TANH", "SQRT", "LOG"], "ops #3 to #9 (ABS, EXP, NEG, RELU, TANH, SQRT, …)"),
    ],
)
def test_a_stretch_of_ops_is_named_by_its_ends_and_six_kinds(kinds: list[str], said: str) -> None:
    graph = chain("ABS", "ABS", "ABS", *kinds).graph()
    assert _named(graph, range(3, 3 + len(kinds))) == said


def test_a_custom_op_goes_by_its_own_name() -> None:
    graph = GraphBuilder()
    graph.output(graph.op("CUSTOM", [graph.input("x", (1, 8))], (1, 8), custom="Mine"), "y")
    assert _named(graph.build().graph(), [0]) == "Mine #0"


def test_four_ops_at_most_are_named() -> None:
    kinds = ["TANH", "ABS"] * 6
    device, ends = Refuses("TANH"), Dies("TANH")
    named = [f"TANH #{i}" for i in (0, 2, 4, 6)]
    model = chain(*kinds)
    assert refusing(device, model).ops(Rejected(device.reason)).lines == tuple(f"{n}: Failed to build" for n in named)
    found = refusing(ends, model).ops_of_crash(Crashed("it died", "SIGABRT", "")).lines
    assert found == tuple(f"{n}: it died" for n in named)


class Says(Refuses):
    """Ends the models that have the op in another way."""

    def __init__(self, kind: str, how: Outcome) -> None:
        super().__init__(kind)
        self.how = how

    def run(self, job: Job, sink: Any = None) -> Outcome:
        return self.how if isinstance(super().run(job, sink), Rejected) else DONE


@pytest.mark.parametrize("how", [Crashed("it died", "SIGABRT"), TimedOut(5), Lost("gone")])
def test_a_part_that_ends_otherwise_than_in_a_refusal_names_no_op(how: Outcome) -> None:
    device = Says("TANH", how)
    assert refusing(device, chain("RELU", "TANH", "ABS")).ops(Rejected("no")).lines == ("no",)


@pytest.mark.parametrize("how", [Rejected("no"), TimedOut(5)])
def test_a_part_that_does_not_crash_is_not_what_ends_the_process(how: Outcome) -> None:
    device = Says("TANH", how)
    assert refusing(device, chain("RELU", "TANH", "ABS")).ops_of_crash(Crashed("it died", "SIGABRT", "")).lines == ()


@pytest.mark.parametrize(("crashes", "which"), [(False, "which op is refused"), (True, "which op ends the process")])
def test_each_compile_is_told_with_what_it_asks(crashes: bool, which: str) -> None:
    class Hears(Silent):
        told: ClassVar[list[tuple[str, float]]] = []

        def stage(self, what: str, expected_seconds: float) -> None:
            self.told.append((what, expected_seconds))

    progress = Hears()
    device = Says("TANH", Crashed("no", "SIGABRT") if crashes else Rejected("no"))
    model = chain("RELU", "ABS", "TANH")
    Refusing(cast(Device, device), model, Options(), 10, progress).smallest("no", crashes=crashes)
    assert progress.told[:3] == [
        (f"{which}: op 0 (compile 1 of 32 at most)", 3.0),
        (f"{which}: ops 1 to 2 (compile 2 of 32 at most)", 3.0),
        (f"{which}: op 1 (compile 3 of 32 at most)", 3.0),
    ]


def test_a_part_without_a_result_or_a_known_shape_is_not_asked() -> None:
    """TANH #1 reads what has no shape in the file; what ABS #2 makes is read by nobody."""
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (1, 8)))
    graph.output(graph.unary("TANH", x), "y")
    graph.unary("ABS", x)
    root = graph.build().root
    model = Model(root)
    assert _part(model, model.graph(), [1]) is not None
    assert _part(model, model.graph(), [2]) is None
    table = root.subgraphs[0].tensors[x]
    table.shape, table.hasRank, table.buffer = None, False, 0
    model = Model(root)
    assert model.graph().tensors[x].shape is None
    assert [_part(model, model.graph(), [op]) for op in (0, 1)] == [None, None]


def test_a_file_that_the_host_does_not_load_either_is_the_files_fault() -> None:
    device = Refuses("ADD")
    refused = refusing(device, badly_quantized())
    found = refused.explained(DeviceRefused("phone rejected the model.", "", reason=device.reason, ops=()))
    assert isinstance(found, UsageError)
    with pytest.raises(UsageError, match="on the CPU either"):
        refused.ops_of_crash(Crashed("it died", "SIGABRT", ""))
    assert device.asked == 0


def test_where_no_op_is_found_the_sentence_stays_as_it_was() -> None:
    device = Refuses("TANH", "something about inputs")
    error = DeviceRefused("phone rejected the model: no.", "", "words", reason="no", ops=())
    told = refusing(device, chain("RELU", "TANH", "ABS")).explained(error)
    assert told.message == "phone rejected the model: no."
    assert str(told).endswith(
        "Re-author it, or run the model with --accelerator cpu; the runtime's own words are in log.txt."
    )
    assert (cast(DeviceRefused, told).reason, cast(DeviceRefused, told).ops) == ("no", ())
