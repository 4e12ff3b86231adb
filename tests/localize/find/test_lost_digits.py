"""Which op is named for digits that a stored value loses, and how that is told: by harms that are made up."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.find.precision import PASSED_ON, LostDigits, _Name, _Names, _notes
from harness.localize.probe.rounding import RoundingLoss, Unit
from tests.arrays import f32


def model_of(*kinds: str, behind: str = "") -> Model:
    """Element-wise ops one after another, y = the last; `behind` is a binary op of the result and a constant."""
    graph = GraphBuilder()
    t = graph.input("x", (1, 8))
    for kind in kinds:
        t = graph.reshape(t, (1, 8)) if kind == "RESHAPE" else graph.unary(kind, t)
    if behind:
        t = graph.binary(behind, t, graph.constant(f32(np.full(8, 3))))
    graph.output(t, "y")
    return graph.build()


def made(model: Model, op: int) -> int:
    return model.graph().ops[op].outputs[0]


def names_of(
    model: Model, harms: dict[int, float], *, half: bool = True, values: dict[str, Array] | None = None
) -> _Names:
    """Where rounding a tensor does this harm to output y, and none otherwise."""

    def harm(tensors: Iterable[int]) -> float:
        return max((harms.get(t, 0.0) for t in tensors), default=0.0)

    known = values or {}
    store = SimpleNamespace(has=lambda label, side: label in known, get=lambda label, side: known[label])
    bench: Any = SimpleNamespace(run=SimpleNamespace(tensors=store))
    options = Options("gpu", precision="default" if half else "fp32")
    case = Case(model, {"x": f32([[3000, 1, 1, 1, 1, 1, 1, 1]])}, options, timeout=60)
    roundings: Any = SimpleNamespace(harm=harm, useless={"y": ()})
    return _Names(bench, case, roundings)


def unit(model: Model, op: int, *more: int) -> Unit:
    return Unit(op, frozenset({made(model, op), *more}))


@pytest.mark.parametrize(("passed", "named"), [(PASSED_ON, 1), (PASSED_ON * 0.99, 0)])
def test_an_op_passes_the_harm_on_whose_result_does_half_of_it(passed: float, named: int) -> None:
    """TANH #0, ABS #1, NEG #2: ABS does as much by its own result, or does not, and magnifies what it reads."""
    model = model_of("TANH", "ABS", "NEG")
    name = names_of(model, {made(model, 0): 1.0, made(model, 1): passed}).of(unit(model, 0))
    assert (name.op, name.signature) == (
        named,
        f"coarse steps: values, magnified by {model.graph().ops[named + 1].name} #{named + 1}",
    )
    assert name.window == frozenset(range(named + 2))


def test_what_is_passed_on_to_the_output_itself_is_named_where_it_ends() -> None:
    model = model_of("TANH", "ABS")
    name = names_of(model, dict.fromkeys((made(model, 0), made(model, 1)), 1.0)).of(unit(model, 0))
    assert name == _Name(1, "coarse steps: values", frozenset({0, 1}))


@pytest.mark.parametrize(
    ("behind", "op", "kind"), [("ADD", 1, "cancellation"), ("SUB", 1, "cancellation"), ("MUL", 0, "coarse steps")]
)
def test_where_digits_cancel_the_difference_is_named_and_else_what_made_the_value(
    behind: str, op: int, kind: str
) -> None:
    model = model_of("ABS", behind=behind)
    name = names_of(model, {made(model, 0): 1.0}).of(unit(model, 0))
    assert (name.op, name.signature.partition(":")[0]) == (op, kind)


@pytest.mark.parametrize("kind", ["SIN", "COS"])
def test_a_large_angle_is_the_matter_of_what_made_it(kind: str) -> None:
    model = model_of("ABS", kind)
    values = {"0000-ABS": f32([[3000, 1]])}
    name = names_of(model, {made(model, 0): 1.0}, values=values).of(unit(model, 0))
    assert name == _Name(0, "large angles: values up to 3e+03 in steps of 2 rad", frozenset({0, 1}))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("SIN", "large angles: values up to 3e+03 in steps of 2 rad"),
        ("TANH", "coarse steps: values up to 3e+03 in steps of 2"),
    ],
)
def test_an_input_that_is_stored_too_coarsely_is_its_reader_s_matter(kind: str, said: str) -> None:
    model = model_of(kind, "NEG")
    x = model.graph().inputs[0].tensor
    assert names_of(model, {x: 1.0}).of(unit(model, 0, x)) == _Name(0, said, frozenset({0}))


