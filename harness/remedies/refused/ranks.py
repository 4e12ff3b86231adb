"""Ops of rank over 4 on views of four axes: neighbouring axes that stay neighbours are one.

Windows of an image, pixels shuffled into channels and heads of attention are written in rank 5 and 6, which no GPU
takes, mostly as RESHAPE, TRANSPOSE, RESHAPE. The views are RESHAPEs, and one that reads another's result of such a rank
reads what that one read (`harness.graph.rebuild`), so that nothing of rank over 4 is left between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import ELEMENTWISE, parameter, wide

MOST_RANK = 4
# Along the last axis, not element by element.
_ALONG = ("SOFTMAX", "LOG_SOFTMAX")


def in_four_axes(rebuild: Rebuild, op: Op) -> None:
    """A TRANSPOSE, an element-wise op, SOFTMAX, or a CONCATENATION of rank over 4; quantized values stay on their grid.

    Raises:
        CannotRewrite: it has rank 4 at most, is another op, or broadcasts along more than four stretches of axes.
    """
    shape = rebuild.shape(op.outputs[0])
    if len(shape) <= MOST_RANK:
        raise CannotRewrite("its result has rank 4 at most")
    if op.name == "TRANSPOSE":
        made = _transposed(rebuild, op)
    elif op.name == "CONCATENATION":
        made = _joined(rebuild, op)
    elif op.name in ELEMENTWISE:
        made = _elementwise(rebuild, op)
    else:
        raise CannotRewrite(f"{op.name} is not known in fewer axes")
    rebuild.replace(op.outputs[0], rebuild.reshape(made, shape))


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


def _elementwise(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Axes that every operand has, or that the same operands lack, are one where they are neighbours."""
    shape = rebuild.shape(op.outputs[0])
    own = [(*[1] * (len(shape) - len(rebuild.shape(t))), *rebuild.shape(t)) for t in op.inputs]
    apart = len(shape) - 1 if op.name in _ALONG else -1
    groups: list[tuple[object, list[int]]] = []
    for axis in range(len(shape)):
        pattern = tuple(each[axis] == shape[axis] for each in own), axis == apart
        if shape[axis] == 1 and axis != apart:
            continue
        if groups and groups[-1][0] == pattern:
            groups[-1][1].append(axis)
        else:
            groups.append((pattern, [axis]))
    if len(groups) > MOST_RANK:
        raise CannotRewrite("it broadcasts along more than four stretches of axes")
    axes = [axes for _, axes in groups]
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
