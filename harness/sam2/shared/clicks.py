"""What a person asks of a photo: points on and off the object, a box around it; and the prompt it becomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.sam2.shared.image import to_model_space
from harness.sam2.shared.prompt import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    NEGATIVE,
    POSITIVE,
    PromptConstants,
    encode_points,
)

MAX_POINTS = 32
"""The most points that one tap may have: each number of points has a decoder of its own."""


@dataclass(frozen=True)
class Tap:
    """One question to the model: which object is meant? In photo pixels, (x, y) from the top left."""

    positive: tuple[tuple[float, float], ...] = ()
    """Points on the object."""
    negative: tuple[tuple[float, float], ...] = ()
    """Points beside it."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom of a box around it."""

    @classmethod
    def at(cls, x: float, y: float) -> Tap:
        """A single point on the object."""
        return cls(((x, y),))

    @property
    def tokens(self) -> int:
        """How many tokens the decoder has to take: one for each point, two for a box, and one of padding."""
        return len(self.positive) + len(self.negative) + (0 if self.box is None else 2) + 1

    def check(self, photo_shape: tuple[int, ...]) -> None:
        """Raise `UsageError` when nothing is asked, too much is, or something lies outside a photo of (H, W, ...)."""
        height, width = photo_shape[:2]
        size = f"the photo, which is {width} wide and {height} high"
        points = (*self.positive, *self.negative)
        if not points and self.box is None:
            raise UsageError("A tap without points and without a box asks for nothing.", "Give at least one point.")
        if len(points) > MAX_POINTS:
            raise UsageError(f"A tap of {len(points)} points is too much.", f"Give at most {MAX_POINTS}.")
        for x, y in points:
            if not (0 <= x < width and 0 <= y < height):
                raise UsageError(f"The tap ({x:g}, {y:g}) is outside {size}.", "Give x, y in the photo's pixels.")
        if self.box is not None:
            left, top, right, bottom = self.box
            if not all(math.isfinite(edge) for edge in self.box) or not (left < right and top < bottom):
                raise UsageError(f"The box {_words(self.box)} is not one.", "Give left, top, right, bottom.")
            if left < 0 or top < 0 or right > width or bottom > height:
                raise UsageError(f"The box {_words(self.box)} reaches outside {size}.", "Give photo pixels.")

    def encode(self, photo_shape: tuple[int, ...], constants: PromptConstants) -> NDArray[np.float32]:
        """The decoder's sparse prompt, float32 [1, tokens, C]: positive points, negative ones, the box, the padding.

        Raises as `check`.
        """
        placed, labels = self.labelled(photo_shape, constants.image_size)
        return encode_points(placed, labels, constants)

    def labelled(self, photo_shape: tuple[int, ...], side: int) -> tuple[list[tuple[float, float]], list[int]]:
        """Points in a model space of `side` pixels and their labels, in the order of `encode`. Raises as `check`."""
        self.check(photo_shape)
        places = [*self.positive, *self.negative]
        if self.box is not None:
            left, top, right, bottom = self.box
            places += [(left, top), (right, bottom)]
        return [to_model_space(x, y, photo_shape, side) for x, y in places], list(self.labels)

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of each point, in the order of `encode`; a box is two."""
        corners = () if self.box is None else (BOX_TOP_LEFT, BOX_BOTTOM_RIGHT)
        return (POSITIVE,) * len(self.positive) + (NEGATIVE,) * len(self.negative) + corners

    def to_json(self) -> dict[str, Any]:
        """The tap as `click.json` has it, in photo pixels."""
        return {
            "positive": [list(point) for point in self.positive],
            "negative": [list(point) for point in self.negative],
            "box": None if self.box is None else list(self.box),
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Tap:
        """The tap that `to_json` wrote."""
        box = told["box"]
        return cls(_pairs(told["positive"]), _pairs(told["negative"]), None if box is None else tuple(box))


def _pairs(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in points)


def _words(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{edge:g}" for edge in box) + ")"
