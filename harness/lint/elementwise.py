"""Whether a constant's values differ along an axis, as the delegate reads them."""

from __future__ import annotations

import numpy as np

from harness.graph.model import Graph, Model, Tensor


def differs(model: Model, graph: Graph, tensor: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether the values differ along one of the axes once they are rounded to float16, as the delegate does by
    default.

    Values that cannot be read (sparse, 4 bits, with scales by channel) are not said to differ.
    """
    values = model.constant(tensor.index, graph.subgraph)
    if values is None or (tensor.quantized and not _one_scale(model, graph, tensor)):
        return False
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = values.astype(np.float16)
    firsts = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(values.ndim))
    same = values == values[firsts]
    if values.dtype.kind == "f":
        same |= np.isnan(values) & np.isnan(values[firsts])
    return not bool(same.all())


def _one_scale(model: Model, graph: Graph, tensor: Tensor) -> bool:
    return len(model.root.subgraphs[graph.subgraph].tensors[tensor.index].quantization.scale) == 1
