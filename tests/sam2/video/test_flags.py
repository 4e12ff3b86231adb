"""Keys that the rewritten models are said to go by: each changes what upstream computes, and the rewrite follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from harness.sam2.shared.configuration import READ, Configuration
from harness.sam2.shared.weights import random_video_model
from harness.sam2.video.contract import MARK, Graph, Sizes, ports
from harness.sam2.video.conversion import upstream
from harness.sam2.video.conversion.export import build_graph, sample
from harness.sam2.video.conversion.modules import video_sizes
from tests import small_sam2

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

BACKBONE = "vision_config.backbone_config"

FLAGS: list[tuple[Graph, str, Any]] = [
    ("vision_encoder", f"{BACKBONE}.global_attention_blocks", [0, 3]),
    ("vision_encoder", f"{BACKBONE}.hidden_act", "relu"),
    ("vision_encoder", f"{BACKBONE}.layer_norm_eps", 0.1),
    ("vision_encoder", f"{BACKBONE}.mlp_ratio", 2.0),
    ("vision_encoder", f"{BACKBONE}.num_attention_heads_per_stage", [2, 2, 4, 8]),
    ("vision_encoder", f"{BACKBONE}.blocks_per_stage", [1, 1, 3, 1]),
    ("vision_encoder", f"{BACKBONE}.window_positional_embedding_background_size", [4, 4]),
    ("vision_encoder", f"{BACKBONE}.window_size_per_stage", [4, 2, 4, 2]),
    ("mask_decoder", "mask_decoder_config.attention_downsample_rate", 1),
    ("mask_decoder", "mask_decoder_config.dynamic_multimask_stability_delta", 100.0),
    ("mask_decoder", "mask_decoder_config.dynamic_multimask_stability_thresh", 1.5),
    ("mask_decoder", "mask_decoder_config.iou_head_depth", 4),
    ("mask_decoder", "mask_decoder_config.iou_head_hidden_dim", 32),
    ("mask_decoder", "mask_decoder_config.mlp_dim", 64),
    ("mask_decoder", "mask_decoder_config.num_attention_heads", 2),
    ("mask_decoder", "mask_decoder_config.num_hidden_layers", 3),
    ("mask_decoder", "multimask_max_pt_num", 3),
    ("memory_encoder", "enable_occlusion_spatial_embedding", False),
    ("memory_encoder", "mask_downsampler_hidden_act", "relu"),
    ("memory_encoder", "memory_fuser_hidden_act", "relu"),
    ("memory_encoder", "memory_fuser_intermediate_dim", 32),
    ("memory_encoder", "memory_fuser_num_layers", 1),
    ("memory_encoder", "sigmoid_bias_for_mem_enc", -2.0),
    ("memory_encoder", "sigmoid_scale_for_mem_enc", 3.0),
    ("memory_attention", "memory_attention_feed_forward_hidden_act", "gelu"),
    ("memory_attention", "memory_attention_feed_forward_hidden_size", 32),
    ("memory_attention", "memory_attention_num_layers", 1),
    ("memory_attention", "max_object_pointers_in_encoder", 4),
    ("memory_attention", "num_maskmem", 3),
    ("memory_attention", "rope_parameters.rope_theta", 10.0),
]


def model_with(key: str, value: Any) -> Sam2VideoModel:
    """The small model with another value at a dotted key."""
    from transformers import Sam2VideoConfig

    content = small_sam2.video_config().to_dict()
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    Configuration.of(content).check("it", video=True)
    return seen(random_video_model(Sam2VideoConfig(**content), seed=7))


def seen(model: Sam2VideoModel) -> Sam2VideoModel:
    """The model, to which an object is there whatever the image."""
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(1000.0)
    return model


@pytest.fixture(scope="module")
def plain_model() -> Sam2VideoModel:
    return seen(random_video_model(small_sam2.video_config(), seed=7))


def given_to(graph: Graph, sizes: Sizes) -> list[Tensor]:
    given = list(sample(graph, sizes))
    if graph == "memory_attention":
        given[3][-sizes.splits :, 0, 0] = MARK
    if graph == "memory_encoder":
        given[2] = -given[2].abs()  # the object is not there
        given[3] = torch.zeros_like(given[3])
    return given


@pytest.mark.parametrize(("graph", "key", "value"), FLAGS, ids=[key for _, key, _ in FLAGS])
def test_a_key_that_is_read_is_gone_by(plain_model: Sam2VideoModel, graph: Graph, key: str, value: Any) -> None:
    model = model_with(key, value)
    sizes = video_sizes(model)
    given = given_to(graph, sizes)
    with torch.inference_mode():
        got = build_graph(model, graph, sizes)(*given)
        wanted = upstream.run(model, graph, given)
        plain = upstream.run(plain_model, graph, given_to(graph, video_sizes(plain_model)))
    assert any(a.shape != b.shape or not torch.allclose(a, b, rtol=1e-3) for a, b in zip(wanted, plain, strict=True))
    made = got if isinstance(got, tuple) else (got,)
    for found, exact, port in zip(made, wanted, ports(graph, sizes)[1], strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=2e-5 * float(exact.abs().max() + 1), msg=port.name)


def test_every_key_that_is_read_is_tried_or_is_tied_to_another() -> None:
    tried = {key for _, key, _ in FLAGS}
    tied = {
        # What `Configuration.check` holds together, and sizes that other tests' small models have otherwise.
        f"{BACKBONE}.embed_dim_per_stage",
        f"{BACKBONE}.hidden_size",
        f"{BACKBONE}.image_size",
        "vision_config.backbone_channel_list",
        "vision_config.backbone_feature_sizes",
        "vision_config.fpn_hidden_size",
        "prompt_encoder_config.hidden_size",
        "prompt_encoder_config.image_size",
        "mask_decoder_config.hidden_size",
        "image_size",
        "mask_downsampler_embed_dim",
        "memory_attention_hidden_size",
        "memory_attention_rope_feat_sizes",
        "memory_encoder_hidden_size",
        "memory_fuser_embed_dim",
        # Of a mask given as a prompt: upstream's own module.
        "prompt_encoder_config.mask_input_channels",
        "prompt_encoder_config.hidden_act",
        "prompt_encoder_config.layer_norm_eps",
    }
    assert tried | tied == set(READ)
    assert not tried & tied
