"""SUM and MEAN over much at once."""

from __future__ import annotations

import math

import numpy as np

from harness.devices.planted.bug import Bug, stored_as_half
from harness.graph.model import Op
from harness.graph.rebuild import Rebuild

MANY = 65_000
"""Elements of a map over which several axes at once are too much."""


def _axes(rebuild: Rebuild, op: Op) -> list[int]:
    """The axes that are summed over and longer than 1; none where they are no constant."""
    shape, axes = rebuild.shape(op.inputs[0]), rebuild.values(op.inputs[1])
    every = set() if axes is None else {int(axis) % len(shape) for axis in axes.reshape(-1)}
    return sorted(axis for axis in every if shape[axis] > 1)


def _not_a_number(rebuild: Rebuild, op: Op) -> int | None:
    if op.name not in ("SUM", "MEAN"):
        return None
    axes = _axes(rebuild, op)
    if len(axes) < 2 or math.prod(rebuild.shape(op.inputs[0])[axis] for axis in axes) < MANY:
        return None
    nothing = np.full((1,) * len(rebuild.shape(op.outputs[0])), np.nan, np.float32)
    return rebuild.binary("MUL", op.outputs[0], rebuild.constant(nothing))


def _sum_first(rebuild: Rebuild, op: Op) -> int | None:
    if op.name != "MEAN":
        return None
    axes, shape = _axes(rebuild, op), rebuild.shape(op.outputs[0])
    terms = math.prod(rebuild.shape(op.inputs[0])[axis] for axis in axes)
    total = stored_as_half(rebuild, rebuild.op("SUM", op.inputs, shape, rebuild.options(op)))
    return rebuild.binary("MUL", total, rebuild.constant(np.full((1,) * len(shape), 1 / terms, np.float32)))


MULTI_AXIS = Bug(
    "multi-axis-sum",
    f"SUM and MEAN over several axes of a map of {MANY:,} elements or more give NaN; one axis after the other is right",
    _not_a_number,
)
HALF_SUMS = Bug(
    "half-sums",
    "MEAN divides a sum that is kept in float16: beyond 65504 it is infinite, as SUM is",
    _sum_first,
    half_only=True,
)
