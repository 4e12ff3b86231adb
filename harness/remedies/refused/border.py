"""PADV2 as PAD: behind values that are not negative a border of zeros is never a window's maximum.

Converters write the padding of a max-pooling as PADV2 with minus infinity, which phones refuse. Zeros give the same
maximum where no value is below zero, and where each window has a value and not only border. That no value is below zero
is proven from the graph (`harness.graph.ops.interval`), never taken from a run. A GPU delegate makes of such a PAD the
pooling's own padding, which does not count: for these values that is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.ops.interval import Ranges
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.equivalents import pad_by_concatenation
from harness.remedies.rank_4 import parameter


def padded_with_zeros(rebuild: Rebuild, op: Op) -> None:
    """A PADV2 of a value that is not above zero, read by MAX_POOL_2Ds alone, as PAD; one of zero is a PAD anyway.

    Raises:
        CannotRewrite: a value may be below zero, or something else than the maximum of a window depends on the border.
    """
    if op.name != "PADV2":
        raise CannotRewrite("it is no PADV2")
    x, made = op.inputs[0], op.outputs[0]
    widths, fill = parameter(rebuild, op.inputs[1]), _fill(rebuild, op)
    if fill != 0:
        if not fill < 0:
            raise CannotRewrite(f"it pads with {fill:g}, which is no value below zero")
        least, _ = Ranges(rebuild.model, rebuild.graph).of(x)
        if not least >= 0:
            raise CannotRewrite("nothing proves that no value of its operand is below zero")
        _only_maxima(rebuild, made, widths.tolist(), rebuild.shape(x))
    options = schema.PadOptionsT()
    padded = rebuild.op("PAD", [x, op.inputs[1]], rebuild.shape(made), options)
    rebuild.replace(made, rebuild.on_grid_of(made, padded))


def padded_otherwise(rebuild: Rebuild, op: Op) -> None:
    """The same where it is proven, else by CONCATENATION with constants. Raises CannotRewrite."""
    if op.name != "PADV2":
        raise CannotRewrite("it is no PADV2")
    try:
        padded_with_zeros(rebuild, op)
    except CannotRewrite:
        pad_by_concatenation(rebuild, op)


def _fill(rebuild: Rebuild, op: Op) -> float:
    """What it pads with, as a real number."""
    values = parameter(rebuild, op.inputs[2]).reshape(-1)
    grids = [rebuild.graph.tensors[t].grid for t in (op.inputs[0], op.inputs[2], op.outputs[0])]
    if any(rebuild.graph.tensors[t].quantized for t in (op.inputs[0], op.outputs[0])):
        if grids[0] is None or grids != [grids[0]] * 3:
            raise CannotRewrite("its tensors are on different grids")
        values = grids[0].real(values)
    return float(values[0])


def _only_maxima(rebuild: Rebuild, made: TensorIndex, widths: Sequence[Sequence[int]], shape: Sequence[int]) -> None:
    graph = rebuild.graph
    readers = [graph.ops[o] for o in graph.consumers.get(made, ())]
    if any(port.tensor == made for port in graph.outputs) or any(reader.name != "MAX_POOL_2D" for reader in readers):
        raise CannotRewrite("something else than a MAX_POOL_2D reads its border")
    if len(shape) != 4 or any(any(widths[axis]) for axis in (0, 3)):
        raise CannotRewrite("it pads other axes than height and width")
    for reader in readers:
        options, out = rebuild.options(reader), rebuild.shape(reader.outputs[0])
        sides = ((1, options.filterHeight, options.strideH), (2, options.filterWidth, options.strideW))
        same = options.padding == schema.Padding.SAME
        if any(_misses(widths[axis], shape[axis], out[axis], size, step, same=same) for axis, size, step in sides):
            raise CannotRewrite("a window of its MAX_POOL_2D has nothing but border")


def _misses(widths: Sequence[int], inner: int, windows: int, size: int, step: int, *, same: bool) -> bool:
    """Whether a window along an axis lies beside the `inner` values that stand behind a border."""
    before, after = widths
    own = max((windows - 1) * step + size - (before + inner + after), 0) // 2 if same else 0
    starts = np.arange(windows) * step - own
    return bool(((starts + size <= before) | (starts >= before + inner)).any())
