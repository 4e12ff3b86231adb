"""The exported graphs: the published names, shapes and types, and what upstream's own modules compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from harness.core.errors import UsageError
from harness.sam2.shared.source import Source
from harness.sam2.video.contract import EXPORTED, GRAPHS, MARK, Constants, Graph, Sizes, ports
from harness.sam2.video.conversion import upstream
from harness.sam2.video.conversion.export import build_graph, sample
from harness.sam2.video.conversion.modules import video_sizes
from harness.sam2.video.onnx_stages import OnnxStages

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

# The first test waits until the graphs are exported.
pytestmark = pytest.mark.timeout(900)

CARD: dict[str, tuple[dict[str, list[int | str]], dict[str, list[int | str]]]] = {
    "vision_encoder": (
        {"pixel_values": [1, 3, 1024, 1024]},
        {
            "feats0": [1, 32, 256, 256],
            "feats1": [1, 64, 128, 128],
            "feats2": [1, 256, 64, 64],
            "feats2_no_mem": [1, 256, 64, 64],
            "vision_pos_embed": [1, 256, 64, 64],
        },
    ),
    "mask_decoder": (
        {
            "feats0": [1, 32, 256, 256],
            "feats1": [1, 64, 128, 128],
            "feats2_cond": [1, 256, 64, 64],
            "input_points": [1, 1, "N", 2],
            "input_labels": [1, 1, "N"],
        },
        {
            "low_res_mask": [1, 1, 256, 256],
            "high_res_mask": [1, 1, 1024, 1024],
            "iou": [1, 1],
            "object_score_logits": [1, 1, 1],
            "object_pointer": [1, 1, 256],
        },
    ),
    "memory_encoder": (
        {
            "feats2": [1, 256, 64, 64],
            "high_res_mask": [1, 1, 1024, 1024],
            "object_score_logits": [1, 1],
            "binarize": [],
        },
        {"memory_tokens": [4096, 1, 64], "memory_pos": [4096, 1, 64]},
    ),
    "memory_attention": (
        {
            "current_vision_features": [4096, 1, 256],
            "current_vision_position_embeddings": [4096, 1, 256],
            "memory": [28736, 1, 64],
            "memory_pos": [28736, 1, 64],
        },
        {"conditioned_feats": [1, 256, 64, 64]},
    ),
    "pointer_tpos": ({"normalized_diffs": ["P"]}, {"pointer_pos": ["P", 64]}),
}
"""The published tables, word by word; float32 but for the labels."""


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_contract_at_full_size_is_the_published_one(graph: Graph) -> None:
    inputs, outputs = ports(graph, Sizes())
    assert {port.name: list(port.shape) for port in inputs} == CARD[graph][0]
    assert {port.name: list(port.shape) for port in outputs} == CARD[graph][1]
    kinds = {port.name: port.dtype for port in (*inputs, *outputs)}
    assert {name for name, kind in kinds.items() if kind == "int32"} <= {"input_labels"}
    assert graph != "mask_decoder" or kinds["input_labels"] == "int32"


@pytest.mark.parametrize("graph", EXPORTED)
def test_an_exported_graph_has_the_names_shapes_and_types_of_the_contract(
    exported: Path, video_model: Sam2VideoModel, graph: Graph
) -> None:
    model = onnx.load(str(exported / "onnx" / f"{graph}.onnx"))
    onnx.checker.check_model(model, full_check=True)
    kinds = {TensorProto.FLOAT: "float32", TensorProto.INT32: "int32"}
    for told, wanted in zip(
        (model.graph.input, model.graph.output), ports(graph, video_sizes(video_model)), strict=True
    ):
        seen = [
            (
                port.name,
                tuple(d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim),
                kinds[port.type.tensor_type.elem_type],
            )
            for port in told
        ]
        assert seen == [(port.name, port.shape, port.dtype) for port in wanted]


def test_the_constants_hold_the_temporal_table_the_normalization_and_the_shapes(
    exported: Path, video_model: Sam2VideoModel
) -> None:
    told = json.loads((exported / "constants.json").read_text())
    table = np.array(told["memory_temporal_positional_encoding"], np.float32)
    np.testing.assert_array_equal(
        table, video_model.memory_temporal_positional_encoding.detach().numpy().reshape(7, 64)
    )
    assert told["normalization"]["mean"] == [0.485, 0.456, 0.406]
    assert told["normalization"]["std"] == [0.229, 0.224, 0.225]
    assert told["shapes"]["memory"] == 7 * 64 + 16 * 2
    assert Constants.load(exported).sizes == video_sizes(video_model)


SIDE = (
    '{"shapes": {"side": %s, "channels": 256, "memory_channels": 64, "blocks": 7, "pointers": 16}, "normalization": {}}'
)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{",
        '{"shapes": {}}',
        '{"shapes": {"side": -1}, "normalization": {}}',
        SIDE % "Infinity",
        SIDE % "-1e999",
    ],
)
def test_damaged_constants_are_one_sentence(tmp_path: Path, damage: str) -> None:
    (tmp_path / "constants.json").write_text(damage)
    with pytest.raises(UsageError, match=r"constants\.json' does not hold the tracker's constants"):
        Constants.load(tmp_path)


def test_a_pipe_in_the_place_of_the_constants_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into it."""
    os.mkfifo(tmp_path / "constants.json")
    code = (
        "import sys, pathlib\n"
        "from harness.sam2.video.contract import Constants\n"
        "Constants.load(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "does not hold the tracker's constants (ValueError('it is no file'))" in done.stderr


@pytest.mark.parametrize("graph", EXPORTED)
def test_a_rewritten_graph_computes_what_upstream_does(video_model: Sam2VideoModel, graph: Graph) -> None:
    sizes = video_sizes(video_model)
    given = list(sample(graph, sizes))
    if graph == "memory_attention":
        # Two blocks and some pointers are padding: upstream gets none of them.
        given[3][5 * sizes.tokens : 7 * sizes.tokens, 0, 0] = MARK
        given[3][-6:, 0, 0] = MARK
    with torch.inference_mode():
        got = build_graph(video_model, graph, sizes)(*given)
        wanted = upstream.run(video_model, graph, given)
    made = got if isinstance(got, tuple) else (got,)
    for found, exact, port in zip(made, wanted, ports(graph, sizes)[1], strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=2e-5 * float(exact.abs().max() + 1), msg=port.name)


@pytest.mark.parametrize("points", [1, 2, 5])
def test_the_decoder_asks_for_one_mask_or_three_as_upstream_does(
    exported: Path, video_model: Sam2VideoModel, points: int
) -> None:
    stages = OnnxStages(exported)
    sizes = stages.constants.sizes
    rng = np.random.default_rng(points)
    given = [torch.from_numpy(np.asarray(t)) for t in sample("mask_decoder", sizes)[:3]]
    given.append(torch.from_numpy(rng.uniform(0, 127, (1, 1, points, 2)).astype(np.float32)))
    given.append(torch.from_numpy(rng.integers(0, 4, (1, 1, points)).astype(np.int32)))
    names = [port.name for port in ports("mask_decoder", sizes)[0]]
    made = stages.run("mask_decoder", {name: value.numpy() for name, value in zip(names, given, strict=True)})
    with torch.inference_mode():
        wanted = upstream.run(video_model, "mask_decoder", given)
    for (name, found), exact in zip(made.items(), wanted, strict=True):
        np.testing.assert_allclose(found, exact.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("score", [-0.5, 0.5])
def test_a_mask_of_an_object_that_is_not_there_is_suppressed_in_the_graph(
    video_model: Sam2VideoModel, score: float
) -> None:
    sizes = video_sizes(video_model)
    graph = build_graph(video_model, "mask_decoder", sizes)
    head = graph.decoder.object_head.proj_out  # type: ignore[union-attr]
    head.weight.data.zero_()  # type: ignore[union-attr,operator]
    head.bias.data.fill_(score)  # type: ignore[union-attr,operator]
    with torch.inference_mode():
        low, high, _, told, pointer = graph(*sample("mask_decoder", sizes))
    assert float(told) == score
    gone = score <= 0
    assert bool((low == -1024).all()) is gone
    assert bool((high == -1024).all()) is gone
    assert torch.equal(pointer[0], video_model.no_object_pointer) is gone


def test_a_folder_without_graphs_is_refused(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "constants.json").write_text((exported / "constants.json").read_text())
    with pytest.raises(UsageError, match=r"There is no .*vision_encoder\.onnx"):
        OnnxStages(tmp_path)


def test_a_graph_of_other_ports_is_refused(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "constants.json").write_text((exported / "constants.json").read_text())
    for graph in GRAPHS:
        (tmp_path / "onnx" / f"{graph}.onnx").write_bytes((exported / "onnx" / "pointer_tpos.onnx").read_bytes())
    with pytest.raises(UsageError, match=r"lacks the input .pixel_values.; it has .normalized_diffs."):
        OnnxStages(tmp_path)


def test_an_image_models_weights_are_refused(small_folder: Path) -> None:
    from harness.sam2.shared.source import resolve
    from harness.sam2.shared.weights import load_video

    source: Source = resolve(str(small_folder))
    with pytest.raises(UsageError, match=r"has the image model alone, and a tracker needs the video model's memory"):
        load_video(source)
