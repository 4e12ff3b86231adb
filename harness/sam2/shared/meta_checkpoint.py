"""Meta's own checkpoints, `sam2.1_hiera_tiny.pt` and its kin, as weights for the models of transformers.

Both hold the same tensors under other names: `MODULES` says what transformers calls each of Meta's modules. Two are not
one to one: Meta keeps the four kinds of points apart, and the matrix of positions once. Which size it is follows from
the tensors' shapes; what shapes do not tell (heads, windows, which blocks attend to the whole image), `SIZES` has from
Meta's `sam2/configs/sam2.1/*.yaml`. What is the same for all sizes are transformers' defaults.

A checkpoint is a pickle. It is read with `weights_only`, which makes tensors and plain values and runs nothing else.
This module imports torch. Import it lazily.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.errors import UsageError
from harness.sam2.shared.configuration import BACKBONE, VISION, named
from harness.sam2.shared.source import META_NEXT_STEP, check_archive

_ATTENTION = {f"{part}_proj": f"{part}_proj" for part in "qkv"} | {"out_proj": "o_proj"}
_THREE_LAYERS = {"layers.0": "proj_in", "layers.1": "layers.0", "layers.2": "proj_out"}
_TWO_LAYERS = {"layers.0": "proj_in", "layers.1": "proj_out"}


def _within(metas: str, ours: str, parts: Mapping[str, str]) -> dict[str, str]:
    return {f"{metas}.{part}": f"{ours}.{name}" for part, name in parts.items()}


def _norms(count: int) -> dict[str, str]:
    return {f"norm{number}": f"layer_norm{number}" for number in range(1, count + 1)}


_BLOCK = {"attn.qkv": "attn.qkv", "attn.proj": "attn.proj", "proj": "proj"}
_DECODER, _TWO_WAY = "sam_mask_decoder", "sam_mask_decoder.transformer"

MODULES: dict[str, str] = {
    "image_encoder.trunk.patch_embed.proj": "vision_encoder.backbone.patch_embed.projection",
    **_within("image_encoder.trunk.blocks.*", "vision_encoder.backbone.blocks.*", _BLOCK | _norms(2)),
    **_within("image_encoder.trunk.blocks.*.mlp", "vision_encoder.backbone.blocks.*.mlp", _TWO_LAYERS),
    "image_encoder.neck.convs.*.conv": "vision_encoder.neck.convs.*",
    "sam_prompt_encoder.not_a_point_embed": "prompt_encoder.not_a_point_embed",
    "sam_prompt_encoder.no_mask_embed": "prompt_encoder.no_mask_embed",
    **_within(
        "sam_prompt_encoder.mask_downscaling",
        "prompt_encoder.mask_embed",
        {"0": "conv1", "1": "layer_norm1", "3": "conv2", "4": "layer_norm2", "6": "conv3"},
    ),
    **_within(_DECODER, "mask_decoder", {n: n for n in ("iou_token", "mask_tokens", "obj_score_token")}),
    **_within(_DECODER, "mask_decoder", {n: n for n in ("conv_s0", "conv_s1")}),
    **_within(
        f"{_DECODER}.output_upscaling",
        "mask_decoder",
        {"0": "upscale_conv1", "1": "upscale_layer_norm", "3": "upscale_conv2"},
    ),
    **_within(f"{_DECODER}.output_hypernetworks_mlps.*", "mask_decoder.output_hypernetworks_mlps.*", _THREE_LAYERS),
    **_within(f"{_DECODER}.iou_prediction_head", "mask_decoder.iou_prediction_head", _THREE_LAYERS),
    **_within(f"{_DECODER}.pred_obj_score_head", "mask_decoder.pred_obj_score_head", _THREE_LAYERS),
    **_within(f"{_TWO_WAY}.layers.*", "mask_decoder.transformer.layers.*", _norms(4)),
    **_within(f"{_TWO_WAY}.layers.*.mlp", "mask_decoder.transformer.layers.*.mlp", _TWO_LAYERS),
    **{
        metas: ours
        for part in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
        for metas, ours in _within(
            f"{_TWO_WAY}.layers.*.{part}", f"mask_decoder.transformer.layers.*.{part}", _ATTENTION
        ).items()
    },
    **_within(
        f"{_TWO_WAY}.final_attn_token_to_image", "mask_decoder.transformer.final_attn_token_to_image", _ATTENTION
    ),
    f"{_TWO_WAY}.norm_final_attn": "mask_decoder.transformer.layer_norm_final_attn",
    **_within(
        "memory_attention.layers.*",
        "memory_attention.layers.*",
        {"linear1": "linear1", "linear2": "linear2"} | _norms(3),
    ),
    **_within("memory_attention.layers.*.self_attn", "memory_attention.layers.*.self_attn", _ATTENTION),
    **_within("memory_attention.layers.*.cross_attn_image", "memory_attention.layers.*.cross_attn_image", _ATTENTION),
    "memory_attention.norm": "memory_attention.layer_norm",
    # Convolution, LayerNorm and activation, four times; then one convolution more.
    **_within(
        "memory_encoder.mask_downsampler.encoder",
        "memory_encoder.mask_downsampler",
        {str(3 * n): f"layers.{n}.conv" for n in range(4)}
        | {str(3 * n + 1): f"layers.{n}.layer_norm" for n in range(4)}
        | {"12": "final_conv"},
    ),
    "memory_encoder.pix_feat_proj": "memory_encoder.feature_projection",
    "memory_encoder.out_proj": "memory_encoder.projection",
    **_within(
        "memory_encoder.fuser.layers.*",
        "memory_encoder.memory_fuser.layers.*",
        {"dwconv": "depthwise_conv", "norm": "layer_norm", "pwconv1": "pointwise_conv1", "pwconv2": "pointwise_conv2"},
    ),
    **_within("obj_ptr_proj", "object_pointer_proj", _THREE_LAYERS),
    "obj_ptr_tpos_proj": "temporal_positional_encoding_projection_layer",
    "mask_downsample": "mask_downsample",
}
"""transformers' name of each of Meta's modules; a star stands for the number of a layer, the same in both."""

PARAMETERS = {
    "image_encoder.trunk.pos_embed": "vision_encoder.backbone.pos_embed",
    "image_encoder.trunk.pos_embed_window": "vision_encoder.backbone.pos_embed_window",
    "memory_encoder.fuser.layers.*.gamma": "memory_encoder.memory_fuser.layers.*.scale",
    "maskmem_tpos_enc": "memory_temporal_positional_encoding",
    "no_mem_embed": "no_memory_embedding",
    "no_mem_pos_enc": "no_memory_positional_encoding",
    "no_obj_ptr": "no_object_pointer",
    "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
}
"""Likewise for tensors that are no weight or bias of a module."""

_POSITIONS = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_OUR_POSITIONS = ("shared_image_embedding", "prompt_encoder.shared_embedding")
# A tensor may claim any shape over the bytes of one number.
_MOST_CHANNELS = 4096
_POINTS = tuple(f"sam_prompt_encoder.point_embeddings.{kind}.weight" for kind in range(4))

VIDEO_ONLY = (
    "mask_downsample.",
    "memory_attention.",
    "memory_encoder.",
    "memory_temporal_positional_encoding",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "object_pointer_proj.",
    "occlusion_spatial_embedding_parameter",
    "temporal_positional_encoding_projection_layer.",
)
"""How names of tensors begin that the video model has and the image model has not."""

SIZES: dict[tuple[int, int], tuple[str, dict[str, Any]]] = {
    (96, 12): ("Hiera-Tiny", {}),
    (96, 16): ("Hiera-Small", {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]}),
    (112, 24): (
        "Hiera-Base+",
        {
            "blocks_per_stage": [2, 3, 16, 3],
            "global_attention_blocks": [12, 16, 20],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "window_positional_embedding_background_size": [14, 14],
        },
    ),
    (144, 48): (
        "Hiera-Large",
        {
            "blocks_per_stage": [2, 6, 36, 4],
            "global_attention_blocks": [23, 33, 43],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "window_size_per_stage": [8, 4, 16, 8],
        },
    ),
}
"""By channels of the first stage and number of blocks: the name, and the backbone's keys that differ from Tiny's."""


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by transformers' names, float32, whether the image or the video model has them.

    Raises `UsageError` for a file that is no checkpoint as Meta's are, or has tensors that SAM 2 has not.
    """
    check_archive(file)
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch lets its reader's errors through, of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if "weights_only" in reason:  # torch goes on to say how to run it
            reason = "it holds more than tensors, and none of that is run"
        raise UsageError(f"The checkpoint {str(file)!r} cannot be read ({reason}).", META_NEXT_STEP) from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        has = named(tuple(map(str, content))) if isinstance(content, dict) else type(content).__name__
        raise UsageError(f"{str(file)!r} is not a checkpoint of Meta's: no 'model' in it, but {has}.", META_NEXT_STEP)
    return translated(state, file)


