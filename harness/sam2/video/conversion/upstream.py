"""Each of the five graphs as `transformers` itself computes it, without any rewriting.

This module imports torch. Import it lazily.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.sam2.video.contract import MARK, MASK_LIMIT, Graph


def run(model: Any, graph: Graph, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """The outputs of a graph on its inputs, both in the order of `contract.ports`."""
    made: tuple[Tensor, ...]
    match graph:
        case "vision_encoder":
            made = _encode(model, *inputs)
        case "mask_decoder" | "mask_decoder_with_prompt":
            made = _decode(model, *inputs)
        case "memory_encoder":
            made = _memorize(model, *inputs)
        case "memory_attention":
            made = _attend(model, *inputs)
        case "pointer_tpos":
            made = _places(model, *inputs)
    return made


def _image(rows: Tensor, size: Any) -> Tensor:
    return rows.permute(1, 2, 0).reshape(1, -1, *size)


def _encode(model: Any, pixels: Tensor) -> tuple[Tensor, ...]:
    found = model.get_image_features(pixels, return_dict=True)
    sizes = model.backbone_feature_sizes
    feats = [_image(rows, size) for rows, size in zip(found.fpn_hidden_states, sizes, strict=True)]
    deepest = found.fpn_hidden_states[-1]
    places = _image(found.fpn_position_encoding[-1], sizes[-1])
    return *feats, _image(deepest + model.no_memory_embedding, sizes[-1]), places


def _decode(
    model: Any,
    feats0: Tensor,
    feats1: Tensor,
    feats2: Tensor,
    points: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
) -> Any:
    few = labels.shape[-1] <= model.config.multimask_max_pt_num
    found = model._single_frame_forward(
        input_points=points,
        input_labels=labels,
        input_masks=None if mask is None else mask.clamp(-MASK_LIMIT, MASK_LIMIT),
        image_embeddings=[feats0, feats1, feats2],
        multimask_output=few,
    )
    # Upstream gives the scores of all three masks where it asked for three.
    iou = found.iou_scores[:, 0].amax(-1, keepdim=True)
    return found.pred_masks, found.high_res_masks, iou, found.object_score_logits, found.object_pointer


def _memorize(model: Any, feats2: Tensor, high: Tensor, score: Tensor, binarize: Tensor) -> tuple[Tensor, ...]:
    # `_encode_new_memory` step by step: it ends in bfloat16, which the graph leaves to the loop.
    config = model.config
    shares = (high > 0).float() if binarize > 0.5 else torch.sigmoid(high)
    scaled = shares * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
    memory, places = model.memory_encoder(feats2, scaled)
    if model.occlusion_spatial_embedding_parameter is not None:
        gone = 1 - (score > 0).float()
        memory = memory + gone[..., None, None] * model.occlusion_spatial_embedding_parameter[..., None, None]
    return tuple(image.flatten(2).permute(2, 0, 1) for image in (memory, places))


def _attend(model: Any, features: Tensor, places: Tensor, memory: Tensor, memory_pos: Tensor) -> tuple[Tensor, ...]:
    attended = memory_pos[:, 0, 0] > MARK / 2
    pointers = model.config.max_object_pointers_in_encoder * (model.hidden_dim // model.mem_dim)
    found = model.memory_attention(
        current_vision_features=features,
        current_vision_position_embeddings=places,
        memory=memory[attended],
        memory_posision_embeddings=memory_pos[attended],
        num_object_pointer_tokens=int(attended[-pointers:].sum()),
    )
    return (found.squeeze(1).transpose(1, 2).reshape(1, -1, *model.backbone_feature_sizes[-1]),)


def _places(model: Any, ages: Tensor) -> tuple[Tensor, ...]:
    from transformers.models.sam2_video.modeling_sam2_video import get_1d_sine_pe

    sine: Any = get_1d_sine_pe
    encoded = sine(ages, dim=model.hidden_dim)
    return (model.temporal_positional_encoding_projection_layer(encoded),)
