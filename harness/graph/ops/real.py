"""A quantized graph in real numbers: what its ops mean, computed in float32 by the host's plain kernels.

An op on quantized tensors stands for the same op on the numbers that their integers stand for, saturated at the ends of
the result's grid. ML Drift computes just that: its parser dequantizes constants and inputs, every op works on floats,
and a result that another op reads is rounded to its grid (QUANTIZE_AND_DEQUANTIZE). The plain CPU kernels compute with
integers and fixed-point factors. Both err by rounding, each in its own way, so that neither is exact for the other.

`with_real_values` rewrites a model to float32 throughout, with ports in real numbers and no result rounded to a grid.
Rounding to it is half a step at most, which is for the judge to grant.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, TensorIndex
from harness.graph import edit
from harness.graph.grid import Grid
from harness.graph.model import Graph, Model, Op, Port
from harness.graph.ops.hybrid import MOST_BYTES, real_values, unpacks, with_real_weights
from harness.graph.surgery import closure

# Ops whose float kernel is, on real numbers, what their integer kernel is meant to be. Others, those with a state or
# with integers inside (LSTM, SVDF), stay integer ops between QUANTIZE and DEQUANTIZE.
REAL_OPS = frozenset((
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL",
    "ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM", "ABS", "NEG", "SQUARE", "SQRT", "RSQRT",
    "EXP", "LOG", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "PRELU", "ELU", "GELU", "HARD_SWISH",
    "LOGISTIC", "TANH", "SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION",
    "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "ARG_MAX", "ARG_MIN",
    "EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL",
    "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "PAD", "PADV2", "MIRROR_PAD", "SLICE", "STRIDED_SLICE", "SPLIT",
    "SPLIT_V", "CONCATENATION", "PACK", "UNPACK", "TILE", "BROADCAST_TO", "GATHER", "GATHER_ND", "REVERSE_V2",
    "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "SELECT", "SELECT_V2",
    "DYNAMIC_UPDATE_SLICE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
))  # fmt: skip
_INTEGERS = frozenset(("INT8", "UINT8", "INT4"))
# On real numbers these are the identity, up to the grid.
_CONVERSIONS = frozenset(("QUANTIZE", "DEQUANTIZE"))


def grids(graph: Graph) -> dict[TensorIndex, Grid]:
    """Tensors that ops make, or that are given, as integers on a grid. What an op keeps for itself, a state or a value
    on the way, stays as its kernel wants it."""
    known = {*graph.producer, *(port.tensor for port in graph.inputs)}
    return {t: grid for t in sorted(known) if (grid := graph.tensors[t].grid) is not None}


def unpacked_weights(graph: Graph) -> bool:
    """Whether an op has integer weights that a GPU unpacks in float16."""
    return any(
        unpacks(op) and len(op.inputs) > 1 and op.inputs[1] >= 0 and graph.tensors[op.inputs[1]].type in _INTEGERS
        for op in graph.ops
    )


def with_real_values(model: Model, *, unpacked: bool = False) -> Model:
    """The model in real numbers: its quantized tensors are float32 and keep their indices, ports their names. Itself
    where it has no quantized tensors and no integer weights. Constants beyond `MOST_BYTES`, or quantized in a form that
    is not known, leave their op an integer one. `unpacked`: with the weights of `unpacked_weights` as a GPU has them.
    """
    model = with_real_weights(model, unpacked=unpacked)
    if not grids(model.graph()):
        return model
    return _Realized(model, unpacked).model()


def real(graph: Graph, tensor: TensorIndex, values: Array) -> Array:
    """A tensor's values as the real numbers that they stand for."""
    grid = graph.tensors[tensor].grid
    return values if grid is None else grid.real(values)


def real_inputs(model: Model, inputs: dict[str, Array]) -> dict[str, Array]:
    """A quantized model's inputs as the real numbers that they stand for."""
    return _in_real_numbers(model, inputs, model.graph().inputs)


def real_outputs(model: Model, outputs: dict[str, Array]) -> dict[str, Array]:
    """Its outputs likewise."""
    return _in_real_numbers(model, outputs, model.graph().outputs)


def _in_real_numbers(model: Model, values: dict[str, Array], ports: tuple[Port, ...]) -> dict[str, Array]:
    graph = model.graph()
    tensors = {port.name: port.tensor for port in ports}
    return {name: real(graph, tensors[name], x) if name in tensors else x for name, x in values.items()}


def rounded_inside(graph: Graph) -> frozenset[str]:
    """Outputs on the way to which other tensors are rounded to a grid."""
    made = {t for t in grids(graph) if t in graph.producer}
    found = set()
    for port in graph.outputs:
        ops, _ = closure(graph, port.tensor, frozenset())
        if any(t in made and t != port.tensor for o in ops for t in graph.ops[o].outputs):
            found.add(port.name)
    return frozenset(found)


