"""A form's outcome on a device: on phones that are none, which have a bug or refuse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from harness.api.sweep.judging import Judge, useless
from harness.core.job import Options
from harness.devices.registry import open_device
from harness.graph.forms.contexts import Built, build
from harness.graph.forms.form import Form, Given, Held, const, ints, single
from tests.arrays import f32

ADD = single("ADD", [Given((6, 8)), const(6, 8)], (6, 8), "Add")


@pytest.fixture(scope="module")
def judges() -> Iterator[dict[str, Judge]]:
    names = ("planted:none", "planted:low-rank-constant", "planted:refusals")
    with open_device(names[0]) as right, open_device(names[1]) as wrong, open_device(names[2]) as strict:
        made = {d.name.removeprefix("planted:"): Judge(d, Options(), 60.0) for d in (right, wrong, strict)}
        yield made
        for judge in made.values():
            judge.close()


def test_a_right_device_passes(judges: dict[str, Judge]) -> None:
    assert judges["none"].judge(build(ADD)).outcome == "pass"


def test_a_wrong_device_is_wrong_when_asked_again_too_and_its_figures_are_kept(judges: dict[str, Judge]) -> None:
    found = judges["low-rank-constant"].judge(build(ADD))
    assert (found.outcome, found.unsteady) == ("wrong", False)
    assert found.words.startswith("cosine ") and found.ratio is not None and found.ratio > 100


def test_a_refusal_is_told_in_the_devices_own_words(judges: dict[str, Judge]) -> None:
    form = single("EMBEDDING_LOOKUP", [ints(0, 2), Given((6, 8))], (2, 8))
    found = judges["refusals"].judge(build(form))
    assert (found.outcome, found.ratio) == ("refused", None)
    assert "EMBEDDING_LOOKUP (Empty quantization params)" in found.words


def test_what_the_cpu_cannot_run_is_not_asked(judges: dict[str, Judge]) -> None:
    wrong_axis = single("SUM", [Given((6, 8)), ints(5)], (6, 1), "Reducer", keepDims=True)
    assert judges["none"].judge(build(wrong_axis)).outcome in ("not asked", "refused")


def silent_form() -> Form:
    return single("MUL", [Given((6, 8)), Held(np.zeros(8, np.float32), how="zeros")], (6, 8), "Mul")


def test_a_pass_over_an_output_that_says_nothing_is_no_pass(judges: dict[str, Judge]) -> None:
    found = judges["none"].judge(build(silent_form()))
    assert found.outcome == "not asked"
    assert found.words == "output 'out' says nothing: all of it is zero"


def test_a_verdict_that_does_not_hold_is_marked(judges: dict[str, Judge], monkeypatch: pytest.MonkeyPatch) -> None:
    judge, asked = judges["low-rank-constant"], []
    once = judge._once

    def second_time_right(built: Built) -> object:
        asked.append(built)
        return once(built) if len(asked) == 1 else judges["none"]._once(built)

    monkeypatch.setattr(judge, "_once", second_time_right)
    found = judge.judge(build(ADD))
    assert (found.outcome, found.unsteady, len(asked)) == ("wrong", True, 2)


@pytest.mark.parametrize("value", [-1e9, -np.inf])
def test_what_float16_cannot_hold_is_no_fault_of_the_device(judges: dict[str, Judge], value: float) -> None:
    held = np.zeros((1, 1, 6, 8), np.float32)
    held[..., :4] = value
    masked = single("ADD", [Given((1, 1, 6, 8)), Held(held)], (1, 1, 6, 8), "Add")
    found = judges["none"].judge(build(masked))
    assert (found.outcome, found.words) == ("precision", "beyond float16's range: 24 of 48 values of 'out'")


def test_what_is_wrong_beside_what_float16_cannot_hold_is_wrong(judges: dict[str, Judge]) -> None:
    held = np.arange(48, dtype=np.float32).reshape(6, 8)
    held[:, 0] = 1e6
    found = judges["low-rank-constant"].judge(build(single("ADD", [Given((6, 8)), Held(held)], (6, 8), "Add")))
    assert found.outcome == "wrong"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (f32([1.0, 2.0]), ""),
        (f32([0.0, 0.0]), "all of it is zero"),
        (f32([3.0, 3.0]), "all of it is the same"),
        (f32([3.0]), ""),
        (f32([]), "it has no elements"),
        (np.asarray([True, True]), "all of it is the same"),
        (np.asarray([np.nan, 1.0], np.float32), ""),
    ],
)
def test_an_output_that_says_nothing_is_known(values: np.ndarray, why: str) -> None:
    assert useless(values) == why
