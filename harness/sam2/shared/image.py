"""Photos in, masks out: everything around the model that happens in pixels.

Photos are uint8 [H, W, 3], RGB. Positions are (x, y) in photo pixels unless they are said to be in model
space.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from harness.core.errors import UsageError

if TYPE_CHECKING:
    from transformers import Sam2Model

Photo = NDArray[np.uint8]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MODEL_SIZE = 1024

MAX_PIXELS = 64_000_000
"""The largest photo taken. At this size, a mask at the photo's resolution takes about 0.5 GB while it is made."""

_TOO_MANY = f"more than {MAX_PIXELS // 10**6} million."
_SCALE_DOWN = "Scale it down first; the model itself looks at 1024 x 1024."
_FEWER_BITS = "Save it with 8 or 16 bits a channel."
_BITS_PER_SAMPLE = 258
_STEP = "Give a JPEG, PNG or WebP photo."
# What cameras and screens give. Pillow goes by the content, whatever a file is called, and for an EPS it starts
# Ghostscript, which runs the program in the file.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_BAND_PIXELS = 1 << 16
"""What fits into a core's cache: in larger pieces a mask takes several times as long."""

SAMPLE_FACE = (266.0, 228.0)
"""The middle of the face in `sample_photo`, (x, y) in its pixels."""


def load_photo(path: Path | str) -> Photo:
    """The photo in a file, turned upright as its EXIF data says, as RGB: transparency is dropped, 16-bit grey scaled,
    CMYK converted. Its size is known before its pixels are decoded, so a photo over `MAX_PIXELS` takes no memory.

    Raises `UsageError` when it is no file or not a readable image, is too large, or holds
    floating-point values or integers of more than 16 bits.
    """
    try:
        with warnings.catch_warnings():
            # Of odd metadata and palettes, which change no pixel here, and of sizes that are checked below.
            warnings.simplefilter("ignore")
            if not Path(path).is_file() and Path(path).exists():  # a pipe would be waited for
                raise UsageError(f"{str(path)!r} is no regular file.", _STEP)
            image: Image.Image = Image.open(path, formats=_FORMATS)
            with image:
                if max(_bits(image)) > 16:
                    raise UsageError(f"{str(path)!r} has {max(_bits(image))} bits a channel.", _FEWER_BITS)
                _check_size(image.width, image.height, repr(str(path)))
                return _as_rgb(ImageOps.exif_transpose(image), path)
    except FileNotFoundError as error:
        raise UsageError(f"The photo {str(path)!r} does not exist.", "Check the path.") from error
    except Image.DecompressionBombError as error:
        raise UsageError(f"{str(path)!r} has far too many pixels, {_TOO_MANY}", _SCALE_DOWN) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"{str(path)!r} is not a readable image.", _STEP) from error


def _bits(image: Image.Image) -> tuple[int, ...]:
    """Of each channel, where a TIFF says so and has integers: Pillow takes those of 32 bits for signed ones."""
    tags = getattr(image, "tag_v2", {})
    return tuple(tags.get(_BITS_PER_SAMPLE, (8,))) if image.mode != "F" else (8,)


def _as_rgb(image: Image.Image, path: Path | str) -> Photo:
    if image.mode == "F":
        raise UsageError(f"{str(path)!r} holds floating-point values.", _FEWER_BITS)
    if image.mode.startswith("I"):
        # 16-bit grey; Pillow's own conversion would clip it at 255.
        grey = np.clip(np.asarray(image), 0, 65535) / 257
        return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def check_photo(photo: Photo) -> None:
    """Raise `UsageError` unless `photo` is uint8 [H, W, 3] with at least one and at most `MAX_PIXELS` pixels."""
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
        raise UsageError(
            f"A photo of type {photo.dtype} and shape {list(photo.shape)} is not RGB.",
            "Give uint8 [H, W, 3].",
        )
    _check_size(photo.shape[1], photo.shape[0], "The photo")


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise UsageError(f"{name} has {width} x {height} pixels, {_TOO_MANY}", _SCALE_DOWN)


def sample_photo() -> Photo:
    """A portrait that needs no download, uint8 [600, 512, 3]: matplotlib's sample picture of Grace Hopper."""
    from matplotlib import cbook

    path: Any = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def preprocess(photo: Photo, size: int = MODEL_SIZE) -> NDArray[np.float32]:
    """What the image encoder takes: float32 [1, 3, size, size], normalised as ImageNet.

    The aspect ratio is not kept. Bit for bit what `transformers.Sam2ImageProcessor` gives on a CPU with AVX2; elsewhere
    torchvision resizes floats, and may differ by one grey level.
    """
    resized = resize(photo, size, size)
    # The factor 1/255 is folded into mean and deviation, as upstream does, for the same rounding.
    mean = np.array(IMAGENET_MEAN, np.float32) * np.float32(255)
    std = np.array(IMAGENET_STD, np.float32) * np.float32(255)
    return np.ascontiguousarray(((resized.astype(np.float32) - mean) / std).transpose(2, 0, 1)[None])


