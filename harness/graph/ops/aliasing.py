"""Tensors that LiteRT's CPU interpreter would overwrite while they are still needed.

The interpreter gives a RESHAPE its operand's memory, and lets an op such as ADD write over an operand that nothing else
reads. In a chain of these it counts the readers of the chain's first tensor and of the operand, not those of the
tensors in between (`ArenaPlanner::IdentifyInPlaceTensors` in tflite/arena_planner.cc). So with q = a + b,
s = reshape(q) + c, and q read again later, s is written over q. Release 2.3.0 does this, with XNNPACK off.

A tensor that is an output has memory of its own. Making the RESHAPE's result one keeps the reference right.
"""

from __future__ import annotations

from harness.core.arrays import TensorIndex
from harness.graph.model import Graph, Model
from harness.graph.surgery import tap

# Ops whose result is their first operand's memory (`kTfLiteInplaceOpDataUnmodified`).
_SHARES = frozenset(("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BITCAST"))


def at_risk(graph: Graph) -> tuple[TensorIndex, ...]:
    """Results of RESHAPE and its like whose operand has other readers too; a few more than are overwritten."""
    found = []
    for op in graph.ops:
        if op.name in _SHARES and op.index not in graph.constant_ops and op.inputs and op.inputs[0] in graph.producer:
            readers = graph.consumers.get(op.inputs[0], ())
            if len(readers) > 1 and graph.consumers.get(op.outputs[0]):
                found.append(op.outputs[0])
    return tuple(found)


def with_memory_of_their_own(model: Model) -> Model:
    """The model with such tensors as further outputs, behind its own; itself where there is none."""
    tensors = at_risk(model.graph())
    return tap(model, tensors, "direct")[0] if tensors else model
