"""Taps, cuts, islands and injections, against the real intermediates and against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.graph.build import GraphBuilder
from harness.graph.model import Model, Port
from harness.graph.surgery import closure, extract, inject, islands, isolate, tap, tappable
from tests.arrays import Evaluate, Values, f32


@pytest.fixture(scope="module")
def block() -> Model:
    """Attention with a residual: 10 ops, one of them constant-folded, one with an int32 result, two outputs of which
    one is read again."""
    rng = np.random.default_rng(3)
    graph = GraphBuilder()
    x = graph.input("x", (2, 6, 8))
    query = graph.fully_connected(x, rng.standard_normal((8, 8)).astype(np.float32) / 3, name="query")
    scores = graph.batch_matmul(query, x, adj_y=True, name="scores")
    weights = graph.softmax(scores, name="weights")
    mixed = graph.batch_matmul(weights, x, name="mixed")
    bias = graph.dequantize(rng.standard_normal(8).astype(np.float32), name="bias")
    shifted = graph.binary("ADD", mixed, bias, name="shifted")
    graph.output(shifted, "shifted")
    order = graph.op("CAST", [weights], (2, 6, 6), schema.CastOptionsT(), dtype=np.int32, name="order")
    back = graph.op("CAST", [order], (2, 6, 6), schema.CastOptionsT(), dtype=np.float32, name="back")
    flat = graph.reshape(graph.unary("TANH", shifted, name="tanh"), (12, 8), name="flat")
    graph.output(flat, "y")
    graph.output(back, "back")
    return graph.build()


@pytest.fixture(scope="module")
def inputs() -> Values:
    return {"x": np.random.default_rng(4).standard_normal((2, 6, 8)).astype(np.float32)}


@pytest.fixture(scope="module")
def real(block: Model, inputs: Values) -> dict[int, NDArray[Any]]:
    """Every tensor of the unedited model, from an interpreter that keeps them all."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=block.to_bytes(),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs["x"])
    interpreter.invoke()
    graph = block.graph()
    return {t: interpreter.get_tensor(t) for op in graph.ops for t in op.outputs}


def named(model: Model, *names: str) -> tuple[int, ...]:
    by_name = {tensor.name: tensor.index for tensor in model.graph().tensors}
    return tuple(by_name[name] for name in names)


class TestTaps:
    @pytest.mark.parametrize("kind", ["copy", "direct", "negated"])
    def test_every_intermediate_is_read_as_it_is(
        self, kind: Any, block: Model, inputs: Values, real: dict[int, NDArray[Any]], evaluate: Evaluate
    ) -> None:
        tensors = tappable(block.graph())
        model, names = tap(block, tensors, kind)
        assert set(names) == set(tensors)
        got = evaluate(Model.from_bytes(model.to_bytes()), inputs)
        assert set(got) == {"shifted", "y", "back", *names.values()}
        for t, name in names.items():
            values = -got[name] if kind == "negated" else got[name]
            assert np.array_equal(values, real[t]), block.graph().tensors[t].name
        own = evaluate(block, inputs)
        assert all(np.array_equal(got[name], own[name]) for name in own)

    def test_a_copy_tap_leaves_the_tensor_an_intermediate(self, block: Model) -> None:
        (scores,) = named(block, "scores")
        model, names = tap(block, [scores], "copy")
        graph = model.graph()
        (port,) = (p for p in graph.outputs if p.name == names[scores])
        assert names == {scores: f"tap_{scores}"}
        assert port.tensor != scores
        assert graph.ops[graph.producer[port.tensor]].name == "RESHAPE"
        assert graph.ops[graph.producer[port.tensor]].inputs[0] == scores
        assert graph.tensors[port.tensor].shape == graph.tensors[scores].shape

    def test_a_negated_tap_is_one_negation_behind_the_tensor(self, block: Model) -> None:
        (scores,) = named(block, "scores")
        model, names = tap(block, [scores], "negated")
        graph = model.graph()
        (port,) = (p for p in graph.outputs if p.name == names[scores])
        made = graph.ops[graph.producer[port.tensor]]
        assert (made.name, made.inputs) == ("NEG", (scores,))
        assert len(graph.ops) == len(block.graph().ops) + 1

    def test_a_direct_tap_makes_the_tensor_an_output(self, block: Model) -> None:
        (scores,) = named(block, "scores")
        model, names = tap(block, [scores], "direct")
        assert Port(names[scores], scores) in model.graph().outputs
        assert len(model.graph().ops) == len(block.graph().ops)

    def test_an_own_output_tapped_directly_keeps_its_name(self, block: Model) -> None:
        (shifted,) = named(block, "shifted")
        model, names = tap(block, [shifted], "direct")
        assert names == {shifted: "shifted"}
        assert model.graph().outputs == block.graph().outputs

    def test_the_own_outputs_come_first_and_in_order(self, block: Model) -> None:
        model, _ = tap(block, tappable(block.graph()), "copy")
        assert model.graph().outputs[:3] == block.graph().outputs
        assert list(model.root.subgraphs[0].outputs) == [port.tensor for port in model.graph().outputs]

    def test_a_tap_finds_another_name_when_its_own_is_taken(self) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 4))
        y = graph.unary("RELU", x, name="tap_1")
        graph.output(graph.unary("TANH", y), "tap_1~2")
        _, names = tap(graph.build(), [y])
        assert names == {y: "tap_1~3"}

    def test_only_float_results_that_a_device_can_give_back_are_tappable(self) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (2, 3))
        folded = graph.dequantize(np.ones((2, 3), np.float32))
        summed = graph.binary("ADD", x, folded)
        whole = graph.op("CAST", [summed], (2, 3), schema.CastOptionsT(), dtype=np.int32)
        graph.op("CAST", [whole], (2, 3), schema.CastOptionsT(), dtype=np.float16)
        graph.reshape(summed, (1, 1, 1, 2, 3))
        four = graph.reshape(summed, (1, 1, 2, 3))
        graph.op("SLICE", [summed, summed, summed], (0, 3))
        dynamic = graph.op("RESHAPE", [summed], (-1, 3))
        graph.output(four)
        graph.output(dynamic)
        assert tappable(graph.build().graph()) == (summed, four)


