"""A signature taken out of a model of several, with the subgraphs that it needs."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from harness.graph.build import GraphBuilder
from harness.graph.edit import signature_def
from harness.graph.model import Model
from harness.graph.surgery import isolate
from tests.arrays import Evaluate, f32, i32
from tests.merged import merged


class TestSignatures:
    def test_a_model_with_one_signature_is_returned_as_it_is(self) -> None:
        graph = GraphBuilder()
        graph.output(graph.unary("TANH", graph.input("x", (1, 2))), "y")
        model = graph.build()
        assert isolate(model) is model
        assert isolate(model, "serving_default") is model

    def test_the_second_signature_becomes_subgraph_0(self, evaluate: Evaluate) -> None:
        def scaled(by: float) -> Model:
            graph = GraphBuilder()
            graph.output(graph.binary("MUL", graph.input("x", (1, 2)), graph.constant([by])), "y")
            return graph.build()

        model = merged([scaled(2.0), scaled(30.0), scaled(400.0)], [("zeta", 0), ("alpha", 2), ("mid", 1)])
        for key, factor in (("zeta", 2), ("alpha", 400), ("mid", 30)):
            alone = isolate(Model.from_bytes(model.to_bytes()), key)
            assert alone.graph().subgraph == 0
            assert alone.graph().signature == key
            got = evaluate(Model.from_bytes(alone.to_bytes()), {"x": f32([[1, 2]])})
            assert got["y"].tolist() == [[factor, 2 * factor]]

    def test_two_signatures_on_one_subgraph(self, evaluate: Evaluate) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 2))
        relu, tanh = graph.unary("RELU", x), graph.unary("TANH", x)
        graph.output(relu, "relu")
        model = graph.build()
        model.root.signatureDefs.append(signature_def("other", [("in", x)], [("out", tanh)]))
        model.edited()
        alone = isolate(model, "other")
        assert alone.signatures == ("other",)
        # The compiled-model runtime wants a signature's ports among its subgraph's.
        assert list(alone.root.subgraphs[0].outputs) == [tanh]
        assert list(model.root.subgraphs[0].outputs) == [relu]
        assert evaluate(alone, {"in": f32([[0, -50]])})["out"].tolist() == [[0, -1]]

    def test_a_loop_finds_its_condition_and_body_after_the_move(self, evaluate: Evaluate) -> None:
        condition, body, main, plain = GraphBuilder(), GraphBuilder(), GraphBuilder(), GraphBuilder()
        count, _ = condition.input("count", (1,), np.int32), condition.input("value", (1, 2))
        limit = condition.constant(i32([3]))
        condition.output(condition.op("LESS", [count, limit], (1,), schema.LessOptionsT(), dtype=np.bool_))
        count, value = body.input("count", (1,), np.int32), body.input("value", (1, 2))
        body.output(body.binary("ADD", count, body.constant(i32([1]))), "count")
        body.output(body.binary("MUL", value, body.constant([10.0])), "value")
        count, value = main.input("count", (1,), np.int32), main.input("value", (1, 2))
        options = schema.WhileOptionsT()
        options.condSubgraphIndex, options.bodySubgraphIndex = 0, 1
        last = main.op("WHILE", [count, value], (1,), options, dtype=np.int32)
        result = main.tensor("result", (1, 2))
        main.output(result, "result")
        plain.output(plain.unary("RELU", plain.input("x", (1, 1))), "y")
        loop = main.build()
        loop.root.subgraphs[0].operators[0].outputs = i32([last, result])
        loop.edited()
        model = merged([condition.build(), body.build(), loop, plain.build()], [("plain", 3), ("loop", 2)])
        alone = isolate(model, "loop")
        moved = alone.root.subgraphs[0].operators[0].builtinOptions
        assert (moved.condSubgraphIndex, moved.bodySubgraphIndex) == (1, 2)
        assert model.root.subgraphs[2].operators[0].builtinOptions.condSubgraphIndex == 0
        start = {"count": i32([0]), "value": f32([[1, 2]])}
        assert evaluate(Model.from_bytes(alone.to_bytes()), start)["result"].tolist() == [[1000, 2000]]

    def test_a_composite_finds_its_decomposition_after_the_move(self, evaluate: Evaluate) -> None:
        inner, main, plain = GraphBuilder(), GraphBuilder(), GraphBuilder()
        inner.output(inner.binary("MUL", inner.input("v", (1, 2)), inner.constant([7.0])), "w")
        composite = schema.StableHLOCompositeOptionsT()
        composite.name, composite.decompositionSubgraphIndex = "test.sevenfold", 0
        composite.compositeAttributes = np.frombuffer(flexbuffers.Dumps({}), np.uint8)
        result = main.op("STABLEHLO_COMPOSITE", [main.input("x", (1, 2))], (1, 2))
        main.output(result, "y")
        plain.output(plain.unary("RELU", plain.input("x", (1, 1))), "y")
        whole = main.build()
        op = whole.root.subgraphs[0].operators[0]
        op.builtinOptions2, op.builtinOptions2Type = composite, schema.BuiltinOptions2.StableHLOCompositeOptions
        whole.edited()
        model = merged([inner.build(), whole, plain.build()], [("plain", 2), ("composite", 1)])
        alone = isolate(model, "composite")
        assert alone.root.subgraphs[0].operators[0].builtinOptions2.decompositionSubgraphIndex == 1
        got = evaluate(Model.from_bytes(alone.to_bytes()), {"x": f32([[1, 3]])})
        assert got["y"].tolist() == [[7, 21]]

    def test_branches_listed_by_number_move_with_their_subgraphs(self) -> None:
        plain = GraphBuilder()
        plain.output(plain.unary("RELU", plain.input("x", (1, 1))), "y")
        case = GraphBuilder()
        case.output(case.op("STABLEHLO_CASE", [case.input("x", (1, 1))], (1, 1)), "y")
        chosen = case.build()
        options = schema.StablehloCaseOptionsT()
        options.branchSubgraphIndices = i32([0, 1])
        op = chosen.root.subgraphs[0].operators[0]
        op.builtinOptions2, op.builtinOptions2Type = options, schema.BuiltinOptions2.StablehloCaseOptions
        chosen.edited()
        model = merged([plain.build(), plain.build(), chosen], [("plain", 0), ("case", 2)])
        moved = isolate(model, "case").root.subgraphs[0].operators[0].builtinOptions2
        assert list(moved.branchSubgraphIndices) == [1, 2]
