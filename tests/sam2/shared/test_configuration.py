"""What a configuration says is done, or refused by the key's name."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.sam2.shared.configuration import (
    NO_EFFECT,
    ONLY_IMAGE,
    ONLY_PIXELS,
    ONLY_VIDEO,
    READ,
    Configuration,
    check_pixels,
)
from harness.sam2.shared.source import PUBLISHED, resolve

# What transformers 4.56 writes for the published model: the angle's base has a key of its own, and two of the nested
# models have no type.
BACKBONE = {
    "blocks_per_stage": [1, 2, 7, 2],
    "dtype": "float32",
    "embed_dim_per_stage": [96, 192, 384, 768],
    "global_attention_blocks": [5, 7, 9],
    "hidden_act": "gelu",
    "hidden_size": 96,
    "image_size": [1024, 1024],
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-06,
    "mlp_ratio": 4.0,
    "model_type": "sam2_hiera_det_model",
    "num_attention_heads": 1,
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "num_channels": 3,
    "num_query_pool_stages": 3,
    "patch_kernel_size": [7, 7],
    "patch_padding": [3, 3],
    "patch_stride": [4, 4],
    "query_stride": [2, 2],
    "window_positional_embedding_background_size": [7, 7],
    "window_size_per_stage": [8, 4, 14, 7],
}
PUBLISHED_CONFIG: dict[str, Any] = {
    "architectures": ["Sam2VideoModel"],
    "dtype": "float32",
    "enable_occlusion_spatial_embedding": True,
    "enable_temporal_pos_encoding_for_object_pointers": True,
    "image_size": 1024,
    "initializer_range": 0.02,
    "mask_decoder_config": {
        "attention_downsample_rate": 2,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
        "dynamic_multimask_via_stability": True,
        "hidden_act": "gelu",
        "hidden_size": 256,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": 256,
        "mlp_dim": 2048,
        "model_type": "",
        "num_attention_heads": 8,
        "num_hidden_layers": 2,
        "num_multimask_outputs": 3,
    },
    "mask_downsampler_embed_dim": 256,
    "mask_downsampler_hidden_act": "gelu",
    "mask_downsampler_kernel_size": 3,
    "mask_downsampler_padding": 1,
    "mask_downsampler_stride": 2,
    "mask_downsampler_total_stride": 16,
    "max_object_pointers_in_encoder": 16,
    "memory_attention_downsample_rate": 1,
    "memory_attention_dropout": 0.1,
    "memory_attention_feed_forward_hidden_act": "relu",
    "memory_attention_feed_forward_hidden_size": 2048,
    "memory_attention_hidden_size": 256,
    "memory_attention_num_attention_heads": 1,
    "memory_attention_num_layers": 4,
    "memory_attention_rope_dropout": 0.1,
    "memory_attention_rope_feat_sizes": [64, 64],
    "memory_attention_rope_theta": 10000,
    "memory_encoder_hidden_size": 256,
    "memory_encoder_output_channels": 64,
    "memory_fuser_embed_dim": 256,
    "memory_fuser_hidden_act": "gelu",
    "memory_fuser_intermediate_dim": 1024,
    "memory_fuser_kernel_size": 7,
    "memory_fuser_layer_scale_init_value": 1e-06,
    "memory_fuser_num_layers": 2,
    "memory_fuser_padding": 3,
    "model_type": "sam2_video",
    "multimask_max_pt_num": 1,
    "multimask_min_pt_num": 0,
    "multimask_output_for_tracking": True,
    "multimask_output_in_sam": True,
    "num_maskmem": 7,
    "prompt_encoder_config": {
        "hidden_act": "gelu",
        "hidden_size": 256,
        "image_size": 1024,
        "layer_norm_eps": 1e-06,
        "mask_input_channels": 16,
        "model_type": "",
        "num_point_embeddings": 4,
        "patch_size": 16,
        "scale": 1,
    },
    "sigmoid_bias_for_mem_enc": -10.0,
    "sigmoid_scale_for_mem_enc": 20.0,
    "transformers_version": "4.56.0.dev0",
    "vision_config": {
        "backbone_channel_list": [768, 384, 192, 96],
        "backbone_config": BACKBONE,
        "backbone_feature_sizes": [[256, 256], [128, 128], [64, 64]],
        "dtype": "float32",
        "fpn_hidden_size": 256,
        "fpn_kernel_size": 1,
        "fpn_padding": 0,
        "fpn_stride": 1,
        "fpn_top_down_levels": [2, 3],
        "hidden_act": "gelu",
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-06,
        "model_type": "sam2_vision_model",
        "num_feature_levels": 3,
    },
}
PUBLISHED_PROCESSOR = {"point_pad_value": -10, "processor_class": "Sam2VideoProcessor", "target_size": 1024}


def changed(key: str, value: Any) -> dict[str, Any]:
    """The published configuration with another value at a dotted key."""
    content: dict[str, Any] = copy.deepcopy(PUBLISHED_CONFIG)
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return content


def other(value: Any) -> Any:
    """A value of the same kind, or of any where there is none."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}2"
        case list():
            return [other(value[0]), *value[1:]]
        case _:
            return {"some": "thing"}


