"""Where the time goes, by prefixes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.core.job import Job, Outcome
from harness.devices.base import Device, Sink
from harness.devices.host.device import HostDevice
from harness.graph.model import Model
from harness.latency.measure import Plan, Subject
from harness.latency.per_op import chosen_cuts, per_op
from tests.chains import diamond
from tests.latency.conftest import Saying, Script

PLAN = Plan(samples=120, seconds=0.0, rounds=12)


def test_cuts_are_spread_and_take_the_narrowest_place(layers: Callable[[int], Model]) -> None:
    graph = layers(20).graph()
    found = chosen_cuts(graph, 5)
    assert len(found) == 5
    assert all(len(alive) == 1 for _, alive in found)
    assert [at for at, _ in chosen_cuts(diamond().graph(), 1)] == [0]


def test_the_stretches_are_the_whole_graph_in_order(subject: Callable[..., Subject]) -> None:
    found = per_op(subject("host", 3), Plan(samples=36, seconds=0.0, rounds=12), HostDevice)
    assert found[0].first == 0
    assert found[-1].last == 5
    assert [s.first for s in found[1:]] == [s.last + 1 for s in found[:-1]]
    assert [name for s in found for name in s.ops] == ["FULLY_CONNECTED", "TANH"] * 3
    assert all(s.ms.low <= s.ms.value <= s.ms.high for s in found)


def test_a_prefixs_time_less_the_one_before_is_the_stretchs(subject: Callable[..., Subject], script: Script) -> None:
    # A scripted machine on which an op takes 1 ms, the sixth 5 ms; each job tells its own length by its outputs.
    rng = np.random.default_rng(0)
    cell = subject("here", 5)
    graph = cell.model.graph()

    def cost(ops: int) -> float:
        return float(np.sum([5e6 if i == 5 else 1e6 for i in range(ops)]) * np.exp(rng.normal(0, 0.001)))

    def open_device(name: str) -> Device:
        device = script.open(name)
        run = device.run

        def timed(job: Job, sink: Sink | None = None) -> Outcome:
            ops = len(Model.from_bytes(job.model).graph().ops)
            script.say = lambda process, number: Saying(lambda n: cost(ops) / 0.8)  # run is 0.8 of the total
            return run(job, sink)

        device.run = timed  # type: ignore[method-assign]
        return device

    found = per_op(cell, PLAN, open_device)
    assert len(found) == len(graph.ops)
    for stretch in found:
        expected = 5.0 if stretch.first == 5 else 1.0
        assert abs(stretch.ms.value - expected) < 0.1
        assert stretch.is_significant
