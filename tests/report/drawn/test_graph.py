"""graph.json: what reads what, kept and read back, and never believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.report.drawn import graph as kept
from harness.report.drawn.graph import KeptOp, KeptTensor, read_graph, write_graph
from tests import models
from tests.chains import diamond


def test_a_graph_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    graph = models.wrong().graph()
    write_graph(tmp_path, graph)
    found = read_graph(tmp_path)
    assert found is not None
    assert [op.name for op in found.ops] == ["ADD"]
    assert [(t.role, t.shape, t.type) for t in found.tensors] == [
        ("constant", (4, 8), "FLOAT32"),
        ("input", (4, 8), "FLOAT32"),
        ("computed", (4, 8), "FLOAT32"),
    ]
    assert found.outputs == (graph.outputs[0].tensor,)
    assert found.producer == graph.producer


def test_what_an_op_reads_and_who_reads_it_are_those_of_the_model(tmp_path: Path) -> None:
    graph = diamond().graph()
    write_graph(tmp_path, graph)
    found = read_graph(tmp_path)
    assert found is not None and found.consumers == graph.consumers
    assert [op.inputs for op in found.ops] == [op.inputs for op in graph.ops]


def test_names_are_cut_and_a_graph_that_no_page_can_use_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x" * 5000, (1, 8))), "y")
    write_graph(tmp_path, graph.build().graph())
    found = read_graph(tmp_path)
    assert found is not None and max(len(tensor.name) for tensor in found.tensors) == 200
    monkeypatch.setattr(kept, "MOST_OPS", 0)
    write_graph(tmp_path / "none", graph.build().graph())
    assert read_graph(tmp_path / "none") is None


def document(**changed: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [1], "type": "FLOAT32", "role": "input"}
    return {
        "schema": 1,
        "tensors": [tensor],
        "ops": [{"op": "RELU", "inputs": [0], "outputs": [0]}],
        "outputs": [0],
    } | changed


def test_the_document_above_is_one(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(json.dumps(document()))
    found = read_graph(tmp_path)
    assert found is not None and found.ops == (KeptOp("RELU", (0,), (0,)),)
    assert found.tensors == (KeptTensor("x", (1,), "FLOAT32", "input"),)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps(document(schema=2)),
        json.dumps(document(outputs=[1])),
        json.dumps(document(outputs=[-1])),
        json.dumps(document(outputs=[True])),
        json.dumps(document(ops=[{"op": "RELU", "inputs": [7], "outputs": [0]}])),
        json.dumps(document(ops=[3])),
        json.dumps(document(tensors=[{"name": "x", "shape": [0.5], "type": "F", "role": "input"}], ops=[], outputs=[])),
        json.dumps(document(tensors=[{"name": "x", "shape": [1], "type": "F", "role": "king"}], ops=[], outputs=[])),
        json.dumps(document(tensors=[{"name": "x", "shape": [-1], "type": "F", "role": "input"}], ops=[], outputs=[])),
    ],
)
def test_what_is_no_graph_is_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(text)
    with pytest.raises(UsageError):
        read_graph(tmp_path)


@pytest.mark.parametrize("what", ["MOST_OPS", "MOST_TENSORS"])
def test_a_graph_of_more_than_is_kept_is_not_read(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "graph.json").write_text(json.dumps(document()))
    monkeypatch.setattr(kept, what, 0)
    with pytest.raises(UsageError, match="more tensors or ops than are kept"):
        read_graph(tmp_path)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "else.json").write_text(json.dumps(document()))
    (tmp_path / "graph.json").symlink_to(tmp_path / "else.json")
    assert read_graph(tmp_path) is None
