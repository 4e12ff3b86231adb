"""Ops asked by themselves: what feeds them, and what becomes of a batch that the device does not take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.core.job import Completed, Crashed, Job, Options, Outcome, Rejected
from harness.core.run_folder import TensorStore
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.localize.base.case import Case
from harness.localize.base.reference import label_of, output_label, run_reference
from harness.localize.probe.isolation import Isolation, contaminated, reference_values
from harness.localize.probe.local_error import LocalError, Reading, plan
from tests.chains import chain
from tests.localize.planted import SCALED, Fault, Half, InProcess

CHAIN = chain("ABS", "EXP", "TANH", "NEG", "SQUARE")
MADE = [op.outputs[0] for op in CHAIN.graph().ops]
READ = frozenset(MADE[:-1])
FEED = CHAIN.graph().inputs[0].tensor


def case_of(options: Options | None = None) -> Case:
    return Case(CHAIN, random_inputs(CHAIN.graph(), 0), options or Options(), timeout=60)


class TestReferenceValues:
    """What float16 does not hold is rounded: 2049 is 2048 there, and 1e-9 is 0."""

    VALUES = np.asarray([[2049.0, 1e-9]], np.float32)
    HELD = np.asarray([[2048.0, 0.0]], np.float32)

    @staticmethod
    def case(precision: str) -> Case:
        """ABS #0, RELU #1 and NEG #2 of tensors 1, 2 and 3, all of them outputs, the one in the middle first."""
        graph = GraphBuilder()
        first = graph.unary("ABS", graph.input("x", (1, 2)))
        middle = graph.unary("RELU", first)
        last = graph.unary("NEG", middle)
        for name, tensor in (("middle", middle), ("first", first), ("last", last)):
            graph.output(tensor, name)
        options = Options(precision=precision)  # type: ignore[arg-type]
        return Case(graph.build(), {"x": TestReferenceValues.VALUES}, options, timeout=60)

    @pytest.mark.parametrize(("precision", "expected"), [("fp16", HELD), ("fp32", VALUES)])
    def test_an_input_of_the_model_is_what_the_caller_gave(
        self, tmp_path: Path, precision: str, expected: Array
    ) -> None:
        found = reference_values(self.case(precision), TensorStore(tmp_path), 0)
        assert found is not None
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(("precision", "expected"), [("fp16", HELD), ("fp32", VALUES)])
    def test_what_an_op_made_is_what_the_reference_stored_of_it(
        self, tmp_path: Path, precision: str, expected: Array
    ) -> None:
        case, store = self.case(precision), TensorStore(tmp_path)
        store.put(label_of(case.graph, 1), "reference", self.VALUES, "first")
        store.put(label_of(case.graph, 1), "device", self.VALUES + 1, "first")
        store.put(output_label("first"), "reference", self.VALUES + 2, "first")
        found = reference_values(case, store, 1)
        assert found is not None
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(("tensor", "name"), [(1, "first"), (2, "middle"), (3, "last")])
    def test_an_output_that_was_stored_as_one_alone_is_taken_from_there(
        self, tmp_path: Path, tensor: int, name: str
    ) -> None:
        case, store = self.case("fp32"), TensorStore(tmp_path)
        values = {each: self.VALUES + np.float32(i) for i, each in enumerate(("first", "middle", "last"))}
        for each, held in values.items():
            store.put(output_label(each), "reference", held, each)
        found = reference_values(case, store, tensor)
        assert found is not None
        np.testing.assert_array_equal(found, values[name])

    def test_of_what_the_reference_does_not_have_there_are_no_values(self, tmp_path: Path) -> None:
        store = TensorStore(tmp_path)
        assert reference_values(case_of(), store, MADE[1]) is None
        store.put(label_of(CHAIN.graph(), MADE[1]), "device", np.zeros((1, 8), np.float32), "t")
        assert reference_values(case_of(), store, MADE[1]) is None


class Narrow(Half):
    """Does not take a job with more than `most` outputs, nor one that makes all of `never`; counts its rests."""

    def __init__(
        self, most: int, faults: dict[int, Fault], never: frozenset[int] = frozenset(), how: Outcome | None = None
    ) -> None:
        super().__init__(CHAIN, faults)
        self.most, self.never = most, {f"t{t}" for t in never}
        self.how = how or Rejected("too many outputs")
        self.asked: list[list[int]] = []
        self.rests = 0

    def stop(self) -> None:
        self.rests += 1

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        names = [port.name for port in job.outputs]
        assert len(self.asked) < 20, "it is asked without an end"
        self.asked.append([MADE.index(int(name.removeprefix("t"))) for name in names])
        if len(names) > self.most or (self.never and self.never <= set(names)):
            return self.how
        return super().run(job, sink)


class Resting(InProcess):
    """Counts its rests."""

    rests = 0

    def stop(self) -> None:
        self.rests += 1


def local_error(store: TensorStore, host: InProcess | None = None) -> LocalError:
    case, host = case_of(), host or InProcess()
    run_reference(host, case, store, MADE)
    return LocalError(host, case, store, frozenset())


def right(device: Narrow, local: LocalError) -> dict[int, bool]:
    """Whether each op that was answered for is right, in the order of the answers."""
    found = Isolation(device, local).judge(plan(CHAIN.graph(), READ))
    return {reading.op: judgement.ok for reading, judgement in found.items()}


# One op of five is at fault.
ANSWER = {0: True, 1: True, 2: False, 3: True, 4: True}


