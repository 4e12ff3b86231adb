"""Is an output still of use? An error that rounding explains may leave nothing that the output was computed for.

An output is held to yardsticks. The default ones ask what is left of its information, whatever its unit: the RMS of the
error over the output's spread (the standard deviation about its mean: a large offset is no information). An eighth of
the spread, a signal-to-noise ratio of 18 dB, leaves three bits of a value. Beyond that an output is lost, where an
ideal device, which stores float16 and computes exactly, loses as much: then it is float16 itself, whatever the device.
What only the device's own arithmetic costs is granted more, three tenths (10 dB).

What is not held against an output: values below float16's range that vanish; an error of up to `STORING` times what
storing the exact output once costs, as of scores that are all near 0.9999 (sixteen roundings of the output's own size
make four times one, being independent); zeros, which have no size. One that is mostly a copy of an input is held to
what it adds to that input, in full: the input is there to be subtracted, and the caller can have the sum in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.numerics.fp16 import FLOAT32_ROUNDOFF, SMALLEST_NORMAL, rounded
from harness.numerics.metrics import compare, is_mask, mask_iou, rms

Kind = Literal["spread", "difference", "mask", "cosine", "iou", "tolerance"]

LOST = 0.125
LOST_ON_DEVICE = 0.3
STORING = 4.0
# One or two values may be near zero, or near each other, by chance: within a tenth of their usual size once in ten.
FEW = 3
# COCO's strict match of a mask to an object, and its loose one (Lin et al. 2014: AP75, AP50).
MASK_IOU, MASK_IOU_ON_DEVICE = 0.75, 0.5
# A mask of fewer elements moves by much when one of them turns.
LEAST_MASK = 64
# An output is mostly a copy of an input when it differs from it by less than this share of its RMS.
COPY = 0.1
# A smaller difference may be float32's own rounding of intermediates a thousand times as large: 2^-24 times 2^10.
LEAST_ADDED = 2.0**-14


@dataclass(frozen=True)
class Limits:
    """What a caller asks of each output, whatever float16 explains. `min_iou` is for masks `values > 0`; `atol` and
    `rtol` are those of `numpy.allclose`, with its defaults where only one is given. None: not asked."""

    min_cosine: float | None = None
    min_iou: float | None = None
    atol: float | None = None
    rtol: float | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for what is no limit."""
        for name, most in (("min_cosine", 1.0), ("min_iou", 1.0), ("atol", math.inf), ("rtol", math.inf)):
            value = getattr(self, name)
            least = -1.0 if name == "min_cosine" else 0.0
            if value is not None and not (least <= value <= most and math.isfinite(value)):
                between = f"from {least:g} to {most:g}" if math.isfinite(most) else "finite and not negative"
                raise UsageError(f"{name} is {value}.", f"Give a number {between}.")

    @property
    def tolerance(self) -> tuple[float, float] | None:
        """(atol, rtol), None when neither was given."""
        if self.atol is None and self.rtol is None:
            return None
        return 1e-8 if self.atol is None else self.atol, 1e-5 if self.rtol is None else self.rtol


@dataclass(frozen=True)
class Shortfall:
    """What an output falls short of: `value` is its figure, `limit` the one it had to keep; `input` is the one that a
    copy is compared with."""

    kind: Kind
    value: float
    limit: float
    input: str = ""

    def words(self) -> str:
        """`its error is 18 % of its spread, limit 10 %`."""
        match self.kind:
            case "spread":
                return f"its error is {_share(self.value)} of its spread, limit {_share(self.limit)}"
            case "difference":
                return (
                    f"it is mostly a copy of input '{self.input}', and the error is {_share(self.value)} of what it "
                    f"adds to that, limit {_share(self.limit)}"
                )
            case "tolerance":
                return f"its error is {self.value:.3g} times what --atol and --rtol allow"
            case "cosine":
                return f"its cosine is {_apart(self.value, self.limit, 6)}"
            case _:
                return f"its mask IoU is {_apart(self.value, self.limit, 4)}"

    def to_json(self) -> dict[str, object]:
        """Its fields."""
        return vars(self) | {"words": self.words()}


