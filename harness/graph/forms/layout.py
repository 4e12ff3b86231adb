"""Ops that move elements within a tensor: along every axis, with every width, mask and permutation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from harness.graph.forms.form import Form, Given, Held, Result, Shape, ints, single

_SHAPES: tuple[Shape, ...] = ((8,), (6, 8), (1, 8), (3, 6, 8), (1, 6, 8), (1, 4, 6, 8), (2, 4, 5, 7))
Widths = tuple[tuple[int, int], ...]


def forms() -> Iterator[Form]:
    """All of them."""
    yield from _reshaped()
    yield from _padded()
    yield from _sliced()
    yield from _blocks()
    yield from _turned()


def _reshaped() -> Iterator[Form]:
    for old, new in (
        ((24,), (24, 1)), ((24,), (4, 6)), ((24,), (2, 3, 4)), ((24,), (1, 2, 3, 4)), ((4, 6), (24,)),
        ((4, 6), (6, 4)), ((4, 6), (2, 2, 6)),
        ((4, 6), (1, 4, 6)), ((4, 6), (1, 4, 6, 1)), ((4, 6), (1, 1, 4, 6)), ((3, 4, 6), (12, 6)),
        ((3, 4, 6), (3, 24)), ((3, 4, 6), (1, 3, 4, 6)),
        ((3, 4, 6), (3, 6, 4)), ((1, 4, 6, 8), (24, 8)), ((1, 4, 6, 8), (1, 24, 8)), ((2, 4, 6, 8), (8, 48)),
        ((2, 4, 6, 8), (8, 6, 8)),
        ((2, 4, 6, 8), (2, 4, 8, 6)), ((1, 4, 6, 7), (1, 7, 4, 6)), ((1, 4, 6, 8), (192,)), ((2, 3, 5), (5, 6)),
    ):  # fmt: skip
        yield single("RESHAPE", [Given(old), ints(*new)], new, "Reshape", newShape=new, base=len(old) + len(new) > 5)
        if len(new) == 3:
            yield single("RESHAPE", [Given(old), ints(-1, *new[1:])], new, "Reshape", newShape=(-1, *new[1:]))
    for shape in _SHAPES[:5]:
        for axis in range(len(shape) + 1):
            made = (*shape[:axis], 1, *shape[axis:])
            yield single("EXPAND_DIMS", [Given(shape), ints(axis)], made, "ExpandDims")
            yield single("SQUEEZE", [Given(made)], shape, "Squeeze", squeezeDims=(axis,))
    yield single("SQUEEZE", [Given((1, 6, 1, 8))], (6, 8), "Squeeze", squeezeDims=())
    for shape in ((6, 8), (5, 7), (3, 6, 8), (3, 5, 7), (2, 4, 6, 8), (1, 3, 5, 7)):
        for order in permutations(range(len(shape))):
            made = tuple(shape[i] for i in order)
            base = shape in ((3, 5, 7), (2, 4, 6, 8)) and order == tuple(reversed(range(len(shape))))
            yield single("TRANSPOSE", [Given(shape), ints(*order)], made, "Transpose", base=base)


def _padded() -> Iterator[Form]:
    for shape in _SHAPES:
        rank = len(shape)
        sets = [axes for count in (1, 2) for axes in combinations(range(rank), count)]
        sets += [tuple(range(rank))] if rank > 2 else []
        for axes in sets:
            widths = tuple((1 + i % 2, 2) if i in axes else (0, 0) for i in range(rank))
            made = tuple(d + a + b for d, (a, b) in zip(shape, widths, strict=True))
            base = len(axes) == 1 and shape in ((3, 6, 8), (1, 4, 6, 8))
            yield single("PAD", [Given(shape), _widths(widths)], made, "Pad", base=base)
            for value in (-3.0, -np.inf, -1e9):
                if value == -3.0 or base:
                    held = Held(np.asarray(value, np.float32), how=f"{value:g}")
                    yield single(
                        "PADV2",
                        [Given(shape), _widths(widths), held],
                        made,
                        "PadV2",
                        base=base and value == -3.0 and rank == 4,
                    )
            narrow = tuple((min(a, d - 1), min(b, d - 1)) for d, (a, b) in zip(shape, widths, strict=True))
            for mode in ("REFLECT", "SYMMETRIC"):
                told = (
                    narrow
                    if mode == "REFLECT"
                    else tuple((min(a, d), min(b, d)) for d, (a, b) in zip(shape, widths, strict=True))
                )
                if told != ((0, 0),) * rank:
                    grown = tuple(d + a + b for d, (a, b) in zip(shape, told, strict=True))
                    yield single("MIRROR_PAD", [Given(shape), _widths(told)], grown, "MirrorPad", mode=mode)


def _widths(widths: Widths) -> Held:
    return Held(np.asarray(widths, np.int32))


def _sliced() -> Iterator[Form]:
    for shape in ((8,), (6, 8), (3, 6, 8), (2, 4, 5, 8), (1, 4, 5, 7)):
        rank = len(shape)
        for axis in range(rank):
            size = shape[axis]
            if size == 1:
                continue
            begin, most = [0] * rank, list(shape)
            begin[axis], most[axis] = 1, size - 1
            yield single(
                "SLICE", [Given(shape), ints(*begin), ints(*most)], tuple(most), "Slice", base=shape == (3, 6, 8)
            )
            most[axis] = -1
            yield single("SLICE", [Given(shape), ints(*begin), ints(*most)], _with(shape, axis, size - 1), "Slice")
            for first, last, step in (
                (0, size, 2),
                (1, size, 2),
                (1, size, 1),
                (0, size - 1, 1),
                (-2, size, 1),
                (0, -1, 1),
                (size - 1, -size - 1, -1),
            ):
                yield _strided(shape, axis, first, last, step)
            yield _strided(shape, axis, 1, 2, 1, shrinkAxisMask=1 << axis)
            yield _strided(shape, axis, 1, size, 1, beginMask=1 << axis)
            yield _strided(shape, axis, 1, size - 1, 1, endMask=1 << axis)
        whole = [ints(*[0] * rank), ints(*shape), ints(*[1] * rank)]
        if rank < 4:
            yield single("STRIDED_SLICE", [Given(shape), *_new_axis(shape)], (1, *shape), "StridedSlice", newAxisMask=1)
        yield single(
            "STRIDED_SLICE",
            [Given(shape), *whole],
            shape,
            "StridedSlice",
            beginMask=(1 << rank) - 1,
            endMask=(1 << rank) - 1,
        )
    yield single(
        "STRIDED_SLICE",
        [Given((1, 8, 8, 8)), ints(0, 1, 0, 0), ints(1, 8, 8, 8), ints(1, 2, 2, 1)],
        (1, 4, 4, 8),
        "StridedSlice",
        base=True,
    )
    yield single(
        "STRIDED_SLICE",
        [Given((1, 8, 8, 8)), ints(0, 1), ints(1, 7), ints(1, 1)],
        (1, 8, 8, 6),
        "StridedSlice",
        ellipsisMask=1,
    )


def _strided(shape: Shape, axis: int, first: int, last: int, step: int, **masks: Any) -> Form:
    begin, end, steps = [0] * len(shape), list(shape), [1] * len(shape)
    begin[axis], end[axis], steps[axis] = first, last, step
    low = None if masks.get("beginMask") else first
    high = None if masks.get("endMask") or (step < 0 and last < -shape[axis]) else last
    count = len(range(shape[axis])[slice(low, high, step)])
    shrunk = "shrinkAxisMask" in masks
    made = (*shape[:axis], *(() if shrunk else (count,)), *shape[axis + 1 :])
    feeds = [Given(shape), ints(*begin), ints(*end), ints(*steps)]
    return single("STRIDED_SLICE", feeds, Result(made), "StridedSlice", **masks)


def _new_axis(shape: Shape) -> list[Held]:
    rank = len(shape)
    return [ints(*[0] * (rank + 1)), ints(1, *shape), ints(*[1] * (rank + 1))]


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _blocks() -> Iterator[Form]:
    for batch in (1, 2):
        for size, channels in ((2, 8), (2, 3), (3, 4)):
            large, small = (batch, 2 * size, 3 * size, channels), (batch, 2, 3, channels * size * size)
            yield single("SPACE_TO_DEPTH", [Given(large)], small, "SpaceToDepth", blockSize=size, base=size == 3)
            yield single("DEPTH_TO_SPACE", [Given(small)], large, "DepthToSpace", blockSize=size, base=size == 3)
        for pads in (((0, 0), (0, 0)), ((1, 1), (0, 2)), ((0, 2), (2, 0))):
            h, w = 4 + sum(pads[0]), 6 + sum(pads[1])
            feeds = [Given((batch, 4, 6, 8)), ints(2, 2), Held(np.asarray(pads, np.int32))]
            made = (4 * batch, h // 2, w // 2, 8)
            yield single("SPACE_TO_BATCH_ND", feeds, made, "SpaceToBatchND")
            back = [Given(made), ints(2, 2), Held(np.asarray(pads, np.int32))]
            yield single("BATCH_TO_SPACE_ND", back, (batch, 4, 6, 8), "BatchToSpaceND")
    for kind, options in (("RESIZE_BILINEAR", "ResizeBilinear"), ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor")):
        for shape in ((1, 4, 6, 8), (2, 5, 7, 3), (1, 8, 8, 4)):
            for h, w in ((2 * shape[1], 2 * shape[2]), (7, 9), (3, 3), (2, 4), (1, 1), (shape[1], shape[2] + 1)):
                for corners, centres in ((False, False), (True, False), (False, True), (True, True)):
                    if corners and centres and ((h, w) != (7, 9) or kind == "RESIZE_BILINEAR"):
                        continue
                    base = (h, w, shape[3]) == (8, 12, 8) and not corners and not centres
                    made = (shape[0], h, w, shape[3])
                    yield single(
                        kind,
                        [Given(shape), ints(h, w)],
                        made,
                        options,
                        alignCorners=corners,
                        halfPixelCenters=centres,
                        base=base,
                    )


def _turned() -> Iterator[Form]:
    shapes: tuple[Shape, ...] = ((8,), (5,), (6, 8), (6, 5), (3, 6, 8), (3, 6, 5), (1, 4, 6, 8), (2, 4, 6, 5))
    for shape in shapes:
        rank = len(shape)
        for axis in (*range(rank), -1):
            yield single(
                "REVERSE_V2",
                [Given(shape), ints(axis)],
                shape,
                "ReverseV2",
                base=axis == 1 and shape in ((3, 6, 8), (1, 4, 6, 8)),
            )
        for axis in range(rank):
            times = [1] * rank
            times[axis] = 2
            yield single(
                "TILE",
                [Given(shape), ints(*times)],
                _with(shape, axis, 2 * shape[axis]),
                "Tile",
                base=axis == 1 and shape in ((3, 6, 8), (1, 4, 6, 8)),
            )
        if rank > 1:
            yield single("REVERSE_V2", [Given(shape), ints(rank - 2, rank - 1)], shape, "ReverseV2")
            yield single("TILE", [Given(shape), ints(*[2] * rank)], tuple(2 * d for d in shape), "Tile")
            lengths = ints(*_lengths(shape[1], shape[0]))
            yield single("REVERSE_SEQUENCE", [Given(shape), lengths], shape, "ReverseSequence", seqDim=1, batchDim=0)
    for old, new in (
        ((8,), (6, 8)),
        ((1, 8), (6, 8)),
        ((6, 1), (6, 8)),
        ((1, 1, 8), (3, 6, 8)),
        ((6, 8), (3, 6, 8)),
        ((1, 4, 1, 8), (1, 4, 6, 8)),
        ((1, 4, 1, 8), (2, 4, 6, 8)),
    ):
        yield single("BROADCAST_TO", [Given(old), ints(*new)], new, "BroadcastTo", version=2)


def _lengths(most: int, count: int) -> Sequence[int]:
    return [1 + i % most for i in range(1, count + 1)]
