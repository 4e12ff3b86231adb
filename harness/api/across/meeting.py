"""Two devices' values of one tensor, compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from harness.core.arrays import Array, OpIndex
from harness.core.run_folder import TensorStore
from harness.graph.model import Graph
from harness.localize.base.reference import label_of, output_label
from harness.numerics.metrics import one_error
from harness.numerics.tolerance import LOCAL_FACTOR
from harness.report.across.ops import Meeting, OpAcross


def meetings(
    graph: Graph, stores: Sequence[tuple[str, TensorStore]], ops: Sequence[OpAcross]
) -> dict[tuple[OpIndex, str], tuple[Meeting, ...]]:
    """For each op that is a culprit on two devices or more: whether their errors are the same, of each two whose values
    of it were kept."""
    found = {}
    for op in ops:
        wrong = set(op.devices("culprit"))
        here = [(device, store) for device, store in stores if device in wrong]
        for label in _labels(graph, op) if len(wrong) > 1 else ():
            expected = max((each.expected_error or 0.0 for each in op.on), default=0.0)
            if met := tuple(_meetings(here, label, LOCAL_FACTOR * expected)):
                found[op.index, op.output] = met
                break
    return found


def largest_difference(one: Array, other: Array) -> float:
    """The largest difference of two arrays of one shape; NaN where one has a finite value and the other has none."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    there = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("nan")
    return float(np.max(np.abs(a - b), where=there, initial=0.0))


def same_error(one: Array, other: Array, exact: Array, explained: float = 0.0) -> bool:
    """Whether two results of one tensor are wrong by the same error, NaN and infinity at the same places: the rest
    differs by what rounding explains (`explained`, in the tensor's unit), or by a small share of the error."""
    a, b, exact = (values.astype(np.float64) for values in (one, other, exact))
    there = np.isfinite(a)
    if not np.array_equal(there, np.isfinite(b)) or not np.array_equal(a[~there], b[~there], equal_nan=True):
        return False
    if largest_difference(a[there], b[there]) <= explained:
        return True
    with np.errstate(invalid="ignore", over="ignore"):
        return one_error(a[there] - exact[there], b[there] - exact[there])


def _meetings(stores: Sequence[tuple[str, TensorStore]], label: str, explained: float) -> Iterator[Meeting]:
    for (device, one), (another, other) in combinations(stores, 2):
        if one.has(label, "device") and other.has(label, "device") and one.has(label, "reference"):
            a, b, exact = one.get(label, "device"), other.get(label, "device"), one.get(label, "reference")
            if a.shape == b.shape == exact.shape:
                yield Meeting((device, another), largest_difference(a, b), same_error(a, b, exact, explained))


def _labels(graph: Graph, op: OpAcross) -> Iterator[str]:
    """The names of the files that may hold the op's result: as a tensor, and as an output of the model."""
    made = graph.ops[op.index].outputs if op.index < len(graph.ops) else ()
    for tensor in made:
        if graph.tensors[tensor].name == op.output and tensor in graph.producer:
            yield label_of(graph, tensor)
            yield from (output_label(port.name) for port in graph.outputs if port.tensor == tensor)