@dataclass(frozen=True, eq=False)
class Yardstick:
    """One measure of an output. Its `loss` is beyond repair over `limit` where an ideal device loses as much, and over
    `on_device` in any case. `base` is the input that a copy is compared with, `half` whether values are stored as
    float16, `pardon` an RMS error that is not held against the output."""

    kind: Kind
    exact: Array
    limit: float
    on_device: float
    base: Array | None = None
    input: str = ""
    half: bool = False
    pardon: float = 0.0
    tolerance: tuple[float, float] = (0.0, 0.0)

    @property
    def asked(self) -> bool:
        """Whether it is a limit of the caller's own."""
        return self.kind in ("cosine", "iou", "tolerance")

    def loss(self, actual: Array) -> float:
        """How much of the output is lost, 0 for none; infinite where NaN or infinity is new."""
        match self.kind:
            case "mask" | "iou":
                return 1.0 - mask_iou(actual, self.exact)
            case "cosine":
                return 1.0 - compare(actual, self.exact).cosine
        e, a = self.exact.astype(np.float64), actual.astype(np.float64)
        known = np.isfinite(e)
        if not np.isfinite(a[known]).all():
            return math.inf
        error = np.zeros(e.shape)
        error[known] = np.abs(a[known] - e[known])
        if self.kind == "tolerance":
            atol, rtol = self.tolerance
            return _over(error[known], atol + rtol * np.abs(e[known]))
        if self.half:
            error[known & (np.abs(e) < SMALLEST_NORMAL) & (np.abs(a) < SMALLEST_NORMAL)] = 0.0
        if self.base is not None:
            added = e - self.base.reshape(e.shape)
            known &= added != 0
            return rms(error[known]) / rms(added[known])
        size = rms(error[known])
        return size / size_of(self.exact) if size > self.pardon else 0.0

    def severity(self, actual: Array) -> float:
        """The loss over its limit; over 1 an output is of no use."""
        return self.loss(actual) / self.limit

    def fails(self, actual: Array, ideal: Array) -> bool:
        """Whether the device's output is of no use, `ideal` being an ideal device's."""
        loss = self.loss(actual)
        return loss > self.on_device or (loss > self.limit and self.loss(ideal) > self.limit)

    def shortfall(self, actual: Array) -> Shortfall:
        """What it comes to, in the figures that people use."""
        loss = self.loss(actual)
        if self.kind in ("mask", "iou", "cosine"):
            return Shortfall(self.kind, 1.0 - loss, round(1.0 - self.limit, 12))
        return Shortfall(self.kind, loss, self.limit, self.input)


def yardsticks(
    name: str, exact: Array, inputs: Mapping[str, Array], limits: Limits, *, half: bool, masks: bool
) -> tuple[Yardstick, ...]:
    """What an output is held to. `inputs` are those that it may be a copy of; `masks`: the model has outputs that are
    masks by name, and `min_iou` is for those alone. Integers are held to `atol` and `rtol` only, when given."""
    found = []
    real = exact.dtype.kind == "f" and bool(np.isfinite(exact).any())
    if real:
        found += _by_default(name, exact, inputs, half)
    if limits.tolerance is not None and exact.dtype.kind in "fiu":
        found.append(Yardstick("tolerance", exact, 1.0, 1.0, tolerance=limits.tolerance))
    if limits.min_cosine is not None and real:
        found.append(_asked("cosine", exact, limits.min_cosine))
    if limits.min_iou is not None and real and (is_mask(name) or not masks):
        found.append(_asked("iou", exact, limits.min_iou))
    return tuple(found)


def _asked(kind: Kind, exact: Array, least: float) -> Yardstick:
    # A limit of 1 asks for all digits, and a loss is divided by it.
    limit = max(1.0 - least, 1e-12)
    return Yardstick(kind, exact, limit, limit)


def _by_default(name: str, exact: Array, inputs: Mapping[str, Array], half: bool) -> list[Yardstick]:
    found = []
    if size_of(exact) > 0:
        limit = LOST if exact.size >= FEW else LOST_ON_DEVICE
        pardon = STORING * storing(exact) if half else 0.0
        found.append(Yardstick("spread", exact, limit, LOST_ON_DEVICE, half=half, pardon=pardon))
    for label, values in inputs.items():
        if is_copy(exact, values):
            found.append(Yardstick("difference", exact, LOST, LOST_ON_DEVICE, base=values, input=label, half=half))
    if is_mask(name) and np.count_nonzero(exact > 0) >= LEAST_MASK:
        found.append(Yardstick("mask", exact, 1 - MASK_IOU, 1 - MASK_IOU_ON_DEVICE))
    return found


def size_of(exact: Array) -> float:
    """What an error is measured by: the standard deviation of the finite values about their mean; their RMS where there
    is none, as of one value. In float64; 0 for zeros."""
    finite = exact[np.isfinite(exact)].astype(np.float64)
    if not finite.size:
        return 0.0
    size, spread = rms(finite), float(finite.std())
    return spread if spread > FLOAT32_ROUNDOFF * size else size


def storing(exact: Array) -> float:
    """The RMS error of storing the exact values as float16, once."""
    finite = exact[np.isfinite(exact)]
    return rms(rounded(finite).astype(np.float64) - finite) if finite.size else 0.0


def is_copy(exact: Array, values: Array) -> bool:
    """Whether an output is mostly a copy of an input, and what it adds is more than float32's rounding."""
    if values.dtype.kind != "f" or [d for d in values.shape if d > 1] != [d for d in exact.shape if d > 1]:
        return False
    if exact.size < FEW or not np.isfinite(exact).all():
        return False
    size = rms(values.astype(np.float64))
    return LEAST_ADDED * size < rms(exact.astype(np.float64) - values.reshape(exact.shape)) < COPY * size


def _over(error: Array, allowed: Array) -> float:
    """The largest error over what is allowed; 0 where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(error == 0, 0.0, error / allowed)
    return float(shares.max(initial=0.0))


def _apart(value: float, limit: float, digits: int) -> str:
    """A figure and its limit, with as many digits as tell them apart."""
    while digits < 15 and f"{value:.{digits}g}" == f"{limit:.{digits}g}":
        digits += 1
    return f"{value:.{digits}g}, limit {limit:.{digits}g}"


def _share(value: float) -> str:
    """`18 %`, or how many times where it is over ten."""
    return f"{value:.2g} times" if value > 10 else f"{100 * value:.3g} %"
