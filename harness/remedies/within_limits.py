"""What a device's limits leave out, within them: large tensors in two dimensions, ops on parts of their operands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph.fold import LONGEST, SIDE, WIDEST, in_two_dimensions, too_large
from harness.graph.model import Model, Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import ELEMENTWISE, parameter
from harness.remedies.split_sum import joined, part

# Ops that give the same values another shape.
_RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
# Along the last axis, not element by element.
_ALONG = ("SOFTMAX", "LOG_SOFTMAX")
# A tile is as long as the dispatch of the worst workgroup takes (harness.graph.fold), and there are no more than these.
TILE, MOST_TILES = LONGEST // 4, 64
_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL")


def two_dimensions(model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
    """The model with all tensors that are too large for a device's limits in two dimensions, its own inputs and outputs
    included: those are declared in another shape, elements in the same order. `peaks` is not used.

    Raises:
        CannotRewrite: none of `ops` reads or makes a tensor that is too large.
    """
    rebuild = Rebuild(model)
    graph = rebuild.graph
    near = {t for o in ops for t in (*graph.ops[o].inputs, *graph.ops[o].outputs) if t >= 0}
    if not any(too_large(graph.tensors[t].shape) for t in near):
        raise CannotRewrite("none of its tensors is too large for a device's limits")
    folding = _Folding(rebuild, _cuts(rebuild))
    for port in graph.inputs:
        if too_large(graph.tensors[port.tensor].shape):
            folding.held[port.tensor] = rebuild.take_in(port.tensor, folding.shape(port.tensor))
    for op in graph.ops:
        folding.pass_on(op)
    for port in graph.outputs:
        if too_large(graph.tensors[port.tensor].shape):
            rebuild.give_out(port.tensor, folding.at(port.tensor))
    return rebuild.finish()


def _cuts(rebuild: Rebuild) -> tuple[int, ...]:
    """Where SLICEs cut the last dimension of tensors that are too long; nothing where rows would be of a few values."""
    found: set[int] = set()
    for op in rebuild.graph.ops:
        if op.name == "SLICE" and rebuild.shape(op.inputs[0])[-1:] > (LONGEST,):
            begin, size = rebuild.values(op.inputs[1]), rebuild.values(op.inputs[2])
            if begin is not None and size is not None:
                found |= {int(begin[-1]), rebuild.shape(op.outputs[0])[-1]}
    cuts = tuple(found - {0})
    return cuts if math.gcd(*cuts) % 4 == 0 else ()


@dataclass
class _Folding:
    """`held` has the tensors that are there in two dimensions; those also there in their own shape are `lowered`."""

    rebuild: Rebuild
    cuts: tuple[int, ...]
    held: dict[TensorIndex, TensorIndex] = field(default_factory=dict)
    lowered: set[TensorIndex] = field(default_factory=set)

    def shape(self, t: TensorIndex) -> tuple[int, ...]:
        """A tensor's shape in two dimensions."""
        return in_two_dimensions(self.rebuild.shape(t), self.cuts)

    def at(self, t: TensorIndex) -> TensorIndex:
        """A tensor in two dimensions."""
        if t not in self.held:
            self.held[t] = self.rebuild.reshape(t, self.shape(t))
            self.lowered.add(t)
        return self.held[t]

    def pass_on(self, op: Op) -> None:
        """Copy one op, in two dimensions where it means the same there."""
        large = [t for t in (*op.inputs, *op.outputs) if t >= 0 and too_large(self.rebuild.shape(t))]
        if not large or len(op.outputs) != 1 or op.index in self.rebuild.graph.constant_ops:
            self._keep(op)
        elif op.name in _RESHAPES:
            self._reshaped(op)
        elif op.name in ELEMENTWISE and op.name not in _ALONG and self._goes_along(op):
            made, shape = op.outputs[0], self.shape(op.outputs[0])
            self.held[made] = self.rebuild.like(op, [self._operand(t, shape) for t in op.inputs], shape=shape)
        elif op.name == "SLICE" and self._cuts_rows(op):
            self._rows(op)
        else:
            self._keep(op)

    def _keep(self, op: Op) -> None:
        """The op in its own shape; what it reads in two dimensions gets that back."""
        for t in op.inputs:
            if t in self.held and t not in self.lowered:
                self.rebuild.replace(t, self.rebuild.reshape(self.held[t], self.rebuild.shape(t)))
                self.lowered.add(t)
        self.rebuild.keep(op)

    def _reshaped(self, op: Op) -> None:
        source, made = self.held.get(op.inputs[0], op.inputs[0]), op.outputs[0]
        if too_large(self.rebuild.shape(made)):
            shape = self.shape(made)
            self.held[made] = source if self.rebuild.shape(source) == shape else self.rebuild.reshape(source, shape)
        else:
            self.rebuild.replace(made, self.rebuild.reshape(source, self.rebuild.shape(made)))

    def _goes_along(self, op: Op) -> bool:
        shape = self.rebuild.shape(op.outputs[0])
        shapes = [self.rebuild.shape(t) for t in op.inputs if t >= 0]
        return too_large(shape) and all(s == shape or np.prod(s) == 1 for s in shapes) and op.inputs.count(-1) == 0

    def _operand(self, t: TensorIndex, shape: tuple[int, ...]) -> TensorIndex:
        if np.prod(self.rebuild.shape(t)) == 1:
            values = self.rebuild.values(t)
            ones = (1,) * len(shape)
            return self.rebuild.reshape(t, ones) if values is None else self.rebuild.constant(values.reshape(ones))
        values = self.rebuild.values(t)
        return self.at(t) if values is None else self.rebuild.constant(values.reshape(shape))

    def _cuts_rows(self, op: Op) -> bool:
        begin, size = self.rebuild.values(op.inputs[1]), self.rebuild.values(op.inputs[2])
        if op.inputs[0] not in self.held or begin is None or size is None:
            return False
        *lead, _ = self.rebuild.shape(op.inputs[0])
        *kept, last = self.rebuild.shape(op.outputs[0])
        columns = self.rebuild.shape(self.held[op.inputs[0]])[-1]
        return kept == lead and int(begin[-1]) % columns == 0 and last % columns == 0

    def _rows(self, op: Op) -> None:
        """A SLICE of the last dimension as one of whole rows."""
        rebuild, made = self.rebuild, op.outputs[0]
        batch, one, _, columns = rebuild.shape(self.held[op.inputs[0]])
        first = int(parameter(rebuild, op.inputs[1])[-1]) // columns
        size = (batch, one, rebuild.shape(made)[-1] // columns, columns)
        feeds = [
            self.held[op.inputs[0]],
            *(rebuild.constant(np.asarray(p, np.int32)) for p in ((0, 0, first, 0), size)),
        ]
        rows = rebuild.op("SLICE", feeds, size, schema.SliceOptionsT())
        if too_large(rebuild.shape(made)):
            self.held[made] = rows if size == self.shape(made) else rebuild.reshape(rows, self.shape(made))
        else:
            rebuild.replace(made, rebuild.reshape(rows, rebuild.shape(made)))


def in_tiles(rebuild: Rebuild, op: Op) -> None:
    """The op on parts of its operands along the longest axis along which it computes each result by itself, the parts'
    results joined; quantized values stay on their grids. Raises CannotRewrite."""
    product = op.name in _PRODUCTS
    shape = rebuild.shape(op.outputs[0])
    sizes = dict.fromkeys(_independent(rebuild, op), WIDEST if product else TILE)
    if op.name == "BATCH_MATMUL":
        sizes |= _batches(rebuild, op)
    axis = max((a for a in sizes if shape[a] > sizes[a]), key=lambda a: shape[a] / sizes[a], default=None)
    if axis is None:
        raise CannotRewrite(f"it has no axis of more than {max(sizes.values())} that could be cut")
    size = sizes[axis]
    if -(-shape[axis] // size) > MOST_TILES:
        raise CannotRewrite(f"it would take more than {MOST_TILES} tiles")
    tiles = []
    for start in range(0, shape[axis], size):
        stop = min(start + size, shape[axis])
        if product:
            feeds = _tiles_of_product(rebuild, op, axis - len(shape), start, stop)
        else:
            feeds = [_tile(rebuild, t, axis, start, stop, shape) for t in op.inputs]
        tiles.append(rebuild.like(op, feeds, shape=(*shape[:axis], stop - start, *shape[axis + 1 :])))
    rebuild.replace(op.outputs[0], rebuild.on_grid_of(op.outputs[0], joined(rebuild, tiles, axis)))


def _independent(rebuild: Rebuild, op: Op) -> list[int]:
    """Axes of the result along which it can be cut, its operands likewise."""
    shape = rebuild.shape(op.outputs[0])
    everywhere = list(range(len(shape)))
    if op.name in _ALONG:
        return everywhere[:-1]
    if op.name in ELEMENTWISE:
        return everywhere
    if op.name in _PRODUCTS:
        return everywhere[-2:] if op.name == "BATCH_MATMUL" else everywhere[-1:]
    if op.name in ("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN") and rebuild.options(op).keepDims:
        reduced = {int(a) % len(shape) for a in parameter(rebuild, op.inputs[1]).reshape(-1)}
        return [a for a in everywhere if a not in reduced]
    raise CannotRewrite(f"{op.name} is not known to compute each part of its result by itself")


def _tile(rebuild: Rebuild, t: TensorIndex, axis: int, start: int, stop: int, shape: tuple[int, ...]) -> TensorIndex:
    """An operand's part; what is broadcast along the axis, and what are no values but parameters, stay whole."""
    own = rebuild.shape(t) if t >= 0 else ()
    at = axis - len(shape) + len(own)
    if len(own) > len(shape) or at < 0 or own[at] != shape[axis]:
        return t
    return _part_of(rebuild, t, at, start, stop)


def _batches(rebuild: Rebuild, op: Op) -> dict[int, int]:
    """By axis of a BATCH_MATMUL's batches, how many of them may be stacked: the right side is a texture, four rows to a
    texel, one batch below the other."""
    *batch, _, _ = rebuild.shape(op.outputs[0])
    right = rebuild.shape(op.inputs[1])
    texels = -(-right[-1 if rebuild.options(op).adjY else -2] // 4)
    found = {a: SIDE // (texels * math.prod(batch) // n) for a, n in enumerate(batch)}
    return {a: most for a, most in found.items() if most}


def _tiles_of_product(rebuild: Rebuild, op: Op, axis: int, start: int, stop: int) -> list[TensorIndex]:
    """A product's operands for a part of its result along an axis, which counts from the end: batches of both, rows of
    the first or columns of the second, with their biases; of weights, which lie by column, the first axis."""
    options = rebuild.options(op)
    if axis < -2:
        shapes = [rebuild.shape(t) for t in op.inputs]
        whole = rebuild.shape(op.outputs[0])[axis]
        places = {i: axis for i, own in enumerate(shapes) if len(own) >= -axis and own[axis] == whole}
    elif op.name == "BATCH_MATMUL":
        places = {0: -1 if options.adjX else -2} if axis == -2 else {1: -2 if options.adjY else -1}
    else:
        places = {1: 0, 2: 0}
    feeds = list(op.inputs)
    for place, at in places.items():
        if place < len(feeds) and feeds[place] >= 0:
            rank = len(rebuild.shape(feeds[place]))
            feeds[place] = _part_of(rebuild, feeds[place], at % rank, start, stop)
    return feeds


def _part_of(rebuild: Rebuild, t: TensorIndex, at: int, start: int, stop: int) -> TensorIndex:
    values = rebuild.values(t)
    tensor = rebuild.graph.tensors[t]
    if values is None:
        return rebuild.on_grid_of(t, part(rebuild, rebuild.now(t), at, start, stop))
    if values.dtype.kind != "f" and tensor.grid is None:
        raise CannotRewrite("its constants are neither floats nor on one grid")
    return rebuild.on_grid_of(t, rebuild.constant(np.ascontiguousarray(np.take(values, range(start, stop), at))))
