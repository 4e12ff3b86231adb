"""One decoder's answer to one tap as the page gets it, two of them compared, and pictures of it for download."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from harness.core.arrays import Array
from harness.localize.base.result import residency_json
from harness.numerics.metrics import mask_iou
from harness.sam2.image_path.pipeline import Decoded, best_mask
from harness.sam2.shared.image import Photo, upsample_mask

Side = Literal["device", "cpu"]
Kind = Literal["mask", "cutout"]
SIDES: tuple[Side, ...] = ("cpu", "device")


@dataclass(frozen=True)
class Answer:
    """What one side says to one tap."""

    side: Side
    decoded: Decoded
    logits: NDArray[np.float32]
    """The best mask's, finite, as the decoder gives them."""
    inside: NDArray[np.bool_]
    """The mask at the size at which it is shown."""

    @classmethod
    def of(cls, side: Side, decoded: Decoded, shape: tuple[int, int]) -> Answer:
        """The answer, for masks of that height and width."""
        logits = best_mask(decoded)
        return cls(side, decoded, logits, upsample_mask(logits, shape) > 0)

    def to_json(self) -> dict[str, Any]:
        """A line of the reply. `mask` has one bit for each pixel, row after row, the first in the highest bit."""
        found = self.decoded
        return {
            "side": self.side,
            "ms": found.millis,
            "mask": base64.b64encode(np.packbits(self.inside).tobytes()).decode("ascii"),
            "height": self.inside.shape[0],
            "width": self.inside.shape[1],
            "area": float(self.inside.mean()),
            "candidate": found.best,
            "scores": [float(score) for score in found.scores],
            "nonfinite": found.nonfinite,
            "runtime": found.runtime,
            "gpu": found.gpu,
            "residency": residency_json(found.residency),
        }


def comparison(device: Answer, cpu: Answer) -> dict[str, Any]:
    """The last line of a reply. `iou` is that of the two masks as they are shown, `pixels` how many of theirs differ,
    `largest` the largest difference of a logit of the mask that the CPU chose, `of` those logits' own RMS."""
    chosen = cpu.decoded.best
    exact, actual = cpu.decoded.masks[chosen].astype(np.float64), device.decoded.masks[chosen]
    return {
        "iou": mask_iou(_signs(device.inside), _signs(cpu.inside)),
        "pixels": int(np.count_nonzero(device.inside != cpu.inside)),
        "same_candidate": device.decoded.best == chosen,
        "largest": float(np.abs(actual - exact).max()),
        "of": float(np.sqrt(np.square(exact).mean())),
    }


def picture(photo: Photo, logits: NDArray[np.float32], kind: Kind, note: str) -> bytes:
    """A PNG at the photo's size: the mask in grey, 255 inside, or the photo where the mask is and transparent
    elsewhere. `note` says in the file where it comes from."""
    inside = upsample_mask(logits, photo.shape) > 0
    opacity = np.where(inside, 255, 0).astype(np.uint8)
    pixels = opacity if kind == "mask" else np.dstack([np.where(inside[..., None], photo, np.uint8(0)), opacity])
    text = PngInfo()
    text.add_text("Description", note)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png", pnginfo=text, compress_level=4)
    return stream.getvalue()


def _signs(inside: NDArray[np.bool_]) -> Array:
    return inside.astype(np.int8)
