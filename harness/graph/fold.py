"""Tensors too large for an input or an output of a GPU, and the same values in two dimensions.

A GPU delegate stores the last dimension in slices of four and starts its workgroups along them, of which a device
takes a limited number: WebGPU 65,535 (`maxComputeWorkgroupsPerDimension`, its default and in practice its highest).
How many slices a workgroup takes depends on what divides their number; in the worst case it is one. Heights and widths
are not limited so, but a buffer is (`maxStorageBufferBindingSize`, by default 128 MiB), in which a slice takes its room
whole. What a model takes in or gives out is converted by such a dispatch from such a buffer (docs/delegate.md), so a
model that is cut out or tapped must have no such port that the whole model does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Slices of four, times the workgroups that a device takes at least.
LONGEST = 4 * 65535
# Rows or columns of a matrix of weights, four to a texel, in a texture of the side that WebGPU promises
# (`maxTextureDimension2D`).
SIDE = 8192
WIDEST = 4 * SIDE
# Bytes of a buffer that a device binds at least; a slice of four float32 values.
_BINDING, _SLICE = 1 << 27, 16
# Columns that are looked for at first: many workgroups in both dimensions.
_NEAR = 4096


def too_large(shape: Sequence[int] | None) -> bool:
    """Whether a tensor may be beyond what a device takes in or gives out."""
    if not shape:
        return False
    *lead, last = shape
    return last > LONGEST or math.prod(lead) * -(-last // 4) * _SLICE > _BINDING


def in_two_dimensions(shape: Sequence[int], along: Sequence[int] = ()) -> tuple[int, int, int, int]:
    """The shape [batch, 1, rows, columns] of the same elements in the same order. Where it is the last dimension that
    is too long, that is rows · columns; else all are.

    `along` are places in the last dimension where it is cut: each is the start of a row. Columns are a multiple of four
    where they can be; without a divisor, one.
    """
    *lead, last = shape
    batch = math.prod(lead) if last > LONGEST else 1
    whole = math.prod(shape) // batch
    common = math.gcd(whole, *along)
    divisors = {d for i in range(1, math.isqrt(common) + 1) if common % i == 0 for d in (i, common // i)}
    columns = min((d for d in divisors if d <= LONGEST), key=lambda d: (d % 4 != 0, abs(math.log(d / _NEAR)), d))
    return batch, 1, whole // columns, columns


def of_copy(shape: tuple[int, ...], turned: bool = False) -> tuple[int, ...]:
    """The shape in which a copy of a tensor can be given out; `turned`: another such one."""
    if not too_large(shape):
        return shape
    batch, one, rows, columns = in_two_dimensions(shape)
    return (batch, one, columns, rows) if turned and rows <= LONGEST else (batch, one, rows, columns)
