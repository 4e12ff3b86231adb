"""Tap to segment: a photo and taps in; a mask, an overlay and an account of what ran where out."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from harness.core.errors import DeviceError, UsageError
from harness.core.progress import Say
from harness.core.run_folder import to_json, writing
from harness.devices.registry import check_device, open_device
from harness.localize.base.result import residency_json
from harness.sam2.image_path.pipeline import (
    Decoded,
    Encoded,
    ImageModels,
    Models,
    best_mask,
    decode,
    encode,
)
from harness.sam2.shared import image
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import RECOMMENDED, DecoderVariant, WeightKind
from harness.sam2.shared.files import make_folder, write_bytes
from harness.sam2.shared.unit import Unit, options

POSITIVE_COLOR, NEGATIVE_COLOR, BOX_COLOR = (64, 220, 64), (230, 40, 40), (64, 128, 255)


@dataclass(frozen=True)
class Mask:
    """The answer to one tap, on disk."""

    decoded: Decoded
    area: float
    """Share of the photo inside the mask, 0 to 1."""
    mask: Path
    """8-bit grey PNG at the photo's size: 255 inside, 0 outside."""
    overlay: Path
    """The photo with the mask tinted and the tap marked, PNG."""

    def to_json(self) -> dict[str, Any]:
        """One entry of `click.json`."""
        found = self.decoded
        return {
            "tap": found.tap.to_json(),
            "candidate": found.best,
            "scores": [float(score) for score in found.scores],
            "area": self.area,
            "nonfinite": found.nonfinite,
            "mask": self.mask.name,
            "overlay": self.overlay.name,
            "unit": found.unit,
            "residency": residency_json(found.residency),
            "ms": found.millis,
        }


@dataclass(frozen=True)
class Clicked:
    """A photo, encoded once, and the answers to its taps."""

    folder: Path
    size: tuple[int, int]
    """Width and height of the photo."""
    device: str
    encoded: Encoded
    masks: tuple[Mask, ...]
    variant: DecoderVariant | str
    """How the decoder is written; the name of its file where nobody says."""
    provenance: str
    """A sentence fragment for people; says so when the weights are random."""
    is_random: bool
    single: bool = False
    """Whether the masks are the model's single ones, not the best of three candidates."""

    @property
    def nonfinite(self) -> int:
        """How many logits and scores of all masks are NaN or infinite; any makes the answer wrong."""
        return sum(mask.decoded.nonfinite for mask in self.masks)

    def to_json(self) -> dict[str, Any]:
        """`click.json`, schema 1. Times are milliseconds of writing, running and reading."""
        encoded = self.encoded
        return {
            "schema": 1,
            "photo": {"width": self.size[0], "height": self.size[1]},
            "weights": self.provenance,
            "random_weights": self.is_random,
            "device": {"name": self.device, "runtime": encoded.runtime, "gpu": encoded.gpu or self._gpu()},
            "host": platform.platform(),
            "encoder": {
                "unit": encoded.unit,
                "residency": [residency_json(part) for part in encoded.residency],
                "ms": encoded.millis,
            },
            "decoder": {"variant": str(self.variant), "single_mask": self.single},
            "masks": [mask.to_json() for mask in self.masks],
        }

    def _gpu(self) -> str:
        return next((mask.decoded.gpu for mask in self.masks), "")


