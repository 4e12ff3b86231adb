"""Ops of rank over 4 on views of four axes: neighbouring axes that stay neighbours are one.

Windows of an image, pixels shuffled into channels and heads of attention are written in rank 5 and 6, which no GPU
takes, mostly as RESHAPE, TRANSPOSE, RESHAPE. The views are RESHAPEs, and one that reads another's result of such a rank
reads what that one read (`harness.graph.rebuild`), so that nothing of rank over 4 is left between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.equivalents import flattened
from harness.remedies.rank_4 import ELEMENTWISE, parameter, wide
from harness.remedies.refused.slices import taken
from harness.remedies.split_sum import part

MOST_RANK = 4
# Along the last axis, not element by element.
_ALONG = ("SOFTMAX", "LOG_SOFTMAX")


def in_four_axes(rebuild: Rebuild, op: Op) -> None:
    """A TRANSPOSE, an element-wise op, SOFTMAX, CONCATENATION, a slice without a stride, a reduction or a
    FULLY_CONNECTED of rank over 4; quantized values stay on their grid.

    Raises:
        CannotRewrite: it has rank 4 at most, is another op, broadcasts, cuts or reduces along more than four stretches
            of axes, or its rank is that of an input or output of the model.
    """
    shape = rebuild.shape(op.outputs[0])
    if max(len(rebuild.shape(t)) for t in (op.inputs[0], op.outputs[0])) <= MOST_RANK:
        raise CannotRewrite("it has rank 4 at most")
    ports = {port.tensor: port.name for port in (*rebuild.graph.inputs, *rebuild.graph.outputs)}
    for t in (*op.inputs, *op.outputs):
        if t in ports and len(rebuild.shape(t)) > MOST_RANK:
            raise CannotRewrite(f"'{ports[t]}', an input or output of the model, has such a rank")
    if op.name == "FULLY_CONNECTED":
        flattened(rebuild, op)
        return
    how = _elementwise if op.name in ELEMENTWISE else _FORMS.get(op.name)
    if how is None:
        raise CannotRewrite(f"{op.name} is not known in fewer axes")
    rebuild.replace(op.outputs[0], rebuild.reshape(how(rebuild, op), shape))


def _transposed(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Blocks of axes that are neighbours before and after are one axis; two neighbouring blocks at a time change
    places."""
    order, shape = parameter(rebuild, op.inputs[1]).reshape(-1).tolist(), rebuild.shape(op.inputs[0])
    moved = [axis for axis in order if shape[axis] > 1]
    kept = sorted(moved)
    follows = dict(pairwise(kept))
    blocks: list[list[int]] = []
    for axis in moved:
        if blocks and follows.get(blocks[-1][-1]) == axis:
            blocks[-1].append(axis)
        else:
            blocks.append([axis])
    sizes = [math.prod(shape[axis] for axis in block) for block in blocks]
    # Where each block of the result stands in the operand.
    now = sorted(range(len(blocks)), key=lambda i: blocks[i][0])
    x = rebuild.now(op.inputs[0])
    if len(now) <= MOST_RANK:
        view = rebuild.reshape(x, wide([sizes[i] for i in now]))
        ahead = MOST_RANK - len(now)
        places = [*range(ahead), *(now.index(i) + ahead for i in range(len(now)))]
        return view if places == sorted(places) else rebuild.on_grid_of(op.outputs[0], rebuild.transpose(view, places))
    for place in range(len(now)):
        at = now.index(place)
        if at != place:
            cuts = (0, place, at, at + 1, len(now))
            apart = tuple(math.prod(sizes[i] for i in now[a:b]) for a, b in pairwise(cuts))
            turned = rebuild.transpose(rebuild.reshape(x, apart), (0, 2, 1, 3))
            x = rebuild.on_grid_of(op.outputs[0], turned)
            now.insert(place, now.pop(at))
    return x


def _joined(rebuild: Rebuild, op: Op) -> TensorIndex:
    options, shape = rebuild.options(op), rebuild.shape(op.outputs[0])
    axis = options.axis % len(shape)
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    feeds = [_view(rebuild, t, (1, before, rebuild.shape(t)[axis], after)) for t in op.inputs]
    options.axis = 2
    return rebuild.like(op, feeds, shape=(1, before, shape[axis], after), options=options)


