"""The five graphs as ONNX, with the published names, shapes and types, from a `transformers` video model; and a sixth,
the mask decoder that is told of a previous mask.

The graphs share their modules with the ones for LiteRT (`modules`); here they get what the host does there: the
prompt's encoding, the choice among four masks, the gate of an object that is not there, and the mask's binarization.
This module imports torch. Import it lazily.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.core.progress import Say
from harness.sam2.shared.contract import DecoderVariant
from harness.sam2.shared.modules.encoder import ImageEncoder, folded
from harness.sam2.shared.prompt import PADDING
from harness.sam2.video.contract import (
    EXPORTED,
    MARK,
    MASK_LIMIT,
    NO_OBJECT_SCORE,
    PADDED,
    Constants,
    Graph,
    Sizes,
    ports,
)
from harness.sam2.video.conversion.modules import (
    MemoryAttention,
    MemoryEncoder,
    VideoDecoder,
    finished,
    memory_positions,
    upsampled,
    video_sizes,
    vision_positions,
)

OPSET = 18
PLAIN = DecoderVariant(layernorm="plain")


class VisionGraph(nn.Module):
    """The image encoder, with features for a frame without memory, and the deepest features' positions."""

    positions: Tensor
    no_memory: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = ImageEncoder(model, "whole", "plain", "whole")
        self.encoder.lateral2 = folded(model.vision_encoder.neck.convs[1])
        self.register_buffer("no_memory", model.no_memory_embedding.detach().reshape(1, -1, 1, 1).clone())
        self.register_buffer("positions", vision_positions(model))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """In the order of `contract.ports`."""
        feats2, feats1, feats0 = self.encoder(pixel_values)
        return feats0, feats1, feats2, feats2 + self.no_memory, self.positions + 0


class DecoderGraph(nn.Module):
    """Points to one mask, gated by whether the object is there."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        if not (config.multimask_output_in_sam and config.multimask_output_for_tracking):
            raise ValueError("only a model that asks for several masks while tracking can be exported")
        self.decoder = VideoDecoder(model, PLAIN)
        # A phone's GPU refuses a transposed convolution; ONNX runtimes take it as it is.
        self.decoder.upsample1 = model.mask_decoder.upscale_conv1
        self.decoder.upsample2 = model.mask_decoder.upscale_conv2
        prompt = model.prompt_encoder
        self.positions = nn.Parameter(prompt.shared_embedding.positional_embedding.detach().clone())
        self.point_embed, self.not_a_point = prompt.point_embed, prompt.not_a_point_embed.weight
        self.no_object_pointer = model.no_object_pointer
        self.side = int(config.image_size)
        self.most_points = int(config.multimask_max_pt_num)
        self.delta = config.mask_decoder_config.dynamic_multimask_stability_delta
        self.threshold = config.mask_decoder_config.dynamic_multimask_stability_thresh

    def forward(self, feats0: Tensor, feats1: Tensor, feats2_cond: Tensor, points: Tensor, labels: Tensor) -> Any:
        """In the order of `contract.ports`."""
        prompt = self.prompt(points[0], labels[0])
        masks, scores, object_score, pointers = self.decoder(feats2_cond, prompt, feats1, feats0)
        # Upstream asks for three masks where there is a point at most, and takes the one with the best score; else for
        # one, unless that is unstable.
        best = torch.argmax(scores[:, 1:], dim=-1) + 1
        few = torch.ones_like(labels).sum().reshape(1) <= self.most_points
        sure = (masks[:, 0] > self.delta).float().sum().reshape(1)
        seen = (masks[:, 0] > -self.delta).float().sum().reshape(1)
        stable = torch.where(seen > 0, sure / seen.clamp(min=1.0), torch.ones_like(seen)) >= self.threshold
        choice = torch.where(few, best, torch.where(stable, torch.zeros_like(best), best))
        there = (object_score > 0).float().reshape(1, 1, 1)
        low = torch.where(there[..., None] > 0, masks.index_select(1, choice), NO_OBJECT_SCORE)
        pointer = pointers.index_select(1, torch.where(few, best, torch.zeros_like(best)))
        pointer = there * pointer + (1 - there) * self.no_object_pointer
        return low, upsampled(low, self.side), scores.index_select(1, choice), object_score[None], pointer

    def prompt(self, points: Tensor, labels: Tensor) -> Tensor:
        """Points [1, N, 2] and labels [1, N] with a padding point behind them, to tokens [1, N + 1, C]."""
        points = torch.cat([points, torch.zeros_like(points[:, :1])], dim=1)
        labels = torch.cat([labels, torch.full_like(labels[:, :1], PADDING)], dim=1)
        angles = 2 * math.pi * ((2 * ((points + 0.5) / self.side) - 1) @ self.positions)
        placed = torch.cat([angles.sin(), angles.cos()], dim=-1) + self.point_embed(labels.clamp(min=0).long())
        return torch.where(labels[..., None] == PADDING, self.not_a_point, placed)


class CorrectingGraph(nn.Module):
    """The decoder with the mask that a click corrects: its logits take the place of the prompt for no mask."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.graph = DecoderGraph(model)
        self.graph.decoder.dense_prompt = torch.zeros_like(self.graph.decoder.dense_prompt)
        self.embed = model.prompt_encoder.mask_embed

    def forward(
        self, feats0: Tensor, feats1: Tensor, feats2_cond: Tensor, points: Tensor, labels: Tensor, mask: Tensor
    ) -> Any:
        """In the order of `contract.ports`."""
        prompt = self.embed(mask.clamp(-MASK_LIMIT, MASK_LIMIT))
        return self.graph(feats0, feats1, feats2_cond + prompt, points, labels)


