"""What a device cannot address is told from a broken kernel, with the size at which it ends."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.job import Job, Options, Outcome, Rejected
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Culprit, Localization, Remedy
from harness.localize.explain import limits
from harness.localize.explain.explainer import explain
from harness.localize.explain.limits import unwritten
from harness.localize.find.localizer import localize
from harness.localize.probe.experiment import Experiments, Observation, OutputComparison, Specimen
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, judge
from tests.arrays import f32
from tests.localize.broken import Broken, in_rank, rolled
from tests.localize.limited import Limited, NarrowPorts, over
from tests.localize.planted import InProcess


@pytest.fixture
def explained(tmp_path: Path) -> Callable[[InProcess, Model], Localization]:
    """Localizes and explains with a device of this process."""

    def run(device: InProcess, model: Model) -> Localization:
        case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
        folder = tempfile.mkdtemp(dir=tmp_path)
        with RunFolder.create(Path(folder), "localize", "limited", device.name) as opened:
            bench = Workbench(device, InProcess(), opened)
            return explain(bench, case, localize(bench, case))

    return run


Explain = Callable[[InProcess, Model], Localization]


def one(kind: str, shape: Sequence[int]) -> Model:
    graph = GraphBuilder()
    graph.output(graph.unary(kind, graph.input("x", shape)), "y")
    return graph.build()


def flattened(count: int) -> Model:
    """A flat input, in another shape."""
    graph = GraphBuilder()
    graph.output(graph.reshape(graph.input("flat", (1, count)), (1, 4, count // 4)), "y")
    return graph.build()


def only(answer: Localization) -> Culprit:
    (culprit,) = answer.culprits
    return culprit


def reproduced(culprit: Culprit) -> tuple[int, ...]:
    model = Model.load(Path(culprit.reproducer or "") / "model.tflite")
    graph = model.graph()
    return graph.tensors[graph.inputs[0].tensor].shape or ()


@pytest.mark.parametrize("limit", [5000, 4097, 7999])
def test_the_limit_is_found_to_the_element_without_a_word_from_the_runtime(explained: Explain, limit: int) -> None:
    culprit = only(explained(Limited("TANH", over(limit)), one("TANH", (1, 8000))))
    assert (culprit.record.op, culprit.cause) == ("TANH", "limits")
    assert culprit.signature == f"all zeros; right up to {limit:,} elements, wrong from {limit + 1:,}"
    asked = [(t.what, t.ending) for t in culprit.trials][-2:]
    assert asked == [(f"with {limit:,} elements", "right"), (f"with {limit + 1:,} elements", "wrong")]
    assert reproduced(culprit) == (1, limit + 1)


def test_the_runtimes_words_say_where_to_look(explained: Explain) -> None:
    """Without them it takes a question for each binary digit, with them four."""
    devices = [Limited("TANH", over(5000), group=group, most=625) for group in (0, 8)]
    signatures = [only(explained(device, one("TANH", (1, 8000)))).signature for device in devices]
    assert signatures == ["all zeros; right up to 5,000 elements, wrong from 5,001"] * 2
    without, told = (len(device.jobs) for device in devices)
    assert without - told >= 8


def test_a_dimension_among_others_is_named(explained: Explain) -> None:
    culprit = only(explained(Limited("TANH", over(3000)), one("TANH", (2, 4000))))
    assert culprit.signature == "all zeros; right up to 3,000 in dimension 1 of [2, n], wrong from 3,001"


def test_a_reshape_gives_way_in_its_other_shape(explained: Explain) -> None:
    culprit = only(explained(Limited("RESHAPE", lambda shape: shape[-1] > 5000), flattened(8000)))
    assert culprit.signature == "all zeros; right up to 5,000 elements, wrong from 5,001"
    assert reproduced(culprit) == (1, 5001)


@pytest.mark.parametrize("source", [(2, 2, 8000), (1, 2, 2, 8000)])
def test_a_reshape_of_more_dimensions_gives_way_too(explained: Explain, source: tuple[int, ...]) -> None:
    """The other shape has one dimension more while it may; what is asked is a RESHAPE of as many elements each time."""
    graph = GraphBuilder()
    graph.output(graph.reshape(graph.input("x", source), (32, 1000)), "y")
    culprit = only(explained(Limited("RESHAPE", over(5000)), graph.build()))
    others = ", ".join(map(str, source[:-1]))
    assert culprit.signature == (
        f"all zeros; right up to 5,000 in dimension {len(source) - 1} of [{others}, n], wrong from 5,001"
    )
    assert reproduced(culprit)[-1] == 5001


def test_zeros_at_every_size_are_a_broken_kernel(explained: Explain) -> None:
    culprit = only(explained(Limited("TANH", lambda shape: True), one("TANH", (1, 8000))))
    assert (culprit.cause, culprit.signature) == ("kernel", "all zeros")


def test_zeros_from_a_small_size_on_are_a_broken_kernel(explained: Explain) -> None:
    """No device ends below 2,048."""
    culprit = only(explained(Limited("TANH", over(2047)), one("TANH", (1, 8000))))
    assert (culprit.cause, culprit.signature) == ("kernel", "all zeros")


def test_wrong_values_that_were_written_are_no_limit(explained: Explain) -> None:
    def fault(rebuild: Rebuild, op: Op) -> int | None:
        return rolled("TANH")(rebuild, op) if rebuild.shape(op.outputs[0])[-1] > 5000 else None

    assert only(explained(Broken(fault), one("TANH", (1, 8000)))).cause == "kernel"


def test_the_runtimes_words_are_enough_where_no_size_is_right(explained: Explain) -> None:
    device = Limited("TANH", lambda shape: True, group=1, most=1000)
    culprit = only(explained(device, one("TANH", (1, 8000))))
    assert culprit.cause == "limits"
    assert culprit.signature == (
        "all zeros; Dispatch workgroup count Z (8000) exceeds max compute workgroups per dimension (1000)"
    )


def test_a_smaller_size_that_fails_too_is_said(explained: Explain) -> None:
    """Workgroups of as much as divides the size: 4,996 has no such divisor."""
    device = Limited("TANH", lambda shape: shape[-1] > 5000 or (shape[-1] > 4500 and shape[-1] % 8 != 0))
    culprit = only(explained(device, one("TANH", (1, 8000))))
    assert culprit.cause == "limits"
    assert culprit.signature == ("all zeros; right up to 5,000 elements, wrong from 5,001; 4,996 is wrong too")


def test_a_larger_size_that_is_right_is_said_and_without_words_it_is_no_limit(explained: Explain) -> None:
    def beyond(shape: Sequence[int]) -> bool:
        return shape[-1] > 5000 and shape[-1] % 64 != 0

    silent, telling = Limited("TANH", beyond), Limited("TANH", beyond, group=8, most=625)
    assert only(explained(silent, one("TANH", (1, 5001)))).cause == "kernel"
    culprit = only(explained(telling, one("TANH", (1, 5001))))
    assert (culprit.cause, culprit.signature) == (
        "limits",
        "all zeros; right with 5,000 elements, wrong with 5,001, right again with 5,056",
    )


def test_the_words_alone_tell_before_anything_is_asked(tmp_path: Path) -> None:
    model = one("TANH", (1, 8000))
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    with RunFolder.create(tmp_path, "localize", "limited", "host") as folder:
        device = Limited("TANH", over(5000), group=8, most=625)
        answer = localize(Workbench(device, InProcess(), folder), case)
    assert (only(answer).cause, only(answer).signature) == ("limits", "all zeros")
    assert answer.certified
    assert answer.device_compiles == 1  # its only tensor is an own output: what is tapped is the untouched model


def right(culprit: Culprit) -> dict[str, Remedy]:
    return {remedy.name: remedy for remedy in culprit.remedies if remedy.ok}


def test_a_flat_input_is_declared_in_two_dimensions_and_the_remedy_says_so(explained: Explain) -> None:
    culprit = only(explained(NarrowPorts(lambda rebuild, op: None), flattened(263144)))
    assert (culprit.record.op, culprit.cause, culprit.record.index) == ("RESHAPE", "limits", 0)
    assert culprit.signature == "all zeros; right up to 262,140 elements, wrong from 262,141"
    remedy = right(culprit)["the tensor in two dimensions"]
    assert remedy.declares == (
        "Its input 'flat' is declared [1, 1, 74, 3556], not [1, 263144]: the same values in the same order.",
    )
    assert all(sentence in remedy.note for sentence in remedy.declares)
    graph = Model.load(remedy.path or "").graph()
    assert [graph.tensors[port.tensor].shape for port in graph.inputs] == [(1, 1, 74, 3556)]


def test_an_op_that_is_too_long_is_cut_into_tiles(explained: Explain) -> None:
    culprit = only(explained(Limited("TANH", over(65535)), one("TANH", (1, 70000))))
    assert culprit.signature == "all zeros; right up to 65,535 elements, wrong from 65,536"
    assert right(culprit)["the op in tiles"].declares == ()


def test_a_long_tensor_inside_a_model_is_read_without_going_beyond_a_limit(explained: Explain) -> None:
    """Of such a tensor an output would take all others along; the PAD behind it is what is wrong."""
    graph = GraphBuilder()
    flat = graph.unary("EXP", graph.reshape(graph.input("x", (1, 512, 514)), (1, 263168)))
    feeds = [flat, *(graph.constant(np.asarray(v, np.int32)) for v in ((0, 0), (1, 4096)))]
    cut = graph.reshape(graph.op("SLICE", feeds, (1, 4096), schema.SliceOptionsT()), (4, 16, 64))
    graph.output(graph.unary("TANH", graph.pad(cut, [(0, 0), (3, 5), (0, 0)])), "y")
    graph.output(graph.reduce("MEAN", flat, 1), "m")
    answer = explained(NarrowPorts(in_rank(3, rolled("PAD"))), graph.build())
    assert [(c.record.op, c.cause) for c in answer.culprits] == [("PAD", "kernel")]
    assert answer.certified
    assert answer.device_compiles == 3


class Refusing(Limited):
    """Takes no model of more than 5,001 values."""

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        return Rejected("too large") if max(v.size for v in job.inputs.values()) > 5001 else super().run(job, sink)


def test_where_no_larger_size_can_be_asked_none_is_spoken_of(explained: Explain) -> None:
    culprit = only(explained(Refusing("TANH", over(5000)), one("TANH", (1, 5001))))
    assert (culprit.cause, culprit.signature) == ("limits", "all zeros; right with 5,000 elements, wrong with 5,001")


def test_a_result_that_is_as_long_as_the_input_is_followed_too(explained: Explain) -> None:
    """What reads a flat input, and is as long itself, is read in two dimensions."""
    graph = GraphBuilder()
    row = graph.reshape(graph.input("flat", (1, 263168)), (1, 1, 263168))
    graph.output(graph.reduce("MEAN", graph.reshape(row, (1, 512, 514)), 2), "y")
    culprit = only(explained(NarrowPorts(lambda rebuild, op: None), graph.build()))
    assert (culprit.record.index, culprit.record.op, culprit.cause) == (0, "RESHAPE", "limits")
    assert culprit.signature == "all zeros; right up to 262,140 elements, wrong from 262,141"


@pytest.mark.slow
def test_a_large_output_does_not_take_the_taps_along(explained: Explain) -> None:
    """A device writes no output beside one that is too large: that one is left out of what is read."""
    graph = GraphBuilder()
    hidden = graph.unary("TANH", graph.binary("ADD", graph.input("x", (1, 8)), graph.constant([0.5])))
    weights = np.random.default_rng(0).standard_normal((263168, 8)).astype(np.float32)
    graph.output(graph.fully_connected(hidden, weights), "logits")
    answer = explained(NarrowPorts(lambda rebuild, op: None), graph.build())
    culprit = only(answer)
    assert (culprit.record.op, culprit.cause, culprit.certified) == ("FULLY_CONNECTED", "limits", True)
    assert culprit.signature == "all zeros; right up to 262,140 elements, wrong from 262,141"
    assert answer.device_compiles == 3
    remedy = right(culprit)["the tensor in two dimensions"]
    assert remedy.declares == (
        "Its output 'logits' is declared [1, 1, 64, 4112], not [1, 263168]: the same values in the same order.",
    )


@pytest.mark.parametrize(
    ("actual", "zeros"),
    [
        ([0.0, 0.0, 3.0, 4.0], True),
        ([0.0, 1.97, 3.0, 4.0], True),  # float16 explains 32 roundings of their RMS, 0.04
        ([0.0, 9.0, 3.0, 4.0], False),
        ([1.01, 2.01, 3.01, 4.01], False),  # off by little everywhere: no element by itself is wrong
    ],
)
def test_nothing_was_written_where_what_is_wrong_is_zero(actual: list[float], zeros: bool) -> None:
    exact, given = f32([1.0, 2.0, 3.0, 4.0]), f32(actual)
    judgement = judge(compare(given, exact), compare(exact, exact), roundoff=2.0**-8, factor=LOCAL_FACTOR)
    assert unwritten(OutputComparison("y", given, exact, judgement), half=True) is zeros


def test_no_limit_is_claimed_between_sizes_that_could_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right up to 4,000 and wrong from 5,000; no size in between can be made."""
    right, wrong = Observation("right"), Observation("wrong")
    specimens: dict[int, Specimen] = {}

    def sized(n: int) -> Specimen | None:
        return None if 4000 < n < 5000 else specimens.setdefault(n, Specimen(one("ABS", (1, 8)), {}))

    def ask(specimen: Specimen) -> Observation:
        (size,) = [n for n, known in specimens.items() if known is specimen]
        return wrong if size > 4000 else right

    monkeypatch.setattr(limits, "_families", lambda *_: [limits._Family(8000, "elements", sized)])
    whole = Specimen(one("ABS", (1, 8000)), {})
    assert limits.find_limit(Experiments.__new__(Experiments), whole, None, ask, lambda seen: seen is wrong) is None
