"""Ways in which a delegate is known to misread an op's operands, each tried as a model on the host.

Where the host, told to misread likewise, gives the device's values, the fault has its name. What is tried is listed in
docs/delegate.md with where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph.model import Graph, Model, Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.localize.base.misreadings import BEYOND, FIRST, ROUNDED, UNTURNED
from harness.remedies.rank_4 import ELEMENTWISE
from harness.remedies.split_sum import joined, part

# Columns of a product that a kernel works on at a time: one, two, four or eight slices of four.
_BLOCKS = (4, 8, 16, 32)
MOST_MIX_UPS = 48


@dataclass(frozen=True)
class Misreading:
    """`text` for people, and the model that computes what the device would then give."""

    text: str
    model: Model


def misreadings(model: Model, at: OpIndex) -> Iterator[Misreading]:
    """The model once for each way in which its op `at` could be misread; ports and shapes are the same."""
    for text, how in _ways(Rebuild(model), model.graph().ops[at]):
        rebuild = Rebuild(model)
        try:
            for op in rebuild.graph.ops:
                if op.index == at:
                    how(rebuild, op)
                else:
                    rebuild.keep(op)
            yield Misreading(text, rebuild.finish())
        except CannotRewrite:
            continue


def mix_ups(model: Model, ops: Mapping[OpIndex, str], names: Mapping[str, str]) -> Iterator[Misreading]:
    """The model once for each op of `ops` and input of the model that it could read in place of another of the same
    shape, up to `MOST_MIX_UPS`. `ops` and `names` give what ops and inputs are called."""
    graph = model.graph()
    ports = {port.tensor: port.name for port in graph.inputs}
    cases = (
        (o, place, t, other)
        for o in ops
        for place, t in enumerate(graph.ops[o].inputs)
        for other in ports
        if t in ports and other != t and _alike(graph, t, other)
    )
    for o, place, t, other in islice(cases, MOST_MIX_UPS):
        rebuild = Rebuild(model)
        for op in rebuild.graph.ops:
            feeds = list(op.inputs)
            if op.index == o:
                feeds[place] = other
            rebuild.like(op, feeds, outputs=op.outputs)
        text = f"{ops[o]} reads '{names[ports[other]]}' in place of '{names[ports[t]]}'"
        yield Misreading(text, rebuild.finish())


def _alike(graph: Graph, t: TensorIndex, other: TensorIndex) -> bool:
    """Whether one could be read in place of the other; integers say where, and are left alone."""
    one, two = graph.tensors[t], graph.tensors[other]
    return one.shape == two.shape and one.type == two.type == "FLOAT32"


def _ways(rebuild: Rebuild, op: Op) -> Iterator[tuple[str, Callable[[Rebuild, Op], None]]]:
    for place, t in enumerate(op.inputs):
        if op.name in ELEMENTWISE and len(op.inputs) == 2 and rebuild.values(t) is not None:
            shape = rebuild.shape(t)
            if len(shape) in FIRST and shape[0] > 1:
                yield FIRST[len(shape)], _first_for_all(place)
    if op.name == "RESIZE_NEAREST_NEIGHBOR":
        yield ROUNDED, _nearest
    if op.name == "BATCH_MATMUL":
        for place, side in enumerate(("left", "right")):
            if _batches(rebuild, op.inputs[place]) < _batches(rebuild, op.inputs[1 - place]):
                yield BEYOND[side], _own_batches(place)
        if _batches(rebuild, op.inputs[1]) == 1 and not rebuild.options(op).adjY:
            for width in _BLOCKS:
                if width < rebuild.shape(op.inputs[1])[-1]:
                    yield (
                        f"the right side's columns dealt out to the batches, {width} each, then zeros",
                        _dealt_out(width),
                    )
        for flag, side in (("adjX", "left"), ("adjY", "right")):
            if getattr(rebuild.options(op), flag):
                yield UNTURNED[side], _not_transposed(flag)


def _first_for_all(place: int) -> Callable[[Rebuild, Op], None]:
    def write(rebuild: Rebuild, op: Op) -> None:
        feeds = list(op.inputs)
        values = rebuild.values(feeds[place])
        assert values is not None
        feeds[place] = rebuild.constant(np.broadcast_to(values[:1], values.shape).copy())
        rebuild.like(op, feeds, outputs=op.outputs)

    return write


def _nearest(rebuild: Rebuild, op: Op) -> None:
    """Position p of an axis enlarged s times reads element p/s, rounded half up."""
    made = op.inputs[0]
    for axis in (1, 2):
        held, wanted = rebuild.shape(made)[axis], rebuild.shape(op.outputs[0])[axis]
        made = rebuild.gather(made, axis, np.minimum(np.floor(np.arange(wanted) * held / wanted + 0.5), held - 1))
    rebuild.replace(op.outputs[0], made)


def _own_batches(place: int) -> Callable[[Rebuild, Op], None]:
    def write(rebuild: Rebuild, op: Op) -> None:
        feeds = [rebuild.now(t) for t in op.inputs]
        shape, batch = rebuild.shape(feeds[place]), rebuild.shape(feeds[1 - place])[:-2]
        if len(shape) != len(batch) + 2 or shape[1:-2] != batch[1:]:
            raise CannotRewrite("more than the leading dimension is broadcast")
        rest = rebuild.constant(np.zeros((batch[0] - shape[0], *shape[1:]), np.float32))
        feeds[place] = joined(rebuild, [feeds[place], rest], 0)
        rebuild.like(op, feeds, outputs=op.outputs)

    return write


def _dealt_out(width: int) -> Callable[[Rebuild, Op], None]:
    def write(rebuild: Rebuild, op: Op) -> None:
        left, right = (rebuild.now(t) for t in op.inputs)
        *batch, _, _ = rebuild.shape(left)
        *_, terms, columns = rebuild.shape(right)
        if len(batch) != 1:
            raise CannotRewrite("more than the leading dimension is broadcast")
        whole = rebuild.reshape(right, (1, terms, columns))
        sides = []
        for start in range(0, batch[0] * width, width):
            stop = min(start + width, columns)
            mine = [part(rebuild, whole, 2, start, stop)] if start < stop else []
            rest = columns - max(stop - start, 0)
            sides.append(joined(rebuild, [*mine, rebuild.constant(np.zeros((1, terms, rest), np.float32))], 2))
        rebuild.like(op, [left, joined(rebuild, sides, 0)], outputs=op.outputs)

    return write


def _not_transposed(flag: str) -> Callable[[Rebuild, Op], None]:
    def write(rebuild: Rebuild, op: Op) -> None:
        *_, rows, columns = rebuild.shape(op.inputs[0 if flag == "adjX" else 1])
        if rows != columns:
            raise CannotRewrite("its shape would not fit")
        options = rebuild.options(op)
        setattr(options, flag, False)
        rebuild.like(op, op.inputs, outputs=op.outputs, options=options)

    return write


def _batches(rebuild: Rebuild, t: TensorIndex) -> int:
    return int(np.prod(rebuild.shape(t)[:-2], dtype=np.int64))
