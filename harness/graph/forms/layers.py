"""Convolutions, layers, matrix products and pooling: sizes, strides, dilations, padding, activations, groups, operands
of both roles, and channels in fours and not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.graph.forms.form import Form, Given, Held, Result, Shape, const, ints, single

_ACTIVATIONS = ("RELU", "RELU_N1_TO_1", "RELU6")


def forms() -> Iterator[Form]:
    """All of them."""
    yield from _convolutions()
    yield from _depthwise()
    yield from _transposed()
    yield from _pools()
    yield from _fully_connected()
    yield from _products()


def _extent(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """How many places a window takes along an axis."""
    if padding == "SAME":
        return -(-size // stride)
    return (size - (kernel - 1) * dilation - 1) // stride + 1


def _no_bias(count: int) -> Held:
    """These ops have to be given one."""
    return Held(np.zeros(count, np.float32), how="zeros")


def _conv(
    x: Shape, out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: int = 1,
    padding: str = "VALID",
    *, groups: int = 1, activation: str = "NONE", bias: bool = True, runtime: bool = False, base: bool = False,
) -> Form:  # fmt: skip
    n, h, w, c = x
    made = (n, *(_extent(d, k, s, dilation, padding) for d, k, s in zip((h, w), kernel, stride, strict=True)), out)
    weights = (out, *kernel, c // groups)
    feeds = [Given(x), Given(weights) if runtime else const(*weights), const(out) if bias else _no_bias(out)]
    return single(
        "CONV_2D", feeds, made, "Conv2D", base=base, padding=padding, strideH=stride[0], strideW=stride[1],
        dilationHFactor=dilation, dilationWFactor=dilation, fusedActivationFunction=activation,
    )  # fmt: skip


def _convolutions() -> Iterator[Form]:
    for c in (1, 3, 4, 8):
        for out in (1, 3, 4, 12):
            yield _conv((1, 7, 8, c), out, (3, 3), base=(c, out) in ((8, 12), (3, 4)))
            yield _conv((1, 7, 8, c), out, (1, 1), padding="SAME")
    for kernel in ((1, 1), (2, 2), (3, 3), (5, 5), (1, 3), (3, 1), (4, 2)):
        for stride in ((1, 1), (2, 2), (1, 2)):
            for padding in ("SAME", "VALID"):
                yield _conv((1, 9, 10, 8), 8, kernel, stride, padding=padding)
    for dilation in (2, 3):
        for padding in ("SAME", "VALID"):
            yield _conv((1, 9, 10, 8), 8, (3, 3), dilation=dilation, padding=padding)
    for activation in _ACTIVATIONS:
        yield _conv((1, 7, 8, 8), 8, (3, 3), activation=activation)
    for batch in (2, 3):
        yield _conv((batch, 7, 8, 8), 8, (3, 3))
        yield _conv((batch, 7, 8, 5), 6, (1, 1))
    for c, out, groups in (
        (8, 8, 2),
        (4, 4, 2),
        (6, 6, 2),
        (6, 8, 2),
        (8, 6, 2),
        (8, 8, 8),
        (8, 16, 8),
        (12, 12, 3),
        (16, 16, 4),
    ):
        for kernel in ((3, 3), (1, 1)):
            yield _conv((1, 7, 8, c), out, kernel, groups=groups)
    for c, out in ((8, 8), (3, 5)):
        for stride in ((1, 1), (2, 2)):
            yield _conv((1, 7, 8, c), out, (3, 3), stride, runtime=True, bias=False)
            yield _conv((1, 7, 8, c), out, (3, 3), stride, bias=False)
    yield _conv((1, 1, 1, 8), 12, (1, 1))
    yield _conv((1, 1, 16, 8), 12, (1, 3), padding="SAME")
    yield _conv((1, 16, 1, 8), 12, (3, 1), padding="SAME")


def _depthwise() -> Iterator[Form]:
    def one(
        x: Shape, kernel: tuple[int, int], multiplier: int, stride: int = 1, dilation: int = 1,
        padding: str = "VALID", activation: str = "NONE",
        *, runtime: bool = False, bias: bool = True, base: bool = False,
    ) -> Form:  # fmt: skip
        n, h, w, c = x
        out = c * multiplier
        made = (n, *(_extent(d, k, stride, dilation, padding) for d, k in zip((h, w), kernel, strict=True)), out)
        weights = (1, *kernel, out)
        feeds = [Given(x), Given(weights) if runtime else const(*weights), const(out) if bias else _no_bias(out)]
        return single(
            "DEPTHWISE_CONV_2D", feeds, made, "DepthwiseConv2D", base=base, padding=padding, strideH=stride,
            strideW=stride,
            dilationHFactor=dilation, dilationWFactor=dilation, depthMultiplier=multiplier,
            fusedActivationFunction=activation,
        )  # fmt: skip

    for c in (1, 3, 4, 8):
        for multiplier in (1, 2, 3):
            for kernel in ((3, 3), (1, 1), (2, 3)):
                yield one((1, 7, 8, c), kernel, multiplier, base=(c, multiplier, kernel) == (8, 1, (3, 3)))
    for kernel in ((3, 3), (5, 5), (4, 4)):
        for stride in (1, 2, 3):
            for padding in ("SAME", "VALID"):
                yield one((1, 9, 10, 8), kernel, 1, stride, padding=padding)
    for dilation in (2, 3):
        for padding in ("SAME", "VALID"):
            yield one((1, 9, 10, 8), (3, 3), 1, dilation=dilation, padding=padding)
    for activation in _ACTIVATIONS:
        yield one((1, 7, 8, 8), (3, 3), 1, activation=activation)
    yield one((2, 7, 8, 8), (3, 3), 1)
    yield one((2, 7, 8, 3), (3, 3), 2)
    yield one((1, 7, 8, 8), (3, 3), 1, runtime=True, bias=False)
    yield one((1, 7, 8, 8), (3, 3), 1, bias=False)


def _transposed() -> Iterator[Form]:
    def one(
        x: Shape, out: int, kernel: int, stride: int, padding: str, activation: str = "NONE", *, bias: bool = True,
        grown: int = 0, base: bool = False
    ) -> Form:  # fmt: skip
        n, h, w, c = x
        size = [d * stride if padding == "SAME" else (d - 1) * stride + kernel for d in (h, w)]
        made = (n, *(d - grown for d in size), out)
        feeds = [ints(*made), const(out, kernel, kernel, c), Given(x)]
        if bias:
            feeds.append(const(out))
        more = {} if activation == "NONE" else {"fusedActivationFunction": activation}
        return single(
            "TRANSPOSE_CONV",
            feeds,
            made,
            "TransposeConv",
            version=3,
            base=base,
            padding=padding,
            strideH=stride,
            strideW=stride,
            **more,
        )

    for h, w in ((6, 6), (7, 9), (6, 7)):
        for kernel in (2, 3, 4, 5):
            for stride in (1, 2, 3):
                for padding in ("SAME", "VALID"):
                    yield one(
                        (1, h, w, 4), 8, kernel, stride, padding, base=(h, kernel, stride, padding) == (6, 2, 2, "SAME")
                    )
    for c, out in ((1, 1), (3, 5), (8, 3)):
        yield one((1, 6, 6, c), out, 4, 2, "SAME")
    for activation in _ACTIVATIONS:
        yield one((1, 6, 6, 4), 8, 4, 2, "SAME", activation)
    for kernel in (3, 4):
        yield one((1, 6, 6, 4), 8, kernel, 2, "SAME", grown=1)
        yield one((2, 6, 6, 4), 8, kernel, 2, "SAME")
        yield one((1, 6, 6, 4), 8, kernel, 2, "SAME", bias=False)


def _pools() -> Iterator[Form]:
    def one(
        kind: str, given: Given, made: Shape, size: Shape, stride: Shape, padding: str = "VALID", **more: Any
    ) -> Form:
        """`size` and `stride` are of height and width."""
        window: dict[str, Any] = {
            "filterHeight": size[0],
            "filterWidth": size[1],
            "strideH": stride[0],
            "strideW": stride[1],
        }
        return single(kind, [given], made, "Pool2D", padding=padding, **window, **more)

    for kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D"):
        for x in ((1, 8, 9, 8), (2, 7, 7, 3)):
            n, h, w, c = x
            for size in (2, 3, 5):
                for stride in (1, 2):
                    for padding in ("SAME", "VALID"):
                        made = (n, *(_extent(d, size, stride, 1, padding) for d in (h, w)), c)
                        base = (c, size, stride, padding) == (8, 2, 2, "VALID")
                        yield one(kind, Given(x), made, (size, size), (stride, stride), padding, base=base)
            yield one(kind, Given(x), (n, 1, 1, c), (h, w), (h, w))
            yield one(kind, Given(x), (n, h, (w - 3) // 2 + 1, c), (1, 3), (1, 2))
        for values in ("low", "thousands", "negative"):
            if values != "low" or kind != "L2_POOL_2D":
                yield one(kind, Given((1, 8, 8, 8), values), (1, 4, 4, 8), (2, 2), (2, 2))
        if kind != "L2_POOL_2D":
            for activation in _ACTIVATIONS:
                halved = (1, 4, 4, 8), (2, 2), (2, 2)
                yield one(kind, Given((1, 8, 8, 8)), *halved, fusedActivationFunction=activation)


def _fully_connected() -> Iterator[Form]:
    for x in ((1, 8), (6, 8), (5, 7), (3, 6, 8), (1, 6, 8), (1, 4, 6, 8), (2, 3, 5, 7), (1, 6, 1), (6, 1)):
        for out in (1, 3, 8, 12):
            for bias in (True, False):
                feeds = [Given(x), const(out, x[-1]), const(out) if bias else None]
                base = out == 12 and bias and x in ((6, 8), (3, 6, 8))
                if len(x) > 2:
                    yield single(
                        "FULLY_CONNECTED", feeds, (*x[:-1], out), "FullyConnected", keepNumDims=True, base=base
                    )
                if bias or len(x) == 2:
                    rows = int(np.prod(x[:-1]))
                    yield single("FULLY_CONNECTED", feeds, (rows, out), "FullyConnected", keepNumDims=False, base=base)
    for x, width in (((4, 6, 8), 48), ((1, 4, 4, 8), 128), ((6, 8), 16), ((2, 3, 8), 24)):
        rows = int(np.prod(x)) // width
        yield single(
            "FULLY_CONNECTED", [Given(x), const(5, width), const(5)], (rows, 5), "FullyConnected", keepNumDims=False
        )
    for x in ((6, 8), (1, 8), (3, 6, 8), (1, 4, 6, 8)):
        for bias in (True, False):
            feeds = [Given(x), Given((12, x[-1])), const(12) if bias else None]
            yield single(
                "FULLY_CONNECTED",
                feeds,
                (*x[:-1], 12),
                "FullyConnected",
                keepNumDims=len(x) > 2,
                base=x == (6, 8) and bias,
            )
    for activation in _ACTIVATIONS:
        yield single(
            "FULLY_CONNECTED",
            [Given((6, 8)), const(12, 8), const(12)],
            (6, 12),
            "FullyConnected",
            fusedActivationFunction=activation,
        )
    yield single("FULLY_CONNECTED", [Given((2, 4096)), const(8, 4096), const(8)], (2, 8), "FullyConnected")


def _products() -> Iterator[Form]:
    for left, right in (
        ((6, 8), (8, 5)), ((1, 8), (8, 12)), ((3, 6, 8), (3, 8, 5)), ((1, 6, 8), (1, 8, 12)),
        ((2, 4, 6, 8), (2, 4, 8, 5)),
        ((1, 4, 6, 8), (1, 4, 8, 12)), ((1, 4, 5, 7), (1, 4, 7, 3)),
        ((3, 6, 8), (8, 5)), ((3, 6, 8), (1, 8, 5)), ((3, 6, 8), (1, 8, 24)), ((1, 6, 8), (3, 8, 5)),
        ((6, 8), (3, 8, 5)), ((2, 4, 6, 8), (4, 8, 5)),
        ((2, 4, 6, 8), (1, 4, 8, 5)), ((2, 4, 6, 8), (2, 1, 8, 5)), ((2, 4, 6, 8), (8, 5)),
        ((1, 4, 6, 8), (2, 1, 8, 5)), ((2, 1, 6, 8), (1, 4, 8, 12)),
        ((8, 64, 64), (8, 64, 16)), ((1, 16, 512), (1, 512, 16)),
    ):  # fmt: skip
        batch = tuple(np.broadcast_shapes(left[:-2], right[:-2]))
        made = (*batch, left[-2], right[-1])
        for adj_x in (False, True):
            for adj_y in (False, True):
                a = (*left[:-2], left[-1], left[-2]) if adj_x else left
                b = (*right[:-2], right[-1], right[-2]) if adj_y else right
                base = not adj_x and (len(left), len(right)) in ((3, 3), (4, 4)) and left[-1] <= 8
                if left[-1] > 8 and adj_x:
                    continue
                yield _product(Given(a), Given(b), made, adj_x, adj_y, base=base and not adj_y)
                if left[-1] <= 8:
                    yield _product(Given(a), const(*b), made, adj_x, adj_y, base=base and b[0] == 1)
                    if len(a) == len(b) and not adj_y and not adj_x:
                        yield _product(const(*a), Given(b), made, adj_x, adj_y)


def _product(a: Given | Held, b: Given | Held, made: Shape, adj_x: bool, adj_y: bool, *, base: bool = False) -> Form:
    return single("BATCH_MATMUL", [a, b], Result(made), "BatchMatMul", base=base, adjX=adj_x, adjY=adj_y)
