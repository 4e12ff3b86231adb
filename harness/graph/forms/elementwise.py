"""Element-wise ops: operands of every rank, run-time and constant, on either side, and every fused activation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.graph.forms.form import Form, Given, Held, Operand, Result, Shape, const, single

# Of every rank, with channels in fours and not, with a leading dimension of one and more.
SHAPES: tuple[Shape, ...] = (
    (8,),
    (7,),
    (1, 8),
    (6, 8),
    (5, 7),
    (1, 6, 8),
    (3, 6, 8),
    (3, 5, 7),
    (1, 4, 6, 8),
    (2, 3, 5, 7),
    (1, 4, 6, 1),
    (1, 4, 6, 3),
)
ACTIVATIONS = ("RELU", "RELU_N1_TO_1", "RELU6")

# Kind: how its operand is drawn, in two ways where its ends are of interest.
UNARY: dict[str, tuple[str, ...]] = {
    "ABS": ("normal",),
    "CEIL": ("wide",),
    "COS": ("normal",),
    "ELU": ("normal", "wide"),
    "EXP": ("normal",),
    "FLOOR": ("wide",),
    "HARD_SWISH": ("normal", "wide"),
    "LOG": ("positive",),
    "LOGISTIC": ("normal", "wide"),
    "NEG": ("normal",),
    "RELU": ("normal",),
    "RELU6": ("normal", "wide"),
    "RELU_0_TO_1": ("normal",),
    "RELU_N1_TO_1": ("normal",),
    "ROUND": ("halves",),
    "RSQRT": ("positive",),
    "SIGN": ("wide",),
    "SIN": ("normal",),
    "SQRT": ("positive",),
    "SQUARE": ("normal",),
    "TANH": ("normal", "wide"),
}
_TABLES = {
    "ABS": "Abs",
    "COS": "Cos",
    "EXP": "Exp",
    "HARD_SWISH": "HardSwish",
    "NEG": "Neg",
    "SIGN": "Sign",
    "SQUARE": "Square",
}

# Kind: its options table, how the left and the right operand are drawn, the type of its result.
BINARY: dict[str, tuple[str, str, str, str]] = {
    "ADD": ("Add", "normal", "normal", "float32"),
    "SUB": ("Sub", "normal", "normal", "float32"),
    "MUL": ("Mul", "normal", "normal", "float32"),
    "DIV": ("Div", "normal", "nonzero", "float32"),
    "MAXIMUM": ("MaximumMinimum", "normal", "normal", "float32"),
    "MINIMUM": ("MaximumMinimum", "normal", "normal", "float32"),
    "POW": ("Pow", "positive", "nonzero", "float32"),
    "SQUARED_DIFFERENCE": ("SquaredDifference", "normal", "normal", "float32"),
    "FLOOR_DIV": ("FloorDiv", "halves", "halves over 0", "float32"),
    "FLOOR_MOD": ("FloorMod", "halves", "halves over 0", "float32"),
    "ATAN2": ("ATan2", "nonzero", "nonzero", "float32"),
    "EQUAL": ("Equal", "signs", "signs", "bool"),
    "NOT_EQUAL": ("NotEqual", "signs", "signs", "bool"),
    "LESS": ("Less", "halves", "halves", "bool"),
    "LESS_EQUAL": ("LessEqual", "halves", "halves", "bool"),
    "GREATER": ("Greater", "halves", "halves", "bool"),
    "GREATER_EQUAL": ("GreaterEqual", "halves", "halves", "bool"),
}
# How many of the operands below each kind is asked with: ADD with all of them, and in contexts; the others that the
# delegate has code of their own for with all; what is parsed and run like these with every third.
_WHOLE = ("ADD", "SUB", "MUL", "DIV", "POW", "LESS", "FLOOR_MOD")
_IN_CONTEXTS = (((3, 6, 8), (3, 6, 8)), ((1, 4, 6, 8), (8,)), ((3, 6, 8), (1, 6, 8)))

# Two tensors that come at run time.
_PAIRS: tuple[tuple[Shape, Shape], ...] = (
    ((8,), (8,)), ((6, 8), (6, 8)), ((3, 6, 8), (3, 6, 8)), ((2, 4, 6, 8), (2, 4, 6, 8)), ((1, 4, 6, 7), (1, 4, 6, 7)),
    ((6, 8), (8,)), ((6, 8), (1, 8)), ((6, 8), (6, 1)), ((1, 8), (6, 8)), ((6, 1), (1, 8)),
    ((3, 6, 8), (8,)), ((3, 6, 8), (6, 8)), ((3, 6, 8), (1, 6, 8)), ((3, 6, 8), (3, 1, 8)), ((3, 6, 8), (3, 6, 1)),
    ((3, 6, 8), (1, 1, 8)),
    ((1, 6, 8), (3, 6, 8)), ((6, 8), (3, 6, 8)),
    ((1, 4, 6, 8), (8,)), ((1, 4, 6, 8), (6, 8)), ((1, 4, 6, 8), (4, 6, 8)), ((2, 4, 6, 8), (4, 6, 8)),
    ((2, 4, 6, 8), (1, 4, 6, 8)),
    ((2, 4, 6, 8), (2, 1, 1, 8)), ((2, 4, 6, 8), (2, 4, 6, 1)), ((2, 4, 6, 8), (1, 1, 1, 8)),
    ((1, 4, 6, 1), (1, 4, 6, 8)),
    ((3, 6, 8), (1, 1, 6, 8)), ((1, 1, 6, 8), (3, 6, 8)), ((3, 6, 8), (2, 3, 6, 8)),
)  # fmt: skip

# A tensor that comes at run time, and a constant.
_WITH_CONSTANT: tuple[tuple[Shape, Shape], ...] = (
    ((8,), ()), ((8,), (1,)), ((8,), (8,)), ((7,), (7,)),
    ((6, 8), ()), ((6, 8), (1,)), ((6, 8), (8,)), ((6, 8), (1, 8)), ((6, 8), (6, 1)), ((6, 8), (6, 8)),
    ((1, 8), (1, 8)), ((1, 8), (6, 8)),
    ((6, 8), (1, 6, 8)), ((6, 8), (3, 6, 8)),
    ((3, 6, 8), ()), ((3, 6, 8), (8,)), ((3, 6, 8), (6, 8)), ((3, 6, 8), (6, 1)), ((3, 6, 8), (1, 6, 8)),
    ((3, 6, 8), (1, 1, 8)),
    ((3, 6, 8), (3, 1, 8)), ((3, 6, 8), (3, 6, 1)), ((3, 6, 8), (3, 1, 1)), ((3, 6, 8), (3, 6, 8)),
    ((1, 6, 8), (1, 6, 8)), ((1, 6, 8), (6, 8)),
    ((3, 6, 8), (1, 3, 6, 8)),
    ((1, 4, 6, 8), ()), ((1, 4, 6, 8), (8,)), ((1, 4, 6, 8), (6, 8)), ((1, 4, 6, 8), (4, 6, 8)),
    ((1, 4, 6, 8), (4, 1, 1)),
    ((1, 4, 6, 8), (1, 1, 1, 8)), ((1, 4, 6, 8), (1, 4, 6, 8)), ((1, 4, 6, 8), (1, 4, 6, 1)), ((2, 4, 6, 8), (4, 6, 8)),
    ((2, 4, 6, 8), (2, 4, 6, 8)), ((2, 4, 6, 8), (2, 1, 1, 8)), ((1, 4, 6, 1), (8,)), ((1, 4, 6, 7), (7,)),
    ((1, 4, 6, 1), (1, 4, 6, 8)),
)  # fmt: skip

# What overflows in float16 on its way in, as masks have it.
_BEYOND = (-np.inf, np.inf, -1e9, 1e9, -65504.0)


def forms() -> Iterator[Form]:
    """All of them."""
    yield from _unary()
    for kind in BINARY:
        yield from _binary(kind)
    yield from _select()
    yield from _logic()


def _unary() -> Iterator[Form]:
    for kind, ways in UNARY.items():
        for i, shape in enumerate(SHAPES):
            base = shape in ((3, 6, 8), (1, 4, 6, 8)) and kind in ("EXP", "RELU", "TANH", "LOGISTIC", "SQRT", "FLOOR")
            if i % 2 and not base:
                continue
            yield single(kind, [Given(shape, ways[0])], shape, _TABLES.get(kind, ""), base=base)
            if len(ways) > 1 and i % 3 == 0:
                yield single(kind, [Given(shape, ways[1])], shape, _TABLES.get(kind, ""))
    for shape in ((8,), (6, 8), (3, 6, 8), (1, 4, 6, 8), (2, 3, 5, 7)):
        for approximate in (False, True):
            for values in ("normal", "wide"):
                yield single(
                    "GELU",
                    [Given(shape, values)],
                    shape,
                    "Gelu",
                    approximate=approximate,
                    base=(shape, values) == ((3, 6, 8), "normal"),
                )
        for alpha in (0.2, 0.0, 1.0, 1.5, -0.25):
            yield single(
                "LEAKY_RELU",
                [Given(shape)],
                shape,
                "LeakyRelu",
                alpha=alpha,
                base=(shape, alpha) == ((1, 4, 6, 8), 0.2),
            )
    for shape in SHAPES:
        for slope in dict.fromkeys(((shape[-1],), (1,) * (len(shape) - 1) + shape[-1:], (1,), shape[1:], shape)):
            if slope:
                yield single("PRELU", [Given(shape), const(*slope)], shape, base=slope == (1, 1, 8))


def _binary(kind: str) -> Iterator[Form]:
    options, left, right, dtype = BINARY[kind]
    step = 1 if kind in _WHOLE else 3
    broad = kind == "ADD"
    for a, b in _PAIRS[::step] if kind in ("ADD", "SUB", "MUL") else _PAIRS[::3]:
        if kind == "ATAN2" and a != b:  # it does not broadcast
            continue
        result = Result(tuple(np.broadcast_shapes(a, b)), dtype)
        yield single(kind, [Given(a, left), Given(b, right)], result, options, base=broad or (a, b) in _IN_CONTEXTS)
    for i, (a, b) in enumerate(_WITH_CONSTANT[::step]):
        if kind == "ATAN2" and a != b:
            continue
        result = Result(tuple(np.broadcast_shapes(a, b)), dtype)
        base = broad or (kind in _WHOLE and (a, b) in _IN_CONTEXTS)
        yield single(kind, [Given(a, left), const(*b, values=right)], result, options, base=base)
        if kind in ("SUB", "DIV", "POW", "LESS", "FLOOR_MOD", "FLOOR_DIV") or i % 4 == 0:
            yield single(kind, [const(*b, values=left), Given(a, right)], result, options)
    if kind in ("ADD", "SUB", "MUL", "DIV"):
        for activation in ACTIVATIONS:
            for a, b in (((6, 8), (6, 8)), ((1, 4, 6, 8), (1, 4, 6, 8)), ((1, 4, 6, 8), (1, 1, 1, 8))):
                operands: list[Operand] = [Given(a, left), Given(b, right)]
                yield single(kind, operands, a, options, fusedActivationFunction=activation)
                if b != (6, 8):
                    operands = [Given(a, left), const(*b, values=right)]
                    yield single(kind, operands, a, options, fusedActivationFunction=activation)
    if kind in ("MAXIMUM", "MINIMUM", "ADD"):
        for value in _BEYOND:
            if kind == "ADD" or (value < 0) == (kind == "MAXIMUM"):
                for shape in ((6, 8), (1, 4, 6, 8)):
                    yield single(kind, [Given(shape), _partly(value, shape[-1], kind == "ADD")], shape, options)
    if kind == "POW":
        for exponent in (2.0, 3.0, 4.0, 0.5, -1.0, 0.0):
            for values in ("positive", "nonzero"):
                if exponent and (exponent != 0.5 or values == "positive"):
                    held = Held(np.asarray(exponent, np.float32), how=f"{exponent:g}")
                    yield single(kind, [Given((1, 4, 6, 8), values), held], (1, 4, 6, 8), options)
    if kind in ("LESS", "GREATER_EQUAL", "EQUAL"):
        held = Held(np.asarray(0.5, np.float32), how="0.5")
        yield single(kind, [Given((1, 4, 6, 8), "halves"), held], Result((1, 4, 6, 8), "bool"), options)


def _partly(value: float, width: int, vector: bool) -> Held:
    """The value, as a scalar, or as a vector of which the second half is zeros."""
    if not vector:
        return Held(np.asarray(value, np.float32), how=f"{value:g}")
    held = np.zeros(width, np.float32)
    held[: width // 2] = value
    return Held(held, how=f"{value:g} in the first half")


def _select() -> Iterator[Form]:
    for kind, options in (("SELECT", "Select"), ("SELECT_V2", "SelectV2")):
        for shape in ((8,), (6, 8), (3, 6, 8), (1, 4, 6, 8), (2, 4, 6, 8)):
            flags = Given(shape, "flags", "bool")
            yield single(kind, [flags, Given(shape), Given(shape)], shape, options, base=len(shape) == 3)
            yield single(kind, [flags, Given(shape), const(*shape)], shape, options)
            yield single(kind, [flags, const(*shape), Given(shape)], shape, options)
            yield single(
                kind, [const(*shape, values="flags", dtype="bool"), Given(shape), Given(shape)], shape, options
            )
    for shape, condition in (
        ((6, 8), (8,)), ((6, 8), (6, 1)), ((6, 8), (1, 8)), ((3, 6, 8), (8,)), ((3, 6, 8), (6, 8)),
        ((3, 6, 8), (1, 6, 8)),
        ((3, 6, 8), (3, 1, 1)), ((1, 4, 6, 8), (8,)), ((1, 4, 6, 8), (6, 8)), ((2, 4, 6, 8), (4, 6, 8)),
        ((2, 4, 6, 8), (1, 4, 6, 8)),
        ((1, 4, 6, 8), (1, 1, 6, 8)),
    ):  # fmt: skip
        flags = Given(condition, "flags", "bool")
        yield single("SELECT_V2", [flags, Given(shape), Given(shape)], shape, "SelectV2", base=condition == (1, 6, 8))
        for value in (-np.inf, -1e9):
            held = Held(np.asarray(value, np.float32), how=f"{value:g}")
            yield single("SELECT_V2", [flags, Given(shape), held], shape, "SelectV2")
    for shape, other in (((6, 8), (8,)), ((3, 6, 8), (1, 6, 8)), ((1, 4, 6, 8), (1, 1, 1, 8)), ((1, 4, 6, 8), (8,))):
        yield single("SELECT_V2", [Given(shape, "flags", "bool"), Given(shape), Given(other)], shape, "SelectV2")


def _logic() -> Iterator[Form]:
    for kind, options in (("LOGICAL_AND", "LogicalAnd"), ("LOGICAL_OR", "LogicalOr")):
        for a, b in (
            ((16,), (16,)),
            ((6, 8), (6, 8)),
            ((3, 6, 8), (3, 6, 8)),
            ((1, 4, 6, 8), (1, 4, 6, 8)),
            ((6, 8), (8,)),
            ((2, 4, 6, 8), (1, 1, 1, 8)),
        ):
            x, held = Given(a, "flags", "bool"), const(*b, values="flags", dtype="bool")
            yield single(kind, [x, Given(b, "flags", "bool")], Result(a, "bool"), options)
            yield single(kind, [x, held], Result(a, "bool"), options)
    for shape in ((8,), (6, 8), (3, 6, 8), (1, 4, 6, 8)):
        yield single("LOGICAL_NOT", [Given(shape, "flags", "bool")], Result(shape, "bool"), "LogicalNot")
