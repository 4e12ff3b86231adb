"""Photo to mask on the CPU with a small model, against transformers' own model with the same weights."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from harness.core.errors import UsageError
from harness.sam2.image_path import pipeline
from harness.sam2.image_path.click import Clicked, click
from harness.sam2.image_path.convert import ConvertedDecoder
from harness.sam2.image_path.pipeline import Decoded, Models, best_mask, default_parts
from harness.sam2.image_path.reference import upstream_prompt
from harness.sam2.shared import image
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import CARD, RECOMMENDED
from harness.sam2.shared.modules.decoder import build_decoder
from harness.sam2.shared.modules.encoder import build_encoder
from harness.sam2.shared.weights import prompt_constants

if TYPE_CHECKING:
    from transformers import Sam2Model

# The first test waits until the models are converted.
pytestmark = pytest.mark.timeout(900)

TAPS = (Tap.at(40, 50), Tap(box=(10, 10, 90, 80)), Tap.at(100, 20), Tap(((40, 50),), ((5, 5),)))

# The card's decoder converts faster than the recommended one, and computes the same.
cpu_click = partial(click, encoder="cpu", decoder="cpu", variant=CARD)


@pytest.fixture(scope="module")
def cache(
    converted: ConvertedDecoder, small_models: tuple[Models, Models], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the encoder and the card's decoder for a prompt of one point; that for two is still to be made."""
    folder = tmp_path_factory.mktemp("cache") / "click"
    shutil.copytree(converted.path.parent, folder)
    (encoder,) = small_models[0].encoder(1)
    for path in (encoder.model, encoder.card):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def clicked(
    small_folder: Path, photo: NDArray[np.uint8], cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Clicked:
    out = tmp_path_factory.mktemp("out") / "new"
    return cpu_click(photo, TAPS, out=out, cache_dir=cache, source=str(small_folder))


def upstream(model: Sam2Model, photo: NDArray[np.uint8], tap: Tap) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with torch.no_grad():
        found = model(
            pixel_values=torch.from_numpy(image.preprocess(photo, 128)), **upstream_prompt(tap, photo.shape, 128)
        )
    return found.pred_masks[0, 0].numpy(), found.iou_scores[0, 0].numpy()


def decoded(masks: Any, scores: Sequence[float]) -> Decoded:
    unknown: Any = None
    values = np.asarray(masks, np.float32)
    return Decoded(Tap.at(0, 0), values, np.array(scores, np.float32), "cpu", unknown, 1.0, "", "")


@pytest.mark.parametrize("number", range(len(TAPS)))
def test_every_tap_gives_the_masks_and_scores_of_the_whole_model(
    clicked: Clicked, small_model: Sam2Model, photo: NDArray[np.uint8], number: int
) -> None:
    masks, scores = upstream(small_model, photo, TAPS[number])
    got = clicked.masks[number].decoded
    assert got.tap == TAPS[number]
    np.testing.assert_allclose(got.masks, masks, rtol=0, atol=2e-5 * np.abs(masks).max())
    np.testing.assert_allclose(got.scores, scores, rtol=0, atol=1e-5)
    assert got.best == int(np.argmax(scores))


@pytest.mark.parametrize("least", [0.0, 2.0], ids=["stable", "unstable"])
@pytest.mark.parametrize("tap", TAPS, ids=str)
def test_the_single_mask_is_the_one_that_the_whole_model_gives(
    small_model: Sam2Model, photo: NDArray[np.uint8], tap: Tap, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder with all four masks, in torch, against upstream's `multimask_output=False`; both ways of its test of
    stability."""
    pixels = torch.from_numpy(image.preprocess(photo, 128))
    monkeypatch.setattr(small_model.mask_decoder, "dynamic_multimask_stability_thresh", least)
    monkeypatch.setattr(small_model.config.mask_decoder_config, "dynamic_multimask_stability_thresh", least)
    constants = prompt_constants(small_model)
    with torch.no_grad():
        wanted = small_model(pixel_values=pixels, multimask_output=False, **upstream_prompt(tap, photo.shape, 128))
        features = build_encoder(small_model)(pixels)
        four = build_decoder(small_model, replace(CARD, candidates="four"))
        sparse = torch.from_numpy(tap.encode(photo.shape, constants))
        masks, scores = (values[0].numpy() for values in four(features[0], sparse, *features[1:]))
    assert (len(masks), len(scores)) == (4, 4)
    chosen = pipeline.single_mask(masks, scores, constants)
    assert (chosen.start == 0) == (least == 0)
    exact = wanted.pred_masks[0, 0].numpy()
    np.testing.assert_allclose(masks[chosen], exact, rtol=0, atol=2e-5 * np.abs(exact).max())
    np.testing.assert_allclose(scores[chosen], wanted.iou_scores[0, 0].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", range(len(TAPS)))
def test_the_mask_on_disk_is_upstreams_best_at_the_photos_size(
    clicked: Clicked, small_model: Sam2Model, photo: NDArray[np.uint8], number: int
) -> None:
    masks, scores = upstream(small_model, photo, TAPS[number])
    logits = torch.from_numpy(masks[int(np.argmax(scores))])[None, None]
    wanted = F.interpolate(logits, photo.shape[:2], mode="bilinear", align_corners=False)[0, 0].numpy()
    answer = clicked.masks[number]
    assert answer.mask.name == f"mask-{number + 1}.png"
    with Image.open(answer.mask) as picture:
        inside = np.array(picture)
        assert picture.mode == "L"
        assert picture.text["Description"] == f"SAM 2, {clicked.provenance}"  # type: ignore[attr-defined]
    assert set(np.unique(inside)) <= {0, 255}
    sure = np.abs(wanted) > 1e-4 * np.abs(wanted).max()
    np.testing.assert_array_equal(inside[sure] == 255, wanted[sure] > 0)
    assert answer.area == pytest.approx((inside == 255).mean())


def test_the_overlay_is_the_photo_with_the_mask_tinted_and_the_tap_marked(
    clicked: Clicked, photo: NDArray[np.uint8]
) -> None:
    with Image.open(clicked.masks[0].overlay) as picture:
        got = np.array(picture)
    with Image.open(clicked.masks[0].mask) as picture:
        inside = np.array(picture) == 255
    assert tuple(got[50, 40]) == (64, 220, 64)
    far = np.hypot(*(np.mgrid[0:90, 0:120] - np.array([50, 40])[:, None, None])) > 4
    np.testing.assert_array_equal(got[far], image.overlay(photo, inside)[far])


def test_the_account_says_what_ran_where(clicked: Clicked, small_folder: Path) -> None:
    told = json.loads((clicked.folder / "click.json").read_text())
    assert told == json.loads(json.dumps(clicked.to_json()))
    assert told["photo"] == {"width": 120, "height": 90}
    assert (told["weights"], told["random_weights"]) == (f"folder {small_folder}", False)
    assert (told["encoder"]["unit"], told["decoder"]["variant"]) == ("cpu", "safe-rank3-whole")
    assert [mask["tap"]["box"] for mask in told["masks"]] == [None, [10, 10, 90, 80], None, None]
    assert all(mask["ms"] > 0 and mask["nonfinite"] == 0 for mask in told["masks"])
    names = {f"{kind}-{number}.png" for kind in ("mask", "overlay") for number in range(1, 5)}
    assert {path.name for path in clicked.folder.iterdir()} == names | {"click.json"}


def test_taps_of_one_length_share_a_decoder_and_the_encoder_is_there_once(clicked: Clicked, cache: Path) -> None:
    names = sorted(re.sub(r"(-[0-9a-f]{8,16})+$", "", path.stem) for path in cache.glob("*.tflite"))
    assert names == [
        "sam2-decoder-safe-rank3-whole-3tokens-float32",
        "sam2-decoder-safe-rank3-whole-float32",
        "sam2-encoder-whole-safe-split-float32",
    ]


def test_a_batch_runs_the_encoder_once_and_a_second_one_converts_nothing(
    clicked: Clicked,
    small_folder: Path,
    photo: NDArray[np.uint8],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[str] = []

    def counted(*given: Any) -> pipeline.Encoded:
        encoded.append("once")
        return pipeline.encode(*given)

    monkeypatch.setattr("harness.sam2.image_path.click.encode", counted)
    monkeypatch.setattr("harness.sam2.image_path.convert.in_torch", lambda *_: pytest.fail("nothing is to be made"))
    again = cpu_click(photo, TAPS[:3], out=tmp_path, cache_dir=cache, source=str(small_folder))
    assert encoded == ["once"]
    for one, other in zip(again.masks, clicked.masks, strict=False):
        assert one.mask.read_bytes() == other.mask.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taps": ()}, "There is no tap"),
        ({"taps": (Tap.at(120, 5),)}, "outside the photo"),
        ({"encoder": "npu"}, "There is no unit 'npu'"),
        ({"decoder": "tpu"}, "There is no unit 'tpu'"),
        ({"encoder_parts": 3}, "cannot be run in 3 parts"),
        ({"photo": np.zeros((0, 4, 3), np.uint8)}, "is not RGB"),
        ({"photo": np.zeros((4, 4), np.uint8)}, "is not RGB"),
        ({"photo": np.zeros((4, 4, 3), np.float32)}, "is not RGB"),
        ({"source": "./nowhere"}, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_made(
    small_folder: Path, photo: NDArray[np.uint8], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"photo": photo, "taps": TAPS, "source": str(small_folder), **changes}
    with pytest.raises(UsageError, match=message):
        click(out=tmp_path / "out", cache_dir=tmp_path / "cache", **given)
    assert not (tmp_path / "out").exists()


def test_the_best_mask_has_the_highest_score_that_is_a_number() -> None:
    assert decoded(np.zeros((3, 2, 2)), [np.nan, 0.2, 0.7]).best == 2
    assert decoded(np.zeros((3, 2, 2)), [np.nan, np.nan, np.nan]).best == 0


def test_values_that_are_no_numbers_are_counted_and_lie_outside() -> None:
    found = decoded([[[np.nan, np.inf], [-np.inf, 2.0]]], [0.5])
    assert found.nonfinite == 3
    assert (best_mask(found) > 0).tolist() == [[False, True], [False, True]]
    assert np.isfinite(best_mask(found)).all()


def test_an_account_of_scores_that_are_no_numbers_is_json_all_the_same(
    clicked: Clicked,
    small_folder: Path,
    photo: NDArray[np.uint8],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*given: Any, **options: Any) -> Decoded:
        return replace(pipeline.decode(*given, **options), scores=np.full(3, np.nan, np.float32))

    monkeypatch.setattr("harness.sam2.image_path.click.decode", broken)
    again = cpu_click(photo, TAPS[:1], out=tmp_path, cache_dir=cache, source=str(small_folder))
    assert (clicked.nonfinite, again.nonfinite) == (0, 3)
    told = json.loads((tmp_path / "click.json").read_text(), parse_constant=pytest.fail)
    assert (told["masks"][0]["scores"], told["masks"][0]["nonfinite"]) == (["nan"] * 3, 3)


def test_only_the_hosts_gpu_gets_the_encoder_in_halves() -> None:
    assert [default_parts(*given) for given in (("host", "gpu"), ("host@2.1.5", "gpu"))] == [2, 2]
    assert [default_parts(*given) for given in (("host", "cpu"), ("pixel8a", "gpu"))] == [1, 1]


def test_models_are_told_apart_by_variant(tmp_path: Path) -> None:
    card, recommended = (Models.of(tmp_path, "random", 0, variant) for variant in (CARD, RECOMMENDED))
    assert card.decoder(2).model != recommended.decoder(2).model
    assert card.encoder(1)[0].model == recommended.encoder(1)[0].model
    assert [plan.part for plan in card.encoder(2)] == ["first", "second"]


def test_clicking_imports_no_torch() -> None:
    modules = "harness.sam2.image_path.click, harness.sam2.image_path.fidelity, harness.sam2.image_path.ablate"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
