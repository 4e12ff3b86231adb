"""Meta's own predictors with the weights of a `transformers` model: the names of one checkpoint in the other.

The package is `sam2`, with hydra-core, iopath and torchvision; it is in no requirement of this project. It may lie in a
folder of its own, which `HARNESS_META_SAM2` names.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

MATRIX = "pe_layer.positional_encoding_gaussian_matrix"
RULES = (
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
    (r"^vision_encoder\.backbone\.patch_embed\.projection\.", "image_encoder.trunk.patch_embed.proj."),
    (r"^vision_encoder\.backbone\.(.*)mlp\.proj_in\.", r"image_encoder.trunk.\1mlp.layers.0."),
    (r"^vision_encoder\.backbone\.(.*)mlp\.proj_out\.", r"image_encoder.trunk.\1mlp.layers.1."),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^prompt_encoder\.shared_embedding\.positional_embedding$", f"sam_prompt_encoder.{MATRIX}"),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "sam_prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "sam_prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "sam_prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "sam_prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "sam_prompt_encoder.mask_downscaling.6."),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"^mask_decoder\.upscale_conv1\.", "sam_mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "sam_mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "sam_mask_decoder.output_upscaling.3."),
    (r"^mask_decoder\.transformer\.(.*)mlp\.proj_in\.", r"sam_mask_decoder.transformer.\1mlp.layers.0."),
    (r"^mask_decoder\.transformer\.(.*)mlp\.proj_out\.", r"sam_mask_decoder.transformer.\1mlp.layers.1."),
    (r"^mask_decoder\.transformer\.layer_norm_final_attn\.", "sam_mask_decoder.transformer.norm_final_attn."),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"^memory_attention\.layer_norm\.", "memory_attention.norm."),
    (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
    (r"^memory_encoder\.mask_downsampler\.final_conv\.", "memory_encoder.mask_downsampler.encoder.12."),
    (r"^memory_encoder\.memory_fuser\.(layers\.\d)\.scale$", r"memory_encoder.fuser.\1.gamma"),
    (r"^memory_encoder\.memory_fuser\.", "memory_encoder.fuser."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"\.layer_norm\.", ".norm."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.o_proj\.", ".out_proj."),
)  # fmt: skip
"""From a name of `transformers` to Meta's, each rule in turn."""

NOT_METAS = ("shared_image_embedding.positional_embedding",)
"""The same matrix as the prompt encoder's; Meta's checkpoint has it once."""


def module(name: str) -> Any:
    """A module of Meta's package, or of what it needs; no type checker sees them."""
    return importlib.import_module(name)


def metas_name(name: str) -> str:
    """Meta's name for a parameter of `transformers`."""
    three = re.match(r"^(.*(?:_head|hypernetworks_mlps\.\d|object_pointer_proj))\.(proj_in|layers\.0|proj_out)\.", name)
    if three is not None:  # perceptrons of three layers
        layer = {"proj_in": 0, "layers.0": 1, "proj_out": 2}[three[2]]
        name = f"{three[1]}.layers.{layer}.{name[three.end() :]}"
    shrinking = re.match(r"^memory_encoder\.mask_downsampler\.layers\.(\d)\.(conv|layer_norm)\.", name)
    if shrinking is not None:
        place = 3 * int(shrinking[1]) + (shrinking[2] == "layer_norm")
        name = f"memory_encoder.mask_downsampler.encoder.{place}.{name[shrinking.end() :]}"
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name


def metas_weights(model: Sam2VideoModel) -> dict[str, Tensor]:
    """The model's weights under Meta's names."""
    found: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name == "prompt_encoder.point_embed.weight":
            found |= {f"sam_prompt_encoder.point_embeddings.{row}.weight": value[row : row + 1] for row in range(4)}
        elif name not in NOT_METAS:
            found[metas_name(name)] = value
    return found


def require_package() -> None:
    """Have Meta's package importable, or skip the test."""
    # Before torchvision may be in sight, which transformers would import otherwise.
    from transformers import Sam2VideoModel  # noqa: F401

    folder = os.environ.get("HARNESS_META_SAM2")
    if folder and folder not in sys.path:
        sys.path.append(folder)
    if importlib.util.find_spec("sam2") is None:
        pytest.skip(
            "Meta's package is absent: pip install --no-deps --target DIR sam2 hydra-core iopath omegaconf portalocker "
            "antlr4-python3-runtime==4.9.3 torchvision, and HARNESS_META_SAM2=DIR"
        )
    try:
        module("torchvision")
    except RuntimeError:
        # Built for another torch, it has no operators; what is used of it here is written in Python.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        make: Any = torch.library.Library
        library = make("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
        module("torchvision")


_LIBRARIES: list[Any] = []


def predictor(model: Sam2VideoModel) -> Any:
    """Meta's video predictor, as `build_sam2_video_predictor` configures it, with the weights of `model`; without the
    filling of holes, which needs its CUDA extension."""
    from harness.sam2.video.conversion.modules import video_sizes

    configs = Path(next(iter(module("sam2").__path__))) / "configs"
    side = video_sizes(model).side
    told = module("omegaconf").OmegaConf.load(configs / "sam2.1" / "sam2.1_hiera_t.yaml").model
    told._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    told.image_size = side
    for attention in (told.memory_attention.layer.self_attention, told.memory_attention.layer.cross_attention):
        attention.feat_sizes = [side // 16, side // 16]
    told.binarize_mask_from_pts_for_mem_enc = True
    told.sam_mask_decoder_extra_args = {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    }
    found = module("hydra.utils").instantiate(told, _recursive_=True)
    found.load_state_dict(metas_weights(model))
    return found.eval()
