"""A model in parts: the same bits as the whole on the CPU, and each part told of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.core.errors import DeviceError
from harness.core.job import Completed, Job, Outcome, Rejected, Residency
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.ops.work import work
from harness.sam2.shared import in_parts
from harness.sam2.shared.in_parts import Part, parts_needed, parts_of, run
from tests.localize.planted import InProcess


def layers(count: int, width: int = 32) -> Model:
    """Fully connected layers with a TANH each; the first one's result is an output too."""
    graph = GraphBuilder()
    hidden = graph.input("x", (1, 4, width))
    weights = np.random.default_rng(0).standard_normal((count, width, width)).astype(np.float32) / 6
    for place in range(count):
        hidden = graph.unary("TANH", graph.fully_connected(hidden, weights[place]))
        if place == 0:
            graph.output(hidden, "early")
    graph.output(hidden, "y")
    return graph.build()


class Counting(InProcess):
    """Tells residencies apart, and refuses its third job if so told."""

    def __init__(self, refuses: bool = False) -> None:
        super().__init__()
        self.asked, self.refuses = 0, refuses

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.asked += 1
        if self.refuses and self.asked == 3:
            return Rejected("too large")
        done = super().run(job, sink)
        assert isinstance(done, Completed)
        return replace(done, residency=Residency(self.asked != 2, self.asked, 10, 1), adapter="a GPU")


@pytest.mark.parametrize("count", [1, 2, 4, 100])
def test_the_parts_give_the_bits_of_the_whole(count: int) -> None:
    model = layers(8)
    inputs = random_inputs(model.graph(), 0)
    device, seen = Counting(), list[Part]()
    found = run(
        device, model, inputs, "cpu", count, timeout=60, doing="running it", seen=lambda part, _: seen.append(part)
    )
    whole = run(InProcess(), model, inputs, "cpu", 1, timeout=60, doing="running it")
    assert set(found.outputs) == {"early", "y"}
    for name, values in whole.outputs.items():
        assert np.array_equal(found.outputs[name], values)
    assert device.asked == found.parts == max(1, len(seen))
    assert (count == 1) == (not seen)
    assert [op for part in seen for op in part.cut.ops] == ([] if count == 1 else list(range(16)))


def test_it_is_delegated_in_full_where_every_part_is() -> None:
    model = layers(8)
    inputs = random_inputs(model.graph(), 0)
    found = run(Counting(), model, inputs, "gpu", 4, timeout=60, doing="running it")
    assert not found.residency.full
    assert (found.residency.delegated, found.residency.total, found.residency.partitions) == (1 + 2 + 3 + 4, 40, 4)
    assert found.adapter == "a GPU"
    assert run(Counting(), model, inputs, "cpu", 4, timeout=60, doing="running it").adapter == ""


def test_a_part_that_is_refused_is_named() -> None:
    model = layers(8)
    with pytest.raises(DeviceError, match="while running it, ops 8 to 11: too large"):
        run(Counting(refuses=True), model, random_inputs(model.graph(), 0), "gpu", 4, timeout=60, doing="running it")


def test_as_many_parts_as_keep_each_below_the_work_that_a_software_gpu_does_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = layers(8)
    total = 8 * (4 * 32 * 32 + 4 * 32)
    assert parts_needed(model) == 1
    for most in (total, total - 1, total // 2, total // 3, total // 4 - 1, total // 8):
        monkeypatch.setattr(in_parts, "PART_WORK", most)
        count = parts_needed(model)
        graph = model.graph()
        shares = [sum(work(graph, graph.ops[o]) for o in part.cut.ops) for part in parts_of(model, count)]
        assert max(shares) <= most
        assert count <= 2 * -(-total // most)
    # No layer can be cut: then as small as they get.
    monkeypatch.setattr(in_parts, "PART_WORK", 32 * 32)
    assert len(parts_of(model, parts_needed(model))) >= 8


def test_a_model_with_a_constant_output_runs_whole() -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("TANH", graph.unary("ABS", graph.input("x", (1, 8)))), "y")
    graph.output(graph.dequantize(np.ones((1, 8), np.float32)), "always")
    model = graph.build()
    found = run(InProcess(), model, random_inputs(model.graph(), 0), "cpu", 2, timeout=60, doing="running it")
    assert (found.parts, set(found.outputs)) == (1, {"y", "always"})
