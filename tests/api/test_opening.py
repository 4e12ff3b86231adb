"""Models whose file leaves shapes open, made static: at the stored size or at the one asked for, the rest computed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from typer.testing import CliRunner

from harness.api.opening import as_in_the_file, open_model
from harness.cli.app import app
from harness.core.errors import UsageError
from harness.core.run_folder import list_runs, read_run
from harness.devices.shapes import Unanswered, shapes_at
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def saved(folder: Path, graph: GraphBuilder, opened: Mapping[int, Sequence[int]]) -> Path:
    """The graph's file with the signatures of shapes that a converter would write for these tensors."""
    root = graph.build().root
    for tensor, declared in opened.items():
        root.subgraphs[0].tensors[tensor].shapeSignature = np.asarray(declared, np.int32)
    path = folder / "model.tflite"
    path.write_bytes(Model(root).to_bytes())
    return path


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """x [-1, 4], stored as [1, 4], through FULLY_CONNECTED and RELU."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    y = graph.fully_connected(x, np.ones((3, 4), np.float32))
    z = graph.unary("RELU", y)
    graph.output(z, "z")
    return saved(tmp_path, graph, {x: (-1, 4), y: (-1, 3), z: (-1, 3)})


def shapes_of(model: Model) -> dict[str, tuple[int, ...] | None]:
    graph = Model.from_bytes(model.to_bytes()).graph()
    return {tensor.name: tensor.shape for tensor in graph.tensors if not tensor.constant}


def test_an_open_dimension_is_run_at_the_size_that_the_file_stores(dense: Path) -> None:
    found = open_model(dense)
    assert found.shapes == {"x": (1, 4)}
    assert found.assumed == "input 'x' [-1, 4] is [1, 4], as the file stores it"
    assert shapes_of(found.model) == {"x": (1, 4), "fully_connected_0": (1, 3), "relu_1": (1, 3)}
    assert found.model.path == dense
    assert found.file_sha256 == hashlib.sha256(dense.read_bytes()).hexdigest() != found.model.sha256


def test_a_run_says_what_file_it_is_of_where_it_runs_another_model(dense: Path, tmp_path: Path) -> None:
    """A farm holds hosts to it."""
    words = ["run", str(dense), "--accelerator", "cpu", "--out", str(tmp_path / "results")]
    assert CliRunner().invoke(app, words).exit_code == 0
    (run,) = list_runs(tmp_path / "results")
    told = read_run(run)["model"]
    assert told["file_sha256"] == hashlib.sha256(dense.read_bytes()).hexdigest() != told["sha256"]


def test_a_shape_asked_for_goes_through_the_graph(dense: Path) -> None:
    found = open_model(dense, shapes={"x": (5, 4)})
    assert found.assumed == "input 'x' [-1, 4] is [5, 4], as asked"
    assert shapes_of(found.model) == {"x": (5, 4), "fully_connected_0": (5, 3), "relu_1": (5, 3)}


def test_a_size_that_the_file_has_fixed_may_be_asked_for_where_the_graph_follows(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (1, 8))), "y")
    found = open_model(saved(tmp_path, graph, {}), shapes={"x": (2, 6)})
    assert shapes_of(found.model) == {"x": (2, 6), "relu_0": (2, 6)}


def test_a_model_that_leaves_nothing_open_is_not_written_anew(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (1, 8))), "y")
    path = saved(tmp_path, graph, {})
    for shapes in ({}, {"x": (1, 8)}):
        found = open_model(path, shapes=shapes)
        assert (found.model.to_bytes(), found.shapes, found.assumed) == (path.read_bytes(), {}, "")


def test_shapes_that_the_file_leaves_out_are_the_runtimes(tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (2, 4))
    hidden = graph.fully_connected(x, np.ones((3, 4), np.float32))
    graph.output(graph.unary("RELU", hidden), "y")
    root = graph.build().root
    root.subgraphs[0].tensors[hidden].shape = None
    root.subgraphs[0].tensors[hidden].hasRank = False
    path = tmp_path / "m.tflite"
    path.write_bytes(Model(root).to_bytes())
    found = open_model(path)
    assert found.assumed == "shapes that the file leaves out are those that the host's runtime computes"
    assert shapes_of(found.model) == {"x": (2, 4), "fully_connected_0": (2, 3), "relu_1": (2, 3)}


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        ({"y": (1, 4)}, "--shape names 'y', which is no input. The inputs are: x."),
        ({"x": (4,)}, "--shape gives input 'x' [4], the file has [-1, 4]. Give 2 sizes."),
        ({"x": (0, 4)}, "--shape gives input 'x' [0, 4]. Give sizes of 1 or more."),
    ],
)
def test_a_shape_that_cannot_be_is_refused(dense: Path, shapes: dict[str, tuple[int, ...]], why: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_model(dense, shapes=shapes)
    assert str(caught.value) == why


def test_a_shape_that_the_graph_does_not_follow_is_refused_with_the_runtimes_reason(dense: Path) -> None:
    with pytest.raises(
        UsageError, match=r"The runtime does not prepare the model where input 'x' .* as asked: .*[^.]\. Give"
    ):
        open_model(dense, shapes={"x": (1, 5)})


def test_an_input_without_any_size_asks_for_one(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (-1, 3))), "y")
    path = saved(tmp_path, graph, {})
    with pytest.raises(UsageError) as caught:
        open_model(path)
    assert str(caught.value) == (
        "Input 'x' has shape [-1, 3] in the file, which stores no size to run at. Give one: --shape x=1,3."
    )
    assert shapes_of(open_model(path, shapes={"x": (2, 3)}).model) == {"x": (2, 3), "relu_0": (2, 3)}
    assert as_in_the_file(path).model.to_bytes() == path.read_bytes()


def test_a_shape_that_depends_on_values_is_refused_with_the_op_that_makes_it(tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (4,), np.bool_)
    graph.output(graph.op("WHERE", [x], (-1, 1), schema.WhereOptionsT(), dtype=np.int64), "places")
    with pytest.raises(UsageError) as caught:
        open_model(saved(tmp_path, graph, {}))
    assert str(caught.value) == (
        "The shape of tensor 'where_0', which WHERE #0 makes, depends on the values of the inputs. "
        "Only static shapes can be compared: export the model without that op."
    )


def test_a_model_with_an_op_that_the_host_lacks_keeps_the_stored_shapes(tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    y = graph.op("CUSTOM", [x], (1, 4), custom="MyOwnOp")
    graph.output(y, "y")
    path = saved(tmp_path, graph, {x: (-1, 4), y: (-1, 4)})
    assert shapes_of(open_model(path).model) == {"x": (1, 4), "custom_0": (1, 4)}
    with pytest.raises(UsageError, match="MyOwnOp"):
        open_model(path, shapes={"x": (2, 4)})


def test_a_runtime_that_dies_is_told_as_that(monkeypatch: pytest.MonkeyPatch, dense: Path) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Unanswered, match="its process ended with exit code 1"):
        shapes_at(Model.load(dense), {0: (1, 4)})


def test_a_runtime_that_talks_without_an_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dense: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec yes\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(Unanswered, match="its process said more than 64 MiB"):
        shapes_at(Model.load(dense), {0: (1, 4)})


def reshaped_like_itself(by_values: bool) -> GraphBuilder:
    """x [n, 4] made flat by a RESHAPE to a size that POW, which nothing folds, makes of its shape or its values."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    shape_options = schema.ShapeOptionsT()
    shape_options.outType = schema.TensorType.INT32
    shape = graph.op("SHAPE", [x], (2,), shape_options, dtype=np.int32)
    source = graph.op("CAST", [x], (1, 4), schema.CastOptionsT(), dtype=np.int32) if by_values else shape
    axes = graph.constant(np.asarray([0, 1] if by_values else [0], np.int32))
    product = graph.op("REDUCE_PROD", [source, axes], (), reducing())
    power = graph.op("POW", [product, graph.constant(np.asarray(1, np.int32))], (), schema.PowOptionsT())
    size = graph.reshape(power, (1,))
    graph.output(graph.op("RESHAPE", [x, size], (-1,), schema.ReshapeOptionsT()), "y")
    return graph


