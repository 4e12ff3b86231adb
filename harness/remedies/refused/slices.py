"""STRIDED_SLICE as a pooling with windows of one element, or as plain slices.

An average over one element is that element, so an AVERAGE_POOL_2D by 1x1 with a stride takes every so many rows and
columns, and every GPU has it. (A maximum would do in real arithmetic; ML Drift's starts at -10000.) Masks, which
delegates refuse, are read here: what is left is a SLICE, and a RESHAPE where axes come or go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import parameter

_POOLED = ("FLOAT32", "INT8", "UINT8")


@dataclass(frozen=True)
class Taken:
    """What is taken of an axis: `count` elements from `start` on, every `step`-th, backwards where that is negative."""

    start: int
    step: int
    count: int

    @property
    def within(self) -> tuple[int, int]:
        """The stretch from the first element of the axis that is taken to behind the last."""
        last = self.start + (self.count - 1) * self.step
        return min(self.start, last), max(self.start, last) + 1


def by_pooling(rebuild: Rebuild, op: Op) -> None:
    """A STRIDED_SLICE with a stride, forwards; quantized values stay on their grid. Raises CannotRewrite."""
    axes = taken(rebuild, op)
    if rebuild.graph.tensors[op.outputs[0]].type not in _POOLED:
        raise CannotRewrite("its values are of a type that is not pooled")
    if any(axis.step < 0 for axis in axes):
        raise CannotRewrite("it goes backwards")
    strides = [axis.step if axis.count > 1 else 1 for axis in axes]
    if max(strides, default=1) == 1:
        raise CannotRewrite("it takes neighbours only, without a stride")
    x = _cut(rebuild, op, axes)
    if len(axes) == 4 and strides[0] == strides[3] == 1:
        x = _pooled(rebuild, op, x, (strides[1], strides[2]))
    else:
        for axis, stride in enumerate(strides):
            if stride > 1:
                x = _along(rebuild, op, x, axis, stride)
    _give(rebuild, op, x)


def by_plain_slices(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A STRIDED_SLICE with masks that change the rank, or backwards, by SLICE, GATHER, and RESHAPE. Raises
    CannotRewrite."""
    axes, options = taken(rebuild, op), rebuild.options(op)
    masks = options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask
    if not masks and all(axis.step > 0 for axis in axes):
        raise CannotRewrite("it is a plain slice already")
    x = _cut(rebuild, op, axes)
    steps = [axis.step if axis.count > 1 else 1 for axis in axes]
    if max(map(abs, steps), default=1) > 1 and min(steps) > 0:
        x = rebuild.every(x, steps)
    elif min(steps, default=1) < 0:
        for axis, step in enumerate(steps):
            if step != 1:
                places = np.arange(rebuild.shape(x)[axis])[::step]
                x = rebuild.on_grid_of(op.outputs[0], rebuild.gather(x, axis, places))
    shape = rebuild.shape(op.outputs[0])
    return x if rebuild.shape(x) == shape else rebuild.reshape(x, shape)


def taken(rebuild: Rebuild, op: Op) -> list[Taken]:
    """What a STRIDED_SLICE takes of each of its operand's axes. Raises CannotRewrite."""
    if op.name != "STRIDED_SLICE":
        raise CannotRewrite("it is no STRIDED_SLICE")
    options, shape = rebuild.options(op), rebuild.shape(op.inputs[0])
    begin, end, steps = (parameter(rebuild, t).reshape(-1).tolist() for t in op.inputs[1:4])
    if getattr(options, "offset", False):
        raise CannotRewrite("its ends are lengths")
    named = sum(not (options.newAxisMask | options.ellipsisMask) >> i & 1 for i in range(len(begin)))
    axes: list[Taken] = []
    for i, (first, last, step) in enumerate(zip(begin, end, steps, strict=True)):
        if options.ellipsisMask >> i & 1:
            axes += [Taken(0, 1, n) for n in shape[len(axes) : len(axes) + len(shape) - named]]
        elif not options.newAxisMask >> i & 1:
            n = shape[len(axes)]
            if options.shrinkAxisMask >> i & 1:
                if not -n <= first < n:
                    raise CannotRewrite("it takes an element beyond its operand")
                axes.append(Taken(first % n, 1, 1))
                continue
            spans = slice(
                None if options.beginMask >> i & 1 else first, None if options.endMask >> i & 1 else last, step
            )
            start, stop, step = spans.indices(n)
            axes.append(Taken(start, step, len(range(start, stop, step))))
    axes += [Taken(0, 1, n) for n in shape[len(axes) :]]
    if any(axis.count == 0 for axis in axes):
        raise CannotRewrite("it takes nothing")
    if math.prod(axis.count for axis in axes) != math.prod(rebuild.shape(op.outputs[0])):
        raise CannotRewrite("its result has another size than what it takes")
    return axes


def _cut(rebuild: Rebuild, op: Op, axes: list[Taken]) -> TensorIndex:
    """From the first to the last element that is taken of each axis."""
    x = rebuild.now(op.inputs[0])
    spans = [axis.within for axis in axes]
    size = [stop - start for start, stop in spans]
    if tuple(size) == rebuild.shape(x):
        return x
    feeds = [rebuild.constant(np.asarray(values, np.int32)) for values in ([start for start, _ in spans], size)]
    return rebuild.on_grid_of(op.outputs[0], rebuild.op("SLICE", [x, *feeds], size, schema.SliceOptionsT()))


def _along(rebuild: Rebuild, op: Op, x: TensorIndex, axis: int, stride: int) -> TensorIndex:
    """Every so many elements along any axis, which is the height of a view."""
    shape = rebuild.shape(x)
    view = (math.prod(shape[:axis]), shape[axis], 1, math.prod(shape[axis + 1 :]))
    made = _pooled(rebuild, op, rebuild.reshape(x, view), (stride, 1))
    return rebuild.reshape(made, (*shape[:axis], rebuild.shape(made)[1], *shape[axis + 1 :]))


def _pooled(rebuild: Rebuild, op: Op, x: TensorIndex, strides: tuple[int, int]) -> TensorIndex:
    options = schema.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = 1
    options.strideH, options.strideW = strides
    options.padding = schema.Padding.VALID
    n, high, wide, depth = rebuild.shape(x)
    shape = (n, -(-high // strides[0]), -(-wide // strides[1]), depth)
    return rebuild.on_grid_of(op.outputs[0], rebuild.op("AVERAGE_POOL_2D", [x], shape, options))


def _give(rebuild: Rebuild, op: Op, x: TensorIndex) -> None:
    shape = rebuild.shape(op.outputs[0])
    rebuild.replace(op.outputs[0], x if rebuild.shape(x) == shape else rebuild.reshape(x, shape))