def translated(state: Mapping[Any, Any], file: Path) -> dict[str, Tensor]:
    """Meta's tensors by transformers' names. Raises `UsageError`, which speaks of `file`, for names and values that are
    none of SAM 2's."""
    for name, value in state.items():
        if not _is_plain(value):
            raise UsageError(
                f"{str(file)!r} is no checkpoint: {str(name)[:80]!r} is no tensor of reals.", META_NEXT_STEP
            )
    found: dict[str, Tensor] = {}
    foreign = []
    for name, value in state.items():
        if name == _POSITIONS:
            found |= {f"{module}.positional_embedding": value for module in _OUR_POSITIONS}
        elif name in _POINTS:
            continue
        elif (ours := our_name(str(name))) is not None:
            found[ours] = value
        else:
            foreign.append(str(name))
    if foreign:
        raise UsageError(
            f"{str(file)!r} has {len(foreign)} tensors that SAM 2 has not: {named(tuple(sorted(foreign)))}.",
            META_NEXT_STEP,
        )
    points = [state[name] for name in _POINTS if name in state]
    width = points[0].shape[-1] if points and points[0].dim() else 0
    if len(points) == len(_POINTS) and width <= _MOST_CHANNELS and all(row.shape == (1, width) for row in points):
        found["prompt_encoder.point_embed.weight"] = torch.cat(points)
    return found


