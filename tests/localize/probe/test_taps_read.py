"""What copy taps bring, under which names, and how far they are said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Graph, Model
from harness.localize.base.case import Case
from harness.localize.base.reference import label_of
from harness.localize.probe.taps import Tapped, _judged_with_reader, choose, read_copies
from tests.chains import chain
from tests.localize.planted import Half

MODEL = chain("TANH", "ABS", "EXP", "NEG", shape=(1, 32))
MADE = [op.outputs[0] for op in MODEL.graph().ops]
SIZE = 32 * 4


def read(
    folder: Path, model: Model, tensors: list[int], budget: int, warmup: int = 0
) -> tuple[Tapped, Half, list[float], TensorStore]:
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    store, device, told = TensorStore(folder), Half(model, {}), list[float]()
    tapped = read_copies(device, case, store, tensors, budget=budget, advance=told.append, warmup=warmup)
    return tapped, device, told, store


@pytest.mark.parametrize(("budget", "jobs"), [(3 * SIZE, 1), (2 * SIZE, 2), (SIZE, 3)])
def test_the_share_of_bytes_that_came_is_told_after_each_tensor(tmp_path: Path, budget: int, jobs: int) -> None:
    tapped, device, told, store = read(tmp_path, MODEL, MADE[:3], budget, warmup=2)
    assert told == [1 / 3, 2 / 3, 1.0]
    assert len(device.jobs) == jobs
    assert all((job.warmup, job.iterations, job.final) == (2, 1, True) for job in device.jobs)
    assert (tapped.read, tapped.unread, tapped.moved) == (set(MADE[:3]), {}, False)
    assert list(tapped.own) == ["y"]
    for t in MADE[:3]:
        assert store.get(label_of(MODEL.graph(), t), "device").shape == (1, 32)


def test_nothing_is_asked_for_nothing(tmp_path: Path) -> None:
    tapped, device, told, _ = read(tmp_path, MODEL, [], SIZE)
    assert (tapped, device.jobs, told) == (Tapped(), [], [])


def test_an_output_that_is_read_too_comes_once_from_a_window(tmp_path: Path) -> None:
    """ABS #1 is an output, and EXP #2 reads it."""
    graph = GraphBuilder()
    first = graph.unary("TANH", graph.input("x", (1, 32)))
    middle = graph.unary("ABS", first)
    graph.output(middle, "m")
    graph.output(graph.unary("EXP", middle), "y")
    tapped, device, _, store = read(tmp_path, graph.build(), [first, middle], SIZE)
    assert [sorted(own) for own in tapped.own_outputs] == [[], ["m", "y"]]
    assert [len(job.outputs) for job in device.jobs] == [1, 2]
    np.testing.assert_array_equal(tapped.own["m"], store.get(label_of(graph.build().graph(), middle), "device"))


def test_own_outputs_are_those_of_all_compiles() -> None:
    one, two = np.zeros(1), np.ones(1)
    assert Tapped(own_outputs=[{"a": one}, {"b": two}, {}]).own == {"a": one, "b": two}
    assert Tapped().own == {}


def forked() -> tuple[Graph, dict[str, int]]:
    """TANH #0; ADD #1 read by EXP #2 alone; MUL #3 read by EXP #4 and given out; SUB #5 read by two."""
    graph = GraphBuilder()
    t = {"tanh": graph.unary("TANH", graph.input("x", (1, 32)))}
    t["add"] = graph.binary("ADD", t["tanh"], t["tanh"])
    t["exp"] = graph.unary("EXP", t["add"])
    t["mul"] = graph.binary("MUL", t["exp"], t["exp"])
    t["last"] = graph.unary("EXP", t["mul"])
    t["sub"] = graph.binary("SUB", t["last"], t["last"])
    graph.output(t["mul"], "m")
    graph.output(graph.unary("EXP", t["sub"]), "y")
    graph.output(graph.unary("TANH", t["sub"]), "z")
    return graph.build().graph(), t


@pytest.mark.parametrize(
    ("name", "left_out", "judged"),
    [
        ("add", [], True),
        ("add", ["tanh"], False),  # its input is not read
        ("add", ["exp"], False),  # nor its reader's result
        ("add", ["last"], True),
        ("mul", [], False),  # an output
        ("sub", [], False),  # two readers
    ],
)
def test_a_tensor_is_judged_with_its_one_reader_between_tensors_that_are_read(
    name: str, left_out: list[str], judged: bool
) -> None:
    graph, t = forked()
    assert _judged_with_reader(graph, t[name], {t[other] for other in left_out}) is judged


def test_of_what_the_cpu_makes_that_is_read_which_the_accelerator_reads() -> None:
    graph = MODEL.graph()
    assert choose(graph, None, frozenset({0, 1})) == (MADE[1], MADE[2])
    assert choose(graph, None, frozenset({0})) == (MADE[0], MADE[1], MADE[2])
    assert choose(graph, None, frozenset({0, 1, 2, 3})) == ()


def test_the_largest_of_a_kind_are_left_out_first() -> None:
    """RESHAPE #1 of 128 bytes and PAD #3 of 256."""
    graph = GraphBuilder()
    small = graph.reshape(graph.unary("TANH", graph.input("x", (1, 32))), (32, 1))
    large = graph.pad(graph.unary("EXP", small), [(0, 32), (0, 0)])
    graph.output(graph.unary("EXP", large), "y")
    model = graph.build().graph()
    every = choose(model, None)
    total = sum(model.tensors[t].nbytes for t in every)
    assert set(choose(model, total - 1)) == {*every} - {large}
    assert set(choose(model, total - 256)) == {*every} - {large}
    assert set(choose(model, total - 257)) == {*every} - {large, small}
