"""How the runtime divides a graph between a delegate and the CPU, as its source has it.

TFLite puts ops into subsets that each side can run in one go (`PartitionGraphIntoIndependentNodeSubsets` in
tflite/graph_info.cc, greedily): a subset is of the kind of the first op that is ready, and takes every op of that kind
that is ready or becomes so. The GPU delegate takes the largest of its subsets and leaves the others to the CPU
(`max_delegated_partitions` is 1), and a DEQUANTIZE of float16 constants belongs to the CPU as soon as anything does
(`FP16GraphPartitionHelper` in tflite/delegates/utils.cc).
"""

from __future__ import annotations

from harness.core.arrays import OpIndex
from harness.graph.model import Graph


def subsets(graph: Graph, unsupported: frozenset[OpIndex]) -> list[tuple[OpIndex, ...]]:
    """The delegate's subsets of ops, in the order in which they run; `unsupported` are the ops that it does not take.

    Raises:
        ValueError: an op waits for a tensor that nothing makes.
    """
    waiting = {t for op in graph.ops for t in op.outputs}
    left = [op.index for op in graph.ops]
    found = []
    while left:
        kind: bool | None = None
        subset: list[OpIndex] = []
        grown = True
        while grown:
            grown = False
            for o in list(left):
                if not waiting.isdisjoint(graph.ops[o].inputs):
                    continue
                kind = (o in unsupported) if kind is None else kind
                if (o in unsupported) is kind:
                    left.remove(o)
                    subset.append(o)
                    waiting.difference_update(graph.ops[o].outputs)
                    grown = True
        if not subset:
            raise ValueError(f"op {left[0]} waits for a tensor that nothing makes")
        if not kind:
            found.append(tuple(sorted(subset)))
    return found


def delegated(graph: Graph, unsupported: frozenset[OpIndex]) -> tuple[OpIndex, ...] | None:
    """The ops that the delegate runs; None where two subsets are the largest, for which one it takes is not stated."""
    if not unsupported:
        return tuple(op.index for op in graph.ops)
    found = sorted(subsets(graph, unsupported | half_weights(graph)), key=len, reverse=True)
    if len(found) > 1 and len(found[0]) == len(found[1]):
        return None
    return found[0] if found else ()


def half_weights(graph: Graph) -> frozenset[OpIndex]:
    """The ops that turn float16 constants into float32."""
    return frozenset(
        op.index
        for op in graph.ops
        if op.name == "DEQUANTIZE"
        and graph.tensors[op.inputs[0]].type == "FLOAT16"
        and graph.tensors[op.inputs[0]].constant
    )
