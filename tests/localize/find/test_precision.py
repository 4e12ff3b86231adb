"""Failures by precision: the device, an ideal one, does what float16 allows, and an output is of no use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.core.job import Options
from harness.core.run_folder import RunFolder
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench, compare_model
from harness.localize.base.result import Localization
from harness.localize.explain.explainer import explain
from harness.localize.find.localizer import localize
from harness.localize.probe import rounding
from harness.localize.probe.rounding import units
from harness.numerics.usefulness import Limits
from tests.localize import lossy
from tests.localize.planted import SCALED, Fault, Half, InProcess

Find = Callable[..., Localization]


def case_of(model: Model, inputs: dict[str, Array] | None = None, limits: Limits | None = None) -> Case:
    given = inputs or random_inputs(model.graph(), 0)
    return Case(model, given, Options(), timeout=60, limits=limits or Limits(), drawn=inputs is None)


@pytest.fixture
def find(tmp_path: Path) -> Find:
    def run(
        model: Model, inputs: dict[str, Array] | None = None, limits: Limits | None = None, *, mend: bool = False,
        faults: Mapping[int, Fault] | None = None,
    ) -> Localization:  # fmt: skip
        case = case_of(model, inputs, limits)
        with RunFolder.create(tmp_path, "localize", "lossy", "half") as folder:
            bench = Workbench(
                Half(model, faults or {}, lambda job: job.options.accelerator == "gpu"), InProcess(), folder
            )
            answer = localize(bench, case)
            return explain(bench, case, answer) if mend else answer

    return run


@pytest.fixture
def compared(tmp_path: Path) -> Callable[[Model], ModelComparison]:
    def run(model: Model) -> ModelComparison:
        with RunFolder.create(tmp_path, "compare", "lossy", "half") as folder:
            return compare_model(Workbench(Half(model, {}), InProcess(), folder), case_of(model))

    return run


def named(answer: Localization) -> list[tuple[str, int, str]]:
    """Op, index, and the kind of loss that its signature begins with."""
    return [(c.record.op, c.record.index, (c.signature or "").partition(":")[0]) for c in answer.culprits]


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        (lossy.rope(), lossy.far_positions(), ("MUL", 0, "large angles")),
        (lossy.log_of_complement(), None, ("SUB", 2, "cancellation")),
        (lossy.around(1000), None, ("SUB", 3, "cancellation")),
        (lossy.residual(1e-3), None, ("ADD", 3, "coarse steps")),
    ],
    ids=["rope", "log of a complement", "an offset and back", "residual"],
)
def test_the_op_that_loses_the_digits_is_named_without_asking_the_device_more(
    find: Find, model: Model, inputs: dict[str, Array] | None, expected: tuple[str, int, str]
) -> None:
    answer = find(model, inputs)
    assert (answer.status, answer.certified, answer.by_precision) == ("culprits", True, True)
    assert named(answer) == [expected]
    assert answer.culprits[0].cause == "rounding"
    assert (answer.device_compiles, answer.device_runs) == (1, 2)
    assert [output["verdict"] for output in answer.to_json()["outputs"]] == ["precision"]
    assert all(impact.useless and not impact.to_json()["ok"] for impact in answer.explained)


def test_each_of_two_useless_outputs_gets_its_own_culprit(find: Find) -> None:
    answer = find(lossy.two_branches())
    assert sorted(named(answer)) == [("SUB", 2, "cancellation"), ("SUB", 5, "cancellation")]
    ruined = {c.record.index: [i.output for i in c.impact if i.useless] for c in answer.culprits}
    assert ruined == {2: ["a"], 5: ["b"]}


@pytest.mark.parametrize(
    "model",
    [
        lossy.residual(0.05), lossy.around(1), lossy.saturated(), lossy.normalized(64), lossy.normalized(65536),
        lossy.vanishing(), lossy.rope(), lossy.zero_mean(),
    ],
    ids=[
        "residual", "small offset", "saturated", "normalized", "much normalized", "vanishing", "near positions",
        "noise",
    ],
)  # fmt: skip
def test_what_resembles_them_and_is_healthy_passes(find: Find, model: Model) -> None:
    # Positions drawn at random are a few rad, where float16's steps are 0.002.
    assert find(model).status == "pass"


def test_the_values_as_stored_are_told(find: Find) -> None:
    (culprit,) = find(lossy.rope(), lossy.far_positions()).culprits
    assert culprit.signature == "large angles: values up to 3.99e+03 in steps of 2 rad"
    (culprit,) = find(lossy.around(1000)).culprits
    assert (culprit.signature or "").startswith("cancellation: values up to 1e+03 in steps of 0.5, a tenth of the")


def test_a_copy_of_its_input_is_held_to_what_it_adds(find: Find) -> None:
    (output,) = find(lossy.residual(1e-3)).outputs
    assert output.judgement.actual.cosine > 0.9999999
    (shortfall,) = output.shortfalls
    assert (shortfall.kind, shortfall.input, shortfall.limit) == ("difference", "x", 0.125)
    # Storing x to 11 bits costs 2^-12/sqrt(3) of a value that is evenly spread in its octave, up to twice that at its
    # lower end: 1.4e-4 to 2.8e-4 of x, of the 6e-4 that tanh adds at a thousandth.
    assert 0.2 < shortfall.value < 0.6


def test_the_caller_s_own_limits_fail_what_is_right_otherwise(find: Find) -> None:
    model = lossy.around(1)
    assert find(model).status == "pass"
    # The result of ADD lies in [0, 2]: rounding it is off by up to 2^-11, nearly five times 1e-4.
    answer = find(model, None, Limits(atol=1e-4, rtol=0.0))
    assert answer.by_precision and answer.status == "culprits"
    assert [s.kind for s in answer.outputs[0].shortfalls] == ["tolerance"]
    assert find(model, None, Limits(atol=1e-3, rtol=0.0)).status == "pass"
    assert find(model, None, Limits(min_cosine=0.999)).status == "pass"
    assert find(model, None, Limits(min_cosine=1.0)).outputs[0].verdict == "precision"


def test_float32_and_the_ops_on_the_cpu_are_remedies(find: Find) -> None:
    answer = find(lossy.log_of_complement(), mend=True)
    (culprit,) = answer.culprits
    by_name = {remedy.name: remedy for remedy in culprit.remedies}
    assert by_name["float32 throughout"].ok
    assert culprit.window == (1, 2)
    # From LOGISTIC to SUB: what goes back to the device is small, and float16 holds small values well.
    assert by_name["these ops on the CPU, between GPU parts"].ok
    assert "1 - LOGISTIC(x) as LOGISTIC(-x)" in by_name
    assert culprit.reproducer is None


def test_a_fault_beside_lost_digits_is_named_by_itself_and_mended_by_itself(find: Find) -> None:
    model = lossy.beside()
    graph = model.graph()
    answer = find(model, mend=True, faults={graph.ops[3].outputs[0]: SCALED})
    assert {output.name: output.verdict for output in answer.outputs} == {"a": "precision", "b": "wrong"}
    assert not answer.by_precision
    assert [c.record.index for c in answer.culprits] == [3]
    # The CPU has no such fault. What is left is that a has lost its digits, as before.
    remedies = {remedy.name: remedy.ok for remedy in answer.culprits[0].remedies}
    assert not remedies["float32 throughout"]
    assert remedies["these ops on the CPU, between GPU parts"]
    assert any(note.startswith("Output 'a' fails by precision besides (its error is 2") for note in answer.notes)


def test_a_copy_keeps_the_digits_of_what_only_moved() -> None:
    owners = {unit.op: unit.tensors for unit in units(lossy.around(1).graph())}
    assert sorted(owners) == [0, 1, 3]  # RESHAPE #2 stores nothing anew


def test_an_image_model_fed_with_noise_says_so(compared: Callable[[Model], ModelComparison]) -> None:
    assert compared(lossy.photo()).notes == (
        "Input 'photo' [1, 32, 32, 3] looks like an image and was fed with noise: values, and so errors, are not those "
        "of a real one. Give one with --inputs before this verdict is relied on.",
    )
    assert compared(lossy.residual(0.05)).notes == ()


def test_coarse_steps_of_the_output_itself_are_told_and_not_held_against_it(
    compared: Callable[[Model], ModelComparison],
) -> None:
    found = compared(lossy.saturated())
    assert found.ok
    (note,) = found.notes
    assert note.startswith("Output 'y' is stored in float16 steps that are coarse against its spread")


def test_an_output_that_is_float32s_own_rounding_is_not_asked_for_use(
    compared: Callable[[Model], ModelComparison],
) -> None:
    found = compared(lossy.zero_mean())
    assert [output.verdict for output in found.outputs] == ["pass", "pass"]
    assert found.notes[-1] == (
        "Output 'mean' is not asked whether it is of use: in float32 too its values are what rounding leaves."
    )


def test_a_precision_failure_of_random_inputs_asks_for_real_ones(compared: Callable[[Model], ModelComparison]) -> None:
    found = compared(lossy.around(1000))
    assert (found.ok, found.explained, found.to_json()["status"]) == (False, True, "fail")
    assert found.notes == (
        "The inputs are random numbers, and how much precision is enough depends on them: give real ones.",
    )
    assert np.isfinite(found.outputs[0].judgement.ratio)


def test_digits_that_are_lost_little_by_little_are_told_as_that(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "MOST_UNITS", 0)
    answer = find(lossy.around(1000))
    assert (answer.status, answer.certified, answer.culprits) == ("unresolved", False, ())
    assert any(
        note.startswith("The digits are lost little by little: no op by itself accounts for it")
        for note in answer.notes
    )


def test_places_of_scores_that_are_no_output_are_told_as_such(find: Find) -> None:
    """Eight scores each are one value in float16, so that what shares it stands in another order; which ones do, only
    the scores tell."""
    graph = GraphBuilder()
    count = graph.constant(np.asarray(64, np.int32))
    best = graph.op("TOPK_V2", [graph.input("scores", (1, 64)), count], (1, 64), schema.TopKV2OptionsT())
    order = graph.tensor("order", (1, 64), np.int32)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.INT32, schema.TensorType.FLOAT32
    graph.output(graph.op("CAST", [order], (1, 64), cast, dtype=np.float32), "places")
    model = graph.build()
    model.root.subgraphs[0].operators[0].outputs = np.asarray([best, order], np.int32)
    model = Model.from_bytes(Model(model.root).to_bytes())
    scores = 1 + np.random.default_rng(0).permutation(64)[None] * 2.0**-13
    answer = find(model, {"scores": scores.astype(np.float32)})
    assert [(output.name, output.verdict) for output in answer.outputs] == [("places", "precision")]
    (told,) = [note for note in answer.notes if "TOPK_V2 #0 sorts" in note]
    assert told.startswith(
        "Output 'places' is in the order in which TOPK_V2 #0 sorts: where two scores are nearly equal"
    )
