"""MediaPipe's custom ops, which GPU delegates have kernels for and the CPU has not, as builtin ops that mean the same.

What they compute, and the layout of their options (TFLite's C structures for TRANSPOSE_CONV and for pools, whose fields
are 32-bit little-endian), is after mediapipe/util/tflite/operations: transpose_conv_bias.cc, max_pool_argmax.cc and
max_unpooling.cc. An index is the place in the window, row by row. MediaPipe's CPU adds 0.1, so that cutting it off is
safe, and GPU kernels do not: here it is the place itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Model, Op
from harness.graph.rebuild import CannotRewrite, Rebuild

_SAME, _VALID = 1, 2
_RELU, _RELU_N1_TO_1, _RELU6 = 1, 2, 3


def with_builtin_ops(model: Model) -> Model:
    """The model without these custom ops of subgraph 0, inputs and outputs as they are; itself where it has none. One
    of a form that is not known stays."""
    graph = model.graph()
    if not any(op.custom in _WRITTEN for op in graph.ops):
        return model
    rebuild = Rebuild(model)
    for op in rebuild.graph.ops:
        write = _WRITTEN.get(op.custom or "")
        try:
            if write is None:
                raise CannotRewrite("it is none of these")
            write(rebuild, op)
        except CannotRewrite:
            rebuild.keep(op)
    return rebuild.finish()


def _numbers(rebuild: Rebuild, op: Op, count: int) -> list[int]:
    """The first fields of an op's options."""
    raw = rebuild.model.root.subgraphs[0].operators[op.index].customOptions
    data = b"" if raw is None else np.asarray(raw, np.uint8).tobytes()
    if len(data) < 4 * count:
        raise CannotRewrite("its options are shorter than they should be")
    return [int(v) for v in np.frombuffer(data, "<i4", count)]


def _sizes(rebuild: Rebuild, *tensors: TensorIndex) -> list[tuple[int, ...]]:
    shapes = [rebuild.graph.tensors[t].shape for t in tensors]
    if any(shape is None or len(shape) != 4 for shape in shapes):
        raise CannotRewrite("its shapes are not known")
    return [shape for shape in shapes if shape is not None]


def _transpose_conv(rebuild: Rebuild, op: Op) -> None:
    """TRANSPOSE_CONV, then ADD of the bias."""
    padding, stride_w, stride_h = _numbers(rebuild, op, 3)
    if len(op.inputs) != 3 or padding not in (_SAME, _VALID):
        raise CannotRewrite("its operands or padding are of another form")
    data, weights, bias = op.inputs
    (shape,) = _sizes(rebuild, op.outputs[0])
    options = schema.TransposeConvOptionsT()
    options.strideW, options.strideH = stride_w, stride_h
    options.padding = schema.Padding.SAME if padding == _SAME else schema.Padding.VALID
    size = rebuild.constant(np.asarray(shape, np.int32))
    products = rebuild.op("TRANSPOSE_CONV", [size, weights, data], shape, options, dtype=np.float32)
    rebuild.replace(op.outputs[0], rebuild.binary("ADD", products, bias))


def _max_pool(rebuild: Rebuild, op: Op) -> None:
    """Windows that do not overlap, laid side by side; their largest, and where it is."""
    padding, stride_w, stride_h, filter_w, filter_h, activation = _numbers(rebuild, op, 6)
    (batch, height, width, depth), shape = _sizes(rebuild, op.inputs[0], op.outputs[0])
    rows, columns = height // filter_h if filter_h else 0, width // filter_w if filter_w else 0
    apart = (stride_h, stride_w) == (filter_h, filter_w) and shape == (batch, rows, columns, depth)
    if len(op.outputs) != 2 or padding not in (_SAME, _VALID) or not apart:
        raise CannotRewrite("its windows overlap, or are padded")
    if activation not in _ACTIVATIONS:
        raise CannotRewrite("its activation is not known")
    if (rows * filter_h, columns * filter_w) != (height, width):
        raise CannotRewrite("its windows do not cover the input")
    parts = rebuild.reshape(op.inputs[0], (batch, rows, filter_h, columns, filter_w, depth))
    parts = rebuild.transpose(parts, (0, 1, 3, 2, 4, 5))
    windows = rebuild.reshape(parts, (batch, rows, columns, filter_h * filter_w, depth))
    pooled = rebuild.reshape(rebuild.reduce("REDUCE_MAX", windows, 3), shape)
    kind = _ACTIVATIONS[activation]
    rebuild.replace(op.outputs[0], pooled if kind is None else rebuild.unary(kind, pooled))
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT32
    axis = rebuild.constant(np.asarray(3, np.int32))
    place = rebuild.op("ARG_MAX", [windows, axis], shape, options, dtype=np.int32)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.INT32, schema.TensorType.FLOAT32
    rebuild.replace(op.outputs[1], rebuild.op("CAST", [place], shape, cast, dtype=np.float32))


def _max_unpool(rebuild: Rebuild, op: Op) -> None:
    """For each place in a window the values whose index says so, and zeros."""
    _, stride_w, stride_h, filter_w, filter_h = _numbers(rebuild, op, 5)
    if len(op.inputs) != 2 or (stride_h, stride_w) != (filter_h, filter_w):
        raise CannotRewrite("its windows overlap")
    (batch, rows, columns, depth), shape = _sizes(rebuild, op.inputs[0], op.outputs[0])
    if shape != (batch, rows * filter_h, columns * filter_w, depth):
        raise CannotRewrite("its output has another size than its windows")
    inner = (batch, rows, columns, depth)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.FLOAT32, schema.TensorType.INT32
    place = rebuild.op("CAST", [op.inputs[1]], inner, cast, dtype=np.int32)
    zeros = rebuild.constant(np.zeros(inner, np.float32))
    planes = []
    for k in range(filter_h * filter_w):
        at = rebuild.constant(np.asarray(k, np.int32))
        here = rebuild.op("EQUAL", [place, at], inner, schema.EqualOptionsT(), dtype=np.bool_)
        chosen = [here, op.inputs[0], zeros]
        plane = rebuild.op("SELECT_V2", chosen, inner, schema.SelectV2OptionsT(), dtype=np.float32)
        planes.append(rebuild.reshape(plane, (batch, rows, columns, 1, depth)))
    joined = schema.ConcatenationOptionsT()
    joined.axis = 3
    windows = rebuild.op("CONCATENATION", planes, (batch, rows, columns, len(planes), depth), joined)
    parts = rebuild.reshape(windows, (batch, rows, columns, filter_h, filter_w, depth))
    rebuild.replace(op.outputs[0], rebuild.reshape(rebuild.transpose(parts, (0, 1, 3, 2, 4, 5)), shape))


_ACTIVATIONS = {0: None, _RELU: "RELU", _RELU_N1_TO_1: "RELU_N1_TO_1", _RELU6: "RELU6"}
_WRITTEN: dict[str, Callable[[Rebuild, Op], None]] = {
    "Convolution2DTransposeBias": _transpose_conv,
    "MaxPoolingWithArgmax2D": _max_pool,
    "MaxUnpooling2D": _max_unpool,
}
