"""What a graph that is refused aloud says of itself, and how one of a single op is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model

Input = tuple[tuple[int, ...], Any]
"""Of what comes at run time: its shape and its type."""


@dataclass(frozen=True)
class Refused:
    """A graph, the op that is refused (index and kind), and words that the refusal has. `release` is the one that was
    asked, of ai-edge-litert; the installed one without any."""

    name: str
    build: Callable[[], Model]
    op: tuple[int, str]
    said: str
    release: str = ""

    @property
    def device(self) -> str:
        """The host's GPU on that release."""
        return f"host@{self.release}" if self.release else "host"


def single(
    kind: str,
    shape: Sequence[int],
    result: Sequence[int],
    table: Any = None,
    constants: Sequence[Array] = (),
    *,
    takes: Any = np.float32,
    made: Any = np.float32,
    custom: str | None = None,
    version: int = 1,
) -> Callable[[], Model]:
    """One op of an input and constants."""
    return mixed(kind, [(tuple(shape), takes), *constants], result, table, made=made, custom=custom, version=version)


def mixed(
    kind: str,
    operands: Sequence[Input | Array],
    result: Sequence[int],
    table: Any = None,
    *,
    made: Any = np.float32,
    custom: str | None = None,
    version: int = 1,
) -> Callable[[], Model]:
    """One op of operands in order, inputs and constants."""

    def build() -> Model:
        graph = GraphBuilder()
        graph.output(put(graph, kind, operands, result, table, dtype=made, custom=custom, version=version), "out")
        return graph.build()

    return build


def put(
    graph: GraphBuilder,
    kind: str,
    operands: Sequence[Input | Array],
    result: Sequence[int],
    table: Any = None,
    **more: Any,
) -> int:
    """An op of inputs, called x, y, z, and constants, in order; its result."""
    names = iter("xyz")
    feeds = [graph.input(next(names), *o) if isinstance(o, tuple) else graph.constant(o) for o in operands]
    return graph.op(kind, feeds, result, table, **more)
