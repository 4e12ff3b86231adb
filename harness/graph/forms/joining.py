"""Ops that join, part and pick: along every axis, with constants among their operands, with tables of places of both
roles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.graph.forms.form import Form, Given, Held, Result, Shape, const, ints, number, single

_SHAPES: tuple[Shape, ...] = ((8,), (6, 8), (6, 7), (3, 6, 8), (1, 6, 8), (2, 4, 6, 8), (1, 4, 6, 3))


def forms() -> Iterator[Form]:
    """All of them."""
    yield from _joined()
    yield from _parted()
    yield from _picked()
    yield from _put()


def _joined() -> Iterator[Form]:
    for shape in _SHAPES:
        for axis in range(len(shape)):
            other = _with(shape, axis, 5)
            whole = _with(shape, axis, shape[axis] + 5)
            x, y = Given(shape), Given(other)
            yield single(
                "CONCATENATION", [x, y], whole, "Concatenation", axis=axis, base=shape in ((3, 6, 8), (2, 4, 6, 8))
            )
            yield single("CONCATENATION", [x, const(*other)], whole, "Concatenation", axis=axis)
            yield single("CONCATENATION", [const(*other), x], whole, "Concatenation", axis=axis)
            zeros = Held(np.zeros(other, np.float32), how="zeros")
            yield single("CONCATENATION", [x, zeros], whole, "Concatenation", axis=axis)
            yield single("CONCATENATION", [zeros, x], whole, "Concatenation", axis=axis)
            three = _with(shape, axis, 2 * shape[axis] + 5)
            yield single("CONCATENATION", [x, y, Given(shape)], three, "Concatenation", axis=axis)
            yield single("CONCATENATION", [x, y], whole, "Concatenation", axis=axis - len(shape))
    for shape in ((8,), (6, 8), (5, 7), (3, 6, 8)):
        for axis in (*range(len(shape) + 1), -1):
            at = axis % (len(shape) + 1)
            made = (*shape[:at], 2, *shape[at:])
            for pair in ([Given(shape), Given(shape)], [Given(shape), const(*shape)], [const(*shape), Given(shape)]):
                yield single("PACK", pair, made, "Pack", valuesCount=2, axis=axis, base=axis == 0 and len(shape) == 2)
    for shape in ((6, 8), (3, 6, 8)):
        yield single("ADD_N", [Given(shape), Given(shape), Given(shape)], shape, "AddN")


def _parted() -> Iterator[Form]:
    for shape in ((8,), (6, 8), (4, 6), (4, 6, 8), (2, 4, 6, 8), (2, 4, 6, 6)):
        rank = len(shape)
        for axis in (*range(rank), -1):
            size = shape[axis]
            for count in (2, size):
                if size % count == 0 and size > 1:
                    part = Result(_with(shape, axis % rank, size // count))
                    yield single("SPLIT", [number(axis), Given(shape)], [part] * count, "Split", numSplits=count)
            if size > 3:
                sizes = (1, 2, size - 3)
                parts = [Result(_with(shape, axis % rank, n)) for n in sizes]
                yield single("SPLIT_V", [Given(shape), ints(*sizes), number(axis)], parts, "SplitV", numSplits=3)
            if rank > 1 and size <= 6:
                left = Result(tuple(d for i, d in enumerate(shape) if i != axis % rank))
                yield single("UNPACK", [Given(shape)], [left] * size, "Unpack", num=size, axis=axis)


def _picked() -> Iterator[Form]:
    places = (2, 0, 1, 2)
    shapes: tuple[Shape, ...] = ((8,), (6, 8), (3, 6, 8), (3, 5, 7), (2, 4, 6, 8), (1, 4, 6, 3))
    for shape in shapes:
        rank = len(shape)
        for axis in (*range(rank), -1):
            size = shape[axis]
            if size < 3:
                continue
            made = _with(shape, axis % rank, 4)
            at = Given((4,), f"places below {size}", "int32")
            yield single(
                "GATHER",
                [Given(shape), ints(*places)],
                made,
                "Gather",
                axis=axis,
                base=axis >= 0 and shape == (3, 6, 8),
            )
            yield single("GATHER", [Given(shape), at], made, "Gather", axis=axis)
            yield single("GATHER", [const(*shape), at], made, "Gather", axis=axis)
            one = (*shape[: axis % rank], *shape[axis % rank + 1 :])
            if one:
                yield single("GATHER", [Given(shape), number(1)], one, "Gather", axis=axis)
            if rank < 4:
                grid = Held(np.asarray([[2, 0], [1, 2]], np.int32))
                square = (*shape[: axis % rank], 2, 2, *shape[axis % rank + 1 :])
                yield single("GATHER", [Given(shape), grid], square, "Gather", axis=axis)
        if rank > 1 and shape[1] >= 3:
            rows = Held(np.resize(np.asarray([2, 0, 1], np.int32), (shape[0], 4)))
            yield single("GATHER", [Given(shape), rows], (shape[0], 4, *shape[2:]), "Gather", axis=1, batchDims=1)
    for shape, spots in (
        ((6, 8), ((1,), (4,))),
        ((6, 8), ((1, 2), (4, 0))),
        ((3, 6, 8), ((1, 2), (2, 5))),
        ((1, 4, 6, 8), ((0, 1, 2), (0, 3, 5))),
    ):
        made = (2, *shape[len(spots[0]) :])
        yield single("GATHER_ND", [Given(shape), Held(np.asarray(spots, np.int32))], made, "GatherNd")
    for width in (8, 7):
        at = Given((4,), "places below 6", "int32")
        yield single("EMBEDDING_LOOKUP", [at, const(6, width)], (4, width))
        yield single("EMBEDDING_LOOKUP", [ints(*places), Given((6, width))], (4, width))
    for shape in ((4,), (1, 4), (3, 4), (1, 2, 3)):
        at = Given(shape, "places below 5", "int32")
        for axis in (-1, 0):
            made = (*shape, 5) if axis == -1 else (5, *shape)
            on, off = (Held(np.asarray(v, np.float32), how=f"{v:g}") for v in (2.0, -1.0))
            yield single("ONE_HOT", [at, number(5), on, off], made, "OneHot", axis=axis)
    # Values that come at run time, and an axis that is as long as the places' last one.
    at, scalar = Given((3,), "places below 5", "int32"), Given((), "nonzero")
    yield single(
        "ONE_HOT", [at, number(5), scalar, Held(np.asarray(0, np.float32), how="0")], (3, 5), "OneHot", axis=-1
    )
    yield single(
        "ONE_HOT", [at, number(5), Held(np.asarray(2, np.float32), how="2"), scalar], (3, 5), "OneHot", axis=-1
    )


def _put() -> Iterator[Form]:
    for shape, part, start in (
        ((8,), (3,), (2,)), ((6, 8), (2, 3), (1, 2)), ((6, 8), (6, 3), (0, 2)), ((6, 8), (2, 8), (1, 0)),
        ((1, 8), (1, 3), (0, 2)),
        ((3, 6, 8), (2, 3, 4), (1, 2, 3)), ((3, 6, 8), (1, 6, 8), (1, 0, 0)), ((3, 6, 8), (3, 2, 8), (0, 1, 0)),
        ((1, 6, 8), (1, 2, 8), (0, 3, 0)),
        ((1, 4, 6, 8), (1, 2, 3, 4), (0, 1, 2, 3)), ((2, 4, 6, 8), (1, 4, 6, 8), (1, 0, 0, 0)),
        ((1, 4, 6, 7), (1, 2, 6, 7), (0, 1, 0, 0)),
    ):  # fmt: skip
        at = Given((len(shape),), "start " + ",".join(map(str, start)), "int32")
        for first in (Given(shape), const(*shape)):
            for second in (Given(part), const(*part)):
                if isinstance(first, Given) or isinstance(second, Given):
                    feeds = [first, second, at]
                    yield single("DYNAMIC_UPDATE_SLICE", feeds, shape, "DynamicUpdateSlice")
        yield single("DYNAMIC_UPDATE_SLICE", [Given(shape), Given(part), ints(*start)], shape, "DynamicUpdateSlice")
    rows = Held(np.asarray([[1], [4], [2]], np.int32))
    for width in ((), (8,)):
        yield single("SCATTER_ND", [rows, Given((3, *width)), ints(6, *width)], (6, *width), "ScatterNd")
    for kind in ("SEGMENT_SUM",):
        yield single(kind, [Given((6, 8)), ints(0, 0, 1, 2, 2, 2)], (3, 8), "SegmentSum")
    for kind, options in (
        ("UNSORTED_SEGMENT_SUM", "UnsortedSegmentSum"),
        ("UNSORTED_SEGMENT_MAX", "UnsortedSegmentMax"),
        ("UNSORTED_SEGMENT_MIN", "UnsortedSegmentMin"),
        ("UNSORTED_SEGMENT_PROD", "UnsortedSegmentProd"),
    ):
        yield single(kind, [Given((6, 8)), ints(0, 2, 1, 2, 0, 1), number(3)], (3, 8), options)
    yield single("MATRIX_DIAG", [Given((3, 6))], (3, 6, 6), "MatrixDiag")
    yield single("MATRIX_SET_DIAG", [Given((3, 6, 6)), Given((3, 6))], (3, 6, 6), "MatrixSetDiag")
    yield single(
        "SPARSE_TO_DENSE",
        [ints(1, 4, 5), ints(8), Given((3,)), Held(np.asarray(-1.0, np.float32), how="-1")],
        (8,),
        "SparseToDense",
        validateIndices=False,
    )


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])
