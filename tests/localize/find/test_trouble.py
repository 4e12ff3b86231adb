"""Devices that refuse, crash and fuse while they are looked into: what can be told is told, the rest is left open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import DeviceError
from harness.core.job import Crashed, Job, Options, Outcome, Rejected, TimedOut
from harness.core.run_folder import RunFolder, TensorStore
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.find.dump import dump
from harness.localize.find.localizer import localize
from tests.localize.planted import SHIFTED, Half, InProcess, is_tapped, is_untouched, noisy

LOUD = noisy(0.5, 3)


def chain() -> Model:
    """10 ops one after another, with a residual from the second to the last."""
    rng = np.random.default_rng(2)
    graph = GraphBuilder()
    x = graph.input("x", (4, 16))
    early = x
    for i in range(9):
        weights = (rng.standard_normal((16, 16)) / 4).astype(np.float32)
        x = graph.fully_connected(x, weights) if i % 2 == 0 else graph.unary("TANH", x)
        early = x if i == 1 else early
    graph.output(graph.binary("ADD", x, early), "y")
    return graph.build()


CHAIN = chain()
RESULTS = [op.outputs[0] for op in CHAIN.graph().ops]
Find = Callable[..., Localization]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[Half], Workbench]:
    return lambda device: Workbench(device, InProcess(), RunFolder.create(tmp_path, "localize", "chain", device.name))


@pytest.fixture
def find(bench: Callable[[Half], Workbench]) -> Find:
    def run(device: Half, **budget: int) -> Localization:
        return localize(bench(device), case(), **budget)

    return run


def case() -> Case:
    return Case(CHAIN, random_inputs(CHAIN.graph(), 0), Options(), timeout=60)


def named(answer: Localization) -> list[tuple[int, int]]:
    return [(culprit.record.first, culprit.record.index) for culprit in answer.culprits]


class Failing(Half):
    """Fails some jobs in some way."""

    def __init__(self, faults: Any, fails: Callable[[Job], bool], how: Outcome) -> None:
        super().__init__(CHAIN, faults)
        self.fails, self.how = fails, how

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        return self.how if self.fails(job) else super().run(job, sink)


def computes(job: Job) -> set[int]:
    """The ops of the original that a job runs."""
    graph = Model.from_bytes(job.model).graph()
    names = {CHAIN.graph().tensors[t].name: i for i, t in enumerate(RESULTS)} | {
        f"t{t}": i for i, t in enumerate(RESULTS)
    }
    return {names[n] for op in graph.ops for t in op.outputs if (n := graph.tensors[t].name.split("~")[0]) in names}


def taps(job: Job) -> set[int]:
    """The ops of the original whose results a job taps."""
    if not is_tapped(CHAIN)(job):
        return set()
    names = [port.name for port in Model.from_bytes(job.model).graph().outputs]
    return {i for i, t in enumerate(RESULTS) if f"tap_{t}" in names}


HOW: list[Outcome] = [Rejected("too many outputs"), Crashed("the worker was ended by SIGSEGV", "SIGSEGV"), TimedOut(60)]


class TestFailures:
    @pytest.mark.parametrize("how", HOW)
    def test_an_untouched_model_that_does_not_run_is_device_trouble(self, find: Find, how: Outcome) -> None:
        with pytest.raises(DeviceError, match=r"rejected the model: too many|while running the model"):
            find(Failing({}, is_untouched(CHAIN), how))

    @pytest.mark.parametrize("how", HOW)
    def test_one_tensor_that_cannot_be_tapped_hides_no_other(self, find: Find, how: Outcome) -> None:
        device = Failing({RESULTS[6]: LOUD}, lambda job: 3 in taps(job), how)
        answer = find(device)
        assert named(answer) == [(6, 6)]
        assert [note for note in answer.notes if "could not be read" in note] == [
            "1 tensor could not be read on the device."
        ]

    def test_those_that_cannot_be_tapped_are_counted_and_where_all_can_be_nothing_is_said(self, find: Find) -> None:
        two = find(Failing({RESULTS[6]: LOUD}, lambda job: bool({2, 3} & taps(job)), HOW[0]))
        assert [note for note in two.notes if "read" in note] == ["2 tensors could not be read on the device."]
        assert find(Half(CHAIN, {RESULTS[6]: LOUD})).notes == ()

    @pytest.mark.parametrize("culprit", [3, 4])
    def test_a_culprit_whose_own_tensor_cannot_be_tapped_is_judged_with_its_reader(
        self, find: Find, culprit: int
    ) -> None:
        device = Failing({RESULTS[culprit]: LOUD}, lambda job: 3 in taps(job), HOW[1])
        answer = find(device)
        assert answer.status == "culprits"
        ((first, last),) = named(answer)
        assert first <= culprit <= last
        assert last - first <= 1

    def test_more_outputs_than_the_device_bears_are_read_in_parts(self, find: Find) -> None:
        device = Failing({RESULTS[6]: LOUD}, lambda job: len(taps(job)) > 2, HOW[0])
        assert named(find(device)) == [(6, 6)]

    @pytest.mark.parametrize("culprit", range(9))
    def test_without_any_taps_windows_find_it(self, find: Find, culprit: int) -> None:
        device = Failing({RESULTS[culprit]: LOUD}, is_tapped(CHAIN), HOW[0])
        answer = find(device)
        assert named(answer) == [(culprit, culprit)]
        assert not answer.certified

    def test_a_device_that_runs_nothing_but_the_model_leaves_it_open(self, find: Find) -> None:
        untouched = is_untouched(CHAIN)
        answer = find(Failing({RESULTS[4]: LOUD}, lambda job: not untouched(job), HOW[1]))
        assert (answer.status, answer.certified) == ("unresolved", False)
        assert named(answer) == []
        assert {record.verdict for record in answer.records} == {"unread"}

    def test_a_second_look_that_fails_costs_the_certificate(self, find: Find) -> None:
        looked = []

        def second(job: Job) -> bool:
            graph = Model.from_bytes(job.model).graph()
            direct = is_tapped(CHAIN)(job) and any(port.tensor in RESULTS[:-1] for port in graph.outputs)
            looked.append(direct)
            return direct

        answer = find(Failing({RESULTS[4]: LOUD}, second, HOW[1]))
        assert any(looked)
        assert named(answer) == [(4, 4)]
        assert not answer.culprits[0].certified


class TestRest:
    def test_a_model_with_nothing_to_tap_is_compiled_anew_for_the_second_reading(
        self, bench: Callable[[Half], Workbench]
    ) -> None:
        """What it is held against is another compile, and not the same one again."""

        class Forgetting(Half):
            def stop(self) -> None:
                self._compiled = ""

        graph = GraphBuilder()
        graph.output(graph.unary("TANH", graph.input("x", (4, 16))), "y")
        model = graph.build()
        device = Forgetting(model, {model.graph().ops[0].outputs[0]: LOUD})
        answer = localize(bench(device), Case(model, random_inputs(model.graph(), 0), Options(), timeout=60))
        assert (named(answer), answer.certified, answer.device_compiles) == ([(0, 0)], True, 2)


class TestContext:
    @pytest.mark.parametrize(("first", "last"), [(2, 3), (1, 5), (0, 8), (4, 7)])
    def test_a_fault_of_ops_together_is_their_smallest_window(self, find: Find, first: int, last: int) -> None:
        """As when a delegate fuses ops wrongly: under a tap or cut in between, they are not fused."""
        together = set(range(first, last + 1))

        def fused(job: Job) -> bool:
            return together <= computes(job) and not taps(job) & together

        device = Half(CHAIN, {RESULTS[last]: LOUD}, sees=fused)
        answer = find(device)
        assert named(answer) == [(first, last)]
        assert [(c.cause, c.certified, c.isolated) for c in answer.culprits] == [("context", False, True)]
        assert device.compiles < 40


class TestDump:
    def test_every_value_is_kept_from_both_sides(self, bench: Callable[[Half], Workbench]) -> None:
        made = bench(Half(CHAIN, {RESULTS[4]: SHIFTED}))
        comparison, records = dump(made, case())
        assert not comparison.ok
        # What is behind a fault is wrong by what it was given; what comes before is off by its own rounding alone.
        verdicts = ["fine"] * 4 + ["culprit"] + ["inherited"] * 5
        assert [r.verdict for r in sorted(records, key=lambda r: r.index)] == verdicts
        store = TensorStore(made.run.path / "tensors")
        for i, op in enumerate(CHAIN.graph().ops[:-1]):
            label = f"{i:04d}-{op.name}"
            device, reference = store.get(label, "device"), store.get(label, "reference")
            assert np.allclose(device, reference, atol=0.02) == (i < 4)
        assert len((made.run.path / "ops.csv").read_text().splitlines()) == 1 + len(records)
