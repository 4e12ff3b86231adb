"""Models of one op for property tests, over shapes, types and options, and what a rewrite makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.remedies.catalogue import Rewrite
from tests.arrays import Evaluate, i32
from tests.quantized import QuantizedBuilder
from tests.remedies.small import table

TYPES: dict[str, Any] = {"float32": np.float32, "int32": np.int32, "int8": np.int8}
"""Types of values; int8 on a grid."""


class Drawn(QuantizedBuilder):
    """A builder whose int8 tensors are on one grid, and whose constants are drawn."""

    def __init__(self, kind: str = "float32", seed: int = 7) -> None:
        super().__init__()
        self.kind, self.type, self.rng = kind, TYPES[kind], np.random.default_rng(seed)

    def drawn(self, *shape: int) -> Array:
        """Eighths of either sign."""
        return (self.rng.integers(-16, 17, shape) / 8).astype(np.float32)

    def given(self, shape: Sequence[int], name: str = "x") -> int:
        return self.gridded(self.input(name, shape, self.type))

    def gridded(self, t: int, step: float = 0.25, zero: int = -3) -> int:
        """The tensor on a grid, where values are quantized."""
        return self.on_grid(t, step, zero) if self.kind == "int8" else t

    def made(self, kind: str, feeds: Sequence[int], shape: Sequence[int], options: Any = None, **more: Any) -> int:
        """An op whose result is on the grid."""
        return self.gridded(self.op(kind, feeds, shape, options, dtype=self.type, **more))


def values_for(model: Model, seed: int = 3) -> dict[str, Array]:
    """Inputs of a model: floats with a few digits, so that sums of them are exact; integers of either sign."""
    rng, graph, found = np.random.default_rng(seed), model.graph(), {}
    for port in graph.inputs:
        tensor = graph.tensors[port.tensor]
        shape, dtype = tensor.shape or (), np.dtype(tensor.dtype)
        if dtype.kind == "f":
            found[port.name] = (rng.integers(-64, 65, shape) / 8).astype(dtype)
        elif dtype.kind == "b":
            found[port.name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            found[port.name] = rng.integers(-100, 101, shape).astype(dtype)
    return found


def rewritten(rewrite: Rewrite, model: Model, kind: str = "") -> Model:
    """The model with its ops of a kind, by default its first op, written anew; its ports stay what they were."""
    graph = model.graph()
    ops = frozenset(op.index for op in graph.ops if op.name == kind) if kind else frozenset({0})
    made = rewrite.apply(model, ops, {})
    again = made.graph()
    for before, after in ((graph.inputs, again.inputs), (graph.outputs, again.outputs)):
        assert [port.name for port in before] == [port.name for port in after]
        facts = [
            [(g.tensors[p.tensor].shape, g.tensors[p.tensor].type, g.tensors[p.tensor].grid) for p in ports]
            for g, ports in ((graph, before), (again, after))
        ]
        assert facts[0] == facts[1]
    return made


def same(
    evaluate: Evaluate, rewrite: Rewrite, model: Model, kind: str = "", *, within: float = 0.0, steps: int = 0
) -> Model:
    """The model written anew, after both were run: equal values, or `within` float32 roundings of the largest, or
    integers up to so many steps apart."""
    made, inputs = rewritten(rewrite, model, kind), values_for(model)
    before, after = evaluate(model, inputs), evaluate(made, inputs)
    for name, values in before.items():
        assert after[name].dtype == values.dtype
        if within:
            bound = within * 2.0**-24 * float(np.abs(values).max(initial=0.0))
            np.testing.assert_allclose(after[name], values, rtol=0, atol=bound)
        elif steps:
            assert np.abs(after[name].astype(np.int64) - values).max() <= steps
        else:
            np.testing.assert_array_equal(after[name], values)
    return made


def names(model: Model) -> list[str]:
    """The kinds of op, in order."""
    return [op.name for op in model.graph().ops]


def ints(graph: GraphBuilder, *values: int) -> int:
    return graph.constant(i32(values))


def one(build: Callable[[Drawn], int], kind: str = "float32") -> Model:
    """A model of what is built, given out as `y`."""
    graph = Drawn(kind)
    graph.output(build(graph), "y")
    return graph.build()


def broadcast(shape: Sequence[int], wanted: Sequence[int]) -> Callable[[Drawn], int]:
    def build(g: Drawn) -> int:
        return g.made("BROADCAST_TO", [g.given(shape), ints(g, *wanted)], wanted, table("BroadcastTo"), version=2)

    return build


def transposed_conv(
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
    depth: tuple[int, int] = (3, 2),
    batch: int = 1,
    *,
    bias: bool = False,
    activation: int = 0,
) -> Callable[[Drawn], int]:
    """TRANSPOSE_CONV of a map of that size from depth[0] to depth[1] channels."""

    def build(g: Drawn) -> int:
        same = padding == "SAME"
        out = [n * s if same else (n - 1) * s + k for n, s, k in zip(size, strides, kernel, strict=True)]
        shape = (batch, *out, depth[1])
        options = table(
            "TransposeConv",
            strideH=strides[0],
            strideW=strides[1],
            padding=getattr(schema.Padding, padding),
            fusedActivationFunction=activation,
        )
        drawn = g.rng.integers(-8, 9, (depth[1], *kernel, depth[0]))
        if g.kind == "int8":
            weights = g.on_grid(g.constant(drawn.astype(np.int8)), np.linspace(0.01, 0.02, depth[1]).tolist())
        else:
            weights = g.constant((drawn / 8).astype(np.float32))
        feeds = [ints(g, *shape), weights, g.given((batch, *size, depth[0]))]
        if bias:
            feeds.append(g.constant((g.rng.integers(-8, 9, depth[1]) / 4).astype(np.float32)))
        return g.made("TRANSPOSE_CONV", feeds, shape, options, version=3 if bias else 1)

    return build


def sliced(
    shape: Sequence[int], spans: Sequence[tuple[int, int, int]], out: Sequence[int], **masks: int
) -> Callable[[Drawn], int]:
    """STRIDED_SLICE by (begin, end, step) of each axis."""

    def build(g: Drawn) -> int:
        feeds = [ints(g, *column) for column in zip(*spans, strict=True)]
        return g.made("STRIDED_SLICE", [g.given(shape), *feeds], out, table("StridedSlice", **masks))

    return build
