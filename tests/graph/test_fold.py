"""Tensors that are too long for a GPU's ports, in two dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.fold import LONGEST, in_two_dimensions, too_large
from harness.graph.model import Model
from harness.graph.short_ports import as_declared, with_short_ports
from tests.localize.planted import evaluated

LONG = 262144


@pytest.mark.parametrize(
    ("shape", "along", "folded"),
    [
        ((1, 4194816), (), (1, 1, 2731, 1536)),
        ((4, 262148), (), (4, 1, 65537, 4)),
        ((1, 262147), (), (1, 1, 262147, 1)),
        ((2, 3, 524288), (), (6, 1, 128, 4096)),
        ((4194816,), (1048576, 1049088, 3145728), (1, 1, 8193, 512)),
    ],
)
def test_the_last_dimension_becomes_rows_and_columns(
    shape: tuple[int, ...], along: tuple[int, ...], folded: tuple[int, ...]
) -> None:
    assert in_two_dimensions(shape, along) == folded
    assert np.prod(folded) == np.prod(shape)


def test_only_a_last_dimension_can_be_too_large() -> None:
    assert LONGEST == 262140
    assert [too_large(shape) for shape in ((1, 262140), (1, 262141), (300000, 1), (), None)] == [
        False, True, False, False, False,
    ]  # fmt: skip


def long_middle() -> Model:
    """A map that is flattened inside the model."""
    graph = GraphBuilder()
    flat = graph.reshape(graph.input("x", (1, 512, 512)), (1, LONG))
    graph.output(graph.reduce("SUM", graph.reshape(graph.unary("TANH", flat), (1, 512, 512)), 2), "y")
    return graph.build()


@pytest.mark.parametrize(("kind", "shape"), [("copy", (1, 1, 64, 4096)), ("turned", (1, 1, 4096, 64))])
def test_a_tap_of_a_long_tensor_comes_out_in_two_dimensions(kind: surgery.TapKind, shape: tuple[int, ...]) -> None:
    model = long_middle()
    op = model.graph().ops[1]
    tapped, names = surgery.tap(model, op.outputs, kind)
    x = np.random.default_rng(0).standard_normal((1, 512, 512), np.float32)
    values = evaluated(tapped, {"x": x})[names[op.outputs[0]]]
    assert values.shape == shape
    np.testing.assert_allclose(values.reshape(-1), np.tanh(x).reshape(-1), rtol=1e-6)


def test_parts_take_and_give_long_tensors_in_two_dimensions() -> None:
    model = long_middle()
    (op,) = [op for op in model.graph().ops if op.name == "TANH"]
    part = surgery.extract(model, op.outputs, op.inputs).model
    short = with_short_ports(part)
    graph = short.graph()
    assert [p.name for p in graph.inputs + graph.outputs] == [surgery.port_name(t) for t in (*op.inputs, *op.outputs)]
    assert {graph.tensors[p.tensor].shape for p in graph.inputs + graph.outputs} == {(1, 1, 64, 4096)}
    x = np.random.default_rng(0).standard_normal((1, LONG), np.float32)
    feeds = {surgery.port_name(op.inputs[0]): x}
    (values,) = evaluated(short, as_declared(short, feeds)).values()
    (exact,) = evaluated(part, feeds).values()
    np.testing.assert_array_equal(values.reshape(-1), exact.reshape(-1))


def test_ports_that_the_whole_model_has_stay_as_they_are() -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("TANH", graph.input("x", (1, LONG))), "y")
    model = graph.build()
    assert with_short_ports(model, ["x", "y"]) is model
    assert with_short_ports(long_middle()).sha256 == long_middle().sha256
    kept = with_short_ports(model, ["x"]).graph()
    assert [kept.tensors[p.tensor].shape for p in (*kept.inputs, *kept.outputs)] == [(1, LONG), (1, 1, 64, 4096)]
