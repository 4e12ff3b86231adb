"""Ops on constants alone, as the constants that they make.

Delegates refuse such ops, each wanting a tensor that is there at run time; converters leave them in where they do not
compute what they export. A DEQUANTIZE of float16 weights is unpacked by the delegate, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.graph.model import Graph, Model, Op
from harness.graph.ops.constants import computed
from harness.graph.ops.hybrid import real_values
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.keep_batch import keep_batch, meets_constant


def with_constants(model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
    """The model with the results of `ops`, and of all that they follow from, as constants; of an op that has a run-time
    operand, what its other operands are computed from. Where such a constant is one that a delegate misreads
    (`harness.remedies.keep_batch`), the chain around it is in rank 4. `peaks` is not used.

    Raises:
        CannotRewrite: one of `ops` follows from no constants by ops that are computed here.
    """
    rebuild = Rebuild(model)
    graph, folding = rebuild.graph, _Folding(rebuild)
    outputs = {port.tensor: port.name for port in graph.outputs}
    for o in sorted(ops):
        chosen = {o} if o in graph.constant_ops else {graph.producer.get(t, -1) for t in graph.ops[o].inputs}
        found = [graph.ops[each] for each in sorted(chosen & graph.constant_ops)]
        found = [op for op in found if not is_packed(graph, op)]
        if not found:
            raise CannotRewrite("it reads nothing that follows from constants, but weights stored in float16")
        for op in found:
            given = next((outputs[t] for t in op.outputs if t in outputs), None)
            if given is not None:
                raise CannotRewrite(f"the result of {op.name} #{op.index} is the model's output '{given}'")
            folding.fold(op)
    for op in graph.ops:
        if op.outputs and op.outputs[0] in folding.values and op.outputs[0] not in outputs:
            rebuild.replace(op.outputs[0], rebuild.constant(folding.values[op.outputs[0]]))
        else:
            rebuild.keep(op)
    return _well_laid(rebuild, rebuild.finish())


def _well_laid(before: Rebuild, model: Model) -> Model:
    """The model with chains in rank 4 where a constant that was computed before would be misread as it is now."""
    now = Rebuild(model)
    were = {_name(before, op) for op in before.graph.ops if meets_constant(before, op)}
    meet = [op.index for op in now.graph.ops if meets_constant(now, op) and _name(now, op) not in were]
    return keep_batch(model, frozenset(meet), {}) if meet else model


def _name(rebuild: Rebuild, op: Op) -> str:
    return rebuild.graph.tensors[op.outputs[0]].name if op.outputs else ""


def is_packed(graph: Graph, op: Op) -> bool:
    """Whether an op unpacks float16 weights, which delegates do themselves."""
    return op.name == "DEQUANTIZE" and graph.tensors[op.inputs[0]].type == "FLOAT16"


class _Folding:
    """Values of tensors that follow from constants, by tensor."""

    def __init__(self, rebuild: Rebuild) -> None:
        self._rebuild = rebuild
        self.values: dict[TensorIndex, Array] = {}

    def fold(self, op: Op) -> None:
        """Compute what an op gives, and before it what it reads; ops come in the order of the graph. Raises
        CannotRewrite."""
        for before in self._needed(op):
            self._compute(before)

    def _needed(self, op: Op) -> list[Op]:
        """The ops that are yet to be computed for this one, and itself, in order."""
        graph, found, left = self._rebuild.graph, set[OpIndex](), [op.index]
        while left:
            o = left.pop()
            if o in found or graph.ops[o].outputs[0] in self.values:
                continue
            found.add(o)
            feeds = [t for t in graph.ops[o].inputs if t >= 0 and self._rebuild.values(t) is None]
            left += [graph.producer[t] for t in feeds if t in graph.producer]
        return [graph.ops[o] for o in sorted(found)]

    def _compute(self, op: Op) -> None:
        rebuild, made = self._rebuild, op.outputs[0]
        tensors = [rebuild.graph.tensors[t] for t in (*op.inputs, *op.outputs) if t >= 0]
        unpacked = real_values(rebuild.model, rebuild.graph, op.inputs[0]) if op.name == "DEQUANTIZE" else None
        if unpacked is not None:
            self.values[made] = unpacked
            return
        if len(op.outputs) != 1 or tensors[-1].shape is None or any(tensor.quantized for tensor in tensors):
            raise CannotRewrite(f"{op.name} #{op.index} has several results, an open shape, or quantized values")
        operands = [self._value(t) for t in op.inputs if t >= 0]
        known = [values for values in operands if values is not None]
        found = None
        if len(known) == len(operands) and tensors[-1].dtype is not None:
            found = computed(op.name, rebuild.options(op), known, tensors[-1].shape, np.dtype(tensors[-1].dtype))
        if found is None:
            raise CannotRewrite(f"{op.name} #{op.index} is not computed here")
        self.values[made] = found

    def _value(self, t: TensorIndex) -> Array | None:
        return self.values[t] if t in self.values else self._rebuild.values(t)
