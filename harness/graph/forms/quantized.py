"""Quantized values: ops of int8 on their grids, conversions to and from them, and weights stored in int8 or float16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.forms.form import Form, Given, Grid, Held, Result, Shape, const, draw, held, ints, single, table

_SHAPES: tuple[Shape, ...] = ((8,), (6, 8), (3, 6, 8), (1, 4, 6, 8), (1, 4, 6, 3))


def forms() -> Iterator[Form]:
    """All of them."""
    yield from _on_grids()
    yield from _packed()


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
    for shape in _SHAPES:
        yield single("QUANTIZE", [Given(shape)], Result(shape, "int8", _ACTIVE), "Quantize")
        yield single("DEQUANTIZE", [_quantized(shape)], shape, "Dequantize", version=2)
        yield single("QUANTIZE", [_quantized(shape)], Result(shape, "int8", Grid((0.03,), 5)), "Quantize")
    wider = Grid((1 / 12,), -7)
    for shape in _SHAPES[1:]:
        x = _quantized(shape)
        made = Result(shape, "int8", wider)
        for kind, options in (("ADD", "Add"), ("SUB", "Sub"), ("MUL", "Mul")):
            yield single(kind, [x, _quantized(shape)], made, options)
            for b in (shape[-1:], shape):
                yield single(kind, [x, Held(draw(Given(b, "bytes", "int8"), 7), _ACTIVE, "int8")], made, options)
        for kind, options, grid in (
            ("RELU", "", _ACTIVE), ("RELU6", "", _ACTIVE), ("TANH", "", Grid((1 / 128,))),
            ("LOGISTIC", "", Grid((1 / 256,), -128)),
            ("HARD_SWISH", "HardSwish", _ACTIVE), ("ABS", "Abs", _ACTIVE), ("LEAKY_RELU", "LeakyRelu", _ACTIVE),
        ):  # fmt: skip
            more: dict[str, Any] = {"alpha": 0.2} if kind == "LEAKY_RELU" else {}
            yield single(kind, [x], Result(shape, "int8", grid), options, **more)
        yield single("SOFTMAX", [x], Result(shape, "int8", Grid((1 / 256,), -128)), "Softmax", beta=1.0)
        for kind in ("MEAN", "REDUCE_MAX", "SUM"):
            for axis in range(len(shape)):
                if shape[axis] > 1:
                    grid = {"SUM": Grid((0.5,)), "MEAN": wider}.get(kind, _ACTIVE)
                    over = Result(tuple(1 if i == axis else d for i, d in enumerate(shape)), "int8", grid)
                    yield single(kind, [x, ints(axis)], over, "Reducer", keepDims=True)
        rank = len(shape)
        yield single(
            "CONCATENATION",
            [x, x],
            Result((*shape[:-1], 2 * shape[-1]), "int8", _ACTIVE),
            "Concatenation",
            axis=rank - 1,
        )
        yield single(
            "RESHAPE", [x, ints(int(np.prod(shape)))], Result((int(np.prod(shape)),), "int8", _ACTIVE), "Reshape"
        )
        order = tuple(reversed(range(rank)))
        yield single(
            "TRANSPOSE", [x, ints(*order)], Result(tuple(shape[i] for i in order), "int8", _ACTIVE), "Transpose"
        )
        if rank > 2:
            widths = Held(np.asarray(((0, 0),) * (rank - 2) + ((1, 2), (0, 0)), np.int32))
            grown = Result((*shape[:-2], shape[-2] + 3, shape[-1]), "int8", _ACTIVE)
            yield single("PAD", [x, widths], grown, "Pad")
    for c, out in ((8, 8), (3, 5), (1, 4)):
        for by in (None, 0):
            for kernel, stride in ((1, 1), (3, 1), (3, 2), (1, 2)):
                weights = _weights((out, kernel, kernel, c), by)
                size = -(-8 // stride)
                for activation in ("NONE", "RELU6"):
                    result = Result((1, size, size, out), "int8", wider)
                    yield single(
                        "CONV_2D",
                        [_quantized((1, 8, 8, c)), weights, _bias(out, weights)],
                        result,
                        "Conv2D",
                        padding="SAME",
                        strideH=stride,
                        strideW=stride,
                        fusedActivationFunction=activation,
                    )
        deep = _weights((1, 3, 3, c), 3)
        yield single(
            "DEPTHWISE_CONV_2D",
            [_quantized((1, 8, 8, c)), deep, _bias(c, deep)],
            Result((1, 6, 6, c), "int8", wider),
            "DepthwiseConv2D",
            padding="VALID",
            strideH=1,
            strideW=1,
            depthMultiplier=1,
        )
        for by in (None, 0):
            flat = _weights((out, c), by)
            for rows in (1, 6):
                yield single(
                    "FULLY_CONNECTED",
                    [_quantized((rows, c)), flat, _bias(out, flat)],
                    Result((rows, out), "int8", wider),
                    "FullyConnected",
                )
    for kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        for c in (8, 3):
            for padding, size in (("SAME", 4), ("VALID", 3)):
                yield single(
                    kind,
                    [_quantized((1, 8, 8, c))],
                    Result((1, size, size, c), "int8", _ACTIVE),
                    "Pool2D",
                    padding=padding,
                    filterHeight=3,
                    filterWidth=3,
                    strideH=2,
                    strideW=2,
                )
    for kind, options in (("RESIZE_BILINEAR", "ResizeBilinear"), ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor")):
        yield single(kind, [_quantized((1, 4, 6, 8)), ints(8, 12)], Result((1, 8, 12, 8), "int8", _ACTIVE), options)


def _packed() -> Iterator[Form]:
    """Float activations with weights stored in int8 or float16."""
    for c, out in ((8, 8), (3, 5), (16, 32)):
        for by in (None, 0):
            for kernel in (1, 3):
                for stride in (1, 2):
                    weights = _weights((out, kernel, kernel, c), by)
                    size = -(-8 // stride)
                    yield single(
                        "CONV_2D",
                        [Given((1, 8, 8, c)), weights, const(out)],
                        (1, size, size, out),
                        "Conv2D",
                        padding="SAME",
                        strideH=stride,
                        strideW=stride,
                    )
            rows: tuple[Shape, ...] = ((1, c), (6, c), (3, 6, c))
            for x in rows:
                yield single(
                    "FULLY_CONNECTED",
                    [Given(x), _weights((out, c), by), const(out)],
                    (*x[:-1], out),
                    "FullyConnected",
                    keepNumDims=len(x) > 2,
                )
        yield single(
            "DEPTHWISE_CONV_2D",
            [Given((1, 8, 8, c)), _weights((1, 3, 3, c), 3), const(c)],
            (1, 6, 6, c),
            "DepthwiseConv2D",
            padding="VALID",
            strideH=1,
            strideW=1,
            depthMultiplier=1,
        )
    packed: tuple[tuple[str, Shape, Shape, Shape, dict[str, Any]], ...] = (
        ("FULLY_CONNECTED", (6, 8), (12, 8), (6, 12), {}),
        ("CONV_2D", (1, 8, 8, 8), (12, 3, 3, 8), (1, 6, 6, 12), {"padding": "VALID", "strideH": 1, "strideW": 1}),
        ("ADD", (1, 4, 6, 8), (8,), (1, 4, 6, 8), {}),
        ("ADD", (6, 8), (6, 8), (6, 8), {}),
    )
    for kind, taken, held_as, made, options in packed:
        yield _half(kind, taken, held_as, made, options)


def _half(kind: str, x: Shape, weights: Shape, made: Shape, options: dict[str, Any]) -> Form:
    tables = {"FULLY_CONNECTED": "FullyConnected", "CONV_2D": "Conv2D", "ADD": "Add"}

    def build(graph: GraphBuilder, feeds: Sequence[int]) -> Sequence[int]:
        unpacked = graph.dequantize(draw(Given(weights), 3))
        operands = [feeds[0], unpacked]
        if kind != "ADD":
            operands.append(held(graph, const(made[-1])))
        return [graph.op(kind, operands, made, table(tables[kind], **options))]

    return Form(kind, f"{list(x)}, float16 {list(weights)} behind DEQUANTIZE -> {list(made)}", (Given(x),), build)