def test_the_published_configuration_is_taken_whole() -> None:
    said = Configuration.of(PUBLISHED_CONFIG)
    said.check("it", video=True)
    assert said.unknown == ()


@pytest.mark.parametrize("key", sorted(ONLY_IMAGE))
def test_another_value_than_the_one_built_in_is_refused_by_the_keys_name(key: str) -> None:
    said = Configuration.of(changed(key, other(ONLY_IMAGE[key])))
    with pytest.raises(UsageError) as caught:
        said.check("'config.json'", video=False)
    assert f"'config.json' has {key} = " in str(caught.value)


@pytest.mark.parametrize("key", sorted(ONLY_VIDEO))
def test_what_only_the_tracker_has_built_in_is_refused_for_it_alone(key: str) -> None:
    said = Configuration.of(changed(key, other(ONLY_VIDEO[key])))
    said.check("it", video=False)
    with pytest.raises(UsageError) as caught:
        said.check("it", video=True)
    assert f"it has {key} = " in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt_encoder_config.image_size", 1000),
        ("prompt_encoder_config.image_size", [1024, 1024]),
        ("vision_config.backbone_config.image_size", [512, 1024]),
        ("vision_config.backbone_config.window_size_per_stage", [7, 4, 14, 7]),
        ("vision_config.backbone_config.embed_dim_per_stage", [96, 192, 384]),
        ("vision_config.backbone_config.hidden_size", 112),
        ("vision_config.backbone_channel_list", [896, 448, 224, 112]),
        ("vision_config.backbone_feature_sizes", [[128, 128], [64, 64], [32, 32]]),
        ("prompt_encoder_config.hidden_size", 128),
        ("mask_decoder_config.hidden_size", 128),
        ("image_size", 512),
        ("memory_attention_rope_feat_sizes", [32, 32]),
        ("memory_attention_hidden_size", 128),
        ("memory_encoder_hidden_size", 128),
        ("memory_fuser_embed_dim", 128),
        ("mask_downsampler_embed_dim", 128),
    ],
)
def test_a_key_that_disagrees_with_another_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Configuration.of(changed(key, value)).check("it", video=True)
    assert f"it has {key} = {value}" in str(caught.value)


def test_channels_that_are_no_whole_number_of_memory_tokens_are_refused() -> None:
    content = changed("vision_config.fpn_hidden_size", 96)
    content["prompt_encoder_config"]["hidden_size"] = content["mask_decoder_config"]["hidden_size"] = 96
    Configuration.of(content).check("it", video=False)
    with pytest.raises(
        UsageError, match=r"vision_config\.fpn_hidden_size = 96, and the models here need a multiple of 64"
    ):
        Configuration.of(content).check("it", video=True)


