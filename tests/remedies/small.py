"""Models of one op, with values that float32 adds up exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.graph.build import GraphBuilder
from harness.graph.model import Model

RNG = np.random.default_rng(4)


def quarters(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiples of a quarter: float32 holds a sum of thousands of their products exactly, in whatever order."""
    return np.round(4 * values) / np.float32(4)


def weights(*shape: int) -> NDArray[np.float32]:
    return quarters(RNG.standard_normal(shape).astype(np.float32)) / np.float32(16)


def one_op(build: Callable[[GraphBuilder], int]) -> Model:
    graph = GraphBuilder()
    graph.output(build(graph), "y")
    return graph.build()


def table(kind: str, **fields: Any) -> Any:
    """The schema's options `kind`, with those of its fields that are not left as they are."""
    options = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        setattr(options, name, value)
    return options
