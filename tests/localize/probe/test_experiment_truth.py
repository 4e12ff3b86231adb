"""What is right for a specimen: computed once, of real numbers, with what float16 cannot hold left open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Completed, Job, Options, Outcome
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.grid import Grid
from harness.graph.model import Model
from harness.localize.probe.excess import Excess
from harness.localize.probe.experiment import Experiments, Observation, OutputComparison, Specimen
from harness.numerics import fp32
from harness.numerics.fp16 import LARGEST, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, judge
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess

HALF, SINGLE, CPU = Options("gpu"), Options("gpu", precision="fp32"), Options("cpu")


def specimen(*values: float) -> Specimen:
    return Specimen(chain("ABS", "NEG", shape=(len(values),)), {"x": f32(values)})


def asked() -> tuple[Experiments, InProcess]:
    host = InProcess()
    return Experiments(InProcess(), host, 60), host


def test_the_truth_of_a_specimen_is_computed_once_and_of_the_last_one_kept() -> None:
    experiments, host = asked()
    one, other = specimen(1, -2), specimen(1, -3)
    first = experiments.truth(one, HALF)
    np.testing.assert_array_equal(first[0]["y"], [-1, -2])
    count = len(host.jobs)
    assert experiments.truth(specimen(1, -2), HALF) is first
    assert len(host.jobs) == count
    np.testing.assert_array_equal(experiments.truth(other, HALF)[0]["y"], [-1, -3])
    assert len(host.jobs) > count
    assert experiments.truth(one, HALF) is not first


@pytest.mark.parametrize("options", [SINGLE, CPU])
def test_the_truth_for_other_arithmetic_is_another(options: Options) -> None:
    experiments, _ = asked()
    assert experiments.truth(specimen(1, -2), HALF) is not experiments.truth(specimen(1, -2), options)
    assert len(experiments._known) == 1


def test_the_shape_of_an_input_is_part_of_it() -> None:
    """The same bytes in another shape, under one model's digest."""
    experiments, _ = asked()
    one = specimen(1, -2)
    first = experiments.truth(one, HALF)
    with pytest.raises(AssertionError):
        experiments.truth(Specimen(one.model, {"x": one.inputs["x"].reshape(1, 2)}), HALF)
    assert experiments.truth(one, HALF) is first


@pytest.mark.parametrize(
    ("value", "half", "beyond"),
    [
        (LARGEST, True, False),
        (-LARGEST, True, False),
        (LARGEST + 32, True, True),
        (-LARGEST - 32, True, True),
        (LARGEST + 32, False, False),
        (fp32.LARGEST, False, False),
        (3e38, False, True),
        (np.inf, True, False),  # float16 holds infinity
        (np.inf, False, True),
        (np.nan, False, True),
    ],
)
def test_tensors_beyond_are_those_with_values_that_the_device_cannot_hold(
    value: float, half: bool, beyond: bool
) -> None:
    experiments, _ = asked()
    made = {op.outputs[0] for op in specimen(1, 2).model.graph().ops}
    found = experiments._beyond(specimen(1, value), half=half)
    assert found & made == (made if beyond else frozenset())


def test_a_specimen_without_a_tensor_of_numbers_has_none_beyond() -> None:
    graph = GraphBuilder()
    graph.output(
        graph.unary(
            "NEG",
            graph.input("x", (2,), np.int32),
        ),
        "y",
    )
    found = Specimen(graph.build(), {"x": np.asarray([1 << 30, 2], np.int32)})
    assert asked()[0]._beyond(found, half=True) == frozenset()


def test_values_are_given_by_tensor_and_outputs_by_name() -> None:
    experiments, host = asked()
    found = specimen(1, -2)
    absolute, negative = (op.outputs[0] for op in found.model.graph().ops)
    values = experiments.values(found, [absolute])
    assert list(values) == [absolute]
    np.testing.assert_array_equal(values[absolute], [1, 2])
    assert host.jobs[-1].options.accelerator == "reference"
    np.testing.assert_array_equal(experiments.exactly(found)["y"], [-1, -2])
    assert host.jobs[-1].options.accelerator == "reference"
    np.testing.assert_array_equal(experiments.values(found, [negative, absolute])[negative], [-1, -2])