class TestOriginal:
    def test_no_edit_changes_the_model_it_is_given(self, rich_model: Model, block: Model) -> None:
        for model in (block, rich_model):
            fresh = Model.from_bytes(model.to_bytes())
            before = Model(fresh.root).to_bytes()
            tensors = tappable(fresh.graph())
            tap(fresh, tensors, "copy")[0].to_bytes()
            tap(fresh, tensors, "direct")[0].to_bytes()
            shape = fresh.graph().tensors[tensors[0]].shape
            inject(fresh, {tensors[0]: np.ones(shape or (), np.float32)}).to_bytes()
            extract(fresh, tensors[-1:], tensors[:1])
            islands(fresh, [(t, frozenset(tensors)) for t in tensors]).model.to_bytes()
            isolate(fresh, fresh.signatures[-1]).to_bytes()
            assert Model(fresh.root).to_bytes() == before
            assert fresh.to_bytes() == model.to_bytes()

    def test_facts_about_the_whole_file_are_dropped_from_its_parts(self, rich_model: Model) -> None:
        edited = tap(rich_model, [])[0]
        assert edited.root.metadata is None
        assert rich_model.root.metadata is not None


class TestParts:
    def test_one_op_on_its_own_inputs_computes_what_numpy_does(self, block: Model, evaluate: Evaluate) -> None:
        rng = np.random.default_rng(5)
        weights, mixed = named(block, "weights", "mixed")
        part = extract(block, [mixed], [weights]).model
        graph = part.graph()
        assert [op.name for op in graph.ops] == ["BATCH_MATMUL"]
        assert {port.name for port in graph.inputs} == {"t0", f"t{weights}"}
        feeds = {
            # Small whole numbers: no order of the sums rounds.
            "t0": rng.integers(-9, 10, (2, 6, 8)).astype(np.float32),
            f"t{weights}": rng.integers(-9, 10, (2, 6, 6)).astype(np.float32),
        }
        got = evaluate(part, feeds)
        np.testing.assert_array_equal(got[f"t{mixed}"], feeds[f"t{weights}"] @ feeds["t0"])

    def test_a_prefix_takes_the_graphs_inputs_and_leaves_the_rest_away(
        self, block: Model, inputs: Values, real: dict[int, NDArray[Any]], evaluate: Evaluate
    ) -> None:
        (scores,) = named(block, "scores")
        part = extract(block, [scores]).model
        assert [op.name for op in part.graph().ops] == ["FULLY_CONNECTED", "BATCH_MATMUL"]
        assert np.array_equal(evaluate(part, {"t0": inputs["x"]})[f"t{scores}"], real[scores])

    def test_a_window_between_two_tensors(
        self, block: Model, inputs: Values, real: dict[int, NDArray[Any]], evaluate: Evaluate
    ) -> None:
        scores, shifted = named(block, "scores", "shifted")
        part = extract(block, [shifted], [scores]).model
        assert [op.name for op in part.graph().ops] == ["SOFTMAX", "BATCH_MATMUL", "DEQUANTIZE", "ADD"]
        got = evaluate(part, {f"t{scores}": real[scores], "t0": inputs["x"]})
        assert np.array_equal(got[f"t{shifted}"], real[shifted])

    def test_several_results_of_one_window_share_its_ops(
        self, block: Model, inputs: Values, real: dict[int, NDArray[Any]], evaluate: Evaluate
    ) -> None:
        scores, weights, mixed = named(block, "scores", "weights", "mixed")
        part = extract(block, [weights, mixed], [scores]).model
        assert [op.name for op in part.graph().ops] == ["SOFTMAX", "BATCH_MATMUL"]
        got = evaluate(part, {f"t{scores}": real[scores], "t0": inputs["x"]})
        assert np.array_equal(got[f"t{weights}"], real[weights])
        assert np.array_equal(got[f"t{mixed}"], real[mixed])

    def test_every_op_as_an_island_of_its_own_gives_the_real_values(
        self, block: Model, inputs: Values, real: dict[int, NDArray[Any]], evaluate: Evaluate
    ) -> None:
        tensors = tappable(block.graph())
        parts = islands(block, [(t, frozenset(tensors)) for t in tensors])
        model = Model.from_bytes(parts.model.to_bytes())
        feeds = {p.name: inputs["x"] if p.name == "t0" else real[int(p.name[1:])] for p in model.graph().inputs}
        got = evaluate(model, feeds)
        assert [port.name for port in model.graph().outputs] == [f"t{t}" for t in tensors]
        for t in tensors:
            assert np.array_equal(got[f"t{t}"], real[t])

    def test_islands_are_fed_rather_than_chained(self, block: Model, evaluate: Evaluate) -> None:
        tensors = tappable(block.graph())
        parts = islands(block, [(t, frozenset(tensors)) for t in tensors]).model
        feeds = {p.name: np.zeros(_shape(parts, p.tensor), np.float32) for p in parts.graph().inputs}
        (weights, mixed) = named(block, "weights", "mixed")
        got = evaluate(parts, feeds)
        assert np.allclose(got[f"t{weights}"], 1 / 6)
        assert np.all(got[f"t{mixed}"] == 0)  # 1/6 of the fed zeros, not of the values computed beside it

    def test_each_tensor_of_an_island_tells_which_one_it_stands_for(self, block: Model) -> None:
        tensors = tappable(block.graph())
        parts = islands(block, [(t, frozenset(tensors)) for t in tensors])
        old, new = block.graph(), parts.model.graph()
        assert len(parts.origin) == len(new.tensors)
        for here, there in zip(new.tensors, parts.origin, strict=True):
            assert (here.shape, here.type, here.constant) == (
                old.tensors[there].shape,
                old.tensors[there].type,
                old.tensors[there].constant,
            )
        assert len({t.name for t in new.tensors}) == len(new.tensors)

    def test_an_island_carries_no_weights_but_its_own(self, block: Model) -> None:
        weights, mixed, scores, query = named(block, "weights", "mixed", "scores", "query")
        assert islands(block, [(mixed, frozenset([weights]))]).model.weights_bytes == 0
        assert islands(block, [(query, frozenset())]).model.weights_bytes == 8 * 8 * 4
        assert islands(block, [(scores, frozenset())]).model.weights_bytes == 8 * 8 * 4

    def test_a_hidden_int_result_is_computed_inside(
        self, block: Model, real: dict[int, NDArray[Any]], evaluate: Evaluate
    ) -> None:
        weights, back = named(block, "weights", "back")
        part = extract(block, [back], tappable(block.graph())).model
        assert [op.name for op in part.graph().ops] == ["CAST", "CAST"]
        assert np.array_equal(evaluate(part, {f"t{weights}": real[weights]})[f"t{back}"], real[back])

    @pytest.mark.parametrize("tensor", [0, 1])
    def test_what_no_op_computes_cannot_be_extracted(self, block: Model, tensor: int) -> None:
        with pytest.raises(ValueError, match=f"tensor {tensor} is not computed by any op"):
            extract(block, [tensor])

    def test_closure_stops_at_sources_and_inputs(self, block: Model) -> None:
        graph = block.graph()
        query, scores, weights, mixed, shifted = named(block, "query", "scores", "weights", "mixed", "shifted")
        assert closure(graph, shifted, frozenset()) == ((0, 1, 2, 3, 4, 5), (0,))
        assert closure(graph, shifted, frozenset([mixed])) == ((4, 5), (mixed,))
        assert closure(graph, mixed, frozenset([weights, scores])) == ((3,), (0, weights))
        assert closure(graph, query, frozenset([query])) == ((0,), (0,))

    def test_absent_optional_inputs_stay_absent(self, evaluate: Evaluate) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 3))
        y = graph.fully_connected(graph.unary("RELU", x), np.eye(3, dtype=np.float32))
        graph.output(y, "y")
        part = extract(graph.build(), [y], [1]).model
        assert part.graph().ops[0].inputs[2] == -1
        assert evaluate(part, {"t1": f32([[1, 2, 3]])})[f"t{y}"].tolist() == [[1, 2, 3]]


