"""`lint --fix` as a function: what is rewritten, what is left and why, and what the checks say."""

from __future__ import annotations

import resource
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import harness
from device_tests.corpus import CORPUS
from harness.api.fixing.fix import DRAWS, _write, fix_model
from harness.api.fixing.request import FixRequest
from harness.api.fixing.result import DeviceCheck, Fixed, Verdict
from harness.core.errors import StorageError
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.lint.knowledge.target import target_of
from harness.lint.lint import lint
from harness.localize.base.case import REFERENCE
from harness.localize.base.result import OutputVerdict
from harness.numerics.metrics import compare
from harness.numerics.tolerance import Judgement
from tests.arrays import normal

HOST = target_of("host")


def saved(folder: Path, model: Model) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(model.to_bytes())
    return path


def rows(shape: tuple[int, ...] = (64, 16)) -> Model:
    """A constant without a leading 1 in two ops, of which the GPU reads row 0 for every row."""
    graph = GraphBuilder()
    pos = graph.constant(normal(shape), "pos")
    x = graph.binary("ADD", graph.input("x", shape), pos)
    graph.output(graph.binary("MUL", graph.unary("TANH", x), pos), "y")
    return graph.build()


def fixed(path: Path, **words: object) -> Fixed:
    return fix_model(FixRequest(path, HOST, path.with_name("fixed.tflite"), **words))  # type: ignore[arg-type]


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    """What is written last, as the file is closed, may be what does not fit."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(StorageError, match="is full"):
            _write(tmp_path / "made.tflite", bytes(1024))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_what_is_found_is_rewritten_and_the_file_takes_the_models_place(tmp_path: Path) -> None:
    path = saved(tmp_path, rows())
    before = path.read_bytes()
    found = fixed(path)
    assert found.path is not None and path.read_bytes() == before
    again = Model.load(found.path)
    assert again.sha256 == found.model.sha256 and lint(again) == () and len(found.findings) == 2
    assert [(step.rule, [(op.op, op.op_name) for op in step.ops]) for step in found.steps] == [
        ("low-rank-constant", [(0, "ADD"), (2, "MUL")])
    ]
    assert found.left == () and found.check is not None and found.check.identical
    assert found.check.inputs == tuple(f"random, seed {seed}" for seed in range(DRAWS))
    assert all(output.seen for output in found.check.outputs)


def test_ports_are_those_of_the_file_to_the_last_name(tmp_path: Path) -> None:
    """Tensors' names too, by which LiteRT's Interpreter knows them; without a signature they are the only ones."""
    for signature in (True, False):
        model = rows()
        if not signature:
            model.root.signatureDefs = None
            model.edited()
        folder = tmp_path / str(signature)
        folder.mkdir()
        path = saved(folder, model)
        old, new = Model.load(path), fixed(path).model
        assert new.signatures == old.signatures
        for was, now in ((old.graph().inputs, new.graph().inputs), (old.graph().outputs, new.graph().outputs)):
            facts = [
                [(port.name, g.tensors[port.tensor].name, g.tensors[port.tensor].shape) for port in ports]
                for g, ports in ((old.graph(), was), (new.graph(), now))
            ]
            assert facts[0] == facts[1]


def test_an_output_that_is_given_out_as_a_copy_keeps_its_name(tmp_path: Path) -> None:
    bug = next(bug for bug in CORPUS if bug.name == "convolution_then_scale")
    path = saved(tmp_path, bug.build())
    found = fixed(path)
    assert [step.rule for step in found.steps] == ["swallowed-convolution"]
    old, new = Model.load(path).graph(), found.model.graph()
    names = [[g.tensors[port.tensor].name for port in g.outputs] for g in (old, new)]
    assert names[0] == names[1]
    tensors = [tensor.name for tensor in new.tensors]
    assert len(set(tensors)) == len(tensors)


def test_a_model_that_is_clean_is_not_written(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (1, 8))), "y")
    found = fixed(saved(tmp_path, graph.build()))
    assert found.rewritten is None and found.path is None and not (tmp_path / "fixed.tflite").exists()
    assert found.sentence() == "Nothing to rewrite: nothing was found."


def test_what_cannot_be_rewritten_is_left_beside_what_is_rewritten(tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.binary("ADD", graph.input("x", (64, 16)), graph.constant(normal((64, 16))))
    graph.output(graph.op("CAST", [x], (64, 16), schema.CastOptionsT(), dtype=np.int64), "y")
    found = fixed(saved(tmp_path, graph.build()))
    assert [step.rule for step in found.steps] == ["low-rank-constant"]
    ((finding, why),) = [(left.finding, left.why) for left in found.left]
    assert finding.rule == "refused-int64" and why.endswith("'y', an input or output of the model, has 64 bits")
    assert [left.finding for left in found.left] == list(lint(found.model))


@pytest.mark.parametrize("bug", CORPUS, ids=lambda bug: bug.name)
def test_each_graph_of_the_corpus_is_rewritten_to_the_same_values_or_not_at_all(tmp_path: Path, bug: object) -> None:
    """By a check of its own: the plain kernels on inputs that the fix did not see."""
    path = saved(tmp_path, bug.build())  # type: ignore[attr-defined]
    found = fixed(path)
    assert len(found.left) + sum(len(step.ops) for step in found.steps) >= len({f.op for f in found.findings})
    if found.rewritten is None:
        return
    assert len(lint(found.model)) == len(found.left) < len(found.findings)
    inputs = random_inputs(Model.load(path).graph(), 77)
    with HostDevice() as host:
        was, now = (
            completed(host, make_job(model, inputs, REFERENCE, timeout=60), "a check").outputs
            for model in (Model.load(path), found.model)
        )
    for name, values in was.items():
        scale = float(np.abs(values[np.isfinite(values)]).max(initial=1e-6)) if values.dtype.kind == "f" else 0
        np.testing.assert_allclose(now[name], values, rtol=1e-4, atol=1e-5 * scale)


def test_a_model_of_several_signatures_is_left_as_it_is(tmp_path: Path) -> None:
    model = rows()
    again = copy(model.root.signatureDefs[0])
    again.signatureKey = "again"
    model.root.signatureDefs = [*model.root.signatureDefs, again]
    model.edited()
    found = fixed(saved(tmp_path, model))
    assert found.rewritten is None
    assert {left.why for left in found.left} == {
        "it has 2 signatures, and a rewrite takes a model with one: export each by itself"
    }


def test_shapes_that_a_file_leaves_open_stay_open(tmp_path: Path) -> None:
    """A rewritten file would have the stored ones for good."""
    model = rows()
    for tensor in model.root.subgraphs[0].tensors:
        if not tensor.buffer:
            tensor.shapeSignature = np.asarray([-1, 16], np.int32)
    model.edited()
    found = fixed(saved(tmp_path, model))
    assert found.rewritten is None and found.findings
    assert all(left.why.startswith("it leaves shapes open") for left in found.left)


def test_metadata_that_is_not_kept_is_said(tmp_path: Path) -> None:
    model = rows()
    entry = schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", 0
    model.root.metadata = [entry]
    model.edited()
    assert fixed(saved(tmp_path, model)).notes == ("Metadata of the file is left out: TFLITE_METADATA.",)


def test_in_python_a_model_in_memory_is_rewritten_and_compared(tmp_path: Path) -> None:
    found = harness.fix(rows(), device="planted:low-rank-constant", out=tmp_path)
    assert found.path is not None and found.path.parent == tmp_path
    assert found.device is not None and found.device.word == "fixed"
    assert repr(found) == "<Fixed: 2 of 2 findings gone, 0 left.>"
    assert found.device.before.run is not None and found.device.before.run.is_dir()
    alone = harness.fix(rows(), target="mali", to=tmp_path / "alone.tflite", out=tmp_path)
    assert alone.device is None and alone.path == tmp_path / "alone.tflite"


def verdict(ending: Any, *outputs: tuple[bool, float]) -> Verdict:
    """Each output: whether it passes, and its error over what is expected."""
    nothing = compare(np.ones(4, np.float32), np.ones(4, np.float32))
    made = [OutputVerdict("y", Judgement(ok, ratio, nothing, nothing), 1.0) for ok, ratio in outputs]
    return Verdict(ending, tuple(made))


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (verdict("pass", (True, 1)), verdict("pass", (True, 1)), "right"),
        (verdict("fail", (False, 90)), verdict("pass", (True, 1)), "fixed"),
        (verdict("refused"), verdict("pass", (True, 1)), "fixed"),
        (verdict("fail", (False, 90), (False, 90)), verdict("fail", (True, 1), (False, 90)), "better"),
        (verdict("fail", (False, 90)), verdict("fail", (False, 44)), "better"),
        (verdict("fail", (False, 90)), verdict("fail", (False, 46)), "unchanged"),
        (verdict("fail", (False, 90), (False, 90)), verdict("fail", (False, 20), (False, 91)), "unchanged"),
        (verdict("fail", (True, 1), (False, 90)), verdict("fail", (False, 17), (True, 1)), "worse"),
        (verdict("pass", (True, 1)), verdict("fail", (False, 90)), "worse"),
        (verdict("fail", (False, 90)), verdict("crashed"), "worse"),
        (verdict("refused"), verdict("fail", (False, 90)), "worse"),  # wrong without a word, where it was refused aloud
        (verdict("refused"), verdict("refused"), "unchanged"),
    ],
)
def test_nothing_is_called_fixed_that_does_not_pass(before: Verdict, after: Verdict, word: str) -> None:
    found = DeviceCheck("host", before, after)
    assert found.word == word and found.ok == (word in ("right", "fixed"))


def test_a_constant_that_several_ops_read_is_stored_once(tmp_path: Path) -> None:
    path = saved(tmp_path, rows((256, 64)))
    found = fixed(path)
    assert found.path is not None and len(found.steps[0].ops) == 2
    assert found.path.stat().st_size < path.stat().st_size + 4096