def click(
    photo: Path | str | image.Photo,
    taps: Sequence[Tap],
    *,
    out: Path,
    cache_dir: Path,
    encoder: Unit = "gpu",
    decoder: Unit = "gpu",
    device: str = "host",
    source: str | None = None,
    seed: int = 0,
    variant: DecoderVariant = RECOMMENDED,
    weights: WeightKind = "float32",
    encoder_parts: int | None = None,
    models: ImageModels | None = None,
    single: bool = False,
    timeout: float = 600.0,
    progress: Say | None = None,
) -> Clicked:
    """Segment what each of `taps` means in `photo`, a file or uint8 [H, W, 3]; the encoder runs once for all of them.

    `encoder` and `decoder` say which unit of `device` runs which model. Models are kept under `cache_dir`; `source`,
    `seed`, `variant` and `weights` choose them as in `convert.convert_decoder`; `models` stands in for all of these.
    With `single`, the answer is the model's single mask, as Meta's predictor has it with `multimask_output=False`, and
    not the best of its three candidates. `encoder_parts` is 1, or 2 for a GPU too slow for the whole encoder at once;
    None: 2 on the host's GPU where they are converted here. A job is killed after `timeout` seconds.
    `out` receives mask-N.png and overlay-N.png for tap number N from 1, and click.json; log.txt when the device fails.
    Raises `UsageError` for an unusable photo, tap or source, `StorageError` when `out` cannot be written, `DeviceError`
    when the device does not complete.
    """
    tell = progress or (lambda _: None)
    pixels = photo if isinstance(photo, np.ndarray) else image.load_photo(photo)
    image.check_photo(pixels)
    if not taps:
        raise UsageError("There is no tap.", "Give at least one point or box.")
    for tap in taps:
        tap.check(pixels.shape)
    for unit in (encoder, decoder):
        options(unit)
    if models is None:
        written = replace(variant, candidates="four") if single else variant
        models = Models.of(cache_dir, source, seed, written, weights)
    if single and not models.gives_single:
        raise UsageError(
            f"The decoder {str(models.written)!r} gives three candidates, and not the single mask.",
            "Leave --single-mask out, or convert models of your own (`--models own`).",
        )
    models.check(taps)
    check_device(device, tell)
    parts = models.parts(device, encoder) if encoder_parts is None else encoder_parts
    models.encoder(parts)  # complains of a number of parts that cannot be
    make_folder(out)
    models.prepare(taps, parts, tell)
    ready = image.preprocess(pixels, models.constants().image_size)
    with _logged(out), open_device(device, tell) as opened:
        tell(f"running the image encoder on the {encoder.upper()} of {device}")
        encoded = encode(opened, models, ready, encoder, parts, timeout)
        answers: list[Decoded] = []
        # Taps of one length in a row: the device keeps one compiled model.
        for tap in sorted(taps, key=lambda tap: tap.tokens):
            tell(f"running the mask decoder on the {decoder.upper()} of {device}")
            answers.append(decode(opened, models, encoded.features, tap, pixels.shape, decoder, timeout, single=single))
    note = f"{models.name}, {models.provenance}"
    masks = []
    for number, tap in enumerate(taps, start=1):
        answer = answers.pop(next(i for i, found in enumerate(answers) if found.tap == tap))
        masks.append(_draw(answer, pixels, out, number, note, models.is_random))
    size = (pixels.shape[1], pixels.shape[0])
    said = models.written, models.provenance, models.is_random
    clicked = Clicked(out, size, device, encoded, tuple(masks), *said, single)
    write_bytes(out / "click.json", (json.dumps(to_json(clicked.to_json()), indent=2) + "\n").encode())
    return clicked


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Keep what the runtime logged when the device does not complete."""
    try:
        yield
    except DeviceError as error:
        write_bytes(folder / "log.txt", error.log.encode())
        raise


def _draw(found: Decoded, photo: image.Photo, out: Path, number: int, note: str, is_random: bool) -> Mask:
    inside: NDArray[np.bool_] = image.upsample_mask(best_mask(found), photo.shape) > 0
    mask, overlay = out / f"mask-{number}.png", out / f"overlay-{number}.png"
    text = PngInfo()
    text.add_text("Description", note)
    tinted = Image.fromarray(image.overlay(photo, inside))
    _mark(tinted, found.tap, note if is_random else "")
    with writing(out):
        Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)).save(mask, pnginfo=text)
        tinted.save(overlay, pnginfo=text)
    return Mask(found, float(inside.mean()), mask, overlay)


def _mark(picture: Image.Image, tap: Tap, caption: str) -> None:
    """Draw the tap, and a caption along the bottom, into the picture."""
    pen = ImageDraw.Draw(picture)
    radius = max(min(picture.size) / 80, 1.0)
    for points, color in ((tap.positive, POSITIVE_COLOR), (tap.negative, NEGATIVE_COLOR)):
        for x, y in points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline=(255, 255, 255))
    if tap.box is not None:
        pen.rectangle(tap.box, outline=BOX_COLOR, width=max(int(radius / 2), 1))
    if caption:
        size = max(min(picture.width / 45, picture.height / 12), 6.0)
        pen.text(
            (size / 2, picture.height - 1.6 * size),
            caption,
            (255, 255, 255),
            font_size=size,
            stroke_width=1,
            stroke_fill=(0, 0, 0),
        )
