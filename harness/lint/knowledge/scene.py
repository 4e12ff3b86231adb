"""A model's graph as patterns read it: ops, tensors, and what the delegate sees of them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.graph.model import Graph, Model, Op, Tensor
from harness.graph.ops.interval import Ranges
from harness.lint.knowledge.expression import UNKNOWN, Described
from harness.lint.operands import stored

MOST_VALUES = 64
"""Elements of a constant that a pattern may read one by one."""


class Scene(Described):
    """One subgraph of a model. `ops` in an expression is how many the delegate counts: constants' own are left out."""

    def __init__(self, model: Model, graph: Graph) -> None:
        self.model, self.graph = model, graph
        self.outputs = frozenset(port.tensor for port in graph.outputs)
        self.inputs = frozenset(port.tensor for port in graph.inputs)
        self._tensors: dict[TensorIndex, TensorView] = {}

    @cached_property
    def ops(self) -> int:
        """Ops that compute at run time, RESHAPEs left out."""
        return sum(op.name != "RESHAPE" and op.index not in self.graph.constant_ops for op in self.graph.ops)

    @cached_property
    def ranges(self) -> Ranges:
        """Between which bounds its tensors' values are known to lie."""
        return Ranges(self.model, self.graph)

    def tensor(self, index: TensorIndex) -> TensorView:
        """A tensor as patterns see it."""
        if index not in self._tensors:
            self._tensors[index] = TensorView(self, self.graph.tensors[index])
        return self._tensors[index]

    def op(self, op: Op) -> OpView:
        """An op as patterns see it."""
        return OpView(self, op)


class TensorView(Described):
    """A tensor. `role` is what it is to the delegate: `constant` (its values are read from the file), `folded`
    (computed from constants alone, by ops that the delegate refuses), or `runtime`."""

    def __init__(self, scene: Scene, tensor: Tensor) -> None:
        self._scene, self._tensor = scene, tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorView) and self.index == other.index

    def __hash__(self) -> int:
        return hash(self.index)

    @property
    def scene(self) -> Scene:
        """Where it is."""
        return self._scene

    @property
    def tensor(self) -> Tensor:
        """As the graph has it."""
        return self._tensor

    @property
    def index(self) -> TensorIndex:
        """Its place in the subgraph."""
        return self._tensor.index

    @property
    def shape(self) -> tuple[int, ...] | None:
        """None where the file leaves it open."""
        return self._tensor.shape

    @property
    def static(self) -> bool:
        """Whether the file gives its shape."""
        return self._tensor.shape is not None

    @property
    def rank(self) -> int:
        """Axes."""
        return len(self._known)

    @property
    def elements(self) -> int:
        """How many values it has."""
        return int(np.prod(self._known, dtype=np.int64))

    @property
    def batch(self) -> tuple[int, ...]:
        """Its axes before the last two, with ones in front, as a product of two matrices in rank 4 has them."""
        return (1,) * (4 - len(self._known)) + self._known[:-2]

    @property
    def type(self) -> str:
        """Of an element, as the file says."""
        return self._tensor.type

    @cached_property
    def role(self) -> str:
        """`constant`, `folded` or `runtime`."""
        if self._source is not None:
            return "constant"
        return "folded" if self._scene.graph.producer.get(self.index) in self._scene.graph.constant_ops else "runtime"

    @cached_property
    def _source(self) -> Tensor | None:
        return stored(self._scene.graph, self._tensor)

    @property
    def held(self) -> str:
        """The type in which a constant is stored: FLOAT16 behind a DEQUANTIZE."""
        return self.source.type

    @property
    def source(self) -> Tensor:
        """The tensor whose buffer the delegate reads as this constant."""
        if self._source is None:
            raise ValueError("it is no constant")
        return self._source

    @property
    def quantized(self) -> bool:
        """Whether it, or what is stored of it, carries a scale."""
        return (self._source or self._tensor).quantized

    @property
    def is_input(self) -> bool:
        """Whether the model's caller gives it."""
        return self.index in self._scene.inputs

    @property
    def is_output(self) -> bool:
        """Whether the model gives it out."""
        return self.index in self._scene.outputs

    @property
    def variable(self) -> bool:
        """Whether it keeps its values from one run to the next."""
        return bool(self._scene.model.root.subgraphs[self._scene.graph.subgraph].tensors[self.index].isVariable)

    @property
    def readers(self) -> int:
        """Ops that read it."""
        return len(self._scene.graph.consumers.get(self.index, ()))

    @cached_property
    def array(self) -> Array | None:
        """A constant's values as they are stored; None for what cannot be read (sparse, 4 bits, text)."""
        if self._source is None:
            return None
        return self._scene.model.constant(self._source.index, self._scene.graph.subgraph)

    @property
    def values(self) -> tuple[int | float, ...]:
        """The values of a small constant, one after the other."""
        held = self._numbers
        if held.size > MOST_VALUES:
            raise ValueError("too many to be read one by one")
        return tuple(held.reshape(-1).tolist())

    @property
    def least(self) -> float:
        """The smallest value of a constant."""
        return float(self._numbers.min())

    @property
    def largest(self) -> float:
        """The largest value of a constant."""
        return float(self._numbers.max())

    @property
    def symmetric(self) -> bool:
        """Whether a constant matrix is its own transpose."""
        held = self._numbers
        return held.shape == held.T.shape and bool((held == held.T).all())

    @property
    def _numbers(self) -> Array:
        if self.array is None:
            raise ValueError("its values are not known")
        return self.array

    @property
    def _known(self) -> tuple[int, ...]:
        if self._tensor.shape is None:
            raise ValueError("its shape is open")
        return self._tensor.shape


class OpView(Described):
    """An op: `name`, `custom`, `reads` (how many operands it has), and its options by the names that the schema's own
    objects have, `strideH`, `adjY`, `fusedActivationFunction`, …"""

    def __init__(self, scene: Scene, op: Op) -> None:
        self._scene, self._op = scene, op
        raw = scene.model.root.subgraphs[scene.graph.subgraph].operators[op.index]
        self._options = raw.builtinOptions

    @property
    def name(self) -> str:
        """Its kind."""
        return self._op.name

    @property
    def seen_as(self) -> str:
        """The kind that the delegate takes it for: a product of a tensor with itself is SQUARE, twice a tensor MUL."""
        if len(self._op.inputs) == 2 and self._op.inputs[0] == self._op.inputs[1]:
            return {"MUL": "SQUARE", "ADD": "MUL"}.get(self._op.name, self._op.name)
        return self._op.name

    @property
    def custom(self) -> str:
        """The name of a custom op, else empty."""
        return self._op.custom or ""

    @property
    def reads(self) -> int:
        """Operands that are there."""
        return sum(t >= 0 for t in self._op.inputs)

    @property
    def folded(self) -> bool:
        """Whether it computes from constants alone."""
        return self._op.index in self._scene.graph.constant_ops

    def __getattr__(self, option: str) -> Any:
        if option.startswith("_"):
            raise AttributeError(option)
        held = getattr(self._options, option, UNKNOWN) if self._options is not None else UNKNOWN
        return held if isinstance(held, bool | int | float) else UNKNOWN