def resize(photo: Photo, height: int, width: int) -> Photo:
    """The photo at another size, bilinear with antialiasing, uint8 [height, width, 3].

    Bit for bit `torch.nn.functional.interpolate(mode="bilinear", antialias=True)` on uint8 on a CPU with AVX2: columns
    first, then rows, each with 16-bit weights and rounded to a grey level in between.
    """
    narrowed = _resized_columns(photo, width)
    return np.ascontiguousarray(_resized_columns(narrowed.transpose(1, 0, 2), height).transpose(1, 0, 2))


def _resized_columns(photo: Photo, width: int) -> Photo:
    if photo.shape[1] == width:
        return photo
    places, weights, shift = _taps(photo.shape[1], width)
    total = np.full((photo.shape[0], width, photo.shape[2]), 1 << (shift - 1), np.int32)
    for place, weight in zip(places, weights, strict=True):
        total += photo[:, place].astype(np.int32) * weight[:, None]
    levels: Photo = np.clip(total >> shift, 0, 255).astype(np.uint8)
    return levels


def _taps(have: int, want: int) -> tuple[NDArray[np.intp], NDArray[np.int32], int]:
    """Which samples make each of `want` places, with what weights in fixed point ([taps, want] both), and its shift."""
    scale = have / want
    support = max(scale, 1.0)
    centre = scale * (np.arange(want) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.intp), 0)
    count = np.minimum((centre + support + 0.5).astype(np.intp), have) - first
    steps = np.arange(int(count.max()))[:, None]
    weights = np.maximum(1 - np.abs((steps + first - centre + 0.5) / support), 0.0) * (steps < count)
    weights /= weights.sum(axis=0)
    shift = next((bits for bits in range(22) if int(0.5 + weights.max() * (1 << (bits + 1))) >= 1 << 15), 22)
    fixed = np.floor(weights * (1 << shift) + 0.5).astype(np.int32)
    return np.minimum(first + steps, have - 1), fixed, shift


def to_model_space(x: float, y: float, photo_shape: tuple[int, ...], size: int = MODEL_SIZE) -> tuple[float, float]:
    """A photo position (x, y) in model space, for a photo of shape (H, W, ...)."""
    height, width = photo_shape[:2]
    # In float32 and in the order of upstream's processor, so that both models are given the same points, bit for bit.
    return float(np.float32(x) * np.float32(size / width)), float(np.float32(y) * np.float32(size / height))


def image_features(model: Sam2Model, photo: Photo) -> dict[str, NDArray[np.float32]]:
    """The decoder's three image inputs from the model's own encoder, float32; for the published model:

    image_embeddings [1, 256, 64, 64] with the no-memory embedding added, feat_s1 [1, 64, 128, 128] and
    feat_s0 [1, 32, 256, 256] after the decoder's conv_s1 and conv_s0.
    """
    import torch

    size: Any = model.prompt_encoder.input_image_size
    pixels = torch.from_numpy(preprocess(photo, int(size)))
    with torch.inference_mode():
        feat_s0, feat_s1, embeddings = model.get_image_embeddings(pixels)
    named = {"image_embeddings": embeddings, "feat_s1": feat_s1, "feat_s0": feat_s0}
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in named.items()}


def upsample_mask(logits: NDArray[np.float32], photo_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Mask logits [h, w] at the photo's size, float32 [H, W].

    Bilinear with half-pixel centres, as `torch.nn.functional.interpolate(mode="bilinear",
    align_corners=False)`, which upstream's `post_process_masks` uses. Above 0 is the object.
    """
    height, width = photo_shape[:2]
    top, bottom, down = _neighbours(logits.shape[0], height)
    left, right, across = _neighbours(logits.shape[1], width)
    full = np.empty((height, width), np.float32)
    band = max(_BAND_PIXELS // width, 1)
    for start in range(0, height, band):
        here = slice(start, start + band)
        rows = logits[top[here]] * (1 - down[here])[:, None] + logits[bottom[here]] * down[here][:, None]
        turned = np.ascontiguousarray(rows.T)  # whole rows are gathered faster than columns
        mixed, other = turned[left], turned[right]
        mixed *= (1 - across)[:, None]
        other *= across[:, None]
        mixed += other
        full[here] = mixed.T
    return full


def _neighbours(have: int, want: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `want` places: the two of `have` samples around it, and how far it lies towards the
    second."""
    place = np.maximum((np.arange(want) + 0.5) * (have / want) - 0.5, 0.0)
    first = np.minimum(place.astype(np.intp), have - 1)
    return first, np.minimum(first + 1, have - 1), (place - first).astype(np.float32)


def overlay(
    photo: Photo, mask: NDArray[np.bool_], color: tuple[int, int, int] = (255, 64, 64), opacity: float = 0.5
) -> Photo:
    """The photo with the mask [H, W] tinted in `color`, uint8 [H, W, 3]. Raises `ValueError` when the sizes
    differ."""
    if mask.shape != photo.shape[:2]:
        raise ValueError(f"a mask of {mask.shape} does not fit a photo of {photo.shape[:2]}")
    tinted = photo.copy()
    for channel, value in enumerate(color):
        # By table, since a photo has 256 levels: no array of floats the size of the photo.
        table = np.rint(np.arange(256) * (1 - opacity) + value * opacity).astype(np.uint8)
        tinted[..., channel][mask] = table[photo[..., channel][mask]]
    return tinted
