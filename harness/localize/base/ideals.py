"""What ideal devices make of an output, and how far rounding to the grids of quantized tensors may move it.

Float16 arithmetic errs in proportion to the values. Rounding to a grid errs by up to half a step of each quantized
tensor on the way, whatever the arithmetic, and two devices that are right round values near the middle of a step to
different sides. So the two are told apart: a device is held to a multiple of the first, and granted twice the second,
once for its own rounding and once for the reference's.

An op that compares, ranks or rounds to whole numbers is likewise off by a step or not at all. What ideal devices make
of a model is then asked twice: as it is, and with the results of such ops as the exact ones. A multiple is granted of
the second alone, and of the steps what the device may take where each operand is as far off as the rule allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from harness.core.arrays import Array
from harness.graph.grid import Grid
from harness.numerics.metrics import rms
from harness.numerics.tolerance import FACTOR, NOTHING, Granted

# Steps of the grid that a quantized result may be off where the reference's integers are rounded too.
INTEGER_STEPS = 2.0
# Further inputs at which the rounding of a quantized model is looked at, and how far they lie off: a step of a
# quantized input, this share of the RMS of a float one. That moves the values on the way by about a step, to another
# place between two steps.
NEIGHBOURS = 2
NEIGHBOUR_SHARE = 2.0**-7


class Ideals(tuple[Array, ...]):
    """One output on ideal devices, in real numbers. `grid`: by how much rounding to grids on the way moves it, one
    array for each of several inputs; `jumps`: by how much other results of ops that jump do; `smooth`: the runs in
    which those have the exact results, where there are such ops; `tail`: what an ideal device makes of the last sums
    alone, where that was asked."""

    grid: tuple[Array, ...]
    jumps: tuple[Array, ...]
    smooth: tuple[Array, ...]
    tail: Ideals | None

    def __new__(
        cls,
        runs: Iterable[Array],
        grid: Iterable[Array] = (),
        jumps: Iterable[Array] = (),
        smooth: Iterable[Array] = (),
    ) -> Ideals:
        """The outputs of the runs."""
        made = super().__new__(cls, tuple(runs))
        made.grid, made.jumps, made.smooth, made.tail = tuple(grid), tuple(jumps), tuple(smooth), None
        return made

    @classmethod
    def of(cls, runs: Sequence[Array]) -> Ideals:
        """Runs, plain ones with nothing granted beside them."""
        return runs if isinstance(runs, Ideals) else cls(runs)

    def followed_by(self, run: Array) -> Ideals:
        """With one run more."""
        smooth = (*self.smooth, run) if self.smooth else ()
        return Ideals((*self, run), self.grid, self.jumps, smooth)

    def with_tail(self, tail: Ideals | None) -> Ideals:
        """The same runs, with those of the tail."""
        made = Ideals(self, self.grid, self.jumps, self.smooth)
        made.tail = tail
        return made

    def mapped(self, change: Callable[[Array], Array]) -> Ideals:
        """The runs, each changed; what is granted beside them stays."""
        return Ideals(map(change, self), self.grid, self.jumps, map(change, self.smooth))

    def around(self, values: Array, exact: Array) -> Ideals:
        """The same deviations from `exact` around other values; real numbers all."""
        with np.errstate(invalid="ignore", over="ignore"):
            return self.mapped(lambda ideal: values + (ideal - exact))

    def steady(self, actual: Array, exact: Array) -> Array | None:
        """`actual` with the exact values where a jump on the way may have moved it; None where that may be everywhere
        or nowhere."""
        moved = np.any([each != 0 for each in self.jumps], axis=0) if self.jumps else np.zeros(exact.shape, bool)
        return None if moved.all() or not moved.any() else np.where(moved, exact, actual)


def granted(ideals: Sequence[Array], grid: Grid | None, *, unrounded: bool) -> Granted:
    """What rounding explains of an output's error.

    A device rounds a quantized output by up to half a step. Where the exact values are `unrounded`, that is all; where
    they are a reference's integers, that one rounds as well, and an integer result may be off by `INTEGER_STEPS`. What
    happens inside is granted twice; what jumps do, once.
    """
    ideals = Ideals.of(ideals)
    inside = [_size(moved) for moved in ideals.grid]
    jumps = [_size(moved) for moved in ideals.jumps]
    if grid is None and not inside and not jumps:
        return NOTHING
    most, rms = (max((size[i] for size in inside), default=0.0) for i in (0, 1))
    jump, jump_rms = (max((size[i] for size in jumps), default=0.0) for i in (0, 1))
    step = 0.0 if grid is None else grid.step
    own = (step / 2, step / 2) if unrounded else (INTEGER_STEPS * step, step)
    return Granted(own[0] + 2 * most + jump, own[1] + 2 * rms + jump_rms)


def neighbour(inputs: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Inputs a little off: 8- and 16-bit integers by up to a step, floats by up to a share of their RMS; others, which
    are indices or flags, as they are."""
    moved = {}
    for name, values in inputs.items():
        if values.dtype == np.float32:
            noise = rng.uniform(-1, 1, values.shape) * rms(values) * NEIGHBOUR_SHARE
            values = (values + noise).astype(np.float32)
        elif values.dtype.name in ("int8", "uint8", "int16"):
            limits = np.iinfo(values.dtype)
            steps = values.astype(np.int32) + rng.integers(-1, 1, values.shape, endpoint=True)
            values = np.clip(steps, limits.min, limits.max).astype(values.dtype)
        moved[name] = values
    return moved


def moved(values: Array, to: Array, by: Array) -> Array:
    """Values moved as `by` is moved to `to`; flags and integers are `to`."""
    return to if values.dtype.kind != "f" else values + (to - by)


def may_be_off(ideal: Array, exact: Array, roundoff: float) -> Array:
    """How far each element of a tensor may be off on a device that is right, `ideal` being what rounding alone makes of
    it: `FACTOR` times what is expected of the tensor, or of a value of this size. 0 where rounding changes nothing, for
    what is held exactly is not off at all."""
    error = difference(ideal, exact)
    if not error.any():
        return np.zeros_like(error)
    finite = np.where(np.isfinite(exact), np.abs(exact), 0)
    return np.asarray(FACTOR * np.maximum(rms(error), roundoff * finite), np.float32)


def difference(first: Array, second: Array) -> Array:
    """First less second, in float32; 0 where that is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        made = first.astype(np.float32) - second.astype(np.float32)
    return np.where(np.isfinite(made), made, np.float32(0))


def _size(values: Array) -> tuple[float, float]:
    """The largest magnitude and the RMS."""
    if not values.size:
        return 0.0, 0.0
    return float(np.abs(values).max()), rms(values)