def test_an_input_whose_reader_passes_it_on_is_followed_from_there() -> None:
    model = model_of("ABS", "NEG", "SIN")
    x = model.graph().inputs[0].tensor
    # Of the unit x alone is stored; ABS and NEG pass its error on, and SIN does not.
    name = names_of(model, {x: 1.0, made(model, 0): 0.4, made(model, 1): 0.4}).of(unit(model, 0, x))
    assert (name.op, name.window) == (0, frozenset({0}))
    harms = {x: 1.0, made(model, 0): 0.4}
    assert names_of(model, harms).of(Unit(0, frozenset({x}))).op == 0
    harms = {x: 1.0, made(model, 0): 0.6, made(model, 1): 0.6}
    assert names_of(model, harms).of(Unit(0, frozenset({x}))).op == 1


def test_copies_on_the_way_belong_to_the_window() -> None:
    model = model_of("TANH", "RESHAPE", "NEG")
    name = names_of(model, {made(model, 0): 1.0}).of(unit(model, 0))
    assert (name.op, name.window) == (0, frozenset({0, 1, 2}))


@pytest.mark.parametrize(
    ("peak", "half", "step"),
    [
        (1.0, True, "0.00098"),  # 2^-10
        (2047.0, True, "1"),
        (2048.0, True, "2"),
        (65504.0, True, "32"),
        (65536.0, True, "64"),  # beyond float16: as float16 would with more exponents
        (1.0, False, "1.9e-06"),  # 2^-19: of float32 20 bits are counted on
        (2048.0, False, "0.0039"),
    ],
)
def test_the_step_is_that_of_the_largest_value_as_it_is_stored(peak: float, half: bool, step: str) -> None:
    model = model_of("ABS")
    values = {"0000-ABS": f32([[-peak, 0]])}
    said = names_of(model, {}, half=half, values=values)._range(made(model, 0))
    assert said == f"values up to {peak:.3g} in steps of {step}"


@pytest.mark.parametrize("values", [{}, {"0000-ABS": f32([[0, 0]])}, {"0000-ABS": np.asarray([[7]], np.int32)}])
def test_of_values_that_are_not_known_or_have_no_step_none_is_told(values: dict[str, Array]) -> None:
    model = model_of("ABS")
    assert names_of(model, {}, values=values)._range(made(model, 0)) == "values"


def test_constants_and_inputs_are_told_as_they_are() -> None:
    model = model_of("ABS", behind="ADD")
    names, op = names_of(model, {}), model.graph().ops[1]
    assert names._range(op.inputs[1]) == "values up to 3 in steps of 0.002"
    assert names._range(model.graph().inputs[0].tensor) == "values up to 3e+03 in steps of 2"


def test_of_a_cancellation_the_small_results_are_told() -> None:
    model = model_of("ABS", behind="SUB")
    (_, op), values = model.graph().ops, {"0001-SUB": f32([[-1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])}
    names = names_of(model, {}, values=values)
    assert names._cancelling(op.inputs[0], op) == "cancellation: values, a tenth of the results at most 2"
    assert names_of(model, {})._cancelling(op.inputs[0], op) == "cancellation: values"


LITTLE = "The digits are lost little by little: "
ALONE = "Storing results in {} alone does not cost so much of 'a', 'b': it is what the device's own arithmetic adds"


@pytest.mark.parametrize(
    ("units", "enough", "all_of_it", "together", "half", "begins"),
    [
        (2, False, False, True, True, f"{LITTLE}the 2 ops that lose most do not account for it"),
        (1, False, False, True, True, f"{LITTLE}no op by itself accounts for it"),
        (0, False, False, False, True, ALONE.format("float16")),
        (2, False, False, False, False, ALONE.format("float32")),
        (2, True, True, True, True, None),
        (2, True, False, True, True, "With these results exact, rounding the others to float16 loses too much as well"),
        (2, True, False, False, False, "With these results exact, rounding the others to float32 loses too much"),
    ],
)
def test_what_is_left_open_is_said(
    units: int, enough: bool, all_of_it: bool, together: bool, half: bool, begins: str | None
) -> None:
    lost = RoundingLoss((Unit(0, frozenset()),) * units, enough, all_of_it, together)
    case: Any = SimpleNamespace(options=SimpleNamespace(half=half))
    notes = _notes(case, lost, ("a", "b"))
    assert len(notes) == (begins is not None)
    assert all(note.startswith(begins or "") for note in notes)


def test_without_a_culprit_it_is_unresolved() -> None:
    one: Any = "culprit"
    assert LostDigits((), (), False, ()).status == "unresolved"
    assert LostDigits((one,), (), False, ()).status == "culprits"
