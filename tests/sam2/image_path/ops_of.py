"""What a converted model consists of, read off the file itself."""

from __future__ import annotations

import collections
import math
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from harness.sam2.shared.modules import tflite

OP_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def op_counts(path: Path) -> collections.Counter[str]:
    model = tflite.read(path.read_bytes())
    return collections.Counter(
        OP_NAMES[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators
    )


def largest_rank(path: Path) -> int:
    return max(len(tensor.shape) for tensor in tflite.read(path.read_bytes()).subgraphs[0].tensors)


def read_ops(content: bytes) -> list[tuple[str, list[list[int]], list[list[int]]]]:
    """Each op with the shapes of what it reads at run time and of its constants."""
    model = tflite.read(content)
    (graph,) = model.subgraphs
    found = []
    for op in graph.operators:
        shapes: tuple[list[list[int]], list[list[int]]] = ([], [])
        for tensor in (graph.tensors[index] for index in op.inputs):
            shapes[model.buffers[tensor.buffer].data is not None].append([int(size) for size in tensor.shape])
        found.append((OP_NAMES[model.operatorCodes[op.opcodeIndex].builtinCode], *shapes))
    return found


def baked(ops: list[tuple[str, list[list[int]], list[list[int]]]]) -> list[list[int]]:
    """The shapes of added constants with 64 values for each of the 8 x 8 places: the image's positions, and the "no
    mask" prompt where it is baked so large. What they are added to has the same shape."""
    found = [(read, const) for op, read, const in ops if op == "ADD" and const and math.prod(const[0]) == 64 * 64]
    assert all(read == const for read, const in found)
    return [shape for _, (shape,) in found]


def product_ranks(ops: list[tuple[str, list[list[int]], list[list[int]]]]) -> set[int]:
    return {len(shape) for op, read, const in ops if op == "BATCH_MATMUL" for shape in read + const}