def test_transformers_makes_of_it_the_configuration_that_it_has_by_default(tmp_path: Path) -> None:
    from transformers import Sam2VideoConfig

    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    found = dict(keys_of(Sam2VideoConfig.from_pretrained(tmp_path)))
    for key, value in keys_of(Sam2VideoConfig()):
        if key in READ | ONLY_IMAGE | ONLY_VIDEO:
            assert found[key] == value, key


def test_a_missing_key_means_the_published_value() -> None:
    Configuration.of({"model_type": "sam2_video"}).check("it", video=True)


def keys_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration of transformers, with its default."""
    for key, value in config.to_dict().items():
        nested = getattr(config, key, None)
        if hasattr(nested, "to_dict"):
            yield from keys_of(nested, f"{prefix}{key}.")
        elif key == "rope_parameters":
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        else:
            yield prefix + key, value


def test_every_key_of_transformers_is_in_the_table_and_its_default_is_what_is_done() -> None:
    """A release with a new key, or another default, fails here: the models have to learn it, or to refuse it."""
    from transformers import Sam2Config, Sam2VideoConfig

    table = READ | ONLY_IMAGE | ONLY_VIDEO
    for config in (Sam2VideoConfig(), Sam2Config()):
        said = Configuration.of(config.to_dict())
        said.check("it", video=True)
        assert said.unknown == ()
        for key, value in keys_of(config):
            if key in table:
                assert value == table[key], key


def test_no_key_is_both_refused_and_without_effect() -> None:
    assert not {key.rpartition(".")[2] for key in READ | ONLY_VIDEO | ONLY_PIXELS} & NO_EFFECT


def test_an_unknown_key_is_told_with_the_weights(tmp_path: Path) -> None:
    content = changed("vision_config.colours", 4) | {"later\x1b[2J": 1, "model_type": "sam2_video"}
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 16)
    provenance = resolve(str(tmp_path)).provenance
    assert "keys of the configuration unknown here and not used: later" in provenance
    assert provenance.endswith(", vision_config.colours")
    assert provenance.isprintable()


def test_a_folder_is_refused_by_a_flag_before_its_weights_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(changed("mask_decoder_config.num_multimask_outputs", 5)))
    with pytest.raises(UsageError, match=r"config.json' has mask_decoder_config.num_multimask_outputs = 5") as caught:
        resolve(str(tmp_path))
    assert "published" in caught.value.next_step


def test_how_the_published_model_has_its_pixels_prepared_is_how_it_is_done_here() -> None:
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor as Processor

    check_pixels(PUBLISHED_PROCESSOR, "it")
    for key, wanted in ONLY_PIXELS.items():
        if (said := getattr(Processor, key, None)) is not None:
            assert (list(said) if isinstance(wanted, list) else said) == wanted, key


@pytest.mark.parametrize("key", sorted(ONLY_PIXELS))
@pytest.mark.parametrize("part", [None, "image_processor", "video_processor"])
def test_pixels_wanted_otherwise_are_refused_by_name(key: str, part: str | None) -> None:
    given = {key: other(ONLY_PIXELS[key])}
    with pytest.raises(UsageError, match=rf"it has {key} = "):
        check_pixels(given if part is None else {part: given}, "it")


@pytest.mark.parametrize(
    "name", ["preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"]
)
def test_a_folder_whose_pixels_are_prepared_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 16)
    (tmp_path / name).write_text(json.dumps(PUBLISHED_PROCESSOR))
    assert PUBLISHED not in resolve(str(tmp_path)).provenance
    (tmp_path / name).write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
    with pytest.raises(UsageError, match=rf"{name}' has image_mean = \[0.5, 0.5, 0.5\]"):
        resolve(str(tmp_path))
