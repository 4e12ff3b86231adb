from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from harness.core.errors import UsageError
from harness.sam2.shared import image
from harness.sam2.shared.modules.decoder import build_decoder
from harness.sam2.shared.prompt import encode_points
from harness.sam2.shared.weights import prompt_constants
from tests.sam2.identities import doubled

if TYPE_CHECKING:
    from transformers import Sam2Model

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def test_a_photo_is_read_as_rgb(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(image.load_photo(tmp_path / "photo.png"), photo)


def test_a_photo_with_transparency_or_grey_becomes_rgb(tmp_path: Path) -> None:
    Image.new("LA", (5, 4), (200, 128)).save(tmp_path / "grey.png")
    got = image.load_photo(tmp_path / "grey.png")
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.full((4, 5, 3), 200))


def test_a_phones_rotation_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:10] = 255
    turned = Image.fromarray(np.rot90(upright))
    exif = turned.getexif()
    exif[274] = 6  # the orientation tag: turn by 90 degrees clockwise to view
    turned.save(tmp_path / "phone.jpg", exif=exif, quality=100)
    np.testing.assert_allclose(image.load_photo(tmp_path / "phone.jpg"), upright, atol=8)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photo.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"photo.png' is not a readable image"):
        image.load_photo(tmp_path / "photo.png")


