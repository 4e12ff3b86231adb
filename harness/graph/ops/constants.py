"""What ops make of constants, computed with numpy: moves, arithmetic, sums and layers, in the types that they state.

Moves and integers come out as any kernel has them, floats to the rounding of float32: sums are added in float64. What
is not listed here, or of an odd form, is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array

# Elements of a result: a file of a few bytes can ask for any number.
MOST_ELEMENTS = 1 << 26

Kernel = Callable[[Any, Sequence[Array], tuple[int, ...], Any], Any]
"""From an op's options, its operands, and the shape and numpy type of its result to the result."""


def computed(name: str, options: Any, operands: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Array | None:
    """An op's result on constants; None for an op that is not known, or whose result is not of the stated shape."""
    kernel = _KERNELS.get(name)
    if kernel is None or math.prod(shape) > MOST_ELEMENTS:
        return None
    try:
        with np.errstate(all="ignore"):
            made = np.asarray(kernel(options, operands, shape, dtype))
            made = _activated(made, getattr(options, "fusedActivationFunction", 0) or 0)
            if made.shape != shape:
                return None
            return np.ascontiguousarray(made if made.dtype == dtype else made.astype(dtype))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _activated(x: Array, code: int) -> Array:
    kinds = schema.ActivationFunctionType
    limits = {kinds.NONE: (None, None), kinds.RELU: (0, None), kinds.RELU6: (0, 6), kinds.RELU_N1_TO_1: (-1, 1)}
    if code == kinds.TANH:
        return np.asarray(np.tanh(x))
    least, most = limits[code]
    return x if least is None else np.asarray(np.clip(x, least, most))


def _as_stated(found: Sequence[int], shape: tuple[int, ...]) -> None:
    """Raises ValueError where a result would not be of the shape that the file states, before it takes any memory."""
    if tuple(found) != shape:
        raise ValueError("its result has another shape")


def _elementwise(how: Callable[..., Any]) -> Kernel:
    def kernel(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
        _as_stated(np.broadcast_shapes(*(each.shape for each in x)), shape)
        return how(*x)

    return kernel


def _of_floats(how: Callable[..., Any]) -> Kernel:
    """An operation that is computed in float64 and rounded once."""

    def kernel(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
        if dtype != np.float32:
            raise TypeError("it computes no float32")
        _as_stated(np.broadcast_shapes(*(each.shape for each in x)), shape)
        return how(*(each.astype(np.float64) for each in x))

    return kernel


def _reduced(how: Callable[..., Any]) -> Kernel:
    def kernel(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
        axes = tuple(int(axis) for axis in np.asarray(x[1]).reshape(-1))
        if x[0].dtype.kind != "f" and how is np.mean:
            raise TypeError("means of integers are rounded in ways of their own")
        held = x[0].astype(np.float64) if x[0].dtype.kind == "f" else x[0]
        return how(held, axis=axes, keepdims=bool(options.keepDims)).reshape(shape)

    return kernel


def _slice(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    begin = x[1].reshape(-1).tolist()
    return x[0][tuple(slice(first, first + count) for first, count in zip(begin, shape, strict=True))]


def _tile(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    times = tuple(int(n) for n in x[1].reshape(-1))
    _as_stated([a * b for a, b in zip(x[0].shape, times, strict=True)], shape)
    return np.tile(x[0], times)


def _joined(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    return np.concatenate(x, axis=options.axis)


def _gathered(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    if options.batchDims or (x[1] < 0).any():
        raise ValueError("it gathers in batches, or from behind")
    at = options.axis % x[0].ndim
    _as_stated((*x[0].shape[:at], *x[1].shape, *x[0].shape[at + 1 :]), shape)
    return np.take(x[0], x[1], axis=at)


def _padded(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    widths = x[1].tolist()
    _as_stated([n + a + b for n, (a, b) in zip(x[0].shape, widths, strict=True)], shape)
    return np.pad(x[0], widths, constant_values=x[2].reshape(-1)[0] if len(x) > 2 else 0)


def _cast(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    if x[0].dtype.kind == "f" and np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        if not np.isfinite(x[0]).all() or x[0].min() < limits.min or x[0].max() > limits.max:
            raise ValueError("a number does not fit its type")
    return x[0].astype(dtype)


def _fully_connected(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    rows = x[0].astype(np.float64).reshape(-1, x[1].shape[-1])
    _as_stated((len(rows) * x[1].shape[0],), (math.prod(shape),))
    made = rows @ x[1].astype(np.float64).T
    return (made + x[2].astype(np.float64) if len(x) > 2 else made).reshape(shape)


def _batch_matmul(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    a, b = (each.astype(np.float64) for each in x)
    a, b = np.swapaxes(a, -1, -2) if options.adjX else a, np.swapaxes(b, -1, -2) if options.adjY else b
    _as_stated((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), shape)
    return a @ b


def _range(options: Any, x: Sequence[Array], shape: tuple[int, ...], dtype: Any) -> Any:
    first, _, step = (each.reshape(-1)[0] for each in x)
    return (first + step * np.arange(shape[0], dtype=np.float64 if np.dtype(dtype).kind == "f" else dtype)).reshape(
        shape
    )


def _rounded_half_to_even(x: Array) -> Array:
    return np.asarray(np.rint(x))


_MOVES: dict[str, Kernel] = {
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), lambda o, x, shape, d: x[0].reshape(shape)),
    "TRANSPOSE": lambda o, x, shape, d: np.transpose(x[0], x[1].reshape(-1).tolist()),
    "SLICE": _slice,
    "TILE": _tile,
    "BROADCAST_TO": lambda o, x, shape, d: np.broadcast_to(x[0], shape),
    "FILL": lambda o, x, shape, d: np.full(shape, x[1].reshape(-1)[0]),
    "ZEROS_LIKE": lambda o, x, shape, d: np.zeros(shape, d),
    "CONCATENATION": _joined,
    "PACK": lambda o, x, shape, d: np.stack(x, axis=o.axis),
    "GATHER": _gathered,
    "PAD": _padded,
    "PADV2": _padded,
    "CAST": _cast,
    "RANGE": _range,
    "SELECT_V2": _elementwise(np.where),
}
_ARITHMETIC: dict[str, Kernel] = {
    "ADD": _elementwise(np.add),
    "SUB": _elementwise(np.subtract),
    "MUL": _elementwise(np.multiply),
    "DIV": _of_floats(np.divide),
    "MAXIMUM": _elementwise(np.maximum),
    "MINIMUM": _elementwise(np.minimum),
    "NEG": _elementwise(np.negative),
    "ABS": _elementwise(np.abs),
    "SQUARE": _elementwise(np.square),
    "SQUARED_DIFFERENCE": _elementwise(lambda a, b: np.square(a - b)),
    "FLOOR": _elementwise(np.floor),
    "CEIL": _elementwise(np.ceil),
    "ROUND": _elementwise(_rounded_half_to_even),
    "RELU": _elementwise(lambda x: np.maximum(x, x.dtype.type(0))),
    "EXP": _of_floats(np.exp),
    "LOG": _of_floats(np.log),
    "SQRT": _of_floats(np.sqrt),
    "RSQRT": _of_floats(lambda x: 1 / np.sqrt(x)),
    "SIN": _of_floats(np.sin),
    "COS": _of_floats(np.cos),
    "TANH": _of_floats(np.tanh),
    "LOGISTIC": _of_floats(lambda x: 1 / (1 + np.exp(-x))),
    "POW": _of_floats(np.power),
}
_SUMS: dict[str, Kernel] = {
    "SUM": _reduced(np.sum),
    "MEAN": _reduced(np.mean),
    "REDUCE_MAX": _reduced(np.max),
    "REDUCE_MIN": _reduced(np.min),
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
}
_KERNELS = {**_MOVES, **_ARITHMETIC, **_SUMS}
