"""Which inputs an output is a sum with: residual models, which add something learned to what they are given."""

from __future__ import annotations

from harness.core.arrays import TensorIndex
from harness.graph.model import Graph

# Ops that carry the elements of their first operand on, and those that carry either's, as they are or by a factor.
_CARRY = frozenset(("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"))
_ADD = frozenset(("ADD", "SUB"))


def carried(graph: Graph, tensor: TensorIndex) -> tuple[str, ...]:
    """Names of the inputs that reach a tensor through sums, factors that are constant, and changes of shape alone. A
    normalization, whose factor is computed, carries nothing: that random numbers are normalized already is chance."""
    names = {port.tensor: port.name for port in graph.inputs}
    found: dict[str, None] = {}
    stack, seen = [tensor], {tensor}
    while stack:
        t = stack.pop()
        if t in names and t != tensor:
            found[names[t]] = None
            continue
        op = graph.ops[graph.producer[t]] if t in graph.producer else None
        if op is None:
            continue
        behind = [i for i in op.inputs if i >= 0 and not graph.tensors[i].constant]
        if op.name in _CARRY:
            behind = behind[:1]
        elif op.name not in _ADD and not (op.name == "MUL" and len(behind) == 1 and len(op.inputs) == 2):
            continue
        stack += [i for i in behind if i not in seen]
        seen.update(behind)
    return tuple(found)