def two() -> Model:
    graph = GraphBuilder()
    x = graph.input("x", (4,))
    graph.output(graph.unary("ABS", x), "a")
    graph.output(graph.unary("NEG", x), "b")
    return graph.build()


class Adds(InProcess):
    """Adds to the first element of outputs, by run and name; says something in the log of a run."""

    def __init__(self, *added: dict[str, float], logs: tuple[str, ...] = ()) -> None:
        super().__init__("adds")
        self.added, self.logs = list(added), list(logs)

    def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
        for name, value in self.added.pop(0).items():
            outputs[name].flat[0] += value
        return outputs

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        outcome = super().run(job, sink)
        assert isinstance(outcome, Completed)
        return Completed(**{**vars(outcome), "log": self.logs.pop(0)}) if self.logs else outcome


def observe(device: Adds, runs: int) -> Observation:
    return Experiments(device, InProcess(), 60).observe(Specimen(two(), {"x": f32([1, 2, 4, 8])}), HALF, runs=runs)


@pytest.mark.parametrize(("added", "worst"), [({"a": 1, "b": 2}, "b"), ({"a": 2, "b": 1}, "a"), ({"b": 1}, "b")])
def test_the_worst_output_is_the_one_furthest_off(added: dict[str, float], worst: str) -> None:
    seen = observe(Adds(added), 1)
    assert seen.worst is not None
    assert (seen.ending, seen.worst.name, [o.name for o in seen.outputs]) == ("wrong", worst, ["a", "b"])
    assert seen.ratio == seen.worst.judgement.ratio == max(o.judgement.ratio for o in seen.outputs)


@pytest.mark.parametrize("other", ["a", "b"])
def test_each_output_of_each_run_counts_for_whether_they_are_the_same(other: str) -> None:
    seen = observe(Adds({}, {}, {other: 1}), 3)
    assert (seen.ending, seen.repeatable, seen.runs) == ("right", False, (1, 3))
    assert observe(Adds({}, {}, {}), 3).runs is None


def test_a_limit_that_any_run_names_is_said() -> None:
    words = "Dispatch workgroup count Z (65544) exceeds max compute workgroups per dimension (65535)"
    seen = observe(Adds({"a": 1}, {"a": 1}, logs=("all is well\n", f"Validation error: {words}.\n")), 2)
    assert seen.said == Excess(words, 65544, 65535)
    assert observe(Adds({"a": 1}), 1).said is None


def output(actual: Any, exact: Any, grid: Grid | None = None) -> OutputComparison:
    given, right = f32(actual), f32(exact)
    judgement = judge(compare(given, right), compare(right, right), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR)
    return OutputComparison("y", given, right, judgement, grid)


def test_what_is_stored_of_a_quantized_output_are_its_integers() -> None:
    found = output([0.5, -1.0], [0.5, -1.0], Grid(0.25, 3, "int8"))
    np.testing.assert_array_equal(found.stored, np.asarray([5, -1], np.int8))
    assert found.stored.dtype == np.int8
    plain = output([0.5, -1.0], [0.5, -1.0])
    assert plain.stored is plain.actual


@pytest.mark.parametrize(("halves", "alike"), [((True, True), False), ((False, False), True), ((True, False), False)])
def test_beyond_float16s_range_is_another_kind_of_error_in_float16_alone(
    halves: tuple[bool, bool], alike: bool
) -> None:
    """The right values of the first are beyond it, those of the second are not; both are off by a tenth."""
    far, near = (
        Observation("wrong", worst=output(f32(right) * 1.1, right), half=half)
        for right, half in zip(([1e5, 2e5], [1.0, 2.0]), halves, strict=True)
    )
    assert far.alike(near) is alike


def test_a_signature_is_of_the_worst_output_beside_what_it_read() -> None:
    seen = Observation("wrong", worst=output([5, 6, 7], [1, 2, 4]))
    found = seen.signature({"given": f32([5, 6, 7])}, {})
    assert found is not None
    assert found.text == "the operand 'given' returned as it is"
    other = seen.signature({}, {"old": f32([5, 6, 7])})
    assert other is not None
    assert other.text == "the values of 'old'"
    assert Observation("crash").signature({}, {}) is None
