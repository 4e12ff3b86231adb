"""A SAM 2 model small enough to make, save and convert in seconds, with every part of the full one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.devices.cache import cache_folder
from harness.sam2.image_path.convert import ConvertedDecoder, convert_decoder, make_missing
from harness.sam2.image_path.pipeline import Models
from harness.sam2.image_path.workload import Workload, prepare
from harness.sam2.shared.contract import PUBLISHED_V1, DecoderVariant, WeightKind
from harness.sam2.shared.modules import tflite
from tests import small_sam2
from tests.published_layout import foreign, published_constants

if TYPE_CHECKING:
    from transformers import Sam2Config, Sam2Model, Sam2VideoModel

KEPT_SECONDS = 14 * 24 * 3600.0
"""For which a conversion is taken for new."""


@pytest.fixture(scope="session")
def small_config() -> Sam2Config:
    return small_sam2.config()


@pytest.fixture(scope="session")
def small_model(small_config: Sam2Config) -> Sam2Model:
    from harness.sam2.shared.weights import random_model

    return random_model(small_config, seed=7)


@pytest.fixture(scope="session")
def video_model() -> Sam2VideoModel:
    from harness.sam2.shared.weights import random_video_model

    return random_video_model(small_sam2.video_config(), seed=7)


@pytest.fixture(scope="session")
def full_decoder_model(small_config: Sam2Config) -> Sam2Model:
    """The published prompt encoder and mask decoder behind a small image encoder."""
    from transformers import Sam2Config

    from harness.sam2.shared.weights import random_model

    return random_model(Sam2Config(vision_config=small_config.vision_config), seed=7)


@pytest.fixture(scope="session")
def of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of pytest share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


class Once(Protocol):
    def __call__(self, name: str, make: Callable[[], Any]) -> Any: ...


@pytest.fixture(scope="session")
def once(of_this_run: Path) -> Once:
    """What the first process of this run of pytest that wants `name` gets by `make`, as JSON."""

    def found(name: str, make: Callable[[], Any]) -> Any:
        said = of_this_run / f"{name}.json"
        with said.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not said.exists():
                said.write_text(json.dumps(make()), encoding="utf-8")
        return json.loads(said.read_text(encoding="utf-8"))

    return found


@pytest.fixture(scope="session")
def small_folder(small_model: Sam2Model, of_this_run: Path, once: Once) -> Path:
    """The small model as `save_pretrained` writes it."""
    folder = of_this_run / "small-sam2"
    once("small-sam2-saved", lambda: small_model.save_pretrained(folder))
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
def converted(small_folder: Path, told: list[str], of_this_run: Path, once: Once) -> ConvertedDecoder:
    """The small decoder with the safe LayerNorm and float32 weights, alone in its cache folder: for reading."""

    def convert() -> Any:
        made = convert_decoder(of_this_run / "small-decoder" / "new", source=str(small_folder), progress=told.append)
        return [asdict(made) | {"path": str(made.path), "prompt_constants": str(made.prompt_constants)}, told]

    found, told[:] = once("small-decoder", convert)
    paths = {name: Path(found[name]) for name in ("path", "prompt_constants")}
    return ConvertedDecoder(**{**found, **paths})


@pytest.fixture(scope="session")
def prepared(
    small_folder: Path, converted: ConvertedDecoder, photo: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Workload:
    """The same decoder in another cache folder, and its inputs for a tap."""
    cache = tmp_path_factory.mktemp("cache") / "prepared"
    shutil.copytree(converted.path.parent, cache)
    return prepare(cache, photo=photo, at=(40, 50), source=str(small_folder))


@pytest.fixture(scope="session")
def small_models(small_folder: Path, once: Once) -> tuple[Models, Models]:
    """The small model with the first published decoder, and with the second; with float32 weights, both decoders for a
    tap and the encoder in one cache folder: for reading. A conversion takes half a minute of a core, whatever its size,
    so these are kept between runs as a user's are, under names that the code, the weights and the packages go into.
    """
    variants, kept = (PUBLISHED_V1, DecoderVariant(attention="rank4")), cache_folder() / "tests" / "small-models"
    first, second = (Models.of(kept, str(small_folder), 0, variant) for variant in variants)

    def make() -> int:
        _remove_old(kept)
        return make_missing([first.decoder(2), second.decoder(2), *first.encoder(1)])

    once("small-models-made", make)
    return first, second


def _remove_old(folder: Path) -> None:
    for path in folder.glob("*"):
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink()


def _published(folder: Path, made: tuple[Models, Models], weights: WeightKind) -> None:
    """The small model's encoder and both decoders under the published names, other people's names of inputs and
    outputs, and the constants' published layout."""
    first, second = made
    folder.mkdir(parents=True)
    short = weights.replace("float", "fp")
    for name, plan in (
        (f"sam2_tiny_mask_decoder_{short}.tflite", first.decoder(2)),
        (f"sam2_tiny_mask_decoder_v2_{short}.tflite", second.decoder(2)),
        (f"sam2_tiny_image_encoder_v2_{short}.tflite", first.encoder(1)[0]),
    ):
        tree = tflite.read(plan.model.read_bytes())
        if weights == "float16":
            tflite.halve_weights(tree)
        (folder / name).write_bytes(foreign(tflite.write(tree)))
    (folder / "prompt_encode_const.bin").write_bytes(published_constants(first.constants()))


@pytest.fixture(scope="session")
def published_folder(small_models: tuple[Models, Models], of_this_run: Path, once: Once) -> Path:
    """The small model's files as published, with float16 weights: for reading."""
    folder = of_this_run / "published" / "files"
    once("published-files", lambda: _published(folder, small_models, "float16"))
    return folder


@pytest.fixture(scope="session")
def float32_folder(small_models: tuple[Models, Models], of_this_run: Path, once: Once) -> Path:
    """Likewise with float32 weights."""
    folder = of_this_run / "published-float32" / "files"
    once("published-float32-files", lambda: _published(folder, small_models, "float32"))
    return folder
