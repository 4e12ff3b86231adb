"""Whole numbers and quantized values: int32 arithmetic, conversions, int8 ops on their grids, int8 and float16 weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.forms.form import Form, Given, Grid, Held, Result, Shape, const, draw, held, ints, number, single, table

_KINDS = {
    "ADD": ("Add", "whole", "whole", "int32"),
    "SUB": ("Sub", "whole", "whole", "int32"),
    "MUL": ("Mul", "whole", "whole", "int32"),
    "DIV": ("Div", "whole", "whole over 0", "int32"),
    "MAXIMUM": ("MaximumMinimum", "whole", "whole", "int32"),
    "MINIMUM": ("MaximumMinimum", "whole", "whole", "int32"),
    "FLOOR_DIV": ("FloorDiv", "whole", "whole over 0", "int32"),
    "FLOOR_MOD": ("FloorMod", "whole", "whole over 0", "int32"),
    "SQUARED_DIFFERENCE": ("SquaredDifference", "whole", "whole", "int32"),
    "LESS": ("Less", "whole", "whole", "bool"),
    "GREATER": ("Greater", "whole", "whole", "bool"),
    "GREATER_EQUAL": ("GreaterEqual", "whole", "whole", "bool"),
    "EQUAL": ("Equal", "signs", "signs", "bool"),
    "NOT_EQUAL": ("NotEqual", "signs", "signs", "bool"),
    "BITWISE_XOR": ("BitwiseXor", "whole", "whole", "int32"),
    "RIGHT_SHIFT": ("RightShift", "whole", "whole over 0", "int32"),
}
_WITH_CONSTANT: tuple[tuple[Shape, Shape], ...] = (
    ((8,), (8,)), ((6, 8), (8,)), ((6, 8), (6, 8)), ((3, 6, 8), (6, 8)), ((3, 6, 8), (3, 6, 8)), ((3, 6, 8), ()), ((1, 4, 6, 8), (8,)),
    ((1, 4, 6, 8), (1, 1, 1, 8)), ((1, 4, 6, 8), (1, 4, 6, 8)), ((1, 4, 6, 8), ()), ((2, 4, 6, 8), (4, 6, 8)),
)  # fmt: skip


def forms() -> Iterator[Form]:
    """All of them."""
    yield from _whole()
    yield from _converted()
    yield from _on_grids()
    yield from _packed()


def _whole() -> Iterator[Form]:
    for kind, (options, left, right, dtype) in _KINDS.items():
        for a, b in (((8,), (8,)), ((6, 8), (6, 8)), ((3, 6, 8), (1, 6, 8)), ((1, 4, 6, 8), (1, 4, 6, 8)), ((6, 8), (8,))):
            yield single(kind, [Given(a, left, "int32"), Given(b, right, "int32")], Result(a, dtype), options)
        for a, b in _WITH_CONSTANT:
            y = const(*b, values=right, dtype="int32")
            yield single(kind, [Given(a, left, "int32"), replace(y, how="by place")], Result(a, dtype), options)
            x = const(*b, values=left, dtype="int32")
            yield single(kind, [replace(x, how="by place"), Given(a, right, "int32")], Result(a, dtype), options)
    for shape in ((8,), (6, 8), (3, 6, 8), (1, 4, 6, 8)):
        x = Given(shape, "whole", "int32")
        yield single("NEG", [x], Result(shape, "int32"), "Neg")
        yield single("ABS", [x], Result(shape, "int32"), "Abs")
        yield single("SIGN", [x], Result(shape, "int32"), "Sign")
        rank = len(shape)
        for kind in ("SUM", "REDUCE_MAX"):
            for axis in range(rank):
                made = tuple(1 if i == axis else d for i, d in enumerate(shape))
                yield single(kind, [x, ints(axis)], Result(made, "int32"), "Reducer", keepDims=True)
        yield single("CUMSUM", [x, number(rank - 1)], Result(shape, "int32"), "Cumsum")
        yield single("RESHAPE", [x, ints(int(np.prod(shape)))], Result((int(np.prod(shape)),), "int32"), "Reshape")
        whole = (*shape[:-1], 2 * shape[-1])
        yield single("CONCATENATION", [x, x], Result(whole, "int32"), "Concatenation", axis=rank - 1)
        half = Given(shape[:-1] + (4,), "whole", "int32")
        yield single("GATHER", [x, ints(2, 0, 1, 2)], Result(half.shape, "int32"), "Gather", axis=rank - 1)
        yield single("SLICE", [x, ints(*[0] * rank), ints(*half.shape)], Result(half.shape, "int32"), "Slice")
        flags = Given(shape, "flags", "bool")
        yield single("SELECT_V2", [flags, x, x], Result(shape, "int32"), "SelectV2")
    for shape in ((6, 8), (1, 4, 6, 8)):
        order = tuple(reversed(range(len(shape))))
        made = tuple(shape[i] for i in order)
        yield single("TRANSPOSE", [Given(shape, "whole", "int32"), ints(*order)], Result(made, "int32"), "Transpose")


def _converted() -> Iterator[Form]:
    for shape in ((8,), (6, 8), (3, 6, 8), (1, 4, 6, 8), (1, 4, 6, 3)):
        for old, new, values in (
            ("float32", "int32", "wide"), ("int32", "float32", "whole"), ("bool", "float32", "flags"), ("float32", "bool", "halves"),
            ("bool", "int32", "flags"), ("int32", "bool", "halves"), ("float32", "float16", "normal"), ("float32", "int8", "wide"),
        ):  # fmt: skip
            yield single("CAST", [Given(shape, values, old)], Result(shape, new), "Cast", inDataType=old.upper(), outDataType=new.upper())  # fmt: skip
        yield single("QUANTIZE", [Given(shape)], Result(shape, "int8", _ACTIVE), "Quantize")
        yield single("DEQUANTIZE", [_quantized(shape)], shape, "Dequantize", version=2)
        yield single("QUANTIZE", [_quantized(shape)], Result(shape, "int8", Grid((0.03,), 5)), "Quantize")
        for low, high, bits in ((-2.0, 2.0, 8), (0.0, 1.5, 8), (-1.0, 1.0, 4)):
            yield single("FAKE_QUANT", [Given(shape)], shape, "FakeQuant", min=low, max=high, numBits=bits)


_ACTIVE = Grid((1 / 32,), 3)
"""The grid of a quantized activation: -4.1 to 3.9."""


def _quantized(shape: Shape, grid: Grid = _ACTIVE) -> Given:
    return Given(shape, "bytes", "int8", grid)


def _weights(shape: Shape, axis: int | None) -> Held:
    """int8 weights, with one scale or one for each place along an axis."""
    count = 1 if axis is None else shape[axis]
    scales = tuple(0.01 * (1 + i / count) for i in range(count))
    return Held(draw(Given(shape, "bytes", "int8"), 5), Grid(scales, 0, axis or 0), "int8")


def _bias(count: int, weights: Held, scale: float = _ACTIVE.scales[0]) -> Held:
    assert weights.grid is not None
    scales = tuple(scale * each for each in weights.grid.scales)
    values: Array = np.asarray(np.linspace(-3000, 3000, count), np.int32)
    return Held(values, Grid(scales), "bias")


def _on_grids() -> Iterator[Form]:
    wider = Grid((1 / 12,), -7)
    for shape in ((6, 8), (3, 6, 8), (1, 4, 6, 8), (1, 4, 6, 3)):
        x = _quantized(shape)
        made = Result(shape, "int8", wider)
        for kind, options in (("ADD", "Add"), ("SUB", "Sub"), ("MUL", "Mul")):
            yield single(kind, [x, _quantized(shape)], made, options)
            for b in (shape[-1:], shape):
                yield single(kind, [x, Held(draw(Given(b, "bytes", "int8"), 7), _ACTIVE, "int8")], made, options)
        for kind, options, grid in (
            ("RELU", "", _ACTIVE), ("RELU6", "", _ACTIVE), ("TANH", "", Grid((1 / 128,))), ("LOGISTIC", "", Grid((1 / 256,), -128)),
            ("HARD_SWISH", "HardSwish", _ACTIVE), ("ABS", "Abs", _ACTIVE), ("LEAKY_RELU", "LeakyRelu", _ACTIVE),
        ):  # fmt: skip
            more = {"alpha": 0.2} if kind == "LEAKY_RELU" else {}
            yield single(kind, [x], Result(shape, "int8", grid), options, **more)
        yield single("SOFTMAX", [x], Result(shape, "int8", Grid((1 / 256,), -128)), "Softmax", beta=1.0)
        for kind in ("MEAN", "REDUCE_MAX", "SUM"):
            for axis in range(len(shape)):
                if shape[axis] > 1:
                    result = Result(tuple(1 if i == axis else d for i, d in enumerate(shape)), "int8", {"SUM": Grid((0.5,)), "MEAN": wider}.get(kind, _ACTIVE))  # fmt: skip
                    yield single(kind, [x, ints(axis)], result, "Reducer", keepDims=True)
        rank = len(shape)
        yield single("CONCATENATION", [x, x], Result((*shape[:-1], 2 * shape[-1]), "int8", _ACTIVE), "Concatenation", axis=rank - 1)  # fmt: skip
        yield single("RESHAPE", [x, ints(int(np.prod(shape)))], Result((int(np.prod(shape)),), "int8", _ACTIVE), "Reshape")
        order = tuple(reversed(range(rank)))
        yield single("TRANSPOSE", [x, ints(*order)], Result(tuple(shape[i] for i in order), "int8", _ACTIVE), "Transpose")
        if rank > 2:
            widths = ((0, 0),) * (rank - 2) + ((1, 2), (0, 0))
            result = (*shape[:-2], shape[-2] + 3, shape[-1])
            yield single("PAD", [x, Held(np.asarray(widths, np.int32))], Result(result, "int8", _ACTIVE), "Pad")
    for c, out in ((8, 8), (3, 5), (1, 4)):
        for axis in (None, 0):
            for kernel, stride in ((1, 1), (3, 1), (3, 2), (1, 2)):
                weights = _weights((out, kernel, kernel, c), axis)
                size = -(-8 // stride)
                for activation in ("NONE", "RELU6"):
                    result = Result((1, size, size, out), "int8", wider)
                    yield single("CONV_2D", [_quantized((1, 8, 8, c)), weights, _bias(out, weights)], result, "Conv2D", padding="SAME", strideH=stride, strideW=stride, fusedActivationFunction=activation)  # fmt: skip
        deep = _weights((1, 3, 3, c), 3)
        yield single("DEPTHWISE_CONV_2D", [_quantized((1, 8, 8, c)), deep, _bias(c, deep)], Result((1, 6, 6, c), "int8", wider), "DepthwiseConv2D", padding="VALID", strideH=1, strideW=1, depthMultiplier=1)  # fmt: skip
        for axis in (None, 0):
            flat = _weights((out, c), axis)
            for x in ((1, c), (6, c)):
                yield single("FULLY_CONNECTED", [_quantized(x), flat, _bias(out, flat)], Result((x[0], out), "int8", wider), "FullyConnected")  # fmt: skip
    for kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        for c in (8, 3):
            for padding, size in (("SAME", 4), ("VALID", 3)):
                yield single(kind, [_quantized((1, 8, 8, c))], Result((1, size, size, c), "int8", _ACTIVE), "Pool2D", padding=padding, filterHeight=3, filterWidth=3, strideH=2, strideW=2)  # fmt: skip
    for kind, options in (("RESIZE_BILINEAR", "ResizeBilinear"), ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor")):
        yield single(kind, [_quantized((1, 4, 6, 8)), ints(8, 12)], Result((1, 8, 12, 8), "int8", _ACTIVE), options)


def _packed() -> Iterator[Form]:
    """Float activations with weights stored in int8 or float16."""
    for c, out in ((8, 8), (3, 5), (16, 32)):
        for axis in (None, 0):
            for kernel in (1, 3):
                for stride in (1, 2):
                    weights = _weights((out, kernel, kernel, c), axis)
                    size = -(-8 // stride)
                    yield single("CONV_2D", [Given((1, 8, 8, c)), weights, const(out)], (1, size, size, out), "Conv2D", padding="SAME", strideH=stride, strideW=stride)  # fmt: skip
            for x in ((1, c), (6, c), (3, 6, c)):
                yield single("FULLY_CONNECTED", [Given(x), _weights((out, c), axis), const(out)], (*x[:-1], out), "FullyConnected", keepNumDims=len(x) > 2)  # fmt: skip
        yield single("DEPTHWISE_CONV_2D", [Given((1, 8, 8, c)), _weights((1, 3, 3, c), 3), const(c)], (1, 6, 6, c), "DepthwiseConv2D", padding="VALID", strideH=1, strideW=1, depthMultiplier=1)  # fmt: skip
    for kind, x, weights, made, options in (
        ("FULLY_CONNECTED", (6, 8), (12, 8), (6, 12), {}),
        ("CONV_2D", (1, 8, 8, 8), (12, 3, 3, 8), (1, 6, 6, 12), {"padding": "VALID", "strideH": 1, "strideW": 1}),
        ("ADD", (1, 4, 6, 8), (8,), (1, 4, 6, 8), {}),
        ("ADD", (6, 8), (6, 8), (6, 8), {}),
    ):  # fmt: skip
        yield _half(kind, x, weights, made, options)


def _half(kind: str, x: Shape, weights: Shape, made: Shape, options: dict[str, Any]) -> Form:
    tables = {"FULLY_CONNECTED": "FullyConnected", "CONV_2D": "Conv2D", "ADD": "Add"}

    def build(graph: GraphBuilder, feeds: Sequence[int]) -> Sequence[int]:
        unpacked = graph.dequantize(draw(Given(weights), 3))
        operands = [feeds[0], unpacked]
        if kind != "ADD":
            operands.append(held(graph, const(made[-1])))
        return [graph.op(kind, operands, made, table(tables[kind], **options))]

    return Form(kind, f"{list(x)}, float16 {list(weights)} behind DEQUANTIZE -> {list(made)}", (Given(x),), build)
