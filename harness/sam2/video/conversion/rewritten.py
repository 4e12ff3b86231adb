"""The tracker's graphs for LiteRT: fixed shapes, rank 4 at most, nothing that a mobile GPU is known to refuse.

What the ONNX graphs do around their modules (`export`) is the host's here (`host`): the prompt's encoding, the choice
among masks, gates, the mask's scaling. This module imports torch. Import it lazily.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.sam2.shared.contract import DecoderVariant
from harness.sam2.shared.modules import tflite
from harness.sam2.shared.modules.decoder import sample_inputs
from harness.sam2.shared.modules.encoder import ImageEncoder, folded
from harness.sam2.video.contract import REWRITTEN_PORTS, Rewritten, Sizes
from harness.sam2.video.conversion.modules import (
    MemoryAttention,
    MemoryEncoder,
    VideoDecoder,
    finished,
    memory_positions,
    video_sizes,
    vision_positions,
)


def build(model: Any, graph: Rewritten, variant: DecoderVariant) -> nn.Module:
    """A graph with the weights of `model`, ready to convert; shapes are at the forward methods in `modules`."""
    built: nn.Module
    if variant.reductions == "compensated":
        raise ValueError(f"the tracker's {graph} has no compensated sums")
    match graph:
        case "vision_encoder":
            built = ImageEncoder(model, "whole", variant.layernorm, variant.reductions)
            built.lateral2 = folded(model.vision_encoder.neck.convs[1])  # the no-memory embedding is the host's
            return finished(built, DecoderVariant(variant.layernorm))  # its linear layers stay whole, as the image's do
        case "mask_decoder":
            built = VideoDecoder(model, variant)
            return finished(built, variant)
        case "memory_encoder":
            built = MemoryEncoder(model, variant)
        case "memory_attention":
            built = MemoryAttention(model, variant, video_sizes(model))
    return finished(built, variant, video_sizes(model).tokens)


def sample(model: Any, graph: Rewritten, tokens: int = 2) -> tuple[Tensor, ...]:
    """Standard-normal inputs of the right shapes; a mask of -10 and 10, and a bias of zeros. `tokens`: the prompt's."""
    sizes: Sizes = video_sizes(model)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    match graph:
        case "vision_encoder":
            return (normal(1, 3, sizes.side, sizes.side),)
        case "mask_decoder":
            return sample_inputs(model, tokens=tokens)
        case "memory_encoder":
            mask = normal(1, 1, sizes.side, sizes.side).sign() * 10
            return normal(1, sizes.channels, sizes.grid, sizes.grid), mask
        case "memory_attention":
            bank = (normal(1, sizes.memory, sizes.memory_channels) for _ in range(2))
            return normal(1, sizes.tokens, sizes.channels), *bank, torch.zeros(1, sizes.memory, 1)


def to_tflite(model: Any, graph: Rewritten, variant: DecoderVariant, tokens: int = 2) -> bytes:
    """A graph as a .tflite whose inputs and outputs are named as in `REWRITTEN_PORTS`. litert-torch writes to standard
    output and error meanwhile."""
    import litert_torch

    inputs, outputs = REWRITTEN_PORTS[graph]
    given = dict(zip(inputs, sample(model, graph, tokens), strict=True))
    edge = litert_torch.convert(build(model, graph, variant), sample_kwargs=given)
    tree = tflite.read(edge.model_content())
    tflite.rename(tree, inputs, outputs)
    return tflite.write(tree)


def host_arrays(model: Any) -> dict[str, NDArray[np.float32]]:
    """What `host.HostConstants` reads beside the prompt's constants."""
    config = model.config
    sizes = video_sizes(model)
    occluded = model.occlusion_spatial_embedding_parameter
    if occluded is None:
        occluded = torch.zeros(sizes.memory_channels)
    decoder = config.mask_decoder_config
    numbers = (
        config.sigmoid_scale_for_mem_enc,
        config.sigmoid_bias_for_mem_enc,
        config.multimask_max_pt_num,
        decoder.dynamic_multimask_stability_delta,
        decoder.dynamic_multimask_stability_thresh,
    )
    return {
        "no_memory": model.no_memory_embedding.detach().numpy().reshape(1, -1, 1, 1),
        "vision_positions": vision_positions(model).numpy(),
        "memory_positions": memory_positions(model).numpy()[0],
        "occluded": occluded.detach().numpy().reshape(-1),
        "no_object_pointer": model.no_object_pointer.detach().numpy().reshape(-1),
        "numbers": np.array(numbers, np.float32),
    }
