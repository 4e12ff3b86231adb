"""Models that a browser refuses for a limit of its GPU: the op that goes beyond it is named, explained and mended;
other complaints accuse nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.api.localize import _localized
from harness.core.errors import DeviceRefused
from harness.core.job import Job, Options, Outcome, Rejected
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.devices.refusal import COMPLAINED
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Graph, Model, Op
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.explain.explainer import explain
from tests.localize.broken import Deadly
from tests.localize.planted import InProcess

SIDE = 64
MOST = f"([Extent3D width:{SIDE}, height:{SIDE}])"
WIDE = f"Texture size ([Extent3D width:{{}}, height:8]) exceeded maximum texture size {MOST}"
LONG = "Dispatch workgroup count Z ({}) exceeds max compute workgroups per dimension (64)"
SHADER = "Error while parsing WGSL: :12:9 error: unresolved value 'half4'"


def widest(model: Model, kind: str) -> int:
    """The longest last dimension of a result of such ops."""
    graph = model.graph()
    return max((shape_of(graph, op)[-1] for op in graph.ops if op.name == kind), default=0)


def shape_of(graph: Graph, op: Op) -> tuple[int, ...]:
    return graph.tensors[op.outputs[0]].shape or (0,)


class Complaining(Deadly):
    """An ideal float16 device that refuses models for which `complaint` has words."""

    def __init__(self, complaint: Callable[[Model], str], log: Callable[[Model], str] = lambda model: "") -> None:
        super().__init__(lambda model: False, None)  # type: ignore[arg-type]
        self.complaint, self.log = complaint, log

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        if job.options.accelerator == "gpu":
            model = Model.from_bytes(job.model)
            if words := self.complaint(model):
                return Rejected(f"{COMPLAINED}{words}", (), self.log(model))
        return super().run(job, sink)


def in_rows(kind: str, words: str, texels: int = 2048) -> Callable[[Model], str]:
    """Complains of ops whose result has more than so many texels in a row."""

    def complaint(model: Model) -> str:
        asked = -(-widest(model, kind) // 4)
        return words.format(asked * SIDE // texels) if asked > texels else ""

    return complaint


def masks(columns: int = 16384) -> Model:
    """The end of a mask decoder: tokens times upscaled features."""
    graph = GraphBuilder()
    tokens, features = graph.input("tokens", (1, 4, 8)), graph.input("features", (1, 8, columns))
    product = graph.batch_matmul(graph.unary("TANH", tokens), graph.unary("ABS", features))
    graph.output(graph.unary("NEG", product), "masks")
    return graph.build()


Find = Callable[..., Localization]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    def run(device: Complaining, *, then: bool = False) -> Localization:
        model = masks()
        case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
        with RunFolder.create(tmp_path, "localize", "complaining", device.name) as folder:
            bench = Workbench(device, InProcess(), folder)
            found = _localized(bench, case, 2)
            return explain(bench, case, found) if then else found

    return run


def test_the_op_that_goes_beyond_a_limit_is_named_with_the_sizes(find: Find) -> None:
    found = find(Complaining(in_rows("BATCH_MATMUL", WIDE)))
    (culprit,) = found.culprits
    assert (culprit.record.op, culprit.record.first, culprit.record.index) == ("BATCH_MATMUL", 2, 2)
    assert (culprit.cause, culprit.certified) == ("limits", False)
    assert culprit.signature == "a texture of 128 x 8, where the device takes up to 64 x 64"
    assert found.status == "culprits"
    assert "goes beyond a limit of the device, so that it is refused" in found.notes[0]


def test_it_is_measured_shrunk_and_mended(find: Find) -> None:
    (culprit,) = find(Complaining(in_rows("BATCH_MATMUL", WIDE)), then=True).culprits
    assert culprit.cause == "limits"
    assert culprit.signature == (
        "right up to 8,192 in dimension 2 of [1, 8, n], refused from 8,193; "
        "a texture of 128 x 8, where the device takes up to 64 x 64"
    )
    assert [trial.ending for trial in culprit.trials] == ["refused", "right", "refused"]
    folder = Path(culprit.reproducer or "")
    assert [op.name for op in Model.load(folder / "model.tflite").graph().ops] == ["BATCH_MATMUL"]
    page = (folder / "ISSUE.md").read_text("utf-8")
    assert "goes beyond a limit of the device: a texture of 64 x 8" in page
    assert "hangs" not in page and "Where it ends: right up to 8,192" in page
    limits = next(line for line in (folder / "reproduce.py").read_text("utf-8").splitlines() if "limits =" in line)
    assert "3e+38" not in limits  # what was not written is told from the result
    works = [remedy.name for remedy in culprit.remedies if remedy.ok]
    assert "these ops on the CPU, between GPU parts" in works


def test_two_limits_of_one_model_are_both_found(find: Find) -> None:
    wide, long = in_rows("BATCH_MATMUL", WIDE), in_rows("NEG", LONG)

    def log(model: Model) -> str:
        return "\n".join(f"ERROR: uncaptured GPU error: GPUValidationError: {words(model)}" for words in (wide, long))

    found = find(Complaining(lambda model: wide(model) or long(model), log))
    assert [(c.record.op, c.cause) for c in found.culprits] == [("BATCH_MATMUL", "limits"), ("NEG", "limits")]


def test_a_limit_that_only_a_part_goes_beyond_accuses_nobody(find: Find) -> None:
    """What is cut out may have ports that the whole model does not have."""
    wide, ports = in_rows("BATCH_MATMUL", WIDE), in_rows("ABS", LONG)

    def complaint(model: Model) -> str:
        return wide(model) if len(model.graph().ops) >= 4 else ports(model) or wide(model)

    found = find(Complaining(complaint))
    assert [c.record.op for c in found.culprits] == ["BATCH_MATMUL"]


@pytest.mark.parametrize(
    "words", [SHADER, "Binding size for [Buffer (unlabeled)] is zero", "Failed to allocate tensors"]
)
def test_a_complaint_of_anything_else_stays_a_refusal(find: Find, words: str) -> None:
    log = "ERROR: uncaptured GPU error: GPUValidationError: " + WIDE.format(128)  # said beside it
    with pytest.raises(DeviceRefused) as caught:
        find(Complaining(in_rows("BATCH_MATMUL", words), lambda model: log))
    assert caught.value.reason == COMPLAINED + words


def test_a_refusal_that_is_no_complaint_is_none_whatever_it_says(find: Find) -> None:
    class Says(Complaining):
        def run(self, job: Job, sink: Sink | None = None) -> Outcome:
            outcome = super().run(job, sink)
            return Rejected(WIDE.format(128)) if isinstance(outcome, Rejected) else outcome

    with pytest.raises(DeviceRefused):
        find(Says(in_rows("BATCH_MATMUL", WIDE)))


def test_a_limit_that_no_part_goes_beyond_stays_a_refusal(find: Find) -> None:
    whole = in_rows("BATCH_MATMUL", WIDE)
    with pytest.raises(DeviceRefused, match="Texture size"):
        find(Complaining(lambda model: whole(model) if len(model.graph().ops) >= 4 else ""))
