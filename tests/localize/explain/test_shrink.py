"""Shrinking without a device: what is left is exactly what still fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.surgery import closure
from harness.localize.explain.shrink import shrink
from harness.localize.probe.experiment import Experiments, Specimen
from tests.localize.planted import InProcess, evaluated


@pytest.fixture
def experiments() -> Experiments:
    return Experiments(InProcess(), InProcess(), timeout=60)


def specimen(build: Callable[[GraphBuilder], int]) -> Specimen:
    graph = GraphBuilder()
    graph.output(build(graph), "y0")
    rng = np.random.default_rng(2)
    model = graph.build()
    inputs = {
        p.name: np.asarray(rng.standard_normal(model.graph().tensors[p.tensor].shape), np.float32)
        for p in model.graph().inputs
    }
    return Specimen(model, inputs)


def block(graph: GraphBuilder) -> int:
    """6 ops on [2, 12, 16] and [16, 16]."""
    x = graph.unary("TANH", graph.input("x0", (2, 12, 16)))
    x = graph.binary("ADD", x, graph.fully_connected(x, np.eye(16, dtype=np.float32)))
    x = graph.pad(graph.unary("RELU", x), [(0, 0), (1, 2), (0, 0)])
    return graph.softmax(x)


def names(found: Specimen) -> list[str]:
    return [op.name for op in found.model.graph().ops]


def shapes_of(found: Specimen, op: str) -> tuple[int, ...]:
    graph = found.model.graph()
    (shape,) = [graph.tensors[o.inputs[0]].shape for o in graph.ops if o.name == op]
    assert shape is not None
    return shape


def holds(found: Specimen) -> bool:
    """Inputs and model go together: the host's kernels run it, and the shapes are as declared."""
    outputs = evaluated(found.model.to_bytes(), found.inputs)
    graph = found.model.graph()
    return all(outputs[p.name].shape == graph.tensors[p.tensor].shape for p in graph.outputs)


@pytest.mark.parametrize("op", ["TANH", "FULLY_CONNECTED", "ADD", "RELU", "PAD", "SOFTMAX"])
def test_a_fault_of_one_op_is_shrunk_to_that_op_with_every_size_one(experiments: Experiments, op: str) -> None:
    found = shrink(experiments, specimen(block), lambda s: op in names(s))
    assert names(found.specimen) == [op]
    assert holds(found.specimen)
    assert max(shapes_of(found.specimen, op)) == 1
    assert set(found.recipes) == set(found.specimen.inputs)


def test_a_fault_of_two_ops_keeps_both_and_what_lies_between(experiments: Experiments) -> None:
    def fails(found: Specimen) -> bool:
        graph = found.model.graph()
        behind = [closure(graph, op.outputs[0], frozenset())[0] for op in graph.ops if op.name == "PAD"]
        return any("ADD" in [graph.ops[o].name for o in ops] for ops in behind)

    found = shrink(experiments, specimen(block), fails)
    assert names(found.specimen) == ["ADD", "RELU", "PAD"]
    assert holds(found.specimen)


@pytest.mark.parametrize("least", [3, 5, 8])
def test_a_size_is_halved_as_far_as_it_fails(experiments: Experiments, least: int) -> None:
    def fails(found: Specimen) -> bool:
        return "PAD" in names(found) and shapes_of(found, "PAD")[-1] >= least

    found = shrink(experiments, specimen(block), fails)
    assert shapes_of(found.specimen, "PAD") == (1, 1, {3: 4, 5: 8, 8: 8}[least])


def test_terms_of_a_product_shrink_in_both_operands(experiments: Experiments) -> None:
    def product(graph: GraphBuilder) -> int:
        return graph.batch_matmul(graph.input("x0", (2, 4, 512)), graph.input("x1", (2, 512, 8)))

    def fails(found: Specimen) -> bool:
        return shapes_of(found, "BATCH_MATMUL")[-1] >= 100

    found = shrink(experiments, specimen(product), fails).specimen
    graph = found.model.graph()
    assert [graph.tensors[p.tensor].shape for p in graph.inputs] == [(1, 1, 128), (1, 128, 1)]
    assert holds(found)


def test_inputs_that_matter_are_kept_as_they_were(experiments: Experiments) -> None:
    def same(values: Array) -> bool:
        return bool(np.isclose(values.reshape(-1)[0], original))

    start = specimen(block)
    original = start.inputs["x0"].reshape(-1)[0]
    found = shrink(experiments, start, lambda s: "TANH" in names(s) and any(map(same, s.inputs.values())))
    assert names(found.specimen) == ["TANH"]
    assert found.recipes == {}
    assert found.specimen.inputs["x0"].size == 1


def test_made_inputs_are_what_their_code_says(experiments: Experiments) -> None:
    def rough(found: Specimen) -> bool:
        return "ADD" in names(found) and all(np.ptp(v) > 0.1 for v in found.inputs.values())

    found = shrink(experiments, specimen(block), rough)
    assert {recipe.kind for recipe in found.recipes.values()} == {"normal"}
    for name, recipe in found.recipes.items():
        values = found.specimen.inputs[name]
        made = eval(recipe.code(values.shape), {"np": np})  # noqa: S307 - this test's own code
        np.testing.assert_array_equal(made, values)
        assert made.dtype == values.dtype


def test_no_more_questions_are_asked_than_allowed(experiments: Experiments) -> None:
    asked: list[Model] = []

    def fails(found: Specimen) -> bool:
        asked.append(found.model)
        return "PAD" in names(found)

    found = shrink(experiments, specimen(block), fails, limit=3)
    assert found.questions == len(asked) == 3
    assert holds(found.specimen)


def test_what_fails_only_as_it_is_stays_as_it_is(experiments: Experiments) -> None:
    start = specimen(block)
    assert shrink(experiments, start, lambda s: False).specimen is start
