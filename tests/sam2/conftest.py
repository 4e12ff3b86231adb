"""A SAM 2 model small enough to make, save and convert in seconds, with every part of the full one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.sam2.convert import ConvertedDecoder, convert_decoder
from harness.sam2.workload import Workload, prepare

if TYPE_CHECKING:
    from transformers import Sam2Config, Sam2Model


@pytest.fixture(scope="session")
def small_config() -> Sam2Config:
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


@pytest.fixture(scope="session")
def small_model(small_config: Sam2Config) -> Sam2Model:
    from harness.sam2.weights import random_model

    return random_model(small_config, seed=7)


@pytest.fixture(scope="session")
def full_decoder_model(small_config: Sam2Config) -> Sam2Model:
    """The published prompt encoder and mask decoder behind a small image encoder."""
    from transformers import Sam2Config

    from harness.sam2.weights import random_model

    return random_model(Sam2Config(vision_config=small_config.vision_config), seed=7)


@pytest.fixture(scope="session")
def small_folder(small_model: Sam2Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("weights") / "small-sam2"
    small_model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """Noise, 90 high and 120 wide."""
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def told() -> list[str]:
    """What the conversion of `converted` said it was doing."""
    return []


@pytest.fixture(scope="session")
def converted(small_folder: Path, told: list[str], tmp_path_factory: pytest.TempPathFactory) -> ConvertedDecoder:
    """The small decoder with the safe LayerNorm and float32 weights, alone in its cache folder."""
    return convert_decoder(tmp_path_factory.mktemp("cache") / "new", source=str(small_folder), progress=told.append)


@pytest.fixture(scope="session")
def prepared(small_folder: Path, photo: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """The small decoder with the plain LayerNorm and float16 weights, and its inputs for a tap."""
    return prepare(
        tmp_path_factory.mktemp("cache"),
        photo=photo,
        at=(40, 50),
        source=str(small_folder),
        layernorm="plain",
        weights="float16",
    )
