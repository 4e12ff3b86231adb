"""Files of the published names and layout, converted from the small model: masks, refusals, and what is asked first."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.core.errors import HarnessError, UsageError
from harness.graph.model import Model
from harness.numerics.metrics import compare, mask_iou
from harness.sam2.image_path.click import click
from harness.sam2.image_path.fidelity import LOGIT_COSINE, MASK_IOU
from harness.sam2.image_path.ports import FLAT_ORDER
from harness.sam2.image_path.published import PublishedModels
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import INPUT_NAMES
from tests.published_layout import Flat
from tests.sam2.image_path import test_ports
from tests.sam2.image_path.test_click import upstream

if TYPE_CHECKING:
    from transformers import Sam2Model

# The first test waits until the models are converted.
pytestmark = pytest.mark.timeout(900)

TAP = Tap.at(40, 50)
V2 = "sam2_tiny_mask_decoder_v2_fp16.tflite"

cpu_click = partial(click, encoder="cpu", decoder="cpu", cache_dir=Path("not used"))


@pytest.fixture(scope="module")
def flat_folder(published_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same files, the decoder taking one flat input."""
    folder = tmp_path_factory.mktemp("flat") / "files"
    shutil.copytree(published_folder, folder)
    order = [f"args_{INPUT_NAMES.index(name)}" for name in FLAT_ORDER]
    decoder = Flat(Model.load(folder / V2), order).finish()
    (folder / V2).write_bytes(decoder.to_bytes())
    return folder


@pytest.mark.parametrize("which", ["v1", "v2", "flat"])
def test_a_click_on_published_files_gives_the_masks_of_the_whole_model(
    published_folder: Path,
    flat_folder: Path,
    small_model: Sam2Model,
    photo: NDArray[np.uint8],
    tmp_path: Path,
    which: str,
) -> None:
    folder = flat_folder if which == "flat" else published_folder
    models = PublishedModels.of(folder, "v1" if which == "v1" else None)
    found = cpu_click(photo, [TAP], out=tmp_path, models=models)
    masks, scores = upstream(small_model, photo, TAP)
    got = found.masks[0].decoded
    assert compare(got.masks, masks).cosine >= LOGIT_COSINE
    best = int(np.argmax(scores))
    assert got.best == best and mask_iou(got.masks[best], masks[best]) >= MASK_IOU
    np.testing.assert_allclose(got.scores, scores, rtol=0, atol=2e-3)
    told = found.to_json()
    assert told["decoder"]["variant"] == models.files.decoder.name
    assert told["weights"].endswith("by SHA-256 not those known as published") and not told["random_weights"]


@pytest.mark.parametrize(
    ("tap", "said"),
    [
        (Tap(((40, 50), (60, 20))), "takes a prompt of 2 tokens, which is one point on the object, not 2"),
        (Tap(((40, 50),), ((5, 5),)), "no embedding of a point beside the object"),
        (Tap(box=(10, 10, 90, 80)), "no embedding of a box"),
    ],
)
def test_what_the_files_cannot_do_is_said_before_anything_runs(
    published_folder: Path, photo: NDArray[np.uint8], tmp_path: Path, tap: Tap, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        cpu_click(photo, [TAP, tap], out=tmp_path / "out", models=PublishedModels.of(published_folder))
    assert not (tmp_path / "out").exists()


def test_a_file_that_gives_three_masks_has_no_single_one(
    published_folder: Path, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    said = "'sam2_tiny_mask_decoder_v2_fp16.tflite' gives three candidates, and not the single mask"
    with pytest.raises(UsageError, match=said):
        cpu_click(photo, [TAP], out=tmp_path / "out", models=PublishedModels.of(published_folder), single=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("single", [True, False])
def test_the_document_says_which_mask_was_taken(
    published_folder: Path, photo: NDArray[np.uint8], tmp_path: Path, single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PublishedModels, "gives_single", True)
    models = PublishedModels.of(published_folder)
    told = cpu_click(photo, [TAP], out=tmp_path, models=models, single=single).to_json()
    assert told["decoder"]["single_mask"] is single
    assert len(told["masks"][0]["scores"]) == (1 if single else 2)


def test_a_device_that_is_not_there_is_refused_before_the_encoder_runs(
    published_folder: Path, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    models, steps = PublishedModels.of(published_folder), list[str]()
    with pytest.raises(HarnessError, match="'nowhere'"):
        cpu_click(photo, [TAP], out=tmp_path / "out", models=models, device="nowhere", progress=steps.append)
    assert not (tmp_path / "out").exists() and not [step for step in steps if "running" in step]


def test_files_that_do_not_belong_together_are_refused(published_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    shutil.copytree(published_folder, folder)
    encoder = folder / "sam2_tiny_image_encoder_v2_fp16.tflite"
    encoder.write_bytes((folder / V2).read_bytes())
    with pytest.raises(UsageError, match=r"The encoder 'sam2_tiny_image_encoder_v2_fp16\.tflite' has 4 inputs"):
        PublishedModels.of(folder)
    shutil.copy(published_folder / encoder.name, encoder)
    (folder / "prompt_encode_const.bin").write_bytes(bytes(3072))
    with pytest.raises(UsageError, match="have more than 768 bytes, not the 768 of a decoder with 64 channels"):
        PublishedModels.of(folder)
    (folder / V2).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UsageError, match=r"decoder_v2_fp16\.tflite is a pointer of Git LFS"):
        PublishedModels.of(folder)


def test_an_encoder_of_another_size_is_refused_with_both_shapes(tmp_path: Path) -> None:
    encoder = test_ports.model([(1, 3, 32, 32)], [(1, 16, 2, 2), (1, 4, 4, 4), (1, 2, 8, 8)])
    decoder = test_ports.model(test_ports.DECODER, [test_ports.MASKS, test_ports.SCORES])
    (tmp_path / "sam2_image_encoder.tflite").write_bytes(encoder.to_bytes())
    (tmp_path / "sam2_mask_decoder.tflite").write_bytes(decoder.to_bytes())
    (tmp_path / "prompt_encode_const.bin").write_bytes(bytes(192))
    with pytest.raises(UsageError, match=r"of shape \[1, 16, 2, 2\], and the decoder .* takes \[1, 16, 4, 4\]"):
        PublishedModels.of(tmp_path)


def test_the_encoder_is_run_whole(published_folder: Path) -> None:
    models = PublishedModels.of(published_folder)
    assert models.parts("host", "gpu") == len(models.encoder(1)) == 1
    with pytest.raises(UsageError, match="cannot be run in 2 parts"):
        models.encoder(2)
