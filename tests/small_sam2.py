"""The configuration of a SAM 2 model small enough to convert in seconds, with every part of the full one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Sam2Config, Sam2VideoConfig


def config() -> Sam2Config:
    """128-pixel images, 8 x 8 embeddings of 64 channels; heads are 16 wide, as in the published decoder."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[128, 128],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=64,
    )
    return Sam2Config(
        vision_config=vision,
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=64, image_size=128),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=64, num_attention_heads=2, mlp_dim=128, iou_head_hidden_dim=64
        ),
    )


def video_config() -> Sam2VideoConfig:
    """128-pixel images, 8 x 8 features of 128 channels, two memory tokens for a pointer."""
    from transformers import Sam2VideoConfig, Sam2VideoMaskDecoderConfig, Sam2VideoPromptEncoderConfig

    vision: Any = config().vision_config
    vision.fpn_hidden_size = 128
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=128, image_size=128),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=128, num_attention_heads=4, mlp_dim=128, iou_head_hidden_dim=64
        ),
        image_size=128,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=128,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=128,
    )