def reducing() -> schema.ReducerOptionsT:
    options = schema.ReducerOptionsT()
    options.keepDims = False
    return options


def test_an_op_whose_size_is_only_found_late_is_not_named_for_one_that_depends_on_values(tmp_path: Path) -> None:
    """FILL is as large as x in each run; a GRU's first state is made so, ahead of the loop whose results are open."""
    graph = GraphBuilder()
    x = graph.input("x", (4,), np.bool_)
    shape_options = schema.ShapeOptionsT()
    shape_options.outType = schema.TensorType.INT32
    size = graph.op("SHAPE", [x], (1,), shape_options, dtype=np.int32)
    power = graph.op("POW", [size, graph.constant(np.asarray([1], np.int32))], (1,), schema.PowOptionsT())
    zeros = graph.op("FILL", [power, graph.constant(np.float32(0))], (1,), schema.FillOptionsT(), dtype=np.float32)
    graph.output(zeros, "zeros")
    places = graph.op("WHERE", [x], (-1, 1), schema.WhereOptionsT(), dtype=np.int64)
    graph.output(places, "places")
    with pytest.raises(UsageError, match="which WHERE #3 makes, depends on the values of the inputs"):
        open_model(saved(tmp_path, graph, {x: (-1,), zeros: (-1,)}))


def test_a_size_computed_of_shapes_alone_is_found_by_running_once(tmp_path: Path) -> None:
    path = saved(tmp_path, reshaped_like_itself(by_values=False), {})
    found = open_model(path, shapes={"x": (3, 4)})
    assert shapes_of(found.model)["reshape_4"] == (12,)


def test_a_size_computed_of_values_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, reshaped_like_itself(by_values=True), {})
    with pytest.raises(UsageError, match="which RESHAPE #5 makes, depends on the values of the inputs"):
        open_model(path)


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_signature_that_names_a_tensor_in_the_middle_is_refused(tmp_path: Path, kind: str) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    middle = graph.unary("RELU", x)
    graph.output(graph.unary("ABS", middle), "y")
    root = graph.build().root
    keyed = root.signatureDefs[0]
    if kind == "input":
        root.subgraphs[0].inputs = np.asarray([], np.int32)
    else:
        keyed.outputs[0].tensorIndex = middle
    path = tmp_path / "m.tflite"
    path.write_bytes(Model(root).to_bytes())
    with pytest.raises(UsageError) as caught:
        open_model(path)
    name = "x" if kind == "input" else "y"
    assert str(caught.value) == f"The signature's {kind} '{name}' is no {kind} of its graph. Export the model again."
