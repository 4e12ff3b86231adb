"""Which tensors copy taps read, and what is asked again where a compile does not get through."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.job import Completed, Crashed, Job, Options, Outcome
from harness.core.run_folder import TensorStore
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.probe.taps import TAP_BUDGET, choose, read_copies
from tests.localize.planted import Half


def chain() -> Model:
    """TANH #0, RESHAPE #1, EXP #2, ADD #3, TANH #4, NEG #5, each result 128 bytes; the last is the output."""
    graph = GraphBuilder()
    t = graph.reshape(graph.unary("TANH", graph.input("x", (1, 32))), (32, 1))
    t = graph.unary("EXP", t)
    t = graph.unary("TANH", graph.binary("ADD", t, t))
    graph.output(graph.unary("NEG", t), "y")
    return graph.build()


CHAIN = chain()
MADE = [op.outputs[0] for op in CHAIN.graph().ops]


def chosen(budget: int | None) -> list[int]:
    """The ops whose results are read."""
    return [CHAIN.graph().producer[t] for t in choose(CHAIN.graph(), budget)]


@pytest.mark.parametrize(
    ("budget", "ops"),
    [
        (None, [0, 1, 2, 3, 4]),
        (TAP_BUDGET, [0, 1, 2, 3, 4]),
        (640, [0, 1, 2, 3, 4]),  # just enough
        (639, [0, 2, 3, 4]),  # without what only moves elements
        (512, [0, 2, 3, 4]),
        (511, [0, 2, 4]),  # nor what rounds once and is judged with its one reader
        (384, [0, 2, 4]),
        (383, [0, 1, 2, 3, 4]),  # several compiles in any case: then all of them
    ],
)
def test_no_more_is_left_out_than_the_budget_asks_for(budget: int | None, ops: list[int]) -> None:
    assert chosen(budget) == ops


def test_what_two_ops_read_is_not_left_out_for_one_of_them_to_be_judged_with() -> None:
    """A wrong sum would be found twice, as either reader's fault."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 32)))
    both = graph.binary("ADD", x, x)
    graph.output(graph.unary("NEG", graph.unary("EXP", both)), "y")
    graph.output(graph.unary("NEG", graph.unary("SQUARE", both)), "z")
    model = graph.build().graph()
    every = choose(model, None)
    size = sum(model.tensors[t].nbytes for t in every)
    assert both in every
    assert choose(model, size - 1) == every


class Cut(Half):
    """Does not survive a job with more than `most` outputs, and gives the first few of them before."""

    def __init__(self, most: int, before: int) -> None:
        super().__init__(CHAIN, {})
        self.most, self.before = most, before
        self.rests = 0

    def stop(self) -> None:
        self.rests += 1

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        if len(job.outputs) <= self.most:
            return super().run(job, sink)
        self.jobs.append(job)
        given = 0

        def some(name: str, values: object) -> None:
            nonlocal given
            given += name != "y"
            if given <= self.before and name != "y":
                assert sink is not None
                sink(name, values)  # type: ignore[arg-type]

        jobs = list(self.jobs)
        assert isinstance(super().run(job, some), Completed)
        self.jobs = jobs
        return Crashed("the worker was ended by SIGSEGV", "SIGSEGV")


def asked(device: Cut) -> list[int]:
    """How many tensors each job was to read beside the output."""
    return [len(job.outputs) - 1 for job in device.jobs]


@pytest.mark.parametrize(
    ("most", "before", "jobs"),
    [
        (6, 0, [5]),
        (4, 0, [5, 3, 2]),  # halved
        (4, 1, [5, 2, 2]),  # of what did not come
        (3, 3, [5, 1, 1]),
        (2, 4, [5, 1]),  # the only one left is asked for by itself
        (2, 0, [5, 3, 2, 1, 2, 1, 1, 1, 1]),
    ],
)
def test_a_compile_that_does_not_get_through_is_halved_and_nothing_is_read_twice(
    tmp_path: Path, most: int, before: int, jobs: list[int]
) -> None:
    case = Case(CHAIN, random_inputs(CHAIN.graph(), 0), Options(), timeout=60)
    device = Cut(most, before)
    tapped = read_copies(device, case, TensorStore(tmp_path), MADE[:5])
    assert (sorted(tapped.read), tapped.unread) == (sorted(MADE[:5]), {})
    assert sorted(asked(device)) == sorted(jobs)
    assert device.rests == 2 * len(jobs)
    assert len(tapped.own_outputs) == sum(count + 1 <= most for count in jobs)


def test_a_tensor_that_no_compile_gives_is_left_out_with_the_reason(tmp_path: Path) -> None:
    case = Case(CHAIN, random_inputs(CHAIN.graph(), 0), Options(), timeout=60)
    tapped = read_copies(Cut(1, 0), case, TensorStore(tmp_path), MADE[:2])
    assert (tapped.read, tapped.own_outputs) == (set(), [])
    assert tapped.unread == dict.fromkeys(
        MADE[:2], "half crashed while reading one tensor: the worker was ended by SIGSEGV."
    )


def test_the_last_of_several_compiles_alone_gives_the_models_own_outputs(tmp_path: Path) -> None:
    """Each is a window that reads what those before it brought."""
    case = Case(CHAIN, random_inputs(CHAIN.graph(), 0), Options(), timeout=60)
    device = Half(CHAIN, {})
    tapped = read_copies(device, case, TensorStore(tmp_path), MADE[:5], budget=256)
    ops = [[MADE.index(int(port.name.removeprefix("t"))) for port in job.outputs] for job in device.jobs]
    assert ops == [[0, 1], [2, 3], [4, 5]]
    assert [list(own) for own in tapped.own_outputs] == [[], [], ["y"]]
