"""The weights of a `transformers` model under the names of Meta's checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

IMAGE_POSITIONS = "shared_image_embedding.positional_embedding"
"""The same matrix as the prompt encoder's; Meta's checkpoint has it once."""


def metas_name(name: str) -> str:
    """Meta's name of a tensor of transformers, by what each of Meta's modules is made of; the other way round than the
    loader goes, and written without it."""
    for ours, metas in (
        (r"vision_encoder\.backbone\.", "image_encoder.trunk."),
        (r"vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"prompt_encoder\.shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
        (r"prompt_encoder\.mask_embed\.conv([123])", lambda m: f"mask_downscaling.{3 * int(m[1]) - 3}"),
        (r"prompt_encoder\.mask_embed\.layer_norm([12])", lambda m: f"mask_downscaling.{3 * int(m[1]) - 2}"),
        (r"^(pe_layer|mask_downscaling)", r"sam_prompt_encoder.\1"),
        (r"^prompt_encoder\.", "sam_prompt_encoder."),
        (r"^mask_decoder\.", "sam_mask_decoder."),
        (r"upscale_conv1", "output_upscaling.0"),
        (r"upscale_layer_norm", "output_upscaling.1"),
        (r"upscale_conv2", "output_upscaling.3"),
        (r"mask_downsampler\.layers\.(\d)\.conv\.", lambda m: f"mask_downsampler.encoder.{3 * int(m[1])}."),
        (r"mask_downsampler\.layers\.(\d)\.layer_norm\.", lambda m: f"mask_downsampler.encoder.{3 * int(m[1]) + 1}."),
        (r"mask_downsampler\.final_conv", "mask_downsampler.encoder.12"),
        (r"memory_fuser", "fuser"),
        (r"(fuser\.layers\.\d+)\.scale", r"\1.gamma"),
        (r"depthwise_conv", "dwconv"),
        (r"pointwise_conv", "pwconv"),
        (r"feature_projection", "pix_feat_proj"),
        (r"memory_encoder\.projection", "memory_encoder.out_proj"),
        (r"patch_embed\.projection", "patch_embed.proj"),
        (r"\.o_proj\.", ".out_proj."),
        (r"layer_norm", "norm"),
        (r"^object_pointer_proj", "obj_ptr_proj"),
        (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
        (r"^occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
        (r"^memory_temporal_positional_encoding", "maskmem_tpos_enc"),
        (r"^no_memory_embedding", "no_mem_embed"),
        (r"^no_memory_positional_encoding", "no_mem_pos_enc"),
        (r"^no_object_pointer", "no_obj_ptr"),
        # An MLP of three layers keeps the middle one in a list.
        (r"(_head|mlps\.\d+|obj_ptr_proj)\.layers\.0\.", r"\1.layers.1."),
        (r"(_head|mlps\.\d+|obj_ptr_proj)\.proj_in\.", r"\1.layers.0."),
        (r"(_head|mlps\.\d+|obj_ptr_proj)\.proj_out\.", r"\1.layers.2."),
        (r"\.mlp\.proj_in\.", ".mlp.layers.0."),
        (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
    ):
        name = re.sub(ours, metas, name)
    return name


def to_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model of transformers as Meta's checkpoint has them."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name == "prompt_encoder.point_embed.weight":
            found |= {f"sam_prompt_encoder.point_embeddings.{kind}.weight": value[kind][None] for kind in range(4)}
        elif name != IMAGE_POSITIONS:
            found[metas_name(name)] = value
    return found
