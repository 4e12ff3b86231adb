"""What ran where with `--fallback cpu`: found from counts and single ops, and kept by a model with taps or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from harness.devices.base import Device
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.partition import delegated
from harness.job import Completed, Job, Options, Outcome, Rejected, Residency, TimedOut
from harness.localize.placement import Placement, find_placement, not_placed

SHARED = Options("gpu", fallback="cpu")


def model_of(kinds: str) -> Model:
    """A chain: `r` RELU, `t` TANH, `p` a PAD that the device below refuses, `q` one that it takes."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 8, 8))
    for kind in kinds:
        if kind in "pq":
            x = graph.pad(x, [(0, 0), (0, 1), (0, 0)] if kind == "p" else [(0, 0), (0, 0), (0, 1)])
        else:
            x = graph.unary({"r": "RELU", "t": "TANH"}[kind], x)
    graph.output(x, "y")
    return graph.build()


class Partly:
    """Refuses PAD along axis 1, and gives the rest to the CPU where it may; `wrongly` counts one op more."""

    name = "phone"

    def __init__(self, wrongly: bool = False, hangs: bool = False) -> None:
        self.wrongly, self.hangs = wrongly, hangs
        self.asked: list[Job] = []

    def run(self, job: Job, sink: Any = None) -> Outcome:
        self.asked.append(job)
        assert (job.iterations, job.outputs) == (0, ())
        model = Model.from_bytes(job.model)
        graph = model.graph()
        bad = {op.index for op in graph.ops if op.name == "PAD" and np.asarray(model.constant(op.inputs[1]))[1].any()}
        lines = ("PAD: Not this axis.",) if bad else ()
        if job.options.fallback == "none":
            if self.hangs:
                return TimedOut(1)
            return Rejected("refused", lines) if bad else self.done(Residency(True))
        taken = delegated(graph, frozenset(bad))
        assert taken is not None
        count = len(taken) + self.wrongly
        return self.done(Residency(not bad, count, len(graph.ops), 1, lines))

    @staticmethod
    def done(residency: Residency) -> Outcome:
        return Completed({}, residency, (), 0, True, "1", "", "")


def placed(model: Model, device: Partly) -> Placement:
    return find_placement(cast(Device, device), model, SHARED, 10)


def test_each_form_of_a_refused_kind_is_asked_once_by_itself() -> None:
    device = Partly()
    found = placed(model_of("rqrprrrqrt"), device)
    assert (found.unsupported, found.on_cpu) == (frozenset({3}), frozenset({0, 1, 2, 3}))
    # The model, and three PADs: their shapes differ.
    assert [job.options.fallback for job in device.asked] == ["cpu", "none", "none", "none"]
    assert found.counted.on_cpu == (0, 1, 2, 3)


def test_equal_ops_are_asked_once() -> None:
    device = Partly()
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (1, 8, 8)))
    for name in "ab":
        graph.output(graph.pad(x, [(0, 0), (0, 1), (0, 0)]), name)
    found = placed(graph.build(), device)
    assert found.on_cpu == frozenset({1, 2})
    assert len(device.asked) == 2


def test_a_model_that_the_gpu_takes_whole_costs_one_compile() -> None:
    device = Partly()
    found = placed(model_of("rqr"), device)
    assert (found.on_cpu, found.residency.full, len(device.asked)) == (frozenset(), True, 1)
    assert found.sentence(model_of("rqr").graph()) == "The GPU took every op, and the CPU none."


@pytest.mark.parametrize("device", [Partly(wrongly=True), Partly(hangs=True)], ids=["other count", "no answer"])
def test_what_cannot_be_told_is_not_guessed(device: Partly) -> None:
    found = placed(model_of("rpttt"), device)
    assert (found.unsupported, found.on_cpu) == (None, None)
    assert not_placed(found) == "Which ops ran on the GPU cannot be told, so none is named."
    assert "which ones the CPU ran cannot be told" in found.sentence(model_of("rpttt").graph())


def test_the_sentence_has_counts_ranges_and_reasons() -> None:
    model = model_of("rptttp")
    assert placed(model, Partly()).sentence(model.graph()) == (
        "The GPU ran 3 of 6 ops; the CPU ran #0 to #1, #5. The GPU delegate refuses PAD (Not this axis)."
    )


def test_nothing_on_the_gpu_blames_none_of_its_ops() -> None:
    found = placed(model_of("pp"), Partly())
    assert found.on_cpu == frozenset({0, 1})
    assert not_placed(found) == "No op ran on the GPU, so none of its ops is at fault."
    assert found.sentence(model_of("pp").graph()).startswith("The CPU ran all 2 ops, and the GPU none.")


def test_a_tapped_model_keeps_the_division_or_does_not() -> None:
    model = model_of("rrptttt")
    found = placed(model, Partly())
    graph = model.graph()
    outputs = [op.outputs[0] for op in graph.ops]

    def counts(tapped: Model) -> Residency:
        taken = delegated(tapped.graph(), frozenset({2}))
        assert taken is not None
        return Residency(False, len(taken), len(tapped.graph().ops), 1)

    on_gpu, _ = surgery.tap(model, outputs[3:6], "copy")
    assert found.kept_by(graph, on_gpu.graph(), counts(on_gpu))
    assert not found.kept_by(graph, on_gpu.graph(), replace(counts(on_gpu), delegated=4))
    # Copies of what the CPU makes ahead of the cut turn the smaller piece into the larger one.
    copies = [outputs[0], outputs[1]] * 2
    moved = model
    for t in copies:
        moved, _ = surgery.tap(moved, [t], "copy")
    assert not found.kept_by(graph, moved.graph(), counts(moved))
