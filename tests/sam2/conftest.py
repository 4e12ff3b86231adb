"""A SAM 2 model small enough to make, save and convert in seconds, with every part of the full one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.sam2.image_path.convert import ConvertedDecoder, convert_decoder
from harness.sam2.image_path.workload import Workload, prepare
from tests import small_sam2

if TYPE_CHECKING:
    from transformers import Sam2Config, Sam2Model


@pytest.fixture(scope="session")
def small_config() -> Sam2Config:
    return small_sam2.config()


@pytest.fixture(scope="session")
def small_model(small_config: Sam2Config) -> Sam2Model:
    from harness.sam2.shared.weights import random_model

    return random_model(small_config, seed=7)


@pytest.fixture(scope="session")
def full_decoder_model(small_config: Sam2Config) -> Sam2Model:
    """The published prompt encoder and mask decoder behind a small image encoder."""
    from transformers import Sam2Config

    from harness.sam2.shared.weights import random_model

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
