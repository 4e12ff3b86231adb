"""A device that misreads an operand is told apart by running the model on the host with the operand misread so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.job import Options
from harness.core.run_folder import RunFolder
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.explain.explainer import explain
from harness.localize.explain.misreading import misreadings, mix_ups
from harness.localize.find.localizer import localize
from tests.arrays import Evaluate
from tests.localize.broken import Broken
from tests.localize.planted import InProcess
from tests.remedies.small import one_op

RNG = np.random.default_rng(3)
TABLE = RNG.standard_normal((8, 16)).astype(np.float32)
BLOCKS = RNG.standard_normal((2, 8, 16)).astype(np.float32)


def product(graph: GraphBuilder, left: tuple[int, ...], right: tuple[int, ...], *, adj_x: bool, adj_y: bool) -> int:
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = adj_x, adj_y
    return graph.op("BATCH_MATMUL", [graph.input("a", left), graph.input("b", right)], (3, 4, 4), options)


def of(model: Model, evaluate: Evaluate) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    inputs = random_inputs(model.graph(), 0)
    return {way.text: evaluate(way.model, inputs)["y"] for way in misreadings(model, 0)}


def test_each_row_gets_row_0_of_a_constant(evaluate: Evaluate) -> None:
    model = one_op(lambda g: g.binary("DIV", g.input("x", (8, 16)), g.constant(TABLE)))
    x = random_inputs(model.graph(), 0)["x"]
    (values,) = (found := of(model, evaluate)).values()
    assert list(found) == ["row 0 of the constant for every row"]
    np.testing.assert_allclose(values, x / TABLE[:1], rtol=1e-6)


def test_positions_of_an_enlarged_map_may_be_rounded(evaluate: Evaluate) -> None:
    def build(g: GraphBuilder) -> int:
        feeds = [g.input("x", (1, 3, 2, 4)), g.constant(np.asarray([9, 4], np.int32))]
        return g.op("RESIZE_NEAREST_NEIGHBOR", feeds, (1, 9, 4, 4), schema.ResizeNearestNeighborOptionsT())

    model = one_op(build)
    x = random_inputs(model.graph(), 0)["x"]
    (values,) = (found := of(model, evaluate)).values()
    assert list(found) == ["each position rounded to the nearest element instead of down"]
    np.testing.assert_array_equal(values, x[:, [0, 0, 1, 1, 1, 2, 2, 2, 2]][:, :, [0, 1, 1, 1]])


def test_each_block_gets_block_0_of_a_constant_that_comes_first(evaluate: Evaluate) -> None:
    model = one_op(lambda g: g.binary("SUB", g.constant(BLOCKS), g.input("x", (2, 8, 16))))
    x = random_inputs(model.graph(), 0)["x"]
    (values,) = (found := of(model, evaluate)).values()
    assert list(found) == ["block 0 of the constant for every block"]
    np.testing.assert_allclose(values, BLOCKS[:1] - x, rtol=1e-6, atol=1e-6)


def test_a_product_with_fewer_batches_on_one_side_reads_zeros_beyond_them(evaluate: Evaluate) -> None:
    model = one_op(lambda g: product(g, (3, 4, 5), (1, 5, 4), adj_x=False, adj_y=False))
    inputs = random_inputs(model.graph(), 0)
    (values,) = (found := of(model, evaluate)).values()
    assert list(found) == ["zeros in place of the right side beyond its own batches"]
    np.testing.assert_allclose(values[0], inputs["a"][0] @ inputs["b"][0], rtol=1e-5, atol=1e-6)
    assert not values[1:].any()


def test_a_product_by_one_batch_may_deal_its_columns_out_to_the_batches(evaluate: Evaluate) -> None:
    model = one_op(lambda g: g.batch_matmul(g.input("a", (3, 4, 5)), g.input("b", (1, 5, 12))))
    inputs = random_inputs(model.graph(), 0)
    found = of(model, evaluate)
    assert list(found)[1:] == [
        "the right side's columns dealt out to the batches, 4 each, then zeros",
        "the right side's columns dealt out to the batches, 8 each, then zeros",
    ]
    dealt = np.zeros((3, 5, 12), np.float32)
    dealt[0, :, :8], dealt[1, :, :4] = inputs["b"][0, :, :8], inputs["b"][0, :, 8:]
    np.testing.assert_allclose(list(found.values())[2], inputs["a"] @ dealt, rtol=1e-5, atol=1e-6)


def test_a_square_side_may_be_read_untransposed(evaluate: Evaluate) -> None:
    model = one_op(lambda g: product(g, (3, 4, 4), (3, 4, 4), adj_x=True, adj_y=False))
    inputs = random_inputs(model.graph(), 0)
    (values,) = (found := of(model, evaluate)).values()
    assert list(found) == ["the left side not transposed"]
    np.testing.assert_allclose(values, inputs["a"] @ inputs["b"], rtol=1e-5, atol=1e-6)


def test_nothing_is_offered_where_nothing_can_be_misread() -> None:
    models = [
        one_op(lambda g: g.binary("ADD", g.input("x", (8, 16)), g.constant(TABLE[:1]))),
        one_op(lambda g: g.binary("ADD", g.input("x", (8, 16)), g.input("z", (8, 16)))),
        one_op(lambda g: product(g, (3, 4, 5), (3, 4, 5), adj_x=False, adj_y=True)),  # transposed, and not square
    ]
    assert [list(misreadings(model, 0)) for model in models] == [[], [], []]


def test_an_op_may_read_another_input_of_the_same_shape(evaluate: Evaluate) -> None:
    """y - mean(x): the mean or the difference may take the other input."""
    graph = GraphBuilder()
    x, y = graph.input("x", (2, 8)), graph.input("y", (2, 8))
    graph.output(graph.binary("SUB", y, graph.unary("TANH", x)), "d")
    model = graph.build()
    inputs = random_inputs(model.graph(), 0)
    ways = mix_ups(model, {0: "TANH #5", 1: "SUB #6"}, {"x": "left", "y": "right"})
    found = {way.text: evaluate(way.model, inputs)["d"] for way in ways}
    assert list(found) == ["TANH #5 reads 'right' in place of 'left'", "SUB #6 reads 'left' in place of 'right'"]
    wanted = (inputs["y"] - np.tanh(inputs["y"]), inputs["x"] - np.tanh(inputs["x"]))
    for values, right in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(values, right, rtol=1e-5, atol=1e-6)


def first_row(rebuild: Rebuild, op: Op) -> int | None:
    """What LiteRT's GPU delegates make of an ADD of a constant of rank 2."""
    values = rebuild.values(op.inputs[1]) if op.name == "ADD" else None
    if values is None or values.ndim != 2:
        return None
    return rebuild.binary("ADD", op.inputs[0], rebuild.constant(values[:1]))


