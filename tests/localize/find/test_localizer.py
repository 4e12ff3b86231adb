"""Faults planted in a device that is otherwise ideal: localization names the very op, all of them, and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core.job import Job, Options
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.localize.attention import ATTENTION, LAST, LOUD, RESULTS, Localize, exactly, kind_of, named, op_of, ops
from tests.localize.planted import (
    FAULTS,
    NAN,
    OPERAND,
    SCALED,
    SHIFTED,
    Fault,
    Half,
    TapLiar,
    applies,
    is_tapped,
    is_untouched,
    noisy,
)

# The elements of what is averaged next, in another order; and factors that a normalization takes out again.
HARMLESS = {("MUL #13", "shifted"), ("ADD #10", "scaled"), ("SUB #12", "scaled")}

GRAPH = ATTENTION.graph()
PLANTS = [(t, fault) for t in RESULTS for fault in FAULTS if applies(fault, ATTENTION, GRAPH, t)]
# One for each op in turn; the slow tests have the rest.
_AT = [[p for p in PLANTS if p[0] == t] for t in RESULTS]
SOME = [found[i % len(found)] for i, found in enumerate(_AT)]
REST = [p for p in PLANTS if p not in SOME]


class TestPlanted:
    @pytest.mark.parametrize(("tensor", "fault"), SOME, ids=[f"{op_of(t)} {f.name}" for t, f in SOME])
    def test_one_fault_at_every_op_is_found_exactly(self, find: Localize, tensor: int, fault: Fault) -> None:
        self.check(find, tensor, fault)

    @pytest.mark.slow
    @pytest.mark.parametrize(("tensor", "fault"), REST, ids=[f"{op_of(t)} {f.name}" for t, f in REST])
    def test_every_fault_at_every_op_is_found_exactly(self, find: Localize, tensor: int, fault: Fault) -> None:
        self.check(find, tensor, fault)

    @staticmethod
    def check(find: Localize, tensor: int, fault: Fault) -> None:
        device = Half(ATTENTION, {tensor: fault})
        answer = find(device, ATTENTION)
        if (op_of(tensor), fault.name) in HARMLESS:
            assert (answer.status, answer.culprits) == ("pass", ())
            return
        assert named(answer) == exactly(ops([tensor])), answer.notes
        assert answer.certified
        # A fourth looks behind NaN and infinity, or at what the taps leave in doubt.
        assert answer.device_compiles == device.compiles - 1 <= 4  # the control is not counted
        assert fault in (NAN, OPERAND) or answer.device_compiles <= 3

    def test_most_faults_can_be_planted_and_every_op_has_one(self) -> None:
        assert len(PLANTS) > 60
        assert ops(t for t, _ in SOME) == list(range(len(RESULTS)))

    @pytest.mark.parametrize("seed", range(6))
    def test_two_faults_are_both_found(self, find: Localize, seed: int) -> None:
        rng = np.random.default_rng(seed)
        first, second = (int(t) for t in rng.choice(RESULTS, 2, replace=False))
        answer = find(Half(ATTENTION, {first: LOUD, second: LOUD}), ATTENTION)
        assert named(answer) == exactly(ops([first, second])), answer.notes
        assert answer.device_compiles <= 4

    def test_a_fault_in_every_op_is_found_in_every_op(self, find: Localize) -> None:
        answer = find(Half(ATTENTION, dict.fromkeys(RESULTS, noisy(0.3, 1))), ATTENTION)
        assert named(answer) == exactly(range(len(RESULTS)))

    @pytest.mark.parametrize("fault", [SCALED, SHIFTED, NAN], ids=lambda f: f.name)
    def test_single_precision_is_judged_as_such(self, find: Localize, fault: Fault) -> None:
        for tensor in (RESULTS[0], RESULTS[3], RESULTS[LAST]):
            answer = find(Half(ATTENTION, {tensor: fault}), ATTENTION, options=Options("gpu", "fp32"))
            assert named(answer) == exactly(ops([tensor]))

    def test_an_error_that_half_precision_hides_is_found_in_single(self, find: Localize) -> None:
        small = {RESULTS[5]: noisy(2e-4, 2)}
        assert find(Half(ATTENTION, small), ATTENTION).status == "pass"
        answer = find(Half(ATTENTION, small), ATTENTION, options=Options("gpu", "fp32"))
        assert named(answer) == exactly(ops(small))

    def test_a_small_tap_budget_changes_compiles_and_not_the_answer(self, find: Localize) -> None:
        device = Half(ATTENTION, {RESULTS[9]: SHIFTED})
        answer = find(device, ATTENTION, tap_budget=9000)
        assert named(answer) == exactly(ops([RESULTS[9]]))
        assert 3 < answer.device_compiles < 12


class TestHealthy:
    @pytest.mark.parametrize("seed", range(10))
    def test_an_ideal_device_passes_after_one_compile(self, find: Localize, seed: int) -> None:
        device = Half(ATTENTION, {})
        answer = find(device, ATTENTION, seed=seed)
        assert (answer.status, answer.culprits, answer.certified) == ("pass", (), True)
        assert (answer.device_compiles, answer.device_runs) == (1, 2)

    @pytest.mark.parametrize("seed", range(4))
    def test_honest_accumulation_in_half_precision_passes(self, find: Localize, seed: int) -> None:
        products = [t for t in RESULTS if kind_of(t) in ("BATCH_MATMUL", "FULLY_CONNECTED")]
        device = Half(ATTENTION, {t: noisy(4 * 2.0**-11, t) for t in products})
        assert find(device, ATTENTION, seed=seed).status == "pass"

    @pytest.mark.parametrize("culprit", [2, 8, 12])
    def test_honest_accumulation_is_not_blamed_for_anothers_fault(self, find: Localize, culprit: int) -> None:
        products = [t for t in RESULTS if kind_of(t) in ("BATCH_MATMUL", "FULLY_CONNECTED")]
        faults = {t: noisy(6 * 2.0**-11, t) for t in products} | {RESULTS[culprit]: SHIFTED}
        answer = find(Half(ATTENTION, faults), ATTENTION)
        assert named(answer) == exactly([culprit])


class TestSinglePrecision:
    @staticmethod
    def nearly_cancelling() -> Model:
        """x - tanh(x) of small x: nothing is left but the rounding of the two."""
        graph = GraphBuilder()
        x = graph.input("x", (1, 64))
        small = graph.binary("MUL", x, graph.constant([0.01]))
        graph.output(graph.binary("SUB", small, graph.unary("TANH", small)), "y")
        return graph.build()

    def test_what_the_rounding_of_intermediates_explains_is_no_fault(self, find: Localize) -> None:
        model = self.nearly_cancelling()
        tanh = model.graph().ops[1].outputs[0]
        answer = find(Half(model, {tanh: noisy(2.0**-21, 1)}), model, options=Options("gpu", "fp32"))
        assert answer.status == "pass", answer.outputs

    def test_what_it_does_not_explain_is(self, find: Localize) -> None:
        model = self.nearly_cancelling()
        tanh = model.graph().ops[1].outputs[0]
        answer = find(Half(model, {tanh: noisy(2.0**-12, 1)}), model, options=Options("gpu", "fp32"))
        assert named(answer) == exactly([1]), answer.notes


class TestRange:
    @staticmethod
    def masked(constant: bool = True) -> Model:
        """Attention scores with a mask of -1e9, which is -infinity in float16, before a softmax."""
        rng = np.random.default_rng(1)
        graph = GraphBuilder()
        x = graph.input("x", (1, 16, 16))
        mask = np.triu(np.full((16, 16), -1e9, np.float32), 1)
        scores = graph.binary("ADD", graph.batch_matmul(x, x, adj_y=True), graph.constant(mask[None]))
        mixed = graph.batch_matmul(graph.softmax(scores), x)
        weights = rng.standard_normal((16, 16)).astype(np.float32) / 4
        graph.output(graph.unary("TANH", graph.fully_connected(mixed, weights)), "y")
        return graph.build()

    def test_a_mask_out_of_range_is_no_fault(self, find: Localize) -> None:
        assert find(Half(self.masked(), {}), self.masked()).status == "pass"

    @pytest.mark.parametrize("culprit", [0, 2, 3, 4, 5])
    def test_a_mask_out_of_range_is_not_blamed_for_anothers_fault(self, find: Localize, culprit: int) -> None:
        model = self.masked()
        answer = find(Half(model, {model.graph().ops[culprit].outputs[0]: SHIFTED}), model)
        assert named(answer) == exactly([culprit]), answer.notes

    @pytest.mark.parametrize("culprit", [2, 4])
    def test_nor_when_the_device_stops_at_the_largest_half(self, find: Localize, culprit: int) -> None:
        model = self.masked()
        added = model.graph().ops[1].outputs[0]
        faults = {added: CAPPED, model.graph().ops[culprit].outputs[0]: SHIFTED}
        answer = find(Half(model, faults), model)
        assert named(answer) == exactly([culprit]), answer.notes

    def test_a_result_out_of_range_that_matters_is_an_overflow(self, find: Localize) -> None:
        graph = GraphBuilder()
        x = graph.binary("MUL", graph.input("x", (1, 8, 32)), graph.constant([400.0]))
        square = graph.binary("MUL", x, x)
        graph.output(graph.binary("MUL", graph.unary("RSQRT", graph.reduce("MEAN", square, 2)), x), "y")
        answer = find(Half(graph.build(), {}), graph.build())
        assert (answer.status, [c.cause for c in answer.culprits]) == ("culprits", ["overflow"])
        assert named(answer) == exactly([1])

    def test_results_too_small_for_half_precision_are_no_fault(self, find: Localize) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("MUL", graph.input("x", (1, 64)), graph.constant([1e-8])), "y")
        assert find(Half(graph.build(), {}), graph.build()).status == "pass"


class TestOutputs:
    @pytest.mark.parametrize("culprit", [0, 1, 2, 3])
    def test_outputs_that_are_read_again_and_of_other_types(self, find: Localize, culprit: int) -> None:
        from ai_edge_litert import schema_py_generated as schema

        graph = GraphBuilder()
        x, y = graph.input("x", (1, 4, 16)), graph.input("y", (1, 4, 16))
        a = graph.binary("ADD", x, y)
        graph.output(a, "a")
        b = graph.unary("TANH", a)
        graph.output(b, "b")
        c = graph.binary("MUL", b, graph.constant([50.0]))
        graph.output(graph.op("CAST", [c], (1, 4, 16), schema.CastOptionsT(), dtype=np.int32), "whole")
        graph.output(graph.reduce("MEAN", c, 2), "mean")
        model = graph.build()
        tensor = {0: a, 1: b, 2: c, 3: model.graph().ops[4].outputs[0]}[culprit]
        place = model.graph().producer[tensor]
        answer = find(Half(model, {tensor: SCALED if culprit == 3 else SHIFTED}), model)
        assert named(answer) == exactly([place]), answer.notes

    def test_an_output_that_is_wrong_only_as_the_caller_gets_it(self, find: Localize) -> None:
        graph = GraphBuilder()
        x, y = graph.input("x", (1, 4, 16)), graph.input("y", (1, 4, 16))
        a = graph.binary("ADD", x, y)
        graph.output(a, "a")
        graph.output(graph.binary("MUL", graph.unary("RELU", a), y), "b")
        model = graph.build()
        answer = find(WrongForTheCaller(model, {}), model)
        assert named(answer) == exactly([0]), answer.notes
        assert [culprit.record.reading for culprit in answer.culprits] == ["output"]

    def test_an_output_whose_suspect_falls_is_said_to_be_left_open(self, find: Localize) -> None:
        """Both faults show in the whole model; cut out, only the first one does, and its taps are in doubt."""
        graph = GraphBuilder()
        x = graph.input("x", (1, 4, 16))
        for name, factor in (("a", 2.0), ("b", 3.0)):
            inner = graph.unary("TANH", graph.binary("MUL", x, graph.constant([factor])))
            graph.output(graph.binary("MUL", inner, graph.constant([5.0])), name)
        model = graph.build()
        made = [op.outputs[0] for op in model.graph().ops]
        whole = is_untouched(model), is_tapped(model)

        class Induced(TapLiar):
            def prepared(self, job: Job) -> bytes:
                inside = any(sees(job) for sees in whole)
                self.faults = {made[1]: SHIFTED} | ({made[4]: SHIFTED} if inside else {})
                return super().prepared(job)

        answer = find(Induced(model, {}, {made[0]: ("direct",)}), model)
        assert named(answer) == exactly([1]), answer.notes
        assert not answer.certified
        assert "Output 'b' is wrong, and no culprit accounts for it." in answer.notes

    def test_two_outputs_of_names_that_no_file_can_have(self, find: Localize) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 16))
        long = "m/" * 60
        graph.output(graph.unary("TANH", x), f"{long}:0")
        graph.output(graph.binary("MUL", x, graph.constant([5.0])), f"{long}:1")
        model = graph.build()
        assert find(Half(model, {}), model).status == "pass"


class WrongForTheCaller(Half):
    """Gives output `a` shifted whenever it is an output of its own."""

    def finished(self, outputs: dict[str, Any], job: Job) -> dict[str, Any]:
        if "a" in outputs:
            outputs["a"] = np.roll(outputs["a"], 1, -1)
        return outputs


def _capped(planter: Any, right: int, operand: int | None) -> int:
    shape = planter.shape(right)
    top = planter.op("MINIMUM", [right, planter.constant(np.asarray([65504], np.float32))], shape)
    return int(planter.op("MAXIMUM", [top, planter.constant(np.asarray([-65504], np.float32))], shape))


CAPPED = Fault("capped at the largest half", _capped)
