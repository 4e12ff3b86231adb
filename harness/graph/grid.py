"""The grid of a quantized tensor: an integer q stands for the real number step·(q - zero).

LiteRT's quantizer compares quantized tensors by these real numbers, and so does the harness; an error in steps is one
in real units over the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.arrays import Array

# Types that activations are quantized to, and so the tensors whose values can be read as steps.
GRID_TYPES = frozenset(("INT8", "UINT8", "INT16"))


@dataclass(frozen=True)
class Grid:
    """One scale and zero point for a whole tensor of type `dtype`; `step` is the scale, in real units."""

    step: float
    zero: int
    dtype: str

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest real number on the grid."""
        limits = np.iinfo(self.dtype)
        return self.step * (int(limits.min) - self.zero), self.step * (int(limits.max) - self.zero)

    def real(self, values: Array) -> Array:
        """What integers stand for, as float32; floats are real numbers already."""
        if values.dtype.kind == "f":
            return values
        return np.asarray(self.step * (values.astype(np.float64) - self.zero), np.float32)

    def nearest(self, values: Array) -> Array:
        """The integers nearest to real numbers, saturated at the ends of the grid; NaN is the zero point."""
        limits = np.iinfo(self.dtype)
        steps = np.nan_to_num(np.rint(values.astype(np.float64) / self.step), nan=0.0) + self.zero
        held: Array = np.clip(steps, limits.min, limits.max).astype(self.dtype)
        return held

    def rounded(self, values: Array) -> Array:
        """Real numbers moved to the grid."""
        return self.real(self.nearest(values))

    def unrounded(self, values: Array, towards: Array) -> Array:
        """Integers as real numbers, each moved by up to half a step towards others: what is left of their difference is
        more than rounding."""
        real = self.real(values)
        return np.asarray(real + np.clip(towards - real, -self.step / 2, self.step / 2), np.float32)


def grid_of(kind: str, scales: Any, zeros: Any, details: Any = None) -> Grid | None:
    """The grid that a file states for a tensor of type `kind`; None where it has none, or one for each channel."""
    if kind not in GRID_TYPES or scales is None or len(scales) != 1 or details is not None:
        return None
    step = float(scales[0])
    if not np.isfinite(step) or step <= 0:
        return None
    return Grid(step, int(zeros[0]) if zeros is not None and len(zeros) else 0, kind.lower())
