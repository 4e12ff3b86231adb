"""Values that float16 does not hold are scaled by a power of two on the way, and mean the same at the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
from harness.numerics.fp16 import LARGEST, peak
from harness.remedies import catalogue
from harness.remedies.rescale import holds
from tests.arrays import Evaluate
from tests.remedies.small import convolved, one_op, table


def layer_norm(scale: float) -> Model:
    graph = GraphBuilder()
    x = graph.binary("MUL", graph.input("x", (2, 64)), graph.constant([scale]))
    mean = graph.reduce("MEAN", x, 1)
    square = graph.op("SQUARED_DIFFERENCE", [x, mean], (2, 64), schema.SquaredDifferenceOptionsT())
    variance = graph.binary("ADD", graph.reduce("MEAN", square, 1), graph.constant([1e-5]))
    normal = graph.binary("MUL", graph.binary("SUB", x, mean), graph.unary("RSQRT", variance))
    graph.output(normal, "y")
    return graph.build()


def peaks_of(model: Model, evaluate: Evaluate) -> dict[int, float]:
    tapped, names = surgery.tap(model, surgery.tappable(model.graph()), "direct")
    values = evaluate(tapped, random_inputs(model.graph(), 0))
    return {t: peak(values[name]) for t, name in names.items()}


def test_a_scale_keeps_every_value_inside_float16_and_is_gone_at_the_end(evaluate: Evaluate) -> None:
    model = layer_norm(400.0)
    assert max(peaks_of(model, evaluate).values()) > 65504
    scaled = catalogue.RESCALE.apply(model, frozenset({2}), peaks_of(model, evaluate))
    assert max(peaks_of(scaled, evaluate).values()) < 65504
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_allclose(evaluate(scaled, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-5, atol=1e-6)


def test_a_scale_may_go_on_to_a_normalization_in_which_it_cancels(evaluate: Evaluate) -> None:
    model = layer_norm(400.0)
    # Values that float16 holds: undone at once, or nowhere.
    peaks = dict.fromkeys(peaks_of(model, evaluate), 20_000.0)
    undone = catalogue.RESCALE.apply(model, frozenset({0}), peaks)
    going_on = catalogue.RESCALE_ON.apply(model, frozenset({0}), peaks)
    kinds = [op.name for op in model.graph().ops]
    assert len(undone.graph().ops) == len(kinds) + 1
    assert [op.name for op in going_on.graph().ops] == kinds
    assert max(peaks_of(going_on, evaluate).values()) < 65504
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_allclose(evaluate(going_on, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-4, atol=1e-6)


def test_a_scale_that_cancels_nowhere_does_not_go_on() -> None:
    model = one_op(lambda g: g.unary("TANH", g.binary("MUL", g.input("x", (4,)), g.constant([3.0]))))
    with pytest.raises(CannotRewrite, match="no normalization follows"):
        catalogue.RESCALE_ON.apply(model, frozenset({0}), dict.fromkeys(range(9), 20_000.0))


def test_a_scale_lifts_what_float16_would_flush_until_a_logarithm_takes_it_out(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    tiny = graph.binary("MUL", graph.input("x", (1, 64)), graph.constant([1e-6]))
    graph.output(graph.unary("LOG", graph.unary("ABS", tiny)), "y")
    model = graph.build()
    scaled = catalogue.RESCALE.apply(model, frozenset({0}), peaks_of(model, evaluate))
    assert [op.name for op in scaled.graph().ops] == ["MUL", "ABS", "LOG", "SUB"]
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_allclose(evaluate(scaled, inputs)["y"], evaluate(model, inputs)["y"], atol=1e-5)


def test_an_output_that_float16_cannot_hold_is_said_to_need_its_own_scale(evaluate: Evaluate) -> None:
    model = one_op(lambda g: g.binary("MUL", g.input("x", (4,)), g.constant([1e6])))
    with pytest.raises(CannotRewrite, match="needed unscaled, and float16 does not hold it"):
        catalogue.RESCALE.apply(model, frozenset({0}), peaks_of(model, evaluate))


def test_a_root_of_an_odd_power_of_two_takes_no_half_of_one_along(evaluate: Evaluate) -> None:
    """Values up to 2^102 are held times 2^-92, their fourth roots times 2^-23; the eighth is wanted times 2^-12."""
    graph = GraphBuilder()
    t = graph.binary("MUL", graph.input("x", (1, 8)), graph.constant([2.0**100]))
    for _ in range(3):
        t = graph.unary("SQRT", t)
    graph.output(t, "y")
    model = graph.build()
    inputs = {"x": np.linspace(1, 4, 8, dtype=np.float32)[None]}
    peaks = {op.outputs[0]: 2.0 ** (102 / 2**i) for i, op in enumerate(model.graph().ops)}
    scaled = catalogue.RESCALE.apply(model, frozenset({0}), peaks)
    np.testing.assert_allclose(evaluate(scaled, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)


def test_a_scale_does_not_pass_a_fused_clamp() -> None:
    """min(s·x, 6) is not s·min(x, 6)."""
    with pytest.raises(CannotRewrite, match="CONV_2D #0 has a fused activation that no factor passes"):
        catalogue.RESCALE.apply(one_op(convolved), frozenset({0}), {3: 1e6})


def _mean(graph: GraphBuilder, x: int) -> int:
    return graph.reduce("MEAN", x, 1)


# What reads values of up to 512,000, which float16 does not hold, and comes back to values that it does.
READERS: dict[str, Callable[[GraphBuilder, int, int], int]] = {
    "RELU": lambda g, big, c: g.binary("DIV", g.unary("RELU", big), big),
    "SQRT": lambda g, big, c: g.unary("SQRT", big),
    "RSQRT": lambda g, big, c: g.unary("RSQRT", big),
    "LOG": lambda g, big, c: g.unary("LOG", big),
    "SQUARE": lambda g, big, c: g.binary("DIV", g.unary("SQRT", g.unary("SQUARE", big)), big),
    "DIV of it": lambda g, big, c: g.binary("DIV", big, g.binary("MUL", c, g.constant([64.0]))),
    "DIV by it": lambda g, big, c: g.binary("DIV", c, big),
    "DIV of it by itself": lambda g, big, c: g.binary("DIV", big, big),
    "MUL with a small one": lambda g, big, c: g.binary("MUL", big, g.unary("RSQRT", g.binary("MUL", big, big))),
    "MUL with a constant": lambda g, big, c: g.binary("MUL", g.constant([2.0**-12]), big),
    "ADD": lambda g, big, c: g.binary("DIV", g.binary("ADD", big, c), big),
    "SUB": lambda g, big, c: g.binary("DIV", g.binary("SUB", c, big), big),
    "SUM of products": lambda g, big, c: g.binary("DIV", _mean(g, g.binary("MUL", big, c)), big),
    "FULLY_CONNECTED with a bias": lambda g, big, c: g.binary(
        "DIV", g.fully_connected(big, np.eye(8), np.arange(8)), big
    ),
    "SQUARED_DIFFERENCE": lambda g, big, c: g.unary(
        "SQRT", g.binary("SQUARED_DIFFERENCE", big, g.binary("MUL", big, g.constant([0.99])))
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_scale_passes_through_what_reads_it_and_comes_out_as_nothing(reader: str, evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    x, c = graph.input("x", (1, 8)), graph.input("c", (1, 8))
    graph.output(READERS[reader](graph, graph.binary("MUL", x, graph.constant([256.0])), c), "y")
    model = graph.build()
    rng = np.random.default_rng(11)
    inputs = {name: rng.uniform(500, 2000, (1, 8)).astype(np.float32) for name in ("x", "c")}
    tapped, names = surgery.tap(model, [t for op in model.graph().ops for t in op.outputs], "direct")
    exact = evaluate(tapped, inputs)
    rewritten = catalogue.RESCALE.apply(model, frozenset({0}), {t: peak(exact[n]) for t, n in names.items()})
    every, made = surgery.tap(rewritten, surgery.tappable(rewritten.graph()), "direct")
    found = evaluate(every, inputs)
    np.testing.assert_allclose(found["y"], exact["y"], rtol=1e-6)
    assert peak(found[made[rewritten.graph().ops[0].outputs[0]]]) < LARGEST
    assert peak(exact[names[model.graph().ops[0].outputs[0]]]) > LARGEST


Made = Callable[[GraphBuilder, int, int], int]


def _summed(graph: GraphBuilder, x: int) -> int:
    return graph.reduce("SUM", x, 1)


# What makes values of two inputs from 30,000 to 60,000, and the place of the op that does.
MAKERS: dict[str, tuple[Made, int]] = {
    "MUL by a constant": (lambda g, x, c: g.binary("MUL", x, g.constant([256.0])), 0),
    "MUL of a constant": (lambda g, x, c: g.binary("MUL", g.constant([256.0]), x), 0),
    "MUL of two": (lambda g, x, c: g.binary("MUL", x, c), 0),
    "MUL by a constant of what is scaled": (
        lambda g, x, c: g.binary("MUL", g.binary("MUL", x, c), g.constant([64.0])), 1,
    ),
    "MUL of a constant by what is scaled": (
        lambda g, x, c: g.binary("MUL", g.constant([64.0]), g.binary("MUL", x, c)), 1,
    ),
    "ADD": (lambda g, x, c: g.binary("ADD", x, c), 0),
    "SUB": (lambda g, x, c: g.binary("SUB", x, g.unary("NEG", c)), 1),
    "SUM": (lambda g, x, c: _summed(g, x), 0),
    "SQUARE": (lambda g, x, c: g.unary("SQUARE", x), 0),
    "SQUARED_DIFFERENCE": (lambda g, x, c: g.binary("SQUARED_DIFFERENCE", x, g.unary("NEG", c)), 1),
    "DIV": (lambda g, x, c: g.binary("DIV", x, g.binary("MUL", c, g.constant([2.0**-20]))), 1),
    "DIV by what is scaled": (lambda g, x, c: g.binary("DIV", x, g.binary("DIV", c, g.binary("MUL", x, c))), 2),
    "RSQRT": (lambda g, x, c: g.unary("RSQRT", x), 0),
    "SQRT": (lambda g, x, c: g.unary("SQRT", x), 0),
    "FULLY_CONNECTED with a bias": (
        lambda g, x, c: g.fully_connected(x, 10 * np.eye(8, dtype=np.float32), np.arange(8)), 0,
    ),
    "CONCATENATION": (
        lambda g, x, c: g.op("CONCATENATION", [x, c], (1, 16), table("Concatenation", axis=1)), 0,
    ),
}  # fmt: skip


def scaled(make: Made, ops: set[int], evaluate: Evaluate) -> tuple[Model, Model, dict[str, Array]]:
    """The logarithm of what is made, the same with some ops scaled, and the inputs."""
    graph = GraphBuilder()
    x, c = graph.input("x", (1, 8)), graph.input("c", (1, 8))
    graph.output(graph.unary("LOG", make(graph, x, c)), "y")
    model = graph.build()
    rng = np.random.default_rng(11)
    inputs = {p.name: rng.uniform(3e4, 6e4, (1, 8)).astype(np.float32) for p in model.graph().inputs}
    tapped, names = surgery.tap(model, [t for op in model.graph().ops for t in op.outputs], "direct")
    exact = evaluate(tapped, inputs)
    return model, catalogue.RESCALE.apply(model, frozenset(ops), {t: peak(exact[n]) for t, n in names.items()}), inputs


@pytest.mark.parametrize("maker", MAKERS)
def test_an_op_that_is_scaled_makes_values_in_the_middle_of_float16s_range(maker: str, evaluate: Evaluate) -> None:
    """About 2^10, by a power of two whose exponent is a multiple of four."""
    make, place = MAKERS[maker]
    ops = {place} if "what is scaled" not in maker else {place, 0}
    model, rewritten, inputs = scaled(make, ops, evaluate)
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)
    kind = model.graph().ops[place].name
    every, names = surgery.tap(rewritten, surgery.tappable(rewritten.graph()), "direct")
    found = evaluate(every, inputs)
    made = [names[op.outputs[0]] for op in rewritten.graph().ops if op.name == kind and op.outputs[0] in names]
    assert any(2.0**8 <= peak(found[name]) <= 2.0**12 for name in made)


@pytest.mark.parametrize(
    ("size", "held"), [(2.0**-9, True), (2.0**15, True), (1.9e-3, False), (33000.0, False), (0.0, False), (1.0, True)]
)
def test_float16_holds_without_harm_what_is_neither_near_its_largest_nor_near_its_least(
    size: float, held: bool
) -> None:
    assert holds(size) is held


def test_two_that_are_scaled_differently_are_added_at_one_scale(evaluate: Evaluate) -> None:
    def make(graph: GraphBuilder, x: int, c: int) -> int:
        return graph.binary(
            "ADD", graph.binary("MUL", x, graph.constant([64.0])), graph.binary("MUL", c, graph.constant([2.0**14]))
        )

    model, rewritten, inputs = scaled(make, {0, 1}, evaluate)
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)


def test_a_bias_beside_two_that_are_scaled_has_the_scale_of_their_product(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    x = graph.binary("MUL", graph.input("x", (1, 8)), graph.constant([256.0]))
    w = graph.binary("MUL", graph.input("w", (3, 8)), graph.constant([256.0]))
    bias = graph.constant(np.asarray([1e9, 5e9, 9e9]))
    product = graph.op("FULLY_CONNECTED", [x, w, bias], (1, 3), table("FullyConnected", keepNumDims=True))
    graph.output(graph.unary("LOG", product), "y")
    model = graph.build()
    inputs = {"x": np.full((1, 8), 2e3, np.float32), "w": np.full((3, 8), 3e3, np.float32)}
    sizes = {model.graph().ops[0].outputs[0]: 5e5, model.graph().ops[1].outputs[0]: 7.5e5, product: 3.2e12}
    rewritten = catalogue.RESCALE.apply(model, frozenset({0, 1}), sizes | {model.graph().ops[3].outputs[0]: 30.0})
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)


def test_a_scale_is_taken_out_once_at_the_first_result_that_float16_holds(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    root = graph.unary("SQRT", graph.binary("MUL", graph.input("x", (1, 8)), graph.constant([256.0])))
    graph.output(graph.unary("TANH", root), "y")
    graph.output(graph.unary("RELU6", root), "z")
    model = graph.build()
    sizes = dict(zip((op.outputs[0] for op in model.graph().ops), (5e5, 700.0, 1.0, 6.0), strict=True))
    rewritten = catalogue.RESCALE.apply(model, frozenset({0}), sizes)
    assert [op.name for op in rewritten.graph().ops] == ["MUL", "SQRT", "MUL", "TANH", "RELU6"]


@pytest.mark.parametrize(
    ("make", "op", "why"),
    [
        (lambda g, x, c: g.unary("TANH", g.binary("MUL", x, c)), 0, "needed unscaled, and float16 does not hold it"),
        (lambda g, x, c: g.unary("TANH", x), 0, "TANH lets no factor through"),
        (lambda g, x, c: g.unary("LOG", x), 0, "LOG lets no factor through"),
    ],
)
def test_what_is_not_homogeneous_passes_no_scale(make: Made, op: int, why: str, evaluate: Evaluate) -> None:
    with pytest.raises(CannotRewrite, match=why):
        scaled(make, {op}, evaluate)
