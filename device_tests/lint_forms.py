"""Small forms around each rule of `harness lint`: those it accuses, and their neighbours, which it must not.

Forms are independent parts of one model, each with inputs and an output of its own, so that a device compiles them
once. Their inputs are whole numbers from 1 to 4, their constants 1, 2 and 4: float16 holds all results but those of
POW, DIV and ATAN2, sums of products included (up to 40 of them, 16 each).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.model import Model

Shape = tuple[int, ...]
Array = np.ndarray[Any, Any]
Build = Callable[[GraphBuilder, str], int]

OPTIONS: dict[str, Callable[[], Any]] = {
    "ADD": schema.AddOptionsT,
    "SUB": schema.SubOptionsT,
    "MUL": schema.MulOptionsT,
    "DIV": schema.DivOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT,
    "MINIMUM": schema.MaximumMinimumOptionsT,
    "FLOOR_DIV": schema.FloorDivOptionsT,
    "FLOOR_MOD": schema.FloorModOptionsT,
    "POW": schema.PowOptionsT,
    "SQUARED_DIFFERENCE": schema.SquaredDifferenceOptionsT,
    "EQUAL": schema.EqualOptionsT,
    "NOT_EQUAL": schema.NotEqualOptionsT,
    "GREATER": schema.GreaterOptionsT,
    "GREATER_EQUAL": schema.GreaterEqualOptionsT,
    "LESS": schema.LessOptionsT,
    "LESS_EQUAL": schema.LessEqualOptionsT,
    "LOGICAL_AND": schema.LogicalAndOptionsT,
    "LOGICAL_OR": schema.LogicalOrOptionsT,
}
COMPARISONS = ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")


@dataclass(frozen=True)
class Form:
    """One op in its least surroundings. `build` appends it, its result named as it is told, and gives the handle."""

    name: str
    accused: bool
    build: Build


def packed(forms: Sequence[Form]) -> Model:
    """The forms side by side; each output, and the result of the op that matters, has its form's name."""
    graph = GraphBuilder()
    for form in forms:
        result = form.build(graph, form.name)
        as_float = graph.op("CAST", [result], graph.shape(result), schema.CastOptionsT(), dtype=np.float32)
        graph.output(as_float, form.name)
    return graph.build()


def varied(shape: Shape, dtype: Any = np.float32) -> Array:
    """1, 2, 4, 1, 2, …: rows, columns and blocks all differ from the next. As bool, every second is true."""
    if dtype is np.bool_:
        return np.resize(np.asarray([True, False, False]), shape)
    return np.resize(np.asarray([1, 2, 4], dtype), shape)


def alike(shape: Shape, dtype: Any = np.float32) -> Array:
    """The same row (block, element) along the first axis."""
    return np.broadcast_to(varied((1, *shape[1:]), dtype), shape).copy()


def whole_numbers(model: Model) -> dict[str, Array]:
    """Inputs from 1 to 4."""
    rng = np.random.default_rng(0)
    graph = model.graph()
    return {port.name: rng.integers(1, 5, graph.tensors[port.tensor].shape).astype(np.float32) for port in graph.inputs}


def operand(graph: GraphBuilder, name: str, shape: Shape, dtype: Any) -> int:
    """A run-time tensor made from a float input: its whole numbers, as float or integer, or which are over 2."""
    x = graph.input(f"{name} x", shape)
    if dtype is np.bool_:
        return graph.op("GREATER", [x, graph.constant([2.0])], shape, schema.GreaterOptionsT(), dtype=np.bool_)
    return x if dtype is np.float32 else graph.op("CAST", [x], shape, schema.CastOptionsT(), dtype=dtype)


