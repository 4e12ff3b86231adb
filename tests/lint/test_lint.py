"""What is said about single ops, and what keeps the catalogue from accusing an op that is right."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.edit import signature_def
from harness.graph.model import Model
from harness.lint.finding import Finding
from harness.lint.knowledge.target import target_of
from harness.lint.lint import lint, silent
from tests.arrays import f32, i32, normal


def wrong(model: Model) -> tuple[Finding, ...]:
    """What is certain to be wrong without a word on the host's GPU."""
    return silent(lint(model, target_of("host@2.3.0")))


def added(constant: object, shape: tuple[int, ...] = (4, 8)) -> Model:
    """x [4, 8] plus a constant called 'pos'."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", shape), graph.constant(constant, "pos"), name="sum"), "y")
    return graph.build()


class TestAFinding:
    def test_names_op_operand_consequence_and_fix(self) -> None:
        (found,) = wrong(added(normal((4, 8))))
        assert found == Finding(
            entry=found.entry,
            effect="silent",
            sure="certain",
            target="ai-edge-litert 2.3.0",
            subgraph=0,
            signature="serving_default",
            op=0,
            op_name="ADD",
            output="sum",
            tensor="pos",
            shape=(4, 8),
            constant=True,
            sentence="The GPU reads row 0 of constant 'pos' [4x8] for all 4 rows.",
            fix="Keep the batch dimension, for the whole chain: the other operand as [1x4x8], the constant as [1x4x8].",
        )
        assert found.rule == "low-rank-constant"
        assert found.entry.releases == ("2.1.3", "2.1.5", "2.1.6", "2.2.0", "2.3.0")

    def test_of_a_broadcast_names_both_shapes_to_write(self) -> None:
        (found,) = wrong(added(normal((4, 1, 8)), (4, 5, 8)))
        assert found.sentence == "The GPU reads block 0 of constant 'pos' [4x1x8] for all 4 blocks."
        assert found.fix.endswith("the other operand as [1x4x5x8], the constant as [1x4x1x8].")

    def test_about_float16_weights_names_the_dequantized_tensor(self) -> None:
        graph = GraphBuilder()
        half = graph.dequantize(normal((4, 8)), name="pos")
        graph.output(graph.binary("MUL", half, graph.input("x", (4, 8))), "y")
        (found,) = wrong(graph.build())
        assert (found.op, found.tensor, found.constant) == (1, "pos", True)

    def test_about_a_tensor_of_lower_rank_names_the_tensor(self) -> None:
        (found,) = wrong(added(normal((1, 5, 8)), (5, 8)))
        assert (found.rule, found.tensor, found.constant) == ("low-rank-tensor", "x", False)
        assert found.sentence == (
            "The GPU aligns tensor 'x' [5x8] with the first axis of the result [1x5x8], not with its last."
        )
        assert found.fix == "Reshape the tensor to [1x5x8], the rank of constant 'pos' [1x5x8], before the op."

    def test_about_a_tensor_and_a_constant_that_are_both_misread_is_one(self) -> None:
        (found,) = wrong(added(normal((4, 5, 8)), (5, 8)))
        assert found.rule == "low-rank-constant"
        assert found.fix.endswith("the other operand as [1x1x5x8], the constant as [1x4x5x8].")

    def test_about_a_matrix_product_says_what_to_write(self) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (3, 4, 8))
        weights = graph.constant(normal((5, 8)), "w")
        graph.output(graph.batch_matmul(x, weights, adj_y=True), "a")
        graph.output(graph.batch_matmul(x, graph.input("k", (1, 8, 5))), "b")
        first, second = wrong(graph.build())
        assert first.sentence == "The GPU multiplies by constant 'w' [5x8] without transposing it."
        assert first.fix.startswith("Store the transposed matrix [8x5]")
        assert second.sentence == "The GPU does not broadcast the batch of 'k' [1x8x5], [1x1] beside [1x3]."

    def test_about_an_unflattened_input_names_the_rows(self) -> None:
        graph = GraphBuilder()
        feeds = [graph.input("x", (2, 5, 4, 8)), graph.constant(normal((6, 160))), -1]
        graph.output(graph.op("FULLY_CONNECTED", feeds, (2, 6), schema.FullyConnectedOptionsT()), "y")
        (found,) = wrong(graph.build())
        assert found.fix == "Reshape (flatten) the input to [2x160] before the layer."

    def test_keeps_control_characters_and_endless_names_out_of_its_sentence(self) -> None:
        graph = GraphBuilder()
        held = graph.constant(normal((4, 8)), "\x1b[2J" + "n" * 200)
        graph.output(graph.binary("ADD", graph.input("x", (4, 8)), held), "y")
        (found,) = wrong(graph.build())
        assert found.sentence == f"The GPU reads row 0 of constant '\ufffd[2J{'n' * 96}…' [4x8] for all 4 rows."


class TestNothingIsSaidAbout:
    def test_rows_that_are_equal_in_float16(self) -> None:
        # The GPU holds them in float16: 1 and 1 + 2^-12 are one value there.
        assert wrong(added(f32([[1.0] * 8, [1.0 + 2.0**-12] * 8]), (2, 8))) == ()
        (found,) = wrong(added(f32([[1.0] * 8, [1.0 + 2.0**-9] * 8]), (2, 8)))
        assert found.rule == "low-rank-constant"

    def test_masks_that_are_all_out_of_range_and_values_that_are_no_number(self) -> None:
        assert wrong(added(f32([[-1e9] * 8, [-1e30] * 8]), (2, 8))) == ()
        assert wrong(added(np.full((2, 8), np.nan, np.float32), (2, 8))) == ()

    def test_two_constants(self) -> None:
        graph = GraphBuilder()
        held = graph.constant(normal((4, 8)))
        total = graph.binary("ADD", held, graph.dequantize(normal((4, 8))))
        graph.output(graph.binary("ADD", graph.input("x", (1, 4, 8)), total), "y")
        assert wrong(graph.build()) == ()

    @pytest.mark.parametrize("kind", ["NEG", "RESHAPE"])
    def test_a_constant_that_is_computed_because_the_delegate_refuses_such_an_op(self, kind: str) -> None:
        graph = GraphBuilder()
        held = graph.constant(normal((4, 8)))
        made = graph.unary("NEG", held) if kind == "NEG" else graph.reshape(held, (4, 8))
        graph.output(graph.binary("ADD", graph.input("x", (4, 8)), made), "y")
        assert wrong(graph.build()) == ()

    def test_a_run_time_matrix_that_is_transposed(self) -> None:
        graph = GraphBuilder()
        graph.output(graph.batch_matmul(graph.input("x", (4, 8)), graph.input("k", (5, 8)), adj_y=True), "y")
        assert wrong(graph.build()) == ()

    def test_two_run_time_tensors(self) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (5, 8)), graph.input("z", (4, 5, 8))), "y")
        assert wrong(graph.build()) == ()

    def test_shapes_that_are_not_known_or_of_rank_5(self) -> None:
        graph = GraphBuilder()
        held = graph.constant(normal((4, 8)))
        graph.output(graph.op("ADD", [graph.input("x", (-1, 8)), held], (-1, 8), schema.AddOptionsT()), "y")
        wide = graph.constant(normal((2, 1, 1, 1, 8)))
        graph.output(graph.binary("ADD", graph.input("z", (2, 1, 1, 1, 8)), wide), "w")
        assert wrong(graph.build()) == ()

    def test_types_that_the_delegate_does_not_take(self) -> None:
        graph = GraphBuilder()
        wide = graph.constant(np.arange(8, dtype=np.int64))
        graph.output(graph.binary("ADD", graph.input("x", (4, 8), np.int64), wide), "y")
        assert wrong(graph.build()) == ()

    def test_bytes_with_one_scale_for_each_row(self) -> None:
        # Equal bytes are different values there, different bytes may be equal ones.
        graph = GraphBuilder()
        held = graph.constant(np.arange(32, dtype=np.int8).reshape(4, 8))
        scales = schema.QuantizationParametersT()
        scales.scale, scales.zeroPoint = f32([1, 2, 3, 4]), np.zeros(4, np.int64)
        graph._tensors[held].quantization = scales
        graph.output(graph.binary("ADD", graph.input("x", (4, 8), np.int8), held), "y")
        assert wrong(graph.build()) == ()

    def test_ops_that_lack_operands_or_whose_operands_do_not_fit(self) -> None:
        graph = GraphBuilder()
        x, held = graph.input("x", (4, 8)), graph.constant(normal((4, 7)))
        graph.output(graph.op("ADD", [x, held], (4, 8), schema.AddOptionsT()), "a")
        graph.output(graph.op("ADD", [x], (4, 8), schema.AddOptionsT()), "b")
        graph.output(graph.op("ADD", [x, -1], (4, 8), schema.AddOptionsT()), "c")
        graph.output(graph.op("BATCH_MATMUL", [x], (4, 8)), "d")
        graph.output(graph.op("BATCH_MATMUL", [x, graph.constant(normal((8, 5)))], (4, 5)), "e")
        graph.output(graph.op("FULLY_CONNECTED", [x], (4, 8)), "f")
        graph.output(graph.op("FULLY_CONNECTED", [x, graph.constant(normal((6, 5))), -1], (4, 6)), "g")
        assert wrong(graph.build()) == ()


class TestSignatures:
    def test_each_subgraph_is_linted_once_and_findings_say_which(self) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (4, 8))
        y = graph.binary("ADD", x, graph.constant(normal((4, 8))))
        graph.output(y, "y")
        model = graph.build("main")
        model.root.signatureDefs.append(signature_def("again", [("x", x)], [("y", y)]))
        model.edited()
        (found,) = wrong(model)
        assert (found.subgraph, found.signature) == (0, "main")

    def test_a_model_without_signatures_is_linted_too(self) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (4, 8), np.int32), graph.constant(i32(np.arange(8)))), "y")
        (found,) = wrong(graph.build(signature=""))
        assert (found.rule, found.signature) == ("low-rank-integer-constant", None)
        assert found.fix == "Write the constant with the result's rank: [1x8]."


class TestATarget:
    """Of the same file, what is certain on one is a risk on another, and nothing on a third."""

    def test_a_phone_that_nobody_measured_is_at_risk(self) -> None:
        (found,) = lint(added(normal((4, 8))), target_of("pixel8a"))
        assert (found.rule, found.effect, found.level, found.target) == (
            "low-rank-constant",
            "silent",
            "risk",
            "pixel8a",
        )

    def test_a_release_that_nobody_asked_is_at_risk(self) -> None:
        (found,) = lint(added(normal((4, 8))), target_of("host@9.0.0"))
        assert (found.rule, found.level) == ("low-rank-constant", "risk")

    def test_of_a_daily_build_nothing_is_certain(self) -> None:
        (found,) = lint(added(normal((4, 8))), target_of("host@nightly"))
        assert (found.level, found.target) == ("risk", "ai-edge-litert nightly")

    def test_what_a_release_mended_is_nothing_there(self) -> None:
        graph = GraphBuilder()
        product = graph.batch_matmul(graph.input("q", (8, 16, 16)), graph.input("k", (8, 16, 16)), adj_y=True)
        graph.output(graph.binary("ADD", product, graph.input("mask", (1, 1, 16, 16))), "y")
        model = graph.build()
        assert [f.level for f in lint(model, target_of("host@2.1.5"))] == ["silent"]
        assert lint(model, target_of("host@2.1.6")) == lint(model, target_of("host@2.3.0")) == ()

    def test_a_family_of_gpus_is_asked_for(self) -> None:
        graph = GraphBuilder()
        axes = graph.constant(i32([1, 2]))
        options = schema.ReducerOptionsT()
        graph.output(graph.op("MEAN", [graph.input("x", (1, 256, 256, 8)), axes], (1, 8), options), "y")
        model = graph.build()
        (found,) = lint(model, target_of("mali"))
        assert (found.rule, found.level) == ("multi-axis-sum", "risk")
        assert found.sentence.endswith("over 65536 values of 'x' [1x256x256x8] along 2 axes at once.")
        assert lint(model, target_of("adreno")) == lint(model, target_of("host")) == ()

    def test_a_browser_refuses_what_the_host_does_not_write(self) -> None:
        graph = GraphBuilder()
        options = schema.SpaceToDepthOptionsT()
        options.blockSize = 2
        graph.output(graph.op("SPACE_TO_DEPTH", [graph.input("x", (2, 4, 6, 8))], (2, 2, 3, 32), options), "y")
        model = graph.build()
        assert [f.level for f in lint(model, target_of("host@2.3.0"))] == ["silent"]
        assert [f.level for f in lint(model, target_of("web@2.5.3"))] == ["refused"]
        assert [f.level for f in lint(model, target_of("web@2.5.2"))] == ["risk"]


def attended(keys: int, made: str = "SOFTMAX") -> Model:
    """Something that a value is computed with for each of so many keys, times the values."""
    graph = GraphBuilder()
    weights = graph.input("scores", (1, 2, 4, keys))
    weights = graph.softmax(weights) if made == "SOFTMAX" else graph.unary(made, weights)
    graph.output(graph.batch_matmul(weights, graph.input("values", (1, 2, keys, 8))), "y")
    return graph.build()


@pytest.mark.parametrize(
    ("keys", "made", "found"), [(4096, "SOFTMAX", 1), (2049, "RELU", 1), (2048, "SOFTMAX", 0), (4096, "TANH", 0)]
)
def test_a_sum_over_many_probabilities_is_a_risk(keys: int, made: str, found: int) -> None:
    """What may be negative cancels, and a mean term of 1/2048 is a step of float16 just below 1."""
    said = lint(attended(keys, made), target_of("host@2.3.0"))
    assert [(f.rule, f.effect, f.level) for f in said] == [("attention-over-many", "precision", "risk")] * found
    assert lint(attended(keys, made), target_of("mali")) == ()