def _shape(model: Model, tensor: int) -> tuple[int, ...]:
    shape = model.graph().tensors[tensor].shape
    assert shape is not None
    return shape


class TestInjection:
    def test_an_error_reaches_all_readers_and_the_output(self, evaluate: Evaluate) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 4))
        doubled = graph.binary("MUL", x, graph.constant([2.0]))
        graph.output(doubled, "doubled")
        graph.output(graph.unary("RELU", doubled), "relu")
        graph.output(graph.binary("ADD", doubled, x), "sum")
        error = f32([[0, 10, -100, 0.5]])
        got = evaluate(inject(graph.build(), {doubled: error}), {"x": f32([[1, 2, 3, 4]])})
        assert got["doubled"].tolist() == [[2, 14, -94, 8.5]]
        assert got["relu"].tolist() == [[2, 14, 0, 8.5]]
        assert got["sum"].tolist() == [[3, 16, -91, 12.5]]

    def test_no_error_changes_nothing(self, block: Model, inputs: Values, evaluate: Evaluate) -> None:
        tensors = tappable(block.graph())
        errors = {t: np.zeros(_shape(block, t), np.float32) for t in tensors}
        got, expected = evaluate(inject(block, errors), inputs), evaluate(block, inputs)
        assert set(got) == set(expected)
        assert all(np.array_equal(got[name], expected[name]) for name in expected)

    def test_nan_and_infinity_can_be_injected(self, evaluate: Evaluate) -> None:
        graph = GraphBuilder()
        y = graph.unary("RELU", graph.input("x", (1, 3)))
        graph.output(graph.unary("TANH", y), "y")
        got = evaluate(inject(graph.build(), {y: f32([[np.nan, np.inf, 0]])}), {"x": f32([[1, 1, 0]])})["y"]
        assert np.isnan(got[0, 0])
        assert got[0, 1:].tolist() == [1, 0]


def test_the_intermediates_of_an_op_go_with_it() -> None:
    """A quantized LSTM states the ranges of what it holds in between by tensors that no op makes or reads."""
    graph = GraphBuilder()
    x = graph.unary("ABS", graph.input("x", (1, 4)))
    held = graph.tensor("held", (3,))
    y = graph.unary("NEG", x)
    graph.output(y, "y")
    model = graph.build()
    model.root.subgraphs[0].operators[1].intermediates = np.asarray([-1, held], np.int32)
    parts = islands(model, [(y, frozenset([x])), (y, frozenset())])
    # NEG by itself, then ABS and NEG.
    found = [op.intermediates for op in parts.model.root.subgraphs[0].operators]
    assert [None if i is None else [-1 if t < 0 else parts.origin[t] for t in i] for i in found] == [
        [-1, held], None, [-1, held],
    ]  # fmt: skip
    assert [int(i[0]) for i in found if i is not None] == [-1, -1]
    assert len({int(i[1]) for i in found if i is not None}) == 2