def elementwise(
    accused: bool, kind: str, x: Shape, constant: Array, *, first: bool = False, half: bool = False, what: str = ""
) -> Form:
    """`kind` of a run-time tensor of shape `x` and a constant, the constant `first` or second, or in `half` precision
    behind a DEQUANTIZE."""
    dtype = constant.dtype.type

    def build(graph: GraphBuilder, name: str) -> int:
        held = graph.dequantize(constant) if half else graph.constant(constant)
        feeds = [operand(graph, name, x, dtype), held]
        shape = np.broadcast_shapes(x, constant.shape)
        result = np.bool_ if kind in COMPARISONS else dtype
        options = OPTIONS[kind]() if kind in OPTIONS else None
        return graph.op(kind, feeds[::-1] if first else feeds, shape, options, dtype=result, name=name)

    words = (kind, np.dtype(dtype).name, f"{list(x)}", "first" if first else "", "half" if half else "", what)
    return Form(f"{' '.join(w for w in words if w)} const{list(constant.shape)}", accused, build)


def quantized_add(x: Shape, constant: Shape) -> Form:
    """ADD of an 8-bit tensor and an 8-bit constant."""

    def build(graph: GraphBuilder, name: str) -> int:
        quantize = schema.QuantizeOptionsT()
        running = graph.op("QUANTIZE", [operand(graph, name, x, np.float32)], x, quantize, dtype=np.int8)
        held = graph.constant((varied(constant) * 10).astype(np.int8))
        total = graph.op("ADD", [running, held], x, schema.AddOptionsT(), name=name)
        for handle in (running, held, total):
            scale = schema.QuantizationParametersT()
            scale.scale, scale.zeroPoint = np.asarray([0.1], np.float32), np.asarray([0], np.int64)
            graph._tensors[handle].quantization = scale
        return graph.op("DEQUANTIZE", [total], x, schema.DequantizeOptionsT(), dtype=np.float32, version=2)

    return Form(f"ADD int8 {list(x)} const{list(constant)}", True, build)


def matmul(accused: bool, a: Shape, b: Shape, *, constant: bool = False, adj_y: bool = False, what: str = "") -> Form:
    """BATCH_MATMUL, its right side a constant or not; a `what` makes a constant right side symmetric."""

    def build(graph: GraphBuilder, name: str) -> int:
        values = varied(b)
        right = graph.constant(values + values.T if what else values) if constant else graph.input(f"{name} y", b)
        return graph.batch_matmul(graph.input(f"{name} x", a), right, adj_y=adj_y, name=name)

    words = ("constant" if constant else "", "adj_y" if adj_y else "", what)
    return Form(f"BATCH_MATMUL {list(a)} {list(b)} {' '.join(w for w in words if w)}".strip(), accused, build)


def fully_connected(accused: bool, x: Shape, weights: Shape, result: Shape, *, keep: bool = False) -> Form:
    """FULLY_CONNECTED by float weights [n, k]."""

    def build(graph: GraphBuilder, name: str) -> int:
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = keep
        feeds = [graph.input(f"{name} x", x), graph.constant(varied(weights)), -1]
        return graph.op("FULLY_CONNECTED", feeds, result, options, name=name)

    return Form(f"FULLY_CONNECTED {list(x)} {list(weights)}{' kept' if keep else ''}", accused, build)


_FLOAT_OPS = tuple(kind for kind in OPTIONS if not kind.startswith("LOGICAL"))
_INTEGER_OPS = tuple(kind for kind in _FLOAT_OPS if kind not in ("POW", "SQUARED_DIFFERENCE"))
_LOGICAL_OPS = ("LOGICAL_AND", "LOGICAL_OR")
_MISREAD_ROWS: tuple[tuple[Shape, Shape], ...] = (
    ((4, 8), (4, 1)),
    ((1, 8), (4, 8)),
    ((4, 1), (4, 8)),
    ((4, 1), (4, 1)),
    ((4, 5, 8), (4, 1, 8)),
    ((4, 5, 8), (4, 5, 1)),
    ((4, 5, 8), (4, 1, 1)),
    ((1, 5, 8), (4, 5, 8)),
    ((4, 1, 8), (4, 5, 8)),
    ((8,), (8,)),
    ((1,), (8,)),
)
_WELL_READ: tuple[tuple[Shape, Shape], ...] = (
    ((4, 8), (8,)),
    ((4, 8), (1, 1)),
    ((4, 8), ()),
    ((1, 8), (1, 8)),
    ((1, 8), (8,)),
    ((8,), (1,)),
    ((4, 5, 8), (5, 8)),
    ((4, 5, 8), (1, 5, 8)),
    ((4, 5, 8), (5, 1)),
    ((4, 5, 8), (8,)),
    ((1, 5, 8), (1, 5, 8)),
    ((1, 5, 8), (5, 8)),
    ((1, 4, 5, 8), (1, 4, 5, 8)),
    ((1, 4, 5, 8), (4, 5, 8)),
    ((1, 4, 5, 8), (5, 8)),
    ((1, 4, 5, 8), (4, 1, 1)),
    ((2, 4, 5, 8), (2, 4, 5, 8)),
    ((2, 4, 5, 8), (4, 5, 8)),
    ((1, 1, 5, 8), (1, 4, 5, 8)),
)

