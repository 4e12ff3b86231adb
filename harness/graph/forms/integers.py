"""Whole numbers: int32 arithmetic with operands of both roles on either side, movers of int32, and conversions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from harness.graph.forms.form import (
    Form,
    Given,
    Held,
    Result,
    Shape,
    const,
    ints,
    number,
    single,
)

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
_AT_RUN_TIME: tuple[tuple[Shape, Shape], ...] = (
    ((8,), (8,)), ((6, 8), (6, 8)), ((3, 6, 8), (1, 6, 8)), ((1, 4, 6, 8), (1, 4, 6, 8)), ((6, 8), (8,)),
)  # fmt: skip
_WITH_CONSTANT: tuple[tuple[Shape, Shape], ...] = (
    ((8,), (8,)), ((6, 8), (8,)), ((6, 8), (6, 8)), ((3, 6, 8), (6, 8)), ((3, 6, 8), (3, 6, 8)), ((3, 6, 8), ()),
    ((1, 4, 6, 8), (8,)),
    ((1, 4, 6, 8), (1, 1, 1, 8)), ((1, 4, 6, 8), (1, 4, 6, 8)), ((1, 4, 6, 8), ()), ((2, 4, 6, 8), (4, 6, 8)),
)  # fmt: skip


def forms() -> Iterator[Form]:
    """All of them."""
    yield from _whole()
    yield from _converted()


def _whole() -> Iterator[Form]:
    for kind, (options, left, right, dtype) in _KINDS.items():
        step = 1 if kind in ("ADD", "SUB", "MUL", "FLOOR_DIV", "LESS") else 3
        for a, b in _AT_RUN_TIME[::step]:
            yield single(kind, [Given(a, left, "int32"), Given(b, right, "int32")], Result(a, dtype), options)
        for a, b in _WITH_CONSTANT[::step]:
            y = const(*b, values=right, dtype="int32")
            yield single(kind, [Given(a, left, "int32"), replace(y, how="by place")], Result(a, dtype), options)
            first = const(*b, values=left, dtype="int32")
            yield single(kind, [replace(first, how="by place"), Given(a, right, "int32")], Result(a, dtype), options)
    shapes: tuple[Shape, ...] = ((8,), (6, 8), (3, 6, 8), (1, 4, 6, 8))
    for shape in shapes:
        x = Given(shape, "whole", "int32")
        yield single("NEG", [x], Result(shape, "int32"), "Neg")
        yield single("ABS", [x], Result(shape, "int32"), "Abs")
        yield single("SIGN", [x], Result(shape, "int32"), "Sign")
        rank = len(shape)
        for axis in range(rank):
            over = Result(tuple(1 if i == axis else d for i, d in enumerate(shape)), "int32")
            yield single("SUM", [x, ints(axis)], over, "Reducer", keepDims=True)
            yield single("REDUCE_MAX", [x, ints(axis)], over, "Reducer", keepDims=True)
        yield single("CUMSUM", [x, number(rank - 1)], Result(shape, "int32"), "Cumsum")
        yield single("RESHAPE", [x, ints(int(np.prod(shape)))], Result((int(np.prod(shape)),), "int32"), "Reshape")
        whole = (*shape[:-1], 2 * shape[-1])
        yield single("CONCATENATION", [x, x], Result(whole, "int32"), "Concatenation", axis=rank - 1)
        half = Given((*shape[:-1], 4), "whole", "int32")
        yield single("GATHER", [x, ints(2, 0, 1, 2)], Result(half.shape, "int32"), "Gather", axis=rank - 1)
        yield single("SLICE", [x, ints(*[0] * rank), ints(*half.shape)], Result(half.shape, "int32"), "Slice")
        flags = Given(shape, "flags", "bool")
        yield single("SELECT_V2", [flags, x, x], Result(shape, "int32"), "SelectV2")
    yield from _padded()
    turned: tuple[Shape, ...] = ((6, 8), (1, 4, 6, 8))
    for shape in turned:
        order = tuple(reversed(range(len(shape))))
        made = tuple(shape[i] for i in order)
        yield single("TRANSPOSE", [Given(shape, "whole", "int32"), ints(*order)], Result(made, "int32"), "Transpose")


def _padded() -> Iterator[Form]:
    padded: tuple[tuple[Shape, int], ...] = (
        ((6, 8), 1),
        ((3, 6, 8), 1),
        ((3, 6, 8), 2),
        ((1, 4, 6, 8), 2),
        ((1, 4, 6, 8), 3),
    )
    for shape, axis in padded:
        widths = Held(np.asarray([(1, 2) if i == axis else (0, 0) for i in range(len(shape))], np.int32))
        made = Result(tuple(d + 3 if i == axis else d for i, d in enumerate(shape)), "int32")
        x = Given(shape, "whole", "int32")
        yield single("PAD", [x, widths], made, "Pad")
        yield single("PADV2", [x, widths, number(-3)], made, "PadV2")


def _converted() -> Iterator[Form]:
    for shape in ((8,), (6, 8), (3, 6, 8), (1, 4, 6, 8), (1, 4, 6, 3)):
        for old, new, values in (
            ("float32", "int32", "wide"), ("int32", "float32", "whole"), ("bool", "float32", "flags"),
            ("float32", "bool", "halves"),
            ("bool", "int32", "flags"), ("int32", "bool", "halves"), ("float32", "float16", "normal"),
            ("float32", "int8", "wide"),
        ):  # fmt: skip
            yield single(
                "CAST",
                [Given(shape, values, old)],
                Result(shape, new),
                "Cast",
                inDataType=old.upper(),
                outDataType=new.upper(),
            )
        for low, high, bits in ((-2.0, 2.0, 8), (0.0, 1.5, 8), (-1.0, 1.0, 4)):
            yield single("FAKE_QUANT", [Given(shape)], shape, "FakeQuant", min=low, max=high, numBits=bits)