def lossy_sums(rebuild: Rebuild, op: Op) -> int | None:
    """Products over more than 64 terms lose digits."""
    if op.name != "BATCH_MATMUL" or rebuild.shape(op.inputs[0])[-1] <= 64:
        return first_row(rebuild, op)
    noise = 1 + 0.2 * np.random.default_rng(3).uniform(-1, 1, rebuild.shape(op.outputs[0]))
    return rebuild.binary("MUL", op.outputs[0], rebuild.constant(noise.astype(np.float32)))


def placed_attention() -> Model:
    """(x + table) as 2 heads of 8, times values over 256 places: a constant of rank 2 and a long sum."""
    graph = GraphBuilder()
    placed = graph.binary("ADD", graph.input("x", (256, 16)), graph.constant(np.tile(TABLE, (32, 1))))
    keys = graph.transpose(graph.reshape(graph.unary("TANH", placed), (256, 2, 8)), (1, 0, 2))
    graph.output(graph.batch_matmul(graph.input("w", (2, 4, 256)), keys), "y")
    return graph.build()


@pytest.fixture
def answer(tmp_path: Path) -> Localization:
    model = placed_attention()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    device = Broken(lossy_sums, in_float32=False)
    with RunFolder.create(tmp_path, "localize", "misread", device.name) as folder:
        bench = Workbench(device, InProcess(), folder)
        return explain(bench, case, localize(bench, case))


def test_the_signature_names_the_misreading(answer: Localization) -> None:
    assert [(c.record.op, c.cause, c.signature) for c in answer.culprits] == [
        ("ADD", "kernel", "row 0 of the constant for every row"),
        ("BATCH_MATMUL", "accumulation", "float16 sum over 256 products"),
    ]


def test_two_faults_of_different_kinds_are_mended_together_and_by_neither_remedy_alone(answer: Localization) -> None:
    ok = {remedy.name: remedy.ok for remedy in answer.culprits[0].remedies}
    keep, split = "constants with the batch dimension kept", "split the sum into pieces, added pairwise"
    assert (ok[f"{keep}; {split}"], ok[keep], ok[split]) == (True, False, False)
