"""Rewriting a model op by op: every op is copied, or replaced by others that compute the same tensors.

Handles are the model's own tensor indices, so that what is known of a tensor (its values' range, say) can be looked up
while its op is rewritten; new tensors come after them. What nothing needs any more is dropped at the end.

    rebuild = Rebuild(model)
    for op in rebuild.graph.ops:
        if op.index == 3:
            rebuild.replace(op.outputs[0], rebuild.unary("TANH", op.inputs[0]))
        else:
            rebuild.keep(op)
    rewritten = rebuild.finish()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, TensorIndex
from harness.graph.build import GraphBuilder
from harness.graph.edit import signature_def, type_code
from harness.graph.model import Model, Op, Port, indices
from harness.graph.surgery import drop_unused_buffers

_MOST_RANK = 4
_ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: None,
    schema.ActivationFunctionType.RELU: "RELU",
    schema.ActivationFunctionType.RELU6: "RELU6",
    schema.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1",
    schema.ActivationFunctionType.TANH: "TANH",
}


class CannotRewrite(Exception):
    """This op is not of a form that the rewrite knows; the sentence says why."""


class Rebuild(GraphBuilder):
    """Rebuilds subgraph 0 of a model with one signature (`surgery.isolate`). The model itself is left as it is."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.graph = model.graph()
        root = model.root
        self._old = root.subgraphs[0]
        self._tensors = list(self._old.tensors or ())
        self._buffers = list(root.buffers) or self._buffers
        self._code_tables = list(root.operatorCodes or ())
        self._inputs = [(port.name, port.tensor) for port in self.graph.inputs]
        self._instead: dict[TensorIndex, TensorIndex] = {}
        self._given: dict[TensorIndex, TensorIndex] = {}
        self._dropped: set[str] = set()

    def now(self, tensor: TensorIndex) -> TensorIndex:
        """What stands for a tensor of the model at this point: itself, or what replaced it."""
        while tensor in self._instead:
            tensor = self._instead[tensor]
        return tensor

    def keep(self, op: Op, feeds: Mapping[TensorIndex, TensorIndex] | None = None) -> None:
        """Copy an op of the model; `feeds` gives other tensors for some of its inputs."""
        self.like(op, [(feeds or {}).get(t, t) for t in op.inputs], outputs=op.outputs)

    def like(
        self,
        op: Op,
        inputs: Sequence[TensorIndex],
        *,
        outputs: Sequence[TensorIndex] | None = None,
        shape: Sequence[int] = (),
        options: Any = None,
    ) -> TensorIndex:
        """An op of the same kind and options on other tensors, its (first) result; a new one of `shape` by default, on
        the grid of the op's own."""
        table = copy(self._old.operators[op.index])
        if options is not None:
            table.builtinOptions = options
        table.inputs = np.asarray([t if t < 0 else self.now(t) for t in inputs], np.int32)
        if outputs is None:
            outputs = [self.tensor(f"{op.name.lower()}_{len(self._tensors)}", shape, self.dtype(op.outputs[0]))]
            self.on_grid_of(op.outputs[0], outputs[0])
        table.outputs = np.asarray(outputs, np.int32)
        self._ops.append(table)
        return int(outputs[0])

    def op(
        self, kind: str, inputs: Sequence[TensorIndex], shape: Sequence[int], options: Any = None, **more: Any
    ) -> TensorIndex:
        """As the builder's; tensors that were replaced are read as what stands for them."""
        return super().op(kind, [t if t < 0 else self.now(t) for t in inputs], shape, options, **more)

    def options(self, op: Op) -> Any:
        """A copy of an op's options, to be changed."""
        return copy(self._old.operators[op.index].builtinOptions)

    def replace(self, tensor: TensorIndex, by: TensorIndex) -> None:
        """From now on `by` stands for a tensor of the model, for its readers and as an output."""
        if self.shape(by) != self.shape(tensor):
            raise CannotRewrite(f"a result of shape {self.shape(by)} cannot stand for one of {self.shape(tensor)}")
        if by != tensor:
            self._instead[tensor] = by

    def on_grid_of(self, tensor: TensorIndex, made: TensorIndex) -> TensorIndex:
        """A tensor of the same element type, whose integers stand for what those of another do: with its scales."""
        self._tensors[made].quantization = self._tensors[tensor].quantization
        return made

    def instead_of(self, tensor: TensorIndex, values: Array) -> TensorIndex:
        """A constant in place of another one: of its type, on its grid, as float16 behind DEQUANTIZE where that is so.
        Scales by channel stay those of the axis that they are of."""
        maker = self.graph.producer.get(tensor)
        if maker is not None and self.graph.ops[maker].name == "DEQUANTIZE":
            return self.dequantize(values)
        return self.on_grid_of(tensor, self.constant(values))

    def scales(self, tensor: TensorIndex) -> Array:
        """The scales of a quantized tensor, one or one for each channel; none of another."""
        held = self._tensors[tensor].quantization
        return np.asarray([] if held is None or held.scale is None else held.scale, np.float32)

    def retype(self, tensor: TensorIndex, dtype: Any) -> None:
        """Declare a tensor that ops of the model make of another element type, on no grid."""
        self._tensors[tensor] = table = copy(self._tensors[tensor])
        table.type, table.quantization = type_code(dtype), None

    def take_in(self, tensor: TensorIndex, shape: Sequence[int]) -> TensorIndex:
        """Declare an input of the model in another shape of as many elements; what stands for it then is up to the
        caller."""
        place = next(i for i, (_, t) in enumerate(self._inputs) if t == tensor)
        name = self._inputs[place][0]
        declared = self.tensor(self.graph.tensors[tensor].name, shape, self.dtype(tensor))
        self._tensors[declared].quantization = self._tensors[tensor].quantization
        self._inputs[place] = name, declared
        return declared

    def give_out(self, tensor: TensorIndex, by: TensorIndex) -> None:
        """Where a tensor of the model is an output, give `by` out instead; its readers are left alone."""
        self._given[tensor] = by

    def drop_output(self, name: str) -> None:
        """Leave an output of the model out."""
        self._dropped.add(name)

    def values(self, tensor: TensorIndex) -> Array | None:
        """The values of a constant, float16 ones behind a DEQUANTIZE included, as float32 where they are floats."""
        made = self.model.constant(tensor)
        if made is None and tensor in self.graph.producer:
            op = self.graph.ops[self.graph.producer[tensor]]
            if op.name == "DEQUANTIZE" and self.graph.tensors[op.inputs[0]].type == "FLOAT16":
                made = self.model.constant(op.inputs[0])
        if made is not None and made.dtype == np.float16:
            made = made.astype(np.float32)
        return made

    def activated(self, tensor: TensorIndex, options: Any) -> TensorIndex:
        """The result with the activation that `options` fuses, as an op of its own."""
        code = getattr(options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
        if code not in _ACTIVATIONS:
            raise CannotRewrite("its fused activation is none that an op of its own could be")
        kind = _ACTIVATIONS[code]
        return tensor if kind is None else self.unary(kind, tensor)

    def finish(self, names: Mapping[str, str] | None = None) -> Model:
        """The rewritten model: ports keep order, shapes and names (but for those in `names`, old -> new); what nothing
        needs is gone."""
        self._pass_over_high_ranks()
        ports = [port for port in self.graph.outputs if port.name not in self._dropped]
        outputs = [Port(port.name, self._given.get(port.tensor, self.now(port.tensor))) for port in ports]
        needed = {port.tensor for port in outputs}
        kept = []
        for table in reversed(self._ops):
            if needed.isdisjoint(indices(table.outputs)):
                continue
            kept.append(table)
            needed.update(t for t in indices(table.inputs) if t >= 0)
        return self._assembled(kept[::-1], outputs, names or {})

    def _pass_over_high_ranks(self) -> None:
        """A RESHAPE of what another made in rank over 4 reads what that one read: no GPU takes what is between."""
        before: dict[TensorIndex, TensorIndex] = {}
        for table in self._ops:
            code = self._code_tables[table.opcodeIndex]
            if max(code.builtinCode, code.deprecatedBuiltinCode) != schema.BuiltinOperator.RESHAPE:
                continue
            table.inputs = np.asarray([before.get(t, t) for t in indices(table.inputs)], np.int32)
            for t in indices(table.outputs):
                if len(indices(self._tensors[t].shape)) > _MOST_RANK:
                    before[t] = int(table.inputs[0])

    def _assembled(self, ops: list[Any], outputs: Sequence[Port], names: Mapping[str, str]) -> Model:
        used = {t for table in ops for t in (*indices(table.inputs), *indices(table.outputs)) if t >= 0}
        used |= {t for table in ops for t in indices(table.intermediates) if t >= 0}
        used |= {port.tensor for port in outputs} | {t for _, t in self._inputs}
        place = {old: new for new, old in enumerate(sorted(used))}
        for table in ops:
            for field in ("inputs", "outputs", "intermediates"):
                if getattr(table, field) is not None:
                    moved = [place.get(t, -1) for t in indices(getattr(table, field))]
                    setattr(table, field, np.asarray(moved, np.int32))
        root = copy(self.model.root)
        sub = copy(self._old)
        sub.tensors, sub.operators = [copy(self._tensors[t]) for t in sorted(used)], ops
        root.subgraphs = [sub, *root.subgraphs[1:]]
        root.operatorCodes, root.buffers = self._code_tables, list(self._buffers)
        root.metadata = root.metadataBuffer = None  # facts about the whole file, no longer true
        ins = [(names.get(name, name), place[t]) for name, t in self._inputs]
        outs = [(names.get(port.name, port.name), place[port.tensor]) for port in outputs]
        for port, (name, t) in zip((*self.graph.inputs, *outputs), (*ins, *outs), strict=True):
            if port.name in names:
                sub.tensors[t].name = name
        sub.inputs, sub.outputs = (np.asarray([t for _, t in ports], np.int32) for ports in (ins, outs))
        root.signatureDefs = [signature_def(self.graph.signature or "serving_default", ins, outs)]
        drop_unused_buffers(root)
        return Model.from_bytes(Model(root).to_bytes())
