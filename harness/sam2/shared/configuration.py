"""What a SAM 2 configuration may say: every key, and whether the rewritten models go by it or do one thing only.

A configuration is a `config.json` as transformers writes it. The rewritten models read most of it: sizes, numbers of
layers, activations, epsilons. Some keys they do not read, because the code does what the published models want; another
value there would be ignored without a word. So such a value is refused by the key's name, before anything is loaded.
Keys that transformers had before its first release with SAM 2, or has added since, are here too.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UsageError
from harness.core.visible import visible

_BACKBONE = "vision_config.backbone_config"
BACKBONE, VISION = "sam2_hiera_det_model", "sam2_vision_model"
"""What transformers calls the kinds of the two nested models."""

_NEXT_STEP = "Give a model of the published architecture."

READ: dict[str, Any] = {
    f"{_BACKBONE}.blocks_per_stage": [1, 2, 7, 2],
    f"{_BACKBONE}.embed_dim_per_stage": [96, 192, 384, 768],
    f"{_BACKBONE}.global_attention_blocks": [5, 7, 9],
    f"{_BACKBONE}.hidden_act": "gelu",
    f"{_BACKBONE}.hidden_size": 96,
    f"{_BACKBONE}.image_size": [1024, 1024],
    f"{_BACKBONE}.layer_norm_eps": 1e-6,
    f"{_BACKBONE}.mlp_ratio": 4.0,
    f"{_BACKBONE}.num_attention_heads_per_stage": [1, 2, 4, 8],
    f"{_BACKBONE}.window_positional_embedding_background_size": [7, 7],
    f"{_BACKBONE}.window_size_per_stage": [8, 4, 14, 7],
    "vision_config.backbone_channel_list": [768, 384, 192, 96],
    "vision_config.backbone_feature_sizes": [[256, 256], [128, 128], [64, 64]],
    "vision_config.fpn_hidden_size": 256,
    "prompt_encoder_config.hidden_size": 256,
    "prompt_encoder_config.image_size": 1024,
    "prompt_encoder_config.mask_input_channels": 16,
    "prompt_encoder_config.hidden_act": "gelu",
    "prompt_encoder_config.layer_norm_eps": 1e-6,
    "mask_decoder_config.attention_downsample_rate": 2,
    "mask_decoder_config.dynamic_multimask_stability_delta": 0.05,
    "mask_decoder_config.dynamic_multimask_stability_thresh": 0.98,
    "mask_decoder_config.hidden_size": 256,
    "mask_decoder_config.iou_head_depth": 3,
    "mask_decoder_config.iou_head_hidden_dim": 256,
    "mask_decoder_config.mlp_dim": 2048,
    "mask_decoder_config.num_attention_heads": 8,
    "mask_decoder_config.num_hidden_layers": 2,
    "enable_occlusion_spatial_embedding": True,
    "image_size": 1024,
    "mask_downsampler_embed_dim": 256,
    "mask_downsampler_hidden_act": "gelu",
    "max_object_pointers_in_encoder": 16,
    "memory_attention_feed_forward_hidden_act": "relu",
    "memory_attention_feed_forward_hidden_size": 2048,
    "memory_attention_hidden_size": 256,
    "memory_attention_num_layers": 4,
    "memory_attention_rope_feat_sizes": [64, 64],
    "memory_encoder_hidden_size": 256,
    "memory_fuser_embed_dim": 256,
    "memory_fuser_hidden_act": "gelu",
    "memory_fuser_intermediate_dim": 1024,
    "memory_fuser_num_layers": 2,
    "multimask_max_pt_num": 1,
    "num_maskmem": 7,
    "rope_parameters.rope_theta": 10000.0,
    "sigmoid_bias_for_mem_enc": -10.0,
    "sigmoid_scale_for_mem_enc": 20.0,
}
"""Keys that the rewritten models go by, with the value that a missing key stands for."""

ONLY_IMAGE: dict[str, Any] = {
    f"{_BACKBONE}.model_type": BACKBONE,
    f"{_BACKBONE}.num_channels": 3,
    f"{_BACKBONE}.num_query_pool_stages": 3,
    f"{_BACKBONE}.patch_kernel_size": [7, 7],
    f"{_BACKBONE}.patch_padding": [3, 3],
    f"{_BACKBONE}.patch_stride": [4, 4],
    f"{_BACKBONE}.query_stride": [2, 2],
    "vision_config.model_type": VISION,
    "vision_config.fpn_interpolation_mode": "nearest",
    "vision_config.fpn_kernel_size": 1,
    "vision_config.fpn_padding": 0,
    "vision_config.fpn_stride": 1,
    "vision_config.fpn_top_down_levels": [2, 3],
    "vision_config.fuse_type": "sum",
    "vision_config.num_feature_levels": 3,
    "prompt_encoder_config.num_point_embeddings": 4,
    "prompt_encoder_config.patch_size": 16,
    "mask_decoder_config.num_multimask_outputs": 3,
    "auto_map": None,  # code in the folder, which may compute anything
    "quantization_config": None,
}
"""Keys whose one value the rewritten image model has built in."""

ONLY_VIDEO: dict[str, Any] = {
    "mask_decoder_config.dynamic_multimask_via_stability": True,
    "binarize_mask_from_pts_for_mem_enc": True,
    "enable_temporal_pos_encoding_for_object_pointers": True,
    "mask_downsampler_kernel_size": 3,
    "mask_downsampler_padding": 1,
    "mask_downsampler_stride": 2,
    "mask_downsampler_total_stride": 16,
    "max_cond_frame_num": -1,
    "memory_attention_apply_pe_at_cross_attn_keys": True,
    "memory_attention_apply_pe_at_cross_attn_queries": False,
    "memory_attention_apply_pe_at_self_attn": False,
    "memory_attention_downsample_rate": 1,
    "memory_attention_num_attention_heads": 1,
    "memory_attention_rope_theta": 10000.0,  # what rope_parameters was until transformers 5
    "memory_encoder_output_channels": 64,  # memory attention's keys in transformers have it built in as well
    "memory_fuser_kernel_size": 7,
    "memory_fuser_padding": 3,
    "memory_fuser_use_depthwise_conv": True,
    "multimask_min_pt_num": 0,
    "multimask_output_for_tracking": True,
    "multimask_output_in_sam": True,
    "non_overlap_masks": False,
    "non_overlap_masks_for_mem_enc": False,
    "preserve_temporal_direction_in_object_pointers": True,
    "project_temporal_pos_encoding_in_object_pointers": True,
    "rope_parameters.rope_type": "axial",
}
"""Likewise for the tracker. An image command does not ask for them."""

ONLY_PIXELS: dict[str, Any] = {
    "do_center_crop": False,
    "do_normalize": True,
    "do_pad": False,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,  # bilinear
    "rescale_factor": 1 / 255,
}
"""Likewise for the files that say how pixels are prepared, `PIXEL_FILES`."""

PIXEL_FILES = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
"""Beside config.json. The last may hold the others' content under `image_processor` and `video_processor`."""

