"""Reductions, scans and normalizations: over every axis and every set of axes, with every flag."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from harness.graph.forms.form import Form, Given, Held, Result, Shape, draw, ints, number, single

_SHAPES: tuple[Shape, ...] = ((8,), (6, 8), (3, 6, 8), (2, 4, 5, 8), (1, 4, 5, 7))
# Kind: how its operand is drawn, and its type.
_KINDS = {
    "SUM": ("normal", "float32"),
    "MEAN": ("normal", "float32"),
    "REDUCE_MAX": ("normal", "float32"),
    "REDUCE_MIN": ("normal", "float32"),
    "REDUCE_PROD": ("near one", "float32"),
    "REDUCE_ANY": ("rare flags", "bool"),
    "REDUCE_ALL": ("many flags", "bool"),
}


def forms() -> Iterator[Form]:
    """All of them."""
    for kind in _KINDS:
        yield from _reduced(kind)
    yield from _scanned()
    yield from _places()
    yield from _normalized()


def _reduced(kind: str) -> Iterator[Form]:
    values, dtype = _KINDS[kind]
    for shape in _SHAPES:
        rank = len(shape)
        for count in range(1, rank + 1):
            for axes in combinations(range(rank), count):
                if dtype == "bool" and not _tells(kind, Given(shape, values, dtype), axes):
                    continue
                for keep in (True, False) if kind in ("SUM", "MEAN", "REDUCE_MAX") or count < 3 else (False,):
                    result = _without(shape, axes, keep)
                    base = (
                        count == 1
                        and keep
                        and kind in ("SUM", "MEAN", "REDUCE_MAX")
                        and shape in ((3, 6, 8), (2, 4, 5, 8))
                    )
                    operands = [Given(shape, values, dtype), ints(*axes)]
                    yield single(kind, operands, Result(result, dtype), "Reducer", keepDims=keep, base=base)
        if dtype != "bool":
            for axis in range(-rank, 0):
                result = _without(shape, (axis % rank,), True)
                yield single(kind, [Given(shape, values), ints(axis)], result, "Reducer", keepDims=True)
            yield single(
                kind,
                [Given(shape, values), _scalar(rank - 1)],
                _without(shape, (rank - 1,), False),
                "Reducer",
                keepDims=False,
            )
    if kind in ("SUM", "MEAN", "REDUCE_MAX"):
        for axes in ((1, 2), (1,), (2,), (1, 2, 3), (3,)):
            result = _without((1, 160, 160, 4), axes, True)
            yield single(kind, [Given((1, 160, 160, 4)), ints(*axes)], result, "Reducer", keepDims=True)
        yield single(kind, [Given((1, 4, 4096)), ints(2)], (1, 4, 1), "Reducer", keepDims=True)


def _scalar(axis: int) -> Held:
    """An axis that is no list of one."""
    return Held(np.asarray(axis, np.int32), how=f"{axis}, a scalar")


def _tells(kind: str, given: Given, axes: tuple[int, ...]) -> bool:
    """Whether a reduction of flags is not the same throughout, as it nearly always is over many."""
    found = (np.any if kind == "REDUCE_ANY" else np.all)(draw(given), axis=axes)
    return bool(np.size(found) > 1 and found.any() and not found.all())


def _without(shape: Shape, axes: tuple[int, ...], keep: bool) -> Shape:
    return tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)


def _scanned() -> Iterator[Form]:
    for shape in (*_SHAPES, (1, 6, 8), (1, 8)):
        rank = len(shape)
        for axis in (*range(rank), *range(-rank, 0)):
            for exclusive, reverse in ((False, False), (True, False), (False, True), (True, True)):
                if (axis < 0 and (exclusive or reverse)) or (exclusive and shape[axis] == 1):
                    continue
                base = not (exclusive or reverse) and axis == rank - 1 and rank > 2
                yield single(
                    "CUMSUM",
                    [Given(shape), number(axis)],
                    shape,
                    "Cumsum",
                    exclusive=exclusive,
                    reverse=reverse,
                    base=base,
                )


def _places() -> Iterator[Form]:
    for kind, options in (("ARG_MAX", "ArgMax"), ("ARG_MIN", "ArgMin")):
        for shape in _SHAPES:
            for axis in (*range(len(shape)), -1):
                result = Result(_without(shape, (axis % len(shape),), False), "int32")
                if result.shape and shape[axis] > 1:
                    yield single(kind, [Given(shape), number(axis)], result, options, outputType="INT32")
    for shape in ((8,), (41,), (1, 8), (1, 41), (3, 8), (3, 41), (2, 3, 8), (1, 3, 7), (1, 2, 3, 8), (1, 2, 3, 6)):
        for k in (1, 2, 5):
            results = [Result((*shape[:-1], k)), Result((*shape[:-1], k), "int32")]
            yield single("TOPK_V2", [Given(shape), number(k)], results, "TopKV2")


def _normalized() -> Iterator[Form]:
    for shape in ((8,), (7,), (1, 8), (6, 8), (3, 6, 8), (3, 5, 7), (1, 4, 6, 8), (2, 4, 5, 7), (1, 4, 6, 3)):
        for values in ("normal", "wide"):
            for beta in (1.0, 0.5):
                base = values == "normal" and beta == 1.0 and len(shape) > 2
                yield single("SOFTMAX", [Given(shape, values)], shape, "Softmax", beta=beta, base=base)
            yield single("LOG_SOFTMAX", [Given(shape, values)], shape, "LogSoftmax", base=shape == (3, 6, 8))
        yield single("L2_NORMALIZATION", [Given(shape)], shape, "L2Norm", base=shape == (3, 6, 8))
        if len(shape) == 4:
            for radius in (1, 2):
                yield single(
                    "LOCAL_RESPONSE_NORMALIZATION",
                    [Given(shape)],
                    shape,
                    "LocalResponseNormalization",
                    radius=radius,
                    bias=1.0,
                    alpha=0.5,
                    beta=0.75,
                )
    for shape in ((6, 8), (1, 4, 6, 8)):
        yield single("L2_NORMALIZATION", [Given(shape, "hundreds")], shape, "L2Norm")