def test_a_pipe_in_a_photos_place_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into it. The end of the file would be waited for in an open that no signal handler ends."""
    os.mkfifo(tmp_path / "photo.png")
    script = f"from harness.sam2.shared.image import load_photo; load_photo({str(tmp_path / 'photo.png')!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "photo.png' is no regular file. Give a JPEG, PNG or WebP photo." in done.stderr


def test_a_photo_that_is_a_program_for_a_printer_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands an EPS to Ghostscript, whatever the file is called."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "photo.png").write_bytes(program)
    with pytest.raises(UsageError, match=r"photo.png' is not a readable image"):
        image.load_photo(tmp_path / "photo.png")


@pytest.mark.parametrize("kind", ["bmp", "gif", "jpg", "ppm", "tiff", "webp"])
def test_pictures_of_the_usual_kinds_are_read(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (6, 4), (0, 0, 0)).save(tmp_path / f"black.{kind}")
    assert not image.load_photo(tmp_path / f"black.{kind}").any()


def test_a_photo_cut_short_is_refused(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    Image.fromarray(photo).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with pytest.raises(UsageError, match=r"cut.png' is not a readable image"):
        image.load_photo(tmp_path / "cut.png")


def test_a_photo_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        image.load_photo(tmp_path / "none.jpg")


def test_the_sample_photo_is_the_portrait_with_the_face_where_it_is_said_to_be() -> None:
    photo = image.sample_photo()
    assert photo.shape == (600, 512, 3)
    assert photo.dtype == np.uint8
    x, y = (int(place) for place in image.SAMPLE_FACE)
    red, green, blue = photo[y - 5 : y + 6, x - 5 : x + 6].mean(axis=(0, 1))
    assert red > green > blue > 80, "skin, not the dark cap, the blue background or the uniform"


@pytest.mark.parametrize(("height", "width"), [(600, 512), (90, 120), (1500, 1100), (1024, 1024)])
def test_preprocessing_is_an_antialiased_bilinear_resize_to_one_grey_level(height: int, width: int) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    got = image.preprocess(photo)
    assert got.shape == (1, 3, 1024, 1024)
    assert got.dtype == np.float32
    planes = torch.from_numpy(photo).permute(2, 0, 1)[None].double()
    exact = F.interpolate(planes, (1024, 1024), mode="bilinear", antialias=True).numpy()
    grey = got * STD.reshape(3, 1, 1) * 255 + MEAN.reshape(3, 1, 1) * 255
    assert np.abs(grey - exact).max() < 1.5
    assert np.abs(grey - exact).mean() < 0.35, "about a quarter of a level is what rounding costs"


def test_preprocessing_normalises_as_imagenet() -> None:
    got = image.preprocess(np.full((10, 20, 3), (255, 0, 51), np.uint8), size=8)
    wanted = (np.array([1.0, 0.0, 0.2]) - MEAN) / STD
    np.testing.assert_allclose(got, np.broadcast_to(wanted.reshape(1, 3, 1, 1), (1, 3, 8, 8)), rtol=1e-6)


def test_photo_positions_scale_to_model_space_on_each_axis() -> None:
    assert image.to_model_space(256, 300, (600, 512, 3)) == (512, 512)
    assert image.to_model_space(30, 45, (90, 120), size=128) == (32, 64)


@pytest.mark.parametrize("shape", [(600, 512), (90, 333), (32, 32), (7, 200)])
def test_a_mask_is_brought_to_photo_size_as_upstream_does(shape: tuple[int, int]) -> None:
    logits = np.random.default_rng(2).normal(0, 10, (32, 32)).astype(np.float32)
    given = torch.from_numpy(logits)[None, None]
    wanted, exact = (
        F.interpolate(values, shape, mode="bilinear", align_corners=False)[0, 0].double().numpy()
        for values in (given, given.double())
    )
    got = image.upsample_mask(logits, (*shape, 3))
    assert got.dtype == np.float32
    # On each axis two weights, two products and their sum are rounded, each by 2^-24 of the largest value at most.
    unit = 2.0**-24 * float(np.abs(logits).max())
    assert np.abs(got - exact).max() <= 2 * 6 * unit
    # Upstream's places are float32 too: three roundings of up to 32, times the difference of two neighbours.
    assert np.abs(wanted - exact).max() <= 2 * (6 + 3 * 32 * 2) * unit


def test_an_overlay_tints_the_mask_and_nothing_else(photo: NDArray[np.uint8]) -> None:
    mask = np.zeros(photo.shape[:2], bool)
    mask[10:20, 30:50] = True
    got = image.overlay(photo, mask, (255, 0, 100), opacity=0.5)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[~mask], photo[~mask])
    np.testing.assert_allclose(got[mask], photo[mask] / 2 + np.array([127.5, 0, 50]), atol=0.5)


def test_an_overlay_of_another_size_is_refused(photo: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        image.overlay(photo, np.zeros((5, 5), bool), (255, 0, 0))


def test_image_features_are_what_the_model_feeds_its_own_decoder(
    small_model: Sam2Model, photo: NDArray[np.uint8]
) -> None:
    got = image.image_features(small_model, photo)
    assert {name: array.shape for name, array in got.items()} == {
        "image_embeddings": (1, 64, 8, 8),
        "feat_s1": (1, 16, 16, 16),
        "feat_s0": (1, 8, 32, 32),
    }
    with torch.no_grad():
        wanted = small_model(pixel_values=torch.from_numpy(image.preprocess(photo, 128))).image_embeddings
    for name, tensor in zip(("feat_s0", "feat_s1", "image_embeddings"), wanted, strict=True):
        assert got[name].dtype == np.float32
        np.testing.assert_allclose(got[name], tensor.numpy(), rtol=0, atol=1e-5)


def test_photo_and_tap_through_the_parts_give_the_masks_of_the_whole_model(
    small_model: Sam2Model, photo: NDArray[np.uint8]
) -> None:
    tap = image.to_model_space(40, 50, photo.shape, 128)
    sparse = torch.from_numpy(encode_points([tap], [1], prompt_constants(small_model))).double()
    # In float64, so that what differs is the prompt's one rounding to float32, and no CPU makes a difference.
    model, pixels = doubled(small_model), torch.from_numpy(image.preprocess(photo, 128)).double()
    with torch.no_grad():
        feat_s0, feat_s1, embeddings = model.get_image_embeddings(pixels)
        masks, scores = build_decoder(model)(embeddings, sparse, feat_s1, feat_s0)
        wanted = model(
            pixel_values=pixels,
            input_points=torch.tensor([[[tap]]], dtype=torch.float64),
            input_labels=torch.tensor([[[1]]]),
        )
    scale = float(wanted.pred_masks.abs().max())
    torch.testing.assert_close(masks, wanted.pred_masks[:, 0], rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(scores, wanted.iou_scores[:, 0], rtol=0, atol=1e-5)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(image.load_photo(tmp_path / "deep.png")[0, :, 0], [0, 1, 128, 255])


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (6, 5), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    got = image.load_photo(tmp_path / "ink.jpg")
    assert got.shape == (5, 6, 3)
    np.testing.assert_allclose(got, np.broadcast_to((255, 0, 0), (5, 6, 3)), atol=4)


def test_a_palette_with_transparency_is_read_without_a_word(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    with Image.fromarray(photo).convert("P") as picture:
        picture.save(tmp_path / "palette.png", transparency=bytes(range(256)))
        with Image.open(tmp_path / "palette.png") as again, pytest.warns(UserWarning, match="Palette images"):
            again.convert("RGB")
        wanted = np.array(picture.convert("RGB"))
    np.testing.assert_array_equal(image.load_photo(tmp_path / "palette.png"), wanted)


def test_floating_point_values_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(UsageError, match="holds floating-point values"):
        image.load_photo(tmp_path / "float.tiff")


@pytest.mark.parametrize("sample_format", [1, 2])  # unsigned, signed
def test_integers_of_32_bits_are_refused(sample_format: int, tmp_path: Path) -> None:
    path = tmp_path / "deep.tiff"
    Image.fromarray(np.full((4, 4), 1 << 30, np.int32)).save(path, tiffinfo={339: sample_format})
    with pytest.raises(UsageError, match=r"deep\.tiff' has 32 bits a channel"):
        image.load_photo(path)


def test_a_single_pixel_is_a_photo(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "one.png")
    photo = image.load_photo(tmp_path / "one.png")
    assert photo.tolist() == [[[1, 2, 3]]]
    assert image.preprocess(photo, 8).shape == (1, 3, 8, 8)
    assert image.upsample_mask(np.full((8, 8), 2.0, np.float32), photo.shape).tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("width", "height", "has"),
    [
        (10000, 10000, "10000 x 10000 pixels"),
        (20000, 20000, "far too many pixels"),
        (64001, 1000, "64001 x 1000 pixels"),
    ],
)
def test_a_photo_beyond_the_limit_is_refused_before_its_pixels_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int, has: str
) -> None:
    monkeypatch.setattr("PIL.ImageOps.exif_transpose", lambda _: pytest.fail("the pixels were read"))
    with Image.new("1", (width, height)) as blank:
        blank.save(tmp_path / "huge.png")
    with pytest.raises(UsageError, match=rf"huge\.png' has {has}, more than 64 million\. Scale it down first"):
        image.load_photo(tmp_path / "huge.png")


def test_a_large_mask_is_made_in_bands_with_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(4).normal(0, 10, (32, 32)).astype(np.float32)
    whole = image.upsample_mask(logits, (100, 70))
    monkeypatch.setattr(image, "_BAND_PIXELS", 70 * 7)
    np.testing.assert_array_equal(image.upsample_mask(logits, (100, 70)), whole)
