"""Loading SAM 2.1 into `transformers`: trained weights from a folder or from Meta's own checkpoint, or random ones of a
realistic scale.

This module imports torch. Import it lazily; `source` settles beforehand, and without torch, what is to be
loaded.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2.modeling_sam2 import Sam2PositionalEmbedding
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPositionalEmbedding

from harness.core.errors import UsageError
from harness.sam2.shared import meta_checkpoint
from harness.sam2.shared.configuration import Configuration
from harness.sam2.shared.prompt import PromptConstants
from harness.sam2.shared.source import PUBLISHED, Source, read_configuration, resolve

Architecture = TypeVar("Architecture", Sam2Model, Sam2VideoModel)

_SHARED_POSITIONS = "shared_image_embedding.positional_embedding"
_PROMPT_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"

WEIGHT_GAIN = 1.5
"""Random weights have the standard deviation WEIGHT_GAIN / sqrt(fan-in)."""
NECK_GAIN = 0.15
"""Likewise for the neck's convolutions. They read the trunk, whose residual stream no LayerNorm keeps small;
drawn so, they bring the features to about unit size."""
OFFSET_SCALE = 0.3
"""Standard deviation of random biases, LayerNorm offsets, tokens and learned tables."""
NORM_SPREAD = 0.1
"""Random LayerNorm scales are normal around 1 with this standard deviation."""


@dataclass(frozen=True)
class LoadedModel:
    """A SAM 2.1 model in evaluation mode, float32, on the CPU."""

    model: Sam2Model
    provenance: str
    """A sentence fragment for people; says so when the weights are random."""
    is_random: bool


def load_model(source: str | None = None, seed: int = 0) -> LoadedModel:
    """Load the weights that `source` means, as `harness.sam2.shared.source.resolve` has it.

    Raises `UsageError` for a folder or a repository that holds no usable SAM 2 weights.
    """
    return load(resolve(source, seed))


def load(source: Source) -> LoadedModel:
    """Load weights already settled. Raises `UsageError` when the files cannot be read or lack weights."""
    if source.checkpoint is not None:
        model: Sam2Model = _from_checkpoint(source.checkpoint, Sam2Model, None)
    elif source.folder is not None:
        model = _from_folder(source.folder, Sam2Model)
    else:
        model = random_model(seed=source.seed)
    model.requires_grad_(False)
    return LoadedModel(model, source.provenance, source.is_random)


def load_video(source: Source, side: int | None = None) -> Sam2VideoModel:
    """The video model, with the memory modules, from weights already settled. `side` makes it take square images of
    that many pixels instead of its own: the weights stay, the grids shrink.

    Raises `UsageError` when the files cannot be read or lack weights (an image model's do), where the tracker here does
    not do what their configuration says, or for a side that is no multiple of 32.
    """
    if source.checkpoint is not None:
        model: Sam2VideoModel = _from_checkpoint(source.checkpoint, Sam2VideoModel, side)
    elif source.folder is not None:
        config = resized(_video_config(source.folder), side)
        model = _from_folder(source.folder, Sam2VideoModel, config)
    else:
        model = random_video_model(resized(Sam2VideoConfig(), side), source.seed)
    model.requires_grad_(False)
    return model


def resized(config: Sam2VideoConfig, side: int | None) -> Sam2VideoConfig:
    """A copy of `config` for square images of `side` pixels. Raises `UsageError` for a side that is no multiple of 32
    or lies outside 64 to 2048."""
    config = copy.deepcopy(config)
    if side is None:
        return config
    if side % 32 or not 64 <= side <= 2048:
        raise UsageError(f"A model for {side} pixels is not possible.", "Give a multiple of 32 from 64 to 2048.")
    vision: Any = config.vision_config
    prompt: Any = config.prompt_encoder_config
    config.image_size = prompt.image_size = side
    vision.backbone_config.image_size = [side, side]
    vision.backbone_feature_sizes = [[side // stride] * 2 for stride in (4, 8, 16)]
    config.memory_attention_rope_feat_sizes = [side // 16] * 2
    return config


def random_model(config: Sam2Config | None = None, seed: int = 0) -> Sam2Model:
    """A model of the published architecture (or of `config`) with every parameter drawn at random.

    The same seed gives the same weights on any machine: each parameter has a stream of its own, keyed by its
    name.
    """
    # The constructor draws its own initial values; the caller's random state is none of its business.
    with torch.random.fork_rng(devices=[]):
        model = Sam2Model(config if config is not None else Sam2Config())
    return _randomize(model, seed)


def random_video_model(config: Sam2VideoConfig | None = None, seed: int = 0) -> Sam2VideoModel:
    """Likewise for the video model; what it shares with the image model has the same weights."""
    with torch.random.fork_rng(devices=[]):
        model = Sam2VideoModel(config if config is not None else Sam2VideoConfig())
    return _randomize(model, seed)


def _randomize(model: Architecture, seed: int) -> Architecture:
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full_name = f"{path}.{name}" if path else name
            scale, centre = _scale(module, full_name, parameter)
            drawn = _stream(full_name, seed).standard_normal(tuple(parameter.shape), dtype=np.float32)
            parameter.data.copy_(torch.from_numpy(drawn * np.float32(scale) + np.float32(centre)))
    # The image's and the prompt's encoding share one matrix, as in the published checkpoint.
    matrix = _stream(_SHARED_POSITIONS, seed).standard_normal(
        tuple(model.shared_image_embedding.positional_embedding.shape), dtype=np.float32
    )
    for module in model.modules():
        if isinstance(module, Sam2PositionalEmbedding | Sam2VideoPositionalEmbedding):
            module.positional_embedding.copy_(torch.from_numpy(matrix * np.float32(module.scale)))
    model.train(False)
    return model


def _scale(module: nn.Module, name: str, parameter: Tensor) -> tuple[float, float]:
    """Standard deviation and mean of one random parameter."""
    is_weight = name.endswith(".weight")
    if isinstance(module, nn.LayerNorm) and is_weight:
        return NORM_SPREAD, 1.0
    if isinstance(module, nn.Linear | nn.Conv2d) and is_weight:
        gain = NECK_GAIN if name.startswith("vision_encoder.neck.") else WEIGHT_GAIN
        return gain / float(parameter[0].numel()) ** 0.5, 0.0
    if isinstance(module, nn.ConvTranspose2d) and is_weight:
        # With the stride as large as the kernel, one output sees each input channel once.
        return WEIGHT_GAIN / float(parameter.shape[0]) ** 0.5, 0.0
    return OFFSET_SCALE, 0.0


def _stream(name: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def _from_checkpoint(file: Path, architecture: type[Architecture], side: int | None) -> Architecture:
    tensors = meta_checkpoint.read(file)
    name, content = meta_checkpoint.configuration(tensors, file)
    is_video = architecture is Sam2VideoModel
    Configuration.of(content).check(f"{str(file)!r}, of {name},", video=is_video)
    config: Any = resized(Sam2VideoConfig(**content), side) if is_video else Sam2Config(**content)
    with torch.random.fork_rng(devices=[]):
        model = architecture(config)
    meta_checkpoint.fit(model, tensors, file)
    model.train(False)
    return model


def _video_config(folder: Path) -> Sam2VideoConfig:
    content = read_configuration(folder / "config.json")
    if content.get("model_type") != "sam2_video":
        raise UsageError(
            f"{str(folder)!r} has the image model alone, and a tracker needs the video model's memory.",
            f"Give a folder of the video model, as {PUBLISHED} is.",
        )
    Configuration.of(content).check(repr(str(folder / "config.json")), video=True)
    try:
        config: Sam2VideoConfig = Sam2VideoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library lets its readers' errors through, of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"The configuration in {str(folder)!r} cannot be read ({reason}).") from error
    return config


def _from_folder(folder: Path, architecture: type[Architecture], config: Any = None) -> Architecture:
    next_step = f"Save {PUBLISHED} there again with save_pretrained, or give 'random'."
    try:
        # The annotation says a model; with output_loading_info it is a pair.
        loaded: Any = architecture.from_pretrained(
            folder, config=config, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # the library lets its readers' errors through, of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"The weights in {str(folder)!r} cannot be loaded ({reason}).", next_step) from error
    model: Architecture = loaded[0]
    report: dict[str, Any] = loaded[1]
    missing = set(report["missing_keys"])
    if _PROMPT_POSITIONS in missing and _SHARED_POSITIONS not in missing:
        # A checkpoint may keep the shared matrix once.
        positions = model.shared_image_embedding.positional_embedding
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(positions)
        missing.remove(_PROMPT_POSITIONS)
    wrong = sorted(missing | {str(entry[0]) for entry in report.get("mismatched_keys", ())})
    if wrong:
        raise UsageError(
            f"The weights in {str(folder)!r} lack {len(wrong)} of SAM 2's parameters, such as {wrong[0]!r}.",
            next_step,
        )
    model.train(False)
    return model


def prompt_constants(model: Sam2Model | Sam2VideoModel) -> PromptConstants:
    """What the host needs to encode prompts for `model` without torch."""
    encoder: Any = model.prompt_encoder
    decoder: Any = model.config.mask_decoder_config
    return PromptConstants(
        posmat=encoder.shared_embedding.positional_embedding.detach().numpy().astype(np.float32),
        point_embed=encoder.point_embed.weight.detach().numpy().astype(np.float32),
        not_a_point=encoder.not_a_point_embed.weight.detach().numpy().astype(np.float32).reshape(-1),
        image_size=int(encoder.input_image_size),
        delta=float(decoder.dynamic_multimask_stability_delta),
        # A model that does not ask keeps the single mask always.
        stable=float(decoder.dynamic_multimask_stability_thresh) if decoder.dynamic_multimask_via_stability else 0.0,
    )
