"""A pattern: ops that hang together, names for the tensors between them, and conditions; and where a graph has it.

The first op of a pattern is the one that is accused. Each further op makes or reads a tensor that an op before it in
the pattern names. One name is one tensor; two names may be the same one, unless a condition says otherwise. A graph has
the pattern at an op once, however many ways there are to give the names: the first is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.graph.model import Op
from harness.lint.knowledge.expression import Expression
from harness.lint.knowledge.functions import FUNCTIONS
from harness.lint.knowledge.scene import Scene, TensorView

ANY, ABSENT, REST = "", "-", "..."
"""In a list of operands: whatever it is, one that is not there, and any more of them."""
GRAPH = "graph"


@dataclass(frozen=True)
class OpPattern:
    """One op: its name in the pattern, the kinds that it may be (none: any), its operands and results by name.
    `either_order`: the first two operands may be exchanged. `touches` names any one of its operands and results, of a
    further op one that it reads."""

    name: str
    kinds: frozenset[str]
    reads: tuple[str, ...] = (REST,)
    makes: tuple[str, ...] = (REST,)
    either_order: bool = False
    touches: str = ""

    def named(self) -> set[str]:
        """The tensors that it names."""
        return {name for name in (*self.reads, *self.makes, self.touches) if name not in (ANY, ABSENT, REST)}


@dataclass(frozen=True)
class TensorPattern:
    """What a tensor must be; None: anything. Ranks are of static shapes."""

    roles: frozenset[str] | None = None
    types: frozenset[str] | None = None
    ranks: frozenset[int] | None = None

    def fits(self, tensor: TensorView) -> bool:
        """Whether a tensor is so."""
        if self.roles is not None and tensor.role not in self.roles:
            return False
        if self.types is not None and tensor.type not in self.types:
            return False
        return self.ranks is None or (tensor.static and tensor.rank in self.ranks)


@dataclass(frozen=True)
class Match:
    """Where a graph has a pattern: the accused op, and the ops and tensors by name."""

    op: Op
    ops: Mapping[str, Op]
    tensors: Mapping[str, TensorView]
    scene: Scene

    @property
    def names(self) -> dict[str, Any]:
        """What an expression reads."""
        return {GRAPH: self.scene, **{n: self.scene.op(op) for n, op in self.ops.items()}, **self.tensors}


@dataclass(frozen=True)
class Pattern:
    """Ops, tensors, shorthands (`let`) for the conditions, and the conditions (`where`), which must all hold."""

    ops: tuple[OpPattern, ...]
    tensors: Mapping[str, TensorPattern] = field(default_factory=dict)
    let: Mapping[str, Expression] = field(default_factory=dict)
    where: tuple[Expression, ...] = ()

    def matches(self, scene: Scene, among: Iterable[Op] | None = None) -> Iterator[Match]:
        """The accused ops, in the graph's order: all of the graph's, or those `among` some."""
        for op in scene.graph.ops if among is None else among:
            found = next(self._from(scene, op), None)
            if found is not None:
                yield found

    def values(self, match: Match) -> dict[str, Any]:
        """All that an expression reads, the shorthands too."""
        names = match.names
        for name, expression in self.let.items():
            names[name] = expression.value(names, FUNCTIONS)
        return names

    def _from(self, scene: Scene, op: Op) -> Iterator[Match]:
        for tensors in self._bound(scene, self.ops[0], op, {}):
            yield from self._more(scene, 1, {self.ops[0].name: op}, tensors)

    def _more(self, scene: Scene, place: int, ops: dict[str, Op], tensors: dict[str, TensorView]) -> Iterator[Match]:
        """The rest of the pattern, from an op on."""
        if place == len(self.ops):
            match = Match(ops[self.ops[0].name], dict(ops), tensors, scene)
            names = self.values(match)
            if all(condition.holds(names, FUNCTIONS) for condition in self.where):
                yield match
            return
        wanted = self.ops[place]
        for op in self._candidates(scene, wanted, tensors):
            if op in ops.values():
                continue
            for bound in self._bound(scene, wanted, op, tensors):
                yield from self._more(scene, place + 1, {**ops, wanted.name: op}, bound)

    @staticmethod
    def _candidates(scene: Scene, wanted: OpPattern, tensors: Mapping[str, TensorView]) -> list[Op]:
        """Ops that make or read a tensor which is named already, as the wanted one does. What a further op `touches` it
        reads."""
        graph = scene.graph
        for name in wanted.makes:
            if name in tensors:
                made = graph.producer.get(tensors[name].index)
                return [] if made is None else [graph.ops[made]]
        for name in (*wanted.reads, wanted.touches):
            if name in tensors:
                return [graph.ops[o] for o in graph.consumers.get(tensors[name].index, ())]
        return []

    def _bound(
        self, scene: Scene, wanted: OpPattern, op: Op, tensors: Mapping[str, TensorView]
    ) -> Iterator[dict[str, TensorView]]:
        """The ways to name an op's operands and results."""
        if wanted.kinds and op.name not in wanted.kinds:
            return
        orders = [op.inputs]
        if wanted.either_order and len(op.inputs) > 1:
            orders.append((op.inputs[1], op.inputs[0], *op.inputs[2:]))
        for order in orders:
            named = self._named(scene, wanted.reads, order, dict(tensors))
            named = None if named is None else self._named(scene, wanted.makes, op.outputs, named)
            if named is None:
                continue
            if not wanted.touches:
                yield named
                continue
            for t in dict.fromkeys((*op.inputs, *op.outputs)):
                if t >= 0 and (touched := self._named(scene, (wanted.touches,), (t,), dict(named))) is not None:
                    yield touched

    def _named(
        self, scene: Scene, wanted: tuple[str, ...], given: tuple[int, ...], tensors: dict[str, TensorView]
    ) -> dict[str, TensorView] | None:
        if wanted and wanted[-1] == REST:
            wanted = wanted[:-1]
            given = given[: len(wanted)]
        if len(wanted) != len(given):
            return None
        for name, t in zip(wanted, given, strict=True):
            if name == ANY:
                continue
            if t < 0 or name == ABSENT:
                if t >= 0 or name != ABSENT:
                    return None
                continue
            tensor = scene.tensor(t)
            if name in tensors and tensors[name] != tensor:
                return None
            if not self.tensors.get(name, TensorPattern()).fits(tensor):
                return None
            tensors[name] = tensor
        return tensors
