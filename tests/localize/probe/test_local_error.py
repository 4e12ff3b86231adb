"""Ops to re-run on the host, in parts that fit its memory and the wire."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.core.choices import Precision
from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.graph.model import Graph
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpVerdict
from harness.localize.base.reference import output_label
from harness.localize.probe.local_error import ISLAND_BUDGET, ISLAND_TENSORS, LocalError, Reading, batches, plan
from tests.localize.planted import InProcess

MIB = 1 << 20


def chain(length: int, elements: int, *, own: int = -1) -> Graph:
    """Ops one after another, each on `elements` float32 values; that of op `own` is an output too."""
    graph = GraphBuilder()
    t = graph.input("x", (1, elements))
    for i in range(length):
        t = graph.unary("ABS", t)
        if i == own:
            graph.output(t, "own")
    graph.output(t, "y")
    return graph.build().graph()


def parts(graph: Graph) -> list[list[Reading]]:
    read = frozenset(t for op in graph.ops[:-1] for t in op.outputs)
    found = list(batches(graph, plan(graph, read)))
    assert [r for part in found for r in part] == plan(graph, read)
    return found


def test_the_results_of_a_part_and_what_feeds_them_fit_the_budget_and_no_more_would() -> None:
    """Values of 16 MiB each: an input and three results are 64 MiB, which is the budget."""
    graph = chain(8, 4 * MIB)
    found = [[r.op for r in part] for part in parts(graph)]
    assert 4 * graph.tensors[0].nbytes == ISLAND_BUDGET
    assert found == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_an_op_over_the_budget_is_a_part_of_its_own() -> None:
    assert [[r.op for r in part] for part in parts(chain(3, 32 * MIB))] == [[0], [1], [2]]


def test_a_part_has_no_more_tensors_than_the_wire_carries() -> None:
    """Each is fed or given back; a job carries 4,096 of either."""
    found = parts(chain(2500, 1))
    assert [len(part) for part in found] == [ISLAND_TENSORS - 1, 2500 - ISLAND_TENSORS + 1]
    assert ISLAND_TENSORS <= 4096


def test_an_output_that_is_read_too_is_judged_in_two_parts() -> None:
    """As the caller gets it and as the graph sees it: one tensor has one place among the outputs of a model."""
    found = [[(r.op, r.from_output) for r in part] for part in parts(chain(3, 1, own=1))]
    assert found == [[(0, None), (1, None)], [(1, "own"), (2, "y")]]


@pytest.mark.parametrize("length", [1, 2])
def test_nothing_read_leaves_the_own_outputs(length: int) -> None:
    graph = chain(length, 4)
    (part,) = batches(graph, plan(graph, frozenset()))
    assert [(r.ops, r.feeds, r.from_output) for r in part] == [(tuple(range(length)), (0,), "y")]


@pytest.mark.parametrize(("precision", "verdict"), [("fp16", "inherited"), ("fp32", "culprit")])
def test_only_where_float16_is_stored_may_its_range_excuse_an_op(
    tmp_path: Path, precision: Precision, verdict: OpVerdict
) -> None:
    """Twice the right 400,000. An input that is wrong on the device can take a float16 result out of its range, where
    the right input does not; float32 holds either."""
    build = GraphBuilder()
    build.output(build.binary("MUL", build.input("x", (1, 4)), build.constant([1e5])), "y")
    model = build.build()
    inputs = {"x": np.full((1, 4), 4.0, np.float32)}
    store = TensorStore(tmp_path)
    store.put(output_label("y"), "reference", np.full((1, 4), 4e5, np.float32), "y")
    store.put(output_label("y"), "device", np.full((1, 4), 8e5, np.float32), "y")
    local = LocalError(InProcess(), Case(model, inputs, Options(precision=precision), timeout=60), store, frozenset())
    (record,) = local.judge(plan(model.graph(), frozenset()))
    assert record.verdict == verdict
