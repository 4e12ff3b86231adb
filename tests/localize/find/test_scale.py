"""Thousands of ops: memory bounded by the byte budget, cost that grows with the model and not with its square."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Job, Options, Outcome
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.find.localizer import localize
from tests.localize.planted import SHIFTED, Half, InProcess

BLOCK_OPS = 10
BUDGET = 1 << 20


def attention_blocks(count: int) -> Model:
    """A residual stream [1, 16, 32] through blocks of 10 ops: attention over one head, a normalization by spread."""
    rng = np.random.default_rng(4)
    weights = (rng.standard_normal((32, 32)) / np.sqrt(32)).astype(np.float32)
    graph = GraphBuilder()
    stream = graph.input("x", (1, 16, 32))
    for _ in range(count):
        hidden = graph.fully_connected(stream, weights)
        scores = graph.binary("MUL", graph.batch_matmul(hidden, hidden, adj_y=True), graph.constant([0.17]))
        mixed = graph.batch_matmul(graph.softmax(scores), hidden)
        joined = graph.binary("ADD", mixed, stream)
        square = graph.binary("MUL", joined, joined)
        spread = graph.unary("RSQRT", graph.reduce("MEAN", square, 2))
        stream = graph.binary("MUL", joined, spread)
    graph.output(stream, "y")
    return graph.build()


class Counting(Half):
    """Counts the bytes it gives at once and the ops it is given."""

    largest = 0
    ops = 0

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.largest = max(self.largest, sum(port.nbytes for port in job.outputs))
        if job.sha256 != self._compiled:
            self.ops += len(Model.from_bytes(job.model).graph().ops)
        return super().run(job, sink)


def localized(blocks: int, out: Path) -> tuple[Localization, Counting, float]:
    model = attention_blocks(blocks)
    culprit = BLOCK_OPS * (blocks - 3) + 4
    device = Counting(model, {model.graph().ops[culprit].outputs[0]: SHIFTED})
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=600)
    began = time.process_time()
    with RunFolder.create(out, "localize", "blocks", "half") as folder:
        answer = localize(Workbench(device, InProcess(), folder), case, tap_budget=BUDGET)
    assert [(c.record.first, c.record.index) for c in answer.culprits] == [(culprit, culprit)], answer.notes
    return answer, device, time.process_time() - began


def test_a_model_over_the_budget_is_read_in_windows_fed_by_the_device(tmp_path: Path) -> None:
    answer, device, _ = localized(60, tmp_path)
    assert answer.certified
    assert device.largest <= BUDGET
    # The untouched model, the second look, and windows that together are one model and its taps once more.
    assert device.ops <= 4.5 * BLOCK_OPS * 60


@pytest.mark.slow
def test_3000_ops_cost_ten_times_what_300_do(tmp_path: Path) -> None:
    small, few, brief = localized(30, tmp_path)
    large, many, long = localized(300, tmp_path)
    assert large.model.ops == 10 * small.model.ops == 10 * BLOCK_OPS * 30
    assert max(few.largest, many.largest) <= BUDGET
    assert many.ops <= 11 * few.ops
    told = f"CPU seconds: {brief:.1f} for 300 ops, {long:.1f} for 3,000; compiles: {small.device_compiles} and "
    told += f"{large.device_compiles}"
    logging.getLogger(__name__).warning(told)
    assert long <= 20 * brief  # CPU seconds of one process, not quite steady