NO_EFFECT = frozenset(
    {
        "_name_or_path",
        "architectures",
        "attn_implementation",
        "chunk_size_feed_forward",
        "dtype",
        "fill_hole_area",
        "id2label",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "memory_attention_dropout",
        "memory_attention_rope_dropout",
        "memory_fuser_layer_scale_init_value",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "pruned_heads",
        "return_dict",
        "scale",
        "tie_word_embeddings",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_bfloat16",
        "use_cache",
    }
)
"""Keys by their last part that change no result here: how weights were drawn or stored, what only training has, names.
`fill_hole_area` is for masks that are shown; transformers never read it."""

# transformers' own models do not read these either: heads are listed by stage, and the two modules have no such part.
_UNREAD = frozenset(
    {
        f"{_BACKBONE}.num_attention_heads",
        "mask_decoder_config.hidden_act",
        "vision_config.hidden_act",
        "vision_config.layer_norm_eps",
    }
)

_MEMORY: int = ONLY_VIDEO["memory_encoder_output_channels"]
_TABLE = READ | ONLY_IMAGE | ONLY_VIDEO
_MOST_NAMED = 3


@dataclass(frozen=True)
class Configuration:
    """The content of a config.json, its keys joined by dots where it is nested."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Configuration:
        """Flatten a document's objects."""
        return cls(dict(_flat(content)))

    def __getitem__(self, key: str) -> Any:
        """The value of a key in the table, the published one where it is missing."""
        found = self.values.get(key)
        return _TABLE[key] if found is None else found

    @property
    def unknown(self) -> tuple[str, ...]:
        """Keys that the table lacks, sorted. transformers ignores what it does not know, and so do the models here."""
        return tuple(sorted(key for key, value in self.values.items() if value is not None and not _is_known(key)))

    def check(self, where: str, *, video: bool) -> None:
        """Raise `UsageError` where the rewritten models would not do what the configuration says: those of the image
        path, and with `video` the tracker's too. `where` is what the message calls the model."""
        only = ONLY_IMAGE | ONLY_VIDEO if video else ONLY_IMAGE
        for key, wanted in only.items():
            if not _same(self[key], wanted):
                raise _refusal(where, key, self[key], wanted)
        for key, wanted in self._relations(video):
            if not _same(self[key], wanted):
                raise _refusal(where, key, self[key], wanted)

    def _relations(self, video: bool) -> Iterator[tuple[str, Any]]:
        """Keys that have to agree with another, and the value that does."""
        side = self["prompt_encoder_config.image_size"]
        if not isinstance(side, int) or side % 32 or not 64 <= side <= 2048:
            yield "prompt_encoder_config.image_size", "a multiple of 32 from 64 to 2048"
            return
        if self[f"{_BACKBONE}.image_size"] != side:
            yield f"{_BACKBONE}.image_size", [side, side]
        yield "vision_config.backbone_feature_sizes", [[side // stride] * 2 for stride in (4, 8, 16)]
        stages = self[f"{_BACKBONE}.embed_dim_per_stage"]
        if not isinstance(stages, list) or len(stages) != 4:
            yield f"{_BACKBONE}.embed_dim_per_stage", "a list of four"
            return
        windows = self[f"{_BACKBONE}.window_size_per_stage"]
        if not isinstance(windows, list) or len(windows) != 4 or any(_odd(window) for window in windows[:3]):
            yield f"{_BACKBONE}.window_size_per_stage", "four, the first three of them even"
        yield f"{_BACKBONE}.hidden_size", stages[0]
        yield "vision_config.backbone_channel_list", stages[::-1]
        channels = self["vision_config.fpn_hidden_size"]
        yield "prompt_encoder_config.hidden_size", channels
        yield "mask_decoder_config.hidden_size", channels
        if not video:
            return
        if not isinstance(channels, int) or channels % _MEMORY:
            yield "vision_config.fpn_hidden_size", f"a multiple of {_MEMORY}"
        yield "image_size", side
        yield "memory_attention_rope_feat_sizes", [side // 16] * 2
        for key in ("memory_attention_hidden_size", "memory_encoder_hidden_size"):
            yield key, channels
        for key in ("mask_downsampler_embed_dim", "memory_fuser_embed_dim"):
            yield key, self["memory_encoder_hidden_size"]


def check_pixels(content: Mapping[str, Any], where: str) -> None:
    """Raise `UsageError` where one of `PIXEL_FILES` wants pixels prepared in another way than they are here. `where` is
    the file's path."""
    parts = [content.get(name) for name in ("image_processor", "video_processor")]
    for part in [content, *(part for part in parts if isinstance(part, Mapping))]:
        for key, wanted in ONLY_PIXELS.items():
            if (found := part.get(key)) is not None and not _same(found, wanted):
                raise _refusal(where, key, found, wanted)


def named(keys: tuple[str, ...]) -> str:
    """A few keys for a sentence, and how many more there are."""
    shown = ", ".join(visible(key[:60]) for key in keys[:_MOST_NAMED])
    return shown if len(keys) <= _MOST_NAMED else f"{shown} and {len(keys) - _MOST_NAMED} more"


def _refusal(where: str, key: str, found: Any, wanted: Any) -> UsageError:
    return UsageError(f"{where} has {key} = {str(found)[:80]}, and the models here need {wanted}.", _NEXT_STEP)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        # Objects that are values: labels, and what transformers keeps for quantization or code.
        if isinstance(value, Mapping) and (key.endswith("_config") or key == "rope_parameters"):
            yield from _flat(value, f"{prefix}{key}.") if key != "quantization_config" else [(prefix + key, value)]
        else:
            yield prefix + key, value


def _is_known(key: str) -> bool:
    return key in _TABLE or key in _UNREAD or key.rpartition(".")[2] in NO_EFFECT


def _odd(size: Any) -> bool:
    return not isinstance(size, int) or size % 2 != 0


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_same, found, wanted))
    return bool(found == wanted)
