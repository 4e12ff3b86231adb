"""TRANSPOSE_CONV as a convolution over its input with zeros between the elements.

Element i of the input lies at stride · i of a map of zeros. Each result is the sum of the elements under the kernel,
turned by 180 degrees, so that a plain CONV_2D with stride 1 computes it from that map. Zeros are put behind each column
and then behind each row by RESHAPE and PAD, in rank 4. The convolution multiplies with stride² as many values, most of
them zeros.
"""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import parameter
from harness.remedies.split_sum import part

# Elements of the map with zeros.
MOST_STUFFED = 1 << 28


def by_stuffed_convolution(rebuild: Rebuild, op: Op) -> None:
    """A TRANSPOSE_CONV of either padding, its fused activation kept; quantized values stay on their grids, to which the
    CPU's two kernels round each in its own way, up to a step apart.

    Raises:
        CannotRewrite: it is none, its weights are no constant, or the map with zeros would be too large.
    """
    if op.name != "TRANSPOSE_CONV":
        raise CannotRewrite("it is no TRANSPOSE_CONV")
    options, weights = rebuild.options(op), parameter(rebuild, op.inputs[1])
    made, x = op.outputs[0], op.inputs[2]
    if weights.ndim != 4 or len(rebuild.shape(x)) != 4:
        raise CannotRewrite("its weights or its input have not four axes")
    out, given, kernel = rebuild.shape(made)[1:3], rebuild.shape(x)[1:3], weights.shape[1:3]
    strides = (int(options.strideH), int(options.strideW))
    if math.prod(rebuild.shape(x)) * math.prod(strides) > MOST_STUFFED:
        raise CannotRewrite(f"its input with zeros between has over {MOST_STUFFED} elements")
    same = options.padding == schema.Padding.SAME
    stuffed = rebuild.now(x)
    for axis, stride in ((2, strides[1]), (1, strides[0])):
        stuffed = _spread(rebuild, x, stuffed, axis, stride)
    widths = [(0, 0)] * 4
    for axis, wanted, size, stride, taps in zip((1, 2), out, given, strides, kernel, strict=True):
        cut = max((-(-wanted // stride) - 1) * stride + taps - wanted, 0) // 2 if same else 0
        before, long = taps - 1 - cut, wanted + taps - 1
        start, stop = max(-before, 0), min(size * stride, long - before)
        if stop <= start:
            raise CannotRewrite("its result has nothing of its input")
        if stop - start < size * stride:
            stuffed = rebuild.on_grid_of(x, part(rebuild, stuffed, axis, start, stop))
        widths[axis] = max(before, 0), long - max(before, 0) - (stop - start)
    if any(map(any, widths)):
        stuffed = rebuild.on_grid_of(x, rebuild.pad(stuffed, widths))
    turned = rebuild.instead_of(op.inputs[1], np.ascontiguousarray(weights[:, ::-1, ::-1, :]))
    bias = op.inputs[3] if len(op.inputs) > 3 and op.inputs[3] >= 0 else _no_bias(rebuild, op)
    feeds = [stuffed, turned, bias]
    plain = schema.Conv2DOptionsT()
    plain.strideH = plain.strideW = plain.dilationHFactor = plain.dilationWFactor = 1
    plain.padding = schema.Padding.VALID
    plain.fusedActivationFunction = options.fusedActivationFunction
    result = rebuild.op("CONV_2D", feeds, rebuild.shape(made), plain, dtype=rebuild.graph.tensors[made].dtype)
    rebuild.replace(made, rebuild.on_grid_of(made, result))


def _no_bias(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Zeros, which CONV_2D wants where TRANSPOSE_CONV wants nothing; for quantized values on the products' grid."""
    count, scales = rebuild.shape(op.inputs[1])[0], [rebuild.scales(op.inputs[place]) for place in (1, 2)]
    if not scales[0].size:
        return rebuild.constant(np.zeros(count, np.float32))
    return rebuild.with_scales(rebuild.constant(np.zeros(count, np.int32)), scales[0] * scales[1])


def _spread(rebuild: Rebuild, like: TensorIndex, x: TensorIndex, axis: int, stride: int) -> TensorIndex:
    """The rows (axis 1) or columns (axis 2), each with stride - 1 of zeros behind it."""
    if stride == 1:
        return x
    n, high, wide, depth = rebuild.shape(x)
    if axis == 1:
        apart, place = (n * high, 1, wide, depth), 1
    else:
        apart, place = (n * high, wide, 1, depth), 2
    behind = [(0, stride - 1) if a == place else (0, 0) for a in range(4)]
    filled = rebuild.on_grid_of(like, rebuild.pad(rebuild.reshape(x, apart), behind))
    return rebuild.reshape(filled, (n, high * stride, wide, depth) if axis == 1 else (n, high, wide * stride, depth))
