"""Elements read from the wrong place: rounded positions of a resize, constants laid out in another way."""

from __future__ import annotations

import numpy as np

from harness.devices.planted.bug import Bug, running
from harness.graph.model import Op
from harness.graph.rebuild import Rebuild

_ARITHMETIC = ("ADD", "SUB", "MUL", "DIV")


def _rounded_positions(rebuild: Rebuild, op: Op) -> int | None:
    """Position p of a map enlarged s times reads p/s rounded to the nearest, where it is to be rounded down. Both agree
    at the multiples of s."""
    if op.name != "RESIZE_NEAREST_NEIGHBOR" or rebuild.options(op).alignCorners:
        return None
    made = x = op.inputs[0]
    for axis in (1, 2):
        held, wanted = rebuild.shape(x)[axis], rebuild.shape(op.outputs[0])[axis]
        if wanted % held == 0 and wanted > held > 1:
            nearest = np.floor(np.arange(wanted) * held / wanted + 0.5).astype(int)
            made = rebuild.gather(made, axis, np.minimum(nearest, held - 1))
        elif wanted != held:
            return None
    return None if made == x else made


def _first_row(rebuild: Rebuild, op: Op) -> int | None:
    if op.name not in _ARITHMETIC:
        return None
    for place, other in ((0, 1), (1, 0)):
        values, shape = rebuild.values(op.inputs[place]), rebuild.shape(op.inputs[place])
        rank = len(rebuild.shape(op.outputs[0]))
        alike = len(shape) == len(rebuild.shape(op.inputs[other])) == rank
        if values is None or not running(rebuild, op.inputs[other]) or not alike:
            continue
        if rank in (2, 3) and shape[0] > 1:
            feeds = list(op.inputs)
            feeds[place] = rebuild.constant(np.ascontiguousarray(np.broadcast_to(values[:1], shape)))
            return rebuild.like(op, feeds, shape=rebuild.shape(op.outputs[0]))
    return None


RESIZE = Bug(
    "resize-nearest",
    "RESIZE_NEAREST_NEIGHBOR by a whole factor is right at multiples of the factor only; other positions are "
    "rounded to the nearest element instead of down",
    _rounded_positions,
)
LOW_RANK = Bug(
    "low-rank-constant",
    "ADD, SUB, MUL and DIV of a tensor and a constant, both of rank 2 or both of rank 3, read row 0 of the constant "
    "for every row where its leading dimension is over 1; rank 4 with a leading 1 is right",
    _first_row,
)