def _sliced(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Whole axes that are neighbours are one, and so are those beside a cut that take one element."""
    shape = rebuild.shape(op.inputs[0])
    if op.name == "SLICE":
        begin = parameter(rebuild, op.inputs[1]).reshape(-1).tolist()
        spans = list(zip(begin, rebuild.shape(op.outputs[0]), strict=True))
    else:
        axes = taken(rebuild, op)
        if any(axis.step != 1 and axis.count > 1 for axis in axes):
            raise CannotRewrite("it has a stride")
        spans = [(axis.start, axis.count) for axis in axes]
    cut = [(i, span) for i, (n, span) in enumerate(zip(shape, spans, strict=True)) if span != (0, n)]
    groups = _groups(shape, [i if any(i == axis for axis, _ in cut) else -1 for i in range(len(shape))])
    x = rebuild.reshape(rebuild.now(op.inputs[0]), _sizes(shape, groups))
    for axis, (start, count) in cut:
        place = MOST_RANK - len(groups) + next(i for i, group in enumerate(groups) if axis in group)
        x = rebuild.on_grid_of(op.outputs[0], part(rebuild, x, place, start, start + count))
    return x


def _reduced(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Neighbours that are all reduced, or all kept, are one axis."""
    options, shape = rebuild.options(op), rebuild.shape(op.inputs[0])
    over = {int(axis) % len(shape) for axis in parameter(rebuild, op.inputs[1]).reshape(-1)}
    groups = _groups(shape, [int(i in over) for i in range(len(shape))])
    ahead = MOST_RANK - len(groups)
    places = [ahead + i for i, group in enumerate(groups) if group[0] in over]
    x = rebuild.reshape(rebuild.now(op.inputs[0]), _sizes(shape, groups))
    if not places:
        return x
    options.keepDims = True
    out = [1 if i in places else n for i, n in enumerate(rebuild.shape(x))]
    return rebuild.like(op, [x, rebuild.constant(np.asarray(places, np.int32))], shape=out, options=options)


def _groups(shape: Sequence[int], marks: Sequence[object]) -> list[list[int]]:
    """Axes longer than 1, neighbours of one mark together. Raises CannotRewrite for more than four groups."""
    groups: list[list[int]] = []
    for axis, mark in enumerate(marks):
        if shape[axis] == 1:
            continue
        if groups and marks[groups[-1][-1]] == mark:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) > MOST_RANK:
        raise CannotRewrite("its axes belong together in more than four stretches")
    return groups


def _elementwise(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Axes that every operand has, or that the same operands lack, are one where they are neighbours."""
    shape = rebuild.shape(op.outputs[0])
    own = [(*[1] * (len(shape) - len(rebuild.shape(t))), *rebuild.shape(t)) for t in op.inputs]
    apart = len(shape) - 1 if op.name in _ALONG else -1
    if apart >= 0 and shape[apart] == 1:
        raise CannotRewrite("its last axis is 1")
    marks = [(axis == apart, *(each[axis] == n for each in own)) for axis, n in enumerate(shape)]
    axes = _groups(shape, marks)
    feeds = [_view(rebuild, t, _sizes(each, axes)) for t, each in zip(op.inputs, own, strict=True)]
    return rebuild.like(op, feeds, shape=_sizes(shape, axes))


def _sizes(shape: Sequence[int], groups: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return wide([math.prod(shape[axis] for axis in group) for group in groups])


def _view(rebuild: Rebuild, t: TensorIndex, shape: tuple[int, ...]) -> TensorIndex:
    values = rebuild.values(t)
    if values is None:
        return rebuild.reshape(rebuild.now(t), shape)
    if rebuild.graph.tensors[t].quantized and rebuild.graph.tensors[t].grid is None:
        raise CannotRewrite("a constant has scales by channel")
    return rebuild.on_grid_of(t, rebuild.constant(values.reshape(shape)))


_FORMS = {
    "TRANSPOSE": _transposed,
    "CONCATENATION": _joined,
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), _sliced),
    **dict.fromkeys(("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), _reduced),
}
