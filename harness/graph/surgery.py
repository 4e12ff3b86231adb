"""Cutting and tapping: new models made of parts of an existing one.

Nothing here changes the model it is given. The new models share its constant data; each has one signature, on
subgraph 0, whose ports keep the names of the tensors they stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.graph import edit, fold
from harness.graph.model import Graph, Model, Port, indices
from harness.graph.subgraphs import renumbered

_FLOAT32 = schema.TensorType.FLOAT32

TapKind = Literal["copy", "direct", "negated", "turned", "dequantized"]

# Ops that only move elements: they can be judged together with their reader when tapping all would cost too much.
MOVING_OPS = frozenset(
    ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "PAD", "PADV2", "SLICE", "STRIDED_SLICE", "CONCATENATION")
)


def tappable(graph: Graph) -> tuple[TensorIndex, ...]:
    """Tensors that a tap can read on a device: results that are float32, or integers on one grid, with a static,
    non-empty shape of rank at most 4, made by an op that is not constant-folded."""
    found = []
    for op in graph.ops:
        if op.index in graph.constant_ops:
            continue
        for t in op.outputs:
            tensor = graph.tensors[t]
            if tensor.type != "FLOAT32" and tensor.grid is None:
                continue
            if tensor.shape is not None and len(tensor.shape) <= 4 and tensor.elements:
                found.append(t)
    return tuple(found)


def isolate(model: Model, signature: str | None = None) -> Model:
    """The model with one signature, on subgraph 0. A model that already is so is returned as it is."""
    graph = model.graph(signature)
    if graph.subgraph == 0 and (not model.signatures or model.signatures[0] == graph.signature):
        return model
    root = _shallow(model)
    order = [graph.subgraph, *(i for i in range(len(root.subgraphs)) if i != graph.subgraph)]
    place = {old: new for new, old in enumerate(order)}
    root.subgraphs = [renumbered(root.subgraphs[i], place) for i in order]
    sub = root.subgraphs[0]  # two signatures may share a subgraph, which then has the outputs of both or of one
    sub.inputs = np.asarray([port.tensor for port in graph.inputs], np.int32)
    sub.outputs = np.asarray([port.tensor for port in graph.outputs], np.int32)
    _set_ports(root, graph.inputs, graph.outputs, graph.signature or "serving_default")
    return Model(root)


def tap(model: Model, tensors: Sequence[TensorIndex], kind: TapKind = "copy") -> tuple[Model, dict[TensorIndex, str]]:
    """Expose intermediate tensors as extra outputs: (model, tensor -> name of its output).

    `direct` makes the tensor itself an output. `copy` reads it through a RESHAPE to its own shape, `negated` through
    a NEG (exact in every float format; the reader has to undo it), `dequantized` a quantized one as real numbers: all
    three leave the tensor an intermediate for the compiler. What is too long for an output of a GPU `copy` reads in two
    dimensions, `turned` with rows and columns exchanged. The names are `tap_<tensor>`, or the output's own name for a
    tensor that is one already under `direct`.
    """
    graph = model.graph()
    root = _shallow(model)
    sub = root.subgraphs[0]
    outputs = list(graph.outputs)
    present = {port.tensor: port.name for port in outputs}
    taken = {port.name for port in outputs} | {tensor.name for tensor in graph.tensors}
    names: dict[TensorIndex, str] = {}
    for t in tensors:
        if kind == "direct" and t in present:
            names[t] = present[t]
            continue
        target = t
        name = fresh(f"tap_{t}", taken)
        if kind != "direct":
            if kind == "negated":
                target = _append_negation(root, t, name)
            elif kind == "dequantized":
                target = _append_dequantize(root, t, name)
            else:
                target = _append_reshape(root, t, name, fold.of_copy(graph.tensors[t].shape or (), kind == "turned"))
        names[t] = name
        outputs.append(Port(name, target))
    sub.outputs = np.asarray([port.tensor for port in outputs], np.int32)
    _set_ports(root, graph.inputs, outputs)
    return Model(root), names


def inject(model: Model, errors: Mapping[TensorIndex, Array]) -> Model:
    """The model with an error added to some intermediate tensors: each is replaced, for all its readers and as an
    output, by itself plus a constant of its shape. Errors of quantized tensors are in real units; what they make of
    the tensor is on its grid again."""
    root = _shallow(model)
    sub = root.subgraphs[0]
    ops = []

    def like(t: TensorIndex, name: str, kind: int | None = None) -> TensorIndex:
        return edit.like(sub.tensors, t, f"tensor_{t}/{name}", kind)

    def add(kind: str, inputs: Sequence[TensorIndex], output: TensorIndex, options: Any) -> None:
        ops.append(edit.operator(edit.operator_code(root.operatorCodes, kind), inputs, [output], options))

    for op in sub.operators:
        moved = [t for t in indices(op.outputs) if t in errors]
        op = copy(op)
        ops.append(op)
        for t in moved:
            exact = like(t, "without_error")
            op.outputs = np.asarray([exact if o == t else o for o in indices(op.outputs)], np.int32)
            values = np.asarray(errors[t], np.float32)
            error = edit.constant(root.buffers, sub.tensors, f"tensor_{t}/error", values)
            if sub.tensors[t].type == _FLOAT32:
                add("ADD", [exact, error], t, schema.AddOptionsT())
                continue
            real, wrong = (like(t, name, _FLOAT32) for name in ("real", "with_error"))
            add("DEQUANTIZE", [exact], real, schema.DequantizeOptionsT())
            add("ADD", [real, error], wrong, schema.AddOptionsT())
            add("QUANTIZE", [wrong], t, schema.QuantizeOptionsT())
    sub.operators = ops
    graph = model.graph()
    _set_ports(root, graph.inputs, graph.outputs)
    return Model(root)


def extract(
    model: Model,
    targets: Sequence[TensorIndex],
    sources: Iterable[TensorIndex] = (),
    copied: frozenset[TensorIndex] = frozenset(),
) -> Islands:
    """The part of the graph that computes `targets` from `sources`, graph inputs and constants, each op once.

    Sources become inputs named after their tensors. With one op's inputs as sources this is that op alone; with the
    graph's inputs it is a prefix; in between, a window. Targets in `copied` are read through a RESHAPE copy.

    Raises:
        ValueError: a target is not computed by any op.
    """
    builder = _Islands(model)
    builder.add(tuple(targets), frozenset(sources), copied)
    return builder.finish()


def islands(model: Model, parts: Sequence[tuple[TensorIndex, frozenset[TensorIndex]]]) -> Islands:
    """Several extractions side by side in one model: for each (target, sources), a copy of the ops between them.

    A tensor may be the target of one part and the source of another: each part has its own copies of what it
    computes, and parts share the inputs and constants they read. Outputs come in the order of `parts`, named after the
    target tensors; a target that is itself an input of the model cannot be computed and raises ValueError.
    """
    builder = _Islands(model)
    for target, sources in parts:
        builder.add((target,), sources)
    return builder.finish()


@dataclass(frozen=True)
class Islands:
    """Parts of a model side by side; `origin` gives, for each tensor here, the one of the whole model it stands for, or
    -1 for what was added."""

    model: Model
    origin: tuple[TensorIndex, ...]


def closure(
    graph: Graph, target: TensorIndex, sources: frozenset[TensorIndex]
) -> tuple[tuple[OpIndex, ...], tuple[TensorIndex, ...]]:
    """What computes `target`: (ops in graph order, tensors that must be fed), stopping at `sources`."""
    ops: set[OpIndex] = set()
    feeds: dict[TensorIndex, None] = {}
    inputs = {port.tensor for port in graph.inputs}
    stack, seen = [target], {target}
    while stack:
        t = stack.pop()
        if (t in sources and t != target) or t in inputs:
            feeds[t] = None
            continue
        if t not in graph.producer:
            continue
        op = graph.ops[graph.producer[t]]
        ops.add(op.index)
        for i in op.inputs:
            if i >= 0 and i not in seen:
                seen.add(i)
                stack.append(i)
    return tuple(sorted(ops)), tuple(sorted(feeds))


class _Islands:
    """Assembles copies of parts of subgraph 0; other subgraphs, opcodes and buffers are shared."""

    def __init__(self, model: Model) -> None:
        self._graph = model.graph()
        self._root = _shallow(model)
        self._old = model.root.subgraphs[0]
        self._tensors: list[Any] = []
        self._origin: list[TensorIndex] = []
        self._ops: list[Any] = []
        self._shared: dict[TensorIndex, TensorIndex] = {}
        self._inputs: list[Port] = []
        self._outputs: list[Port] = []
        self._names: set[str] = set()
        self._copied: list[int] = []

    def add(
        self,
        targets: tuple[TensorIndex, ...],
        sources: frozenset[TensorIndex],
        copied: frozenset[TensorIndex] = frozenset(),
    ) -> None:
        ops: set[OpIndex] = set()
        feeds: set[TensorIndex] = set()
        for target in targets:
            behind, fed = closure(self._graph, target, sources)
            if not behind:
                raise ValueError(f"tensor {target} is not computed by any op")
            ops.update(behind)
            feeds.update(fed)
        for t in sorted(feeds):
            if t not in self._shared:
                # The name is the port's name too, and how the caller recognizes it.
                self._inputs.append(Port(port_name(t), self._copy(t, self._shared)))
        local: dict[TensorIndex, TensorIndex] = {}
        for index in sorted(ops):
            old = self._old.operators[index]
            new = copy(old)
            new.inputs = np.asarray([self._place(t, local) for t in indices(old.inputs)], np.int32)
            new.outputs = np.asarray([self._copy(t, local) for t in indices(old.outputs)], np.int32)
            if old.intermediates is not None:
                places = [self._copy(t, local) if t >= 0 else -1 for t in indices(old.intermediates)]
                new.intermediates = np.asarray(places, np.int32)
            self._ops.append(new)
        for target in targets:
            self._outputs.append(Port(port_name(target), local[target]))
            if target in copied:
                self._copied.append(len(self._outputs) - 1)

    def finish(self) -> Islands:
        sub = self._root.subgraphs[0]
        sub.tensors, sub.operators = self._tensors, self._ops
        for place in self._copied:
            port = self._outputs[place]
            copied = _append_reshape(self._root, port.tensor, fresh(f"copy_of_{port.name}", self._names))
            self._outputs[place] = Port(port.name, copied)
            self._origin += [-1] * (len(self._tensors) - len(self._origin))
        sub.inputs = np.asarray([port.tensor for port in self._inputs], np.int32)
        sub.outputs = np.asarray([port.tensor for port in self._outputs], np.int32)
        _set_ports(self._root, self._inputs, self._outputs)
        drop_unused_buffers(self._root)
        return Islands(Model(self._root), tuple(self._origin))

    def _place(self, t: TensorIndex, local: dict[TensorIndex, TensorIndex]) -> TensorIndex:
        if t < 0:
            return -1
        if t in local:
            return local[t]
        if t not in self._shared:  # a constant, or a variable without a producer
            self._copy(t, self._shared)
        return self._shared[t]

    def _copy(self, t: TensorIndex, places: dict[TensorIndex, TensorIndex]) -> TensorIndex:
        table = copy(self._old.tensors[t])
        self._tensors.append(table)
        self._origin.append(t)
        places[t] = len(self._tensors) - 1
        name = port_name(t)
        table.name = fresh(name, self._names)
        return places[t]


def port_name(tensor: TensorIndex) -> str:
    """The name under which extracted models expose a tensor: unique, short, and stable from one edit to the next."""
    return f"t{tensor}"


def tensor_of(name: str) -> TensorIndex:
    """The tensor of the whole model that a port of an extracted one stands for."""
    return int(name.removeprefix("t"))


def _shallow(model: Model) -> Any:
    """A copy whose lists can be changed without touching the original; tables and data are shared until replaced."""
    root = copy(model.root)
    root.operatorCodes = list(model.root.operatorCodes or ())
    root.buffers = list(model.root.buffers)
    root.subgraphs = list(model.root.subgraphs)
    root.subgraphs[0] = sub = copy(root.subgraphs[0])
    sub.tensors, sub.operators = list(sub.tensors or ()), list(sub.operators or ())
    root.metadata, root.metadataBuffer = None, None  # facts about the whole file, no longer true
    return root


def _set_ports(root: Any, inputs: Sequence[Port], outputs: Sequence[Port], key: str = "serving_default") -> None:
    ins, outs = ([(port.name, port.tensor) for port in ports] for ports in (inputs, outputs))
    root.signatureDefs = [edit.signature_def(key, ins, outs)]


def _append_reshape(root: Any, tensor: TensorIndex, name: str, to: Sequence[int] | None = None) -> TensorIndex:
    options = schema.ReshapeOptionsT()
    options.newShape = np.asarray(indices(root.subgraphs[0].tensors[tensor].shape) if to is None else to, np.int32)
    inputs = [tensor, edit.constant(root.buffers, root.subgraphs[0].tensors, f"{name}/shape", options.newShape)]
    result = _append_like(root, tensor, name, "RESHAPE", inputs, options)
    root.subgraphs[0].tensors[result].shape = options.newShape
    return result


def _append_negation(root: Any, tensor: TensorIndex, name: str) -> TensorIndex:
    return _append_like(root, tensor, name, "NEG", [tensor], schema.NegOptionsT())


def _append_dequantize(root: Any, tensor: TensorIndex, name: str) -> TensorIndex:
    return _append_like(root, tensor, name, "DEQUANTIZE", [tensor], schema.DequantizeOptionsT(), _FLOAT32)


def _append_like(
    root: Any,
    tensor: TensorIndex,
    name: str,
    kind: str,
    inputs: list[TensorIndex],
    options: Any,
    type_: int | None = None,
) -> TensorIndex:
    """Append an op whose result has the shape of `tensor`, and its type where no other is given; that result."""
    sub = root.subgraphs[0]
    result = edit.like(sub.tensors, tensor, name, type_)
    sub.operators.append(edit.operator(edit.operator_code(root.operatorCodes, kind), inputs, [result], options))
    return result


def drop_unused_buffers(root: Any) -> None:
    """Keep the weights that the parts use; an island of a 100 MB model is as small as its own constants."""
    used = {0} | {t.buffer for sub in root.subgraphs for t in sub.tensors or ()}
    place = {old: new for new, old in enumerate(sorted(used))}
    root.buffers = [root.buffers[i] for i in sorted(used)]
    for number, sub in enumerate(root.subgraphs):
        moved = []
        for table in sub.tensors or ():
            table = copy(table)
            table.buffer = place[table.buffer]
            moved.append(table)
        root.subgraphs[number] = sub = copy(sub)
        sub.tensors = moved


def fresh(name: str, taken: set[str]) -> str:
    """`name`, or with a number behind it where it is taken; it is taken then."""
    unique, n = name, 1
    while unique in taken:
        n += 1
        unique = f"{name}~{n}"
    taken.add(unique)
    return unique