class MemoryEncoderGraph(nn.Module):
    """A frame's features and mask to its memory."""

    positions: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = MemoryEncoder(model, PLAIN)
        self.register_buffer("positions", memory_positions(model).transpose(0, 1).contiguous())
        self.occluded = model.occlusion_spatial_embedding_parameter
        self.scale, self.bias = model.config.sigmoid_scale_for_mem_enc, model.config.sigmoid_bias_for_mem_enc

    def forward(self, feats2: Tensor, high_res_mask: Tensor, object_score: Tensor, binarize: Tensor) -> Any:
        """In the order of `contract.ports`."""
        shares = torch.where(binarize > 0.5, (high_res_mask > 0).float(), torch.sigmoid(high_res_mask))
        memory = self.encoder(feats2, shares * self.scale + self.bias)
        if self.occluded is not None:
            memory = memory + (1 - (object_score > 0).float()[..., None]) * self.occluded
        return memory.transpose(0, 1), self.positions + 0


class MemoryAttentionGraph(nn.Module):
    """The features of a frame, conditioned on a memory bank."""

    def __init__(self, model: Any, sizes: Sizes) -> None:
        super().__init__()
        self.attention = MemoryAttention(model, PLAIN, sizes)
        self.grid = sizes.grid

    def forward(self, features: Tensor, positions: Tensor, memory: Tensor, memory_pos: Tensor) -> Tensor:
        """In the order of `contract.ports`."""
        marked = memory_pos[..., :1] <= MARK / 2
        bias = marked.float() * PADDED
        placed = torch.where(marked, torch.zeros_like(memory_pos), memory_pos)
        rows = (t.transpose(0, 1) for t in (features, memory, placed, bias, positions))
        found: Tensor = self.attention(*rows).transpose(1, 2)
        return found.reshape(1, -1, self.grid, self.grid)


class PointerGraph(nn.Module):
    """How long ago an object pointer was made, as a position."""

    frequencies: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        half = int(model.hidden_dim) // 2
        steps = torch.arange(half, dtype=torch.float32)
        self.register_buffer("frequencies", 10000 ** (2 * (steps // 2) / half))
        self.project = model.temporal_positional_encoding_projection_layer

    def forward(self, normalized_diffs: Tensor) -> Tensor:
        """[P] to [P, c]."""
        angles = normalized_diffs[:, None] / self.frequencies
        places: Tensor = self.project(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return places


def build_graph(model: Any, graph: Graph, sizes: Sizes) -> nn.Module:
    """One of the graphs, with the weights of `model`, whose inputs and outputs are `contract.ports`."""
    built: nn.Module
    match graph:
        case "vision_encoder":
            built = VisionGraph(model)
        case "mask_decoder":
            built = DecoderGraph(model)
        case "mask_decoder_with_prompt":
            built = CorrectingGraph(model)
        case "memory_encoder":
            built = MemoryEncoderGraph(model)
        case "memory_attention":
            built = MemoryAttentionGraph(model, sizes)
        case "pointer_tpos":
            built = PointerGraph(model)
    return finished(built, None)


def sample(graph: Graph, sizes: Sizes) -> tuple[Tensor, ...]:
    """Standard-normal inputs of the right shapes; dynamic dimensions are 3."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for port in ports(graph, sizes)[0]:
        shape = [3 if isinstance(size, str) else size for size in port.shape]
        made.append(
            torch.ones(shape, dtype=torch.int32) if port.dtype == "int32" else torch.randn(shape, generator=generator)
        )
    return tuple(made)


def export_graph(model: Any, graph: Graph, sizes: Sizes, path: Path) -> None:
    """Write one graph to `path` and have `onnx.checker` look at it."""
    import onnx

    inputs, outputs = ports(graph, sizes)
    dynamic = {p.name: {i: s for i, s in enumerate(p.shape) if isinstance(s, str)} for p in (*inputs, *outputs)}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            build_graph(model, graph, sizes),
            sample(graph, sizes),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[port.name for port in inputs],
            output_names=[port.name for port in outputs],
            dynamic_axes={name: axes for name, axes in dynamic.items() if axes},
        )
    made = onnx.load(str(path))
    # The tracer does not follow every shape to the end; the graph's own ports are fixed but for the dynamic ones.
    for told, port in zip((*made.graph.input, *made.graph.output), (*inputs, *outputs), strict=True):
        if told.name != port.name:  # a constant result keeps the name that the exporter gave it
            made.graph.node.append(onnx.helper.make_node("Identity", [told.name], [port.name]))
            told.name = port.name
        del told.type.tensor_type.shape.dim[:]
        for size in port.shape:
            dimension = told.type.tensor_type.shape.dim.add()
            if isinstance(size, str):
                dimension.dim_param = size
            else:
                dimension.dim_value = size
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, str(path))


def export_all(model: Any, folder: Path, provenance: str, is_random: bool, blocks: int | None, say: Say) -> None:
    """Write the graphs into `folder`/onnx and constants.json into `folder`."""
    sizes = video_sizes(model, blocks)
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    for graph in EXPORTED:
        say(f"exporting {graph}")
        export_graph(model, graph, sizes, folder / "onnx" / f"{graph}.onnx")
    temporal = model.memory_temporal_positional_encoding.detach().numpy().reshape(-1, sizes.memory_channels)
    Constants(sizes, np.ascontiguousarray(temporal, np.float32), provenance, is_random).save(folder)
