"""The exported graphs in onnxruntime-web, which runs them in browsers: the same values as onnxruntime's, but for
rounding. The bound counts roundings and takes it that no op enlarges an error that it is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo
from harness.sam2.video.contract import EXPORTED, Graph
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import motion_clip
from harness.sam2.video.tracker import Tracker
from tests.parts import MissingPart, lacking
from tests.sam2.video.in_node import Runs, run_in_node

# The first test waits until the graphs are exported.
pytestmark = pytest.mark.timeout(900)

UNIT = 2.0**-24
"""A float32 operation's relative rounding error."""
SURE = 8.0
"""n rounding errors that know nothing of each other add up to at most this many times the root of n units, with a
probability of 1 - 2 exp(-8^2 / 2) (Higham and Mary 2019, theorem 2.4)."""
PLAIN = 4
"""Roundings of an op that sums nothing: of exp, erf, sin and the like, which libraries compute within some units."""
REDUCTIONS = ("ReduceMean", "ReduceSum", "Softmax", "LayerNormalization")


def roundings(path: Path, inputs: Mapping[str, NDArray[Any]], folder: Path) -> int:
    """How often a value is rounded on the longest way through the graph: a sum as often as it has terms. `folder` is
    for the graph without what computes shapes, as the runtime's own basic simplification leaves it."""
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    graph = onnx.load(str(path))
    for port in graph.graph.input:
        for dimension, size in zip(port.type.tensor_type.shape.dim, inputs[port.name].shape, strict=True):
            dimension.dim_value = size
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / path.name)
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(str(folder / path.name))
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    shapes = {one.name: tuple(one.dims) for one in inferred.initializer}
    for one in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[one.name] = tuple(d.dim_value for d in one.type.tensor_type.shape.dim)
    for node in inferred.node:
        if node.op_type == "Constant":
            shapes[node.output[0]] = numpy_helper.to_array(node.attribute[0].t).shape

    def terms(node: Any) -> int:
        match node.op_type:
            case "MatMul" | "Gemm":
                transposed = any(one.name == "transA" and one.i for one in node.attribute)
                return int(shapes[node.input[0]][0 if transposed else -1])
            case "Conv":
                return int(math.prod(shapes[node.input[1]][1:]))
            case "ConvTranspose":
                weights = shapes[node.input[1]]
                return int(math.prod((weights[0], *weights[2:])))
            case op if op in REDUCTIONS:
                source, made = shapes[node.input[0]], shapes[node.output[0]]
                reduced = [a for a, b in zip(source, made, strict=False) if len(source) != len(made) or a != b]
                return int(max(math.prod(reduced), source[-1]))
            case _:
                return PLAIN

    behind: dict[str, int] = {}
    for node in inferred.node:
        longest = max((behind.get(name, 0) for name in node.input), default=0)
        found = 0 if node.op_type == "Constant" else terms(node)
        assert found > 0 or node.op_type == "Constant", f"{node.name}: the shapes do not tell what it sums"
        behind.update(dict.fromkeys(node.output, longest + found))
    return max(behind.get(port.name, 0) for port in inferred.output)


def tolerance(path: Path, inputs: Mapping[str, NDArray[Any]], folder: Path) -> float:
    """How far two runtimes may be apart, over the largest value: both round."""
    return 2 * SURE * math.sqrt(roundings(path, inputs, folder)) * UNIT


def recorded(folder: Path) -> tuple[dict[Graph, dict[str, NDArray[Any]]], dict[Graph, dict[str, NDArray[Any]]]]:
    """What each graph was given last on three frames with a click, another one and a correction, and what it made of
    that on onnxruntime."""
    inputs: dict[Graph, dict[str, NDArray[Any]]] = {}
    stages = OnnxStages(folder, threads=1, record=lambda graph, given: inputs.update({graph: dict(given)}))
    side = stages.constants.sizes.side
    frames: list[Photo] = [np.array(Image.fromarray(frame).resize((side, side))) for frame in motion_clip(3)]
    tracker = Tracker(stages, total=3)
    middle = side * 0.44, side * 0.38
    tracker.seed(frames[0], {1: Tap.at(*middle)})
    for frame in frames[1:]:
        tracker.step(frame)
    tracker.refine({1: Tap((middle, (side * 0.5, side * 0.5)))})
    kept = {graph: inputs[graph] for graph in EXPORTED}
    return kept, {graph: stages.run(graph, given) for graph, given in kept.items()}


def compared(folder: Path, values: Path, seconds: float) -> None:
    inputs, wanted = recorded(folder)
    graphs: dict[str, Path] = {graph: folder / "onnx" / f"{graph}.onnx" for graph in EXPORTED}
    given: Runs = {str(graph): ports for graph, ports in inputs.items()}
    try:
        made = run_in_node(graphs, given, values, seconds)
    except MissingPart as missing:
        lacking(missing)
    # Where no object is there, a mask is one number everywhere.
    assert all(wanted[graph]["object_score_logits"] > 0 for graph in EXPORTED if "mask_decoder" in graph)
    for graph in EXPORTED:
        allowed = tolerance(graphs[graph], inputs[graph], values)
        assert made[graph].keys() == wanted[graph].keys()
        for port, exact in wanted[graph].items():
            got = made[graph][port]
            assert (got.shape, got.dtype) == (exact.shape, exact.dtype)
            off = float(np.abs(got - exact).max() / np.abs(exact).max())
            assert off <= allowed, f"{graph} {port}: {off} of the largest, {allowed} allowed"


def test_every_graph_gives_onnxruntimes_values(exported: Path, tmp_path: Path) -> None:
    compared(exported, tmp_path, 300)


@pytest.mark.slow
def test_so_it_does_at_full_size(tmp_path: Path) -> None:
    """Some minutes, and 4 GB."""
    from transformers import Sam2VideoConfig

    from harness.sam2.shared.weights import random_video_model
    from harness.sam2.video.conversion.export import export_all

    model = random_video_model(Sam2VideoConfig(), seed=0)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(10.0)  # whatever it shows, an object is there
    export_all(model, tmp_path / "graphs", "random weights", True, None, lambda _: None)
    (values := tmp_path / "values").mkdir()
    compared(tmp_path / "graphs", values, 600)