FORMS: dict[str, tuple[Form, ...]] = {
    "low-rank-constant": (
        *(elementwise(True, kind, (4, 8), varied((4, 8))) for kind in _FLOAT_OPS),
        *(elementwise(True, kind, (4, 8), varied((4, 8)), first=True) for kind in _FLOAT_OPS),
        *(elementwise(True, kind, (4, 5, 8), varied((4, 5, 8))) for kind in _FLOAT_OPS),
        *(elementwise(False, kind, (4, 8), varied((1, 8))) for kind in _FLOAT_OPS),
        *(elementwise(False, kind, (4, 5, 8), varied((1, 5, 8)), first=True) for kind in _FLOAT_OPS),
        *(elementwise(True, "ADD", x, varied(constant)) for x, constant in _MISREAD_ROWS),
        *(elementwise(False, "ADD", x, alike(constant), what="alike") for x, constant in _MISREAD_ROWS),
        elementwise(False, "ADD", (4, 8), alike((4, 8)), what="alike"),
        elementwise(False, "MUL", (4, 5, 8), alike((4, 5, 8)), what="alike", first=True),
        elementwise(True, "MUL", (4, 8), varied((4, 8)), half=True),
        elementwise(True, "ADD", (4, 5, 8), varied((4, 5, 8)), half=True),
        elementwise(False, "MUL", (4, 8), varied((1, 8)), half=True),
        elementwise(False, "ADD", (1, 4, 8), varied((1, 4, 8)), half=True),
        quantized_add((4, 8), (4, 8)),
        elementwise(True, "ATAN2", (4, 8), varied((4, 8))),
        elementwise(False, "ATAN2", (1, 4, 5, 8), varied((1, 4, 5, 8))),
        elementwise(True, "SUB", (5, 8), varied((4, 5, 8)), first=True),
        elementwise(True, "ADD", (8,), varied((4, 1))),
        *(elementwise(False, "ADD", x, varied(constant)) for x, constant in _WELL_READ),
    ),
    "low-rank-tensor": (
        elementwise(True, "ADD", (5, 8), varied((1, 5, 8))),
        elementwise(True, "SUB", (5, 8), alike((4, 5, 8)), first=True, what="alike"),
        elementwise(True, "MUL", (5, 8), varied((1, 4, 5, 8))),
        elementwise(True, "MAXIMUM", (4, 5, 8), varied((1, 4, 5, 8))),
        elementwise(True, "ADD", (4, 5, 8), varied((1, 1, 1, 8))),
        elementwise(True, "ADD", (4, 5, 8), varied((1, 1, 1, 1))),
        elementwise(True, "ADD", (8,), varied((1, 8))),
        elementwise(True, "ADD", (5, 8), varied((1, 5, 8), np.int32)),
        elementwise(False, "ADD", (1, 8), varied((1, 5, 8))),
        elementwise(False, "ADD", (1, 5, 8), varied((1, 4, 5, 8))),
        elementwise(False, "ADD", (1, 5, 8), varied((1, 1, 5, 8))),
        elementwise(False, "ADD", (1, 8), varied((1, 1, 1, 8))),
    ),
    "low-rank-integer-constant": (
        *(elementwise(True, kind, (4, 8), varied((8,), np.int32)) for kind in _INTEGER_OPS),
        *(elementwise(True, kind, (4, 8), varied((8,), np.int32), first=True) for kind in _INTEGER_OPS),
        *(elementwise(True, kind, (4, 8), varied((8,), np.bool_)) for kind in _LOGICAL_OPS),
        *(elementwise(True, kind, (4, 5, 8), varied((5, 8), np.bool_)) for kind in _LOGICAL_OPS),
        elementwise(True, "ADD", (4, 5, 8), varied((5, 8), np.int32)),
        elementwise(True, "ADD", (1, 5, 8), varied((5, 8), np.int32)),
        elementwise(True, "ADD", (1, 4, 5, 8), varied((8,), np.int32)),
        elementwise(True, "ADD", (2, 4, 5, 8), varied((4, 1, 8), np.int32)),
        *(elementwise(False, kind, (4, 8), varied((4, 8), np.int32)) for kind in _INTEGER_OPS),
        *(elementwise(False, kind, (4, 8), varied((4, 8), np.bool_)) for kind in _LOGICAL_OPS),
        elementwise(False, "ADD", (4, 8), alike((8,), np.int32), what="alike"),
        elementwise(False, "ADD", (4, 5, 8), alike((5, 8), np.int32), what="alike"),
        elementwise(False, "ADD", (4, 8), varied((1, 8), np.int32)),
        elementwise(False, "ADD", (4, 8), varied((1,), np.int32)),
        elementwise(False, "ADD", (4, 5, 8), varied((1, 8), np.int32)),
        elementwise(False, "ADD", (2, 4, 5, 8), varied((1, 5, 8), np.int32)),
        elementwise(False, "ADD", (4, 5, 8), varied((4, 5, 8), np.int32)),
        elementwise(False, "ADD", (1, 4, 5, 8), varied((1, 4, 1, 1), np.int32)),
    ),
    "matmul-constant-adj-y": (
        matmul(True, (4, 8), (5, 8), constant=True, adj_y=True),
        matmul(True, (4, 8), (8, 8), constant=True, adj_y=True),
        matmul(True, (1, 4, 8), (5, 8), constant=True, adj_y=True),
        matmul(True, (2, 3, 4, 8), (8, 8), constant=True, adj_y=True),
        matmul(False, (4, 8), (8, 8), constant=True, adj_y=True, what="symmetric"),
        matmul(False, (4, 8), (8, 5), constant=True),
        matmul(False, (1, 3, 4, 8), (8, 5), constant=True),
    ),
    "matmul-unequal-batches": (
        matmul(True, (3, 4, 8), (1, 8, 5)),
        matmul(True, (1, 4, 8), (3, 8, 5)),
        matmul(True, (3, 4, 8), (8, 5)),
        matmul(True, (1, 3, 4, 8), (1, 1, 8, 5)),
        matmul(True, (2, 3, 4, 8), (2, 1, 8, 5)),
        matmul(True, (2, 1, 4, 8), (1, 3, 8, 5)),
        matmul(False, (3, 4, 8), (3, 8, 5)),
        matmul(False, (1, 3, 4, 8), (3, 8, 5)),
        matmul(False, (3, 4, 8), (1, 3, 8, 5)),
        matmul(False, (2, 3, 4, 8), (2, 3, 8, 5)),
        matmul(False, (1, 4, 8), (8, 5)),
        matmul(False, (3, 4, 8), (8, 5), constant=True),
    ),
    "unflattened-fully-connected": (
        fully_connected(True, (1, 5, 4, 2), (6, 40), (1, 6)),
        fully_connected(True, (2, 5, 4, 2), (6, 40), (2, 6)),
        fully_connected(True, (1, 20, 1, 2), (6, 40), (1, 6)),
        fully_connected(True, (1, 20, 2), (6, 40), (1, 6)),
        fully_connected(True, (4, 8), (6, 16), (2, 6)),
        fully_connected(True, (1, 5, 4, 8), (6, 4), (40, 6)),
        fully_connected(False, (1, 5, 4, 8), (6, 8), (1, 5, 4, 6), keep=True),
        fully_connected(False, (1, 5, 4, 8), (6, 8), (20, 6)),
        fully_connected(False, (1, 20, 8), (6, 8), (20, 6)),
        fully_connected(False, (2, 1, 1, 8), (6, 8), (2, 6)),
        fully_connected(False, (1, 40), (6, 40), (1, 6)),
    ),
}