def _is_plain(value: Any) -> bool:
    return (
        type(value) in (Tensor, nn.Parameter)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.is_floating_point()
    )


def our_name(name: str) -> str | None:
    """What transformers calls one of Meta's tensors that is one to one; None for a name that is none."""
    numbers = re.findall(r"(?<=\.)\d{1,3}(?=\.)", name)
    module, _, leaf = name.rpartition(".")
    ours = _found(PARAMETERS, name, numbers)
    if ours is None and leaf in ("weight", "bias") and (ours := _found(MODULES, module, numbers)) is not None:
        ours = f"{ours}.{leaf}"
    return ours


def _found(table: Mapping[str, str], name: str, numbers: list[str]) -> str | None:
    """The entry for `name`, of whose numbers none, or the first, may stand where the table has a star."""
    if name in table and "*" not in name:
        return table[name]
    if not numbers:
        return None
    starred = re.sub(rf"\.{numbers[0]}(?=\.|$)", ".*", name, count=1)
    entry = table.get(starred)
    return None if entry is None else entry.replace("*", numbers[0])


def configuration(tensors: Mapping[str, Tensor], file: Path) -> tuple[str, dict[str, Any]]:
    """The model's name, and what the tensors say of its configuration, as the content of a config.json of transformers.

    Raises `UsageError` where they are of no published size.
    """
    patches = tensors.get("vision_encoder.backbone.patch_embed.projection.weight")
    blocks = {name.split(".")[3] for name in tensors if name.startswith("vision_encoder.backbone.blocks.")}
    width = 0 if patches is None or not patches.dim() else int(patches.shape[0])
    if (width, len(blocks)) not in SIZES:
        raise UsageError(
            f"{str(file)!r} has {len(blocks)} blocks from {width} channels on: none of SAM 2's sizes.", META_NEXT_STEP
        )
    size, backbone = SIZES[width, len(blocks)]
    stages = [width << stage for stage in range(4)]
    backbone = {"model_type": BACKBONE, "hidden_size": width, "embed_dim_per_stage": stages, **backbone}
    vision = {"model_type": VISION, "backbone_config": backbone, "backbone_channel_list": stages[::-1]}
    # Of the first release and its successor, only 2.1 has these two.
    places = "temporal_positional_encoding_projection_layer.weight" in tensors
    occluded = "occlusion_spatial_embedding_parameter" in tensors
    name = f"SAM {'2.1' if places and occluded else '2'} {size}"
    return name, {
        "vision_config": vision,
        "enable_temporal_pos_encoding_for_object_pointers": places,
        "enable_occlusion_spatial_embedding": occluded,
    }


def fit(model: Any, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Copy the tensors into a model of transformers, of the image or of the video.

    Raises `UsageError` where one is missing, too many, or of another shape.
    """
    wanted = model.state_dict()
    missing = tuple(sorted(set(wanted) - set(tensors)))
    if missing:
        raise UsageError(f"{str(file)!r} lacks {len(missing)} of SAM 2's tensors: {named(missing)}.", META_NEXT_STEP)
    extra = tuple(sorted(n for n in set(tensors) - set(wanted) if not n.startswith(VIDEO_ONLY)))
    if extra:
        raise UsageError(f"{str(file)!r} has {len(extra)} tensors too many: {named(extra)}.", META_NEXT_STEP)
    for name, place in wanted.items():
        if tensors[name].shape != place.shape:
            raise UsageError(
                f"{str(file)!r} has {name} of {list(tensors[name].shape)}, and not {list(place.shape)}.",
                META_NEXT_STEP,
            )
    for name, place in wanted.items():
        place.copy_(tensors[name])