class _Realized:
    def __init__(self, model: Model, unpacked: bool) -> None:
        self._model, self._graph, self._unpacked = model, model.graph(), unpacked
        self._grids = grids(self._graph)
        self._root = root = copy(model.root)
        root.operatorCodes, root.buffers = list(root.operatorCodes), list(root.buffers)
        root.subgraphs = list(root.subgraphs)
        root.subgraphs[self._graph.subgraph] = self._sub = copy(root.subgraphs[self._graph.subgraph])
        self._old = self._sub.operators
        self._sub.tensors = [self._real(t) if t in self._grids else x for t, x in enumerate(self._sub.tensors)]
        self._ops: list[Any] = []
        self._constants: dict[TensorIndex, TensorIndex] = {}
        self._left = MOST_BYTES

    def model(self) -> Model:
        for op in self._graph.ops:
            touched = [t for t in (*op.inputs, *op.outputs) if t in self._grids]
            if not touched:
                self._ops.append(self._old[op.index])
            elif not self._on_grids(op):
                self._keep(op)
            elif op.name in _CONVERSIONS:
                self._saturate(op.inputs[0], op.outputs[0], self._grids[touched[-1]])
            elif op.name in REAL_OPS and self._has_real_constants(op):
                self._compute(op)
            else:
                self._keep(op)
        self._sub.operators = self._ops
        return Model(self._root)

    def _on_grids(self, op: Op) -> bool:
        """Whether what an op reads and makes is real numbers now; 32-bit integers with a scale, for one, are not."""
        tensors = [self._graph.tensors[t] for t in (*op.inputs, *op.outputs) if t >= 0]
        return all(t.constant or not t.quantized or t.index in self._grids for t in tensors)

    def _compute(self, op: Op) -> None:
        table = copy(self._old[op.index])
        table.inputs = np.asarray([self._constants.get(t, t) for t in op.inputs], np.int32)
        free = {t: self._like(t) if t in self._grids else t for t in op.outputs}
        table.outputs = np.asarray([free[t] for t in op.outputs], np.int32)
        self._ops.append(table)
        for t, unbounded in free.items():
            if t in self._grids:
                self._saturate(unbounded, t, self._grids[t])

    def _keep(self, op: Op) -> None:
        """An integer op: quantized before, dequantized behind."""
        table = copy(self._old[op.index])
        stored = {t: self._stored(t) for t in dict.fromkeys((*op.inputs, *op.outputs)) if t in self._grids}
        for t in dict.fromkeys(op.inputs):
            if t in stored:
                self._convert("QUANTIZE", t, stored[t])
        table.inputs = np.asarray([stored.get(t, t) for t in op.inputs], np.int32)
        table.outputs = np.asarray([stored.get(t, t) for t in op.outputs], np.int32)
        self._ops.append(table)
        for t in op.outputs:
            if t in stored:
                self._convert("DEQUANTIZE", stored[t], t)

    def _has_real_constants(self, op: Op) -> bool:
        """Gives the op's quantized constants as real ones, if that can be."""
        graph = self._graph
        for place, t in enumerate(op.inputs):
            if t < 0 or t in self._constants or not (graph.tensors[t].constant and graph.tensors[t].quantized):
                continue
            size = 4 * graph.tensors[t].elements
            unpacked = self._unpacked and place == 1 and unpacks(op)
            values = real_values(self._model, graph, t, unpacked=unpacked) if size <= self._left else None
            if values is None:
                return False
            self._left -= size
            self._constants[t] = self._constant(values)
        return True

    def _saturate(self, source: TensorIndex, target: TensorIndex, grid: Grid) -> None:
        """Real numbers held within a grid's ends."""
        low, high = (self._constant(np.asarray([end], np.float32)) for end in grid.range)
        above = self._like(target)
        for kind, inputs, output in (("MAXIMUM", (source, low), above), ("MINIMUM", (above, high), target)):
            self._op(kind, inputs, output, schema.MaximumMinimumOptionsT())

    def _convert(self, kind: str, source: TensorIndex, target: TensorIndex) -> None:
        options = schema.QuantizeOptionsT() if kind == "QUANTIZE" else schema.DequantizeOptionsT()
        self._op(kind, (source,), target, options)

    def _op(self, kind: str, inputs: tuple[TensorIndex, ...], output: TensorIndex, options: Any) -> None:
        code = edit.operator_code(self._root.operatorCodes, kind)
        self._ops.append(edit.operator(code, inputs, [output], options))

    def _real(self, t: TensorIndex) -> Any:
        table = copy(self._sub.tensors[t])
        table.type, table.quantization = schema.TensorType.FLOAT32, None
        return table

    def _like(self, t: TensorIndex) -> TensorIndex:
        """A new float32 tensor of a tensor's shape."""
        table = self._real(t)
        table.name = f"{len(self._sub.tensors)}/real"
        self._sub.tensors.append(table)
        return len(self._sub.tensors) - 1

    def _stored(self, t: TensorIndex) -> TensorIndex:
        """A new tensor that holds a tensor's integers."""
        table = copy(self._model.root.subgraphs[self._graph.subgraph].tensors[t])
        table.name = f"{len(self._sub.tensors)}/stored"
        self._sub.tensors.append(table)
        return len(self._sub.tensors) - 1

    def _constant(self, values: Array) -> TensorIndex:
        return edit.constant(self._root.buffers, self._sub.tensors, f"{len(self._sub.tensors)}/real", values)