class TestHalving:
    @pytest.mark.parametrize(
        ("most", "asked"),
        [
            (5, [[0, 1, 2, 3, 4]]),
            (4, [[0, 1, 2, 3, 4], [0, 1, 2], [3, 4]]),
            (2, [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [2], [3, 4]]),
            (1, [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [0], [1], [2], [3, 4], [3], [4]]),
        ],
    )
    @pytest.mark.parametrize("how", [Rejected("too many outputs"), Crashed("the worker was ended by SIGSEGV")])
    def test_what_the_device_does_not_take_is_asked_in_halves_and_each_op_has_its_own_answer(
        self, tmp_path: Path, how: Outcome, most: int, asked: list[list[int]]
    ) -> None:
        device = Narrow(most, {MADE[2]: SCALED}, how=how)
        assert right(device, local_error(TensorStore(tmp_path))) == ANSWER
        assert device.asked == asked

    def test_an_op_that_the_device_never_takes_has_no_answer_and_the_others_have(self, tmp_path: Path) -> None:
        device = Narrow(5, {MADE[2]: SCALED}, never=frozenset({MADE[1]}))
        answer = right(device, local_error(TensorStore(tmp_path)))
        assert answer == {i: ok for i, ok in ANSWER.items() if i != 1}
        assert device.asked == [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [0], [1], [2], [3, 4]]

    def test_an_op_whose_input_the_reference_lacks_is_not_asked_and_the_others_are(self, tmp_path: Path) -> None:
        store, device = TensorStore(tmp_path), Narrow(5, {MADE[2]: SCALED})
        local = local_error(store)
        store.keep_only([output_label("y"), *(label_of(CHAIN.graph(), t) for t in MADE[:3])])
        assert right(device, local) == {i: ok for i, ok in ANSWER.items() if i != 4}
        assert device.asked == [[0, 1, 2], [3]]

    def test_the_device_rests_behind_each_model_and_the_host_behind_them_all(self, tmp_path: Path) -> None:
        host, device = Resting(), Narrow(4, {})
        local = local_error(TensorStore(tmp_path), host)
        before = host.rests
        assert right(device, local) == dict.fromkeys(range(5), True)
        assert (device.rests, host.rests - before) == (3, 1)

    def test_nothing_is_asked_of_nothing(self, tmp_path: Path) -> None:
        device = Narrow(5, {})
        assert Isolation(device, local_error(TensorStore(tmp_path))).judge([]) == {}
        assert device.asked == []


def test_ops_are_fed_with_the_references_values_and_not_with_the_devices(tmp_path: Path) -> None:
    """The device has made NaN of what feeds every op."""
    store = TensorStore(tmp_path)
    local = local_error(store)
    for t in MADE[:-1]:
        store.put(label_of(CHAIN.graph(), t), "device", np.full((1, 8), np.nan, np.float32), "t")
    device = Narrow(5, {})
    assert right(device, local) == dict.fromkeys(range(5), True)
    (job,) = device.jobs
    fed = {int(name.removeprefix("t")): values for name, values in job.inputs.items()}
    assert sorted(fed) == sorted([FEED, *MADE[:-1]])
    for t, values in fed.items():
        expected = reference_values(local.case, store, t)
        assert expected is not None
        np.testing.assert_array_equal(values, expected)


def test_a_result_in_another_shape_than_the_graph_states_is_judged_in_the_graphs(tmp_path: Path) -> None:
    """What is too long for a GPU's outputs comes in two dimensions."""
    store = TensorStore(tmp_path)
    local = local_error(store)
    readings: list[Reading] = plan(CHAIN.graph(), READ)

    class Folded(Narrow):
        def run(self, job: Job, sink: Sink | None = None) -> Outcome:
            outcome = super().run(job, sink)
            assert isinstance(outcome, Completed)
            outcome.outputs.update({name: values.reshape(2, 4) for name, values in outcome.outputs.items()})
            return outcome

    found = Isolation(Folded(5, {}), local).judge(readings)
    assert [judgement.ok for judgement in found.values()] == [True] * 5


def test_integers_behind_a_nan_hide_nothing(tmp_path: Path) -> None:
    """ABS #0 came out NaN, and CAST #1 of it another number. NEG #2, which reads the float, is masked; GATHER #3, which
    reads the number alone, is judged by it as by any wrong value."""
    graph = GraphBuilder()
    x = graph.unary("ABS", graph.input("x", (1, 2)))
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = schema.TensorType.FLOAT32, schema.TensorType.INT32
    number = graph.op("CAST", [x], (1, 2), options, dtype=np.int32)
    negative = graph.unary("NEG", x)
    rows = graph.constant(np.asarray([1.0, 2, 3, 4], np.float32))
    gathered = graph.op("GATHER", [rows, number], (1, 2), schema.GatherOptionsT())
    graph.output(negative, "negative")
    graph.output(gathered, "gathered")
    model = graph.build()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    store = TensorStore(tmp_path)
    for tensor, known, seen in ((x, [[1.5, 2.5]], [[np.nan, 2.5]]), (number, [[1, 2]], [[-3, 2]])):
        kind = np.int32 if tensor == number else np.float32
        store.put(label_of(case.graph, tensor), "reference", np.asarray(known, kind), "t")
        store.put(label_of(case.graph, tensor), "device", np.asarray(seen, kind), "t")
    of_float = Reading(negative, "n", (2,), (x,), None)
    of_number = Reading(gathered, "g", (3,), (number,), None)
    assert contaminated(case, store, [of_float, of_number], frozenset()) == [of_float]
    assert contaminated(case, store, [of_float, of_number], frozenset([x])) == []
