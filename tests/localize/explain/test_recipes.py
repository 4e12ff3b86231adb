"""Inputs without a file: of the size and sign of those that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.localize.explain.shrink import Recipe, Shrinker, _in_shape, _recipe, narrow, resized, without_files
from harness.localize.probe.experiment import Experiments, Specimen
from tests.arrays import f32, i32
from tests.chains import chain
from tests.localize.planted import InProcess


@pytest.mark.parametrize(
    ("random", "values", "recipe"),
    [
        (False, f32([3, -4, np.nan, np.inf]), Recipe("constant", "float32", 3.5, 7)),  # √12.5 is 3.54
        (True, f32([3, -4, np.nan]), Recipe("normal", "float32", 3.5, 7)),
        (True, f32([3, 4]), Recipe("uniform", "float32", 3.5, 7)),
        (True, f32([0, 4]), Recipe("uniform", "float32", 2.8, 7)),
        (True, f32([0, 0]), Recipe("uniform", "float32", 1.0, 7)),
        (False, f32([0, 0]), Recipe("constant", "float32", 1.0, 7)),
        (True, f32([np.nan]), Recipe("normal", "float32", 1.0, 7)),
        (True, i32([5, 6]), Recipe("zeros", "int32", 0.0, 7)),
        (False, np.asarray([5], np.int8), Recipe("zeros", "int8", 0.0, 7)),
    ],
)
def test_a_recipe_is_of_the_size_and_sign_of_the_values(random: bool, values: Array, recipe: Recipe) -> None:
    assert _recipe(random, 7, values) == recipe


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe("zeros", "int8", 0.0, 1), np.zeros((2, 3), np.int8)),
        (Recipe("constant", "float32", 1.5, 1), np.full((2, 3), 1.5, np.float32)),
        (
            Recipe("uniform", "float32", 1.5, 1),
            np.random.default_rng(1).random((2, 3), np.float32) * np.float32(1.5),
        ),
        (
            Recipe("normal", "float32", 1.5, 1),
            np.random.default_rng(1).standard_normal((2, 3), np.float32) * np.float32(1.5),
        ),
    ],
)
def test_a_recipe_makes_what_its_code_makes(recipe: Recipe, expected: Array) -> None:
    made = recipe.values((2, 3))
    np.testing.assert_array_equal(made, expected)
    assert made.dtype == expected.dtype
    run: Any = eval(recipe.code((2, 3)), {"np": np})  # noqa: S307 - this test's own code
    np.testing.assert_array_equal(run, expected)
    assert run.dtype == expected.dtype


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 2), [[1, 2], [4, 5]]),
        ((1, 3), [[1, 2, 3]]),
        ((2, 3), [[1, 2, 3], [4, 5, 6]]),
        ((1, 4), [[1, 2, 3, 4]]),  # one size is larger: repeated in order, not cropped
        ((3, 3), [[1, 2, 3], [4, 5, 6], [1, 2, 3]]),
    ],
)
def test_values_are_cropped_where_every_size_is_smaller_and_repeated_elsewhere(
    shape: tuple[int, ...], expected: list[list[float]]
) -> None:
    found = _in_shape(f32([[1, 2, 3], [4, 5, 6]]), shape)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous


def test_values_of_another_rank_have_no_such_shape() -> None:
    with pytest.raises(ValueError, match="longer than"):
        _in_shape(f32([[1, 2]]), (1,))


def experiments() -> Experiments:
    return Experiments(InProcess(), InProcess(), timeout=60)


def two_inputs() -> Specimen:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x0", (4,)), graph.input("x1", (4,))), "y0")
    return Specimen(graph.build(), {"x0": f32([1, 2, 3, 4]), "x1": f32([-1, -2, -3, -4])})


def test_all_inputs_are_made_at_once_where_that_fails() -> None:
    shrinker = Shrinker(experiments(), two_inputs(), lambda found: True, 10)
    without_files(shrinker)
    assert (shrinker.questions, {r.kind for r in shrinker.recipes.values()}) == (1, {"constant"})
    assert [recipe.seed for recipe in shrinker.recipes.values()] == [0, 1]
    without_files(shrinker)
    assert shrinker.questions == 1  # none is left that needs a file


def test_seeded_ones_are_tried_behind_constants() -> None:
    shrinker = Shrinker(experiments(), two_inputs(), lambda found: np.ptp(found.inputs["x1"]) > 0, 10)
    without_files(shrinker)
    assert (shrinker.questions, [r.kind for r in shrinker.recipes.values()]) == (2, ["uniform", "normal"])


def test_one_input_at_a_time_is_made_where_they_cannot_all_be() -> None:
    kept = two_inputs()
    shrinker = Shrinker(experiments(), kept, lambda found: found.inputs["x0"] is kept.inputs["x0"], 10)
    without_files(shrinker)
    assert (shrinker.questions, list(shrinker.recipes)) == (5, ["x1"])
    assert shrinker.recipes["x1"].kind == "constant"
    np.testing.assert_array_equal(shrinker.best.inputs["x1"], shrinker.recipes["x1"].values((4,)))
    assert shrinker.best.inputs["x0"] is kept.inputs["x0"]


def test_of_one_input_nothing_more_is_asked_by_itself() -> None:
    shrinker = Shrinker(experiments(), Specimen(chain("ABS"), {"x0": f32([[1] * 8])}), lambda found: False, 10)
    without_files(shrinker)
    assert (shrinker.questions, shrinker.recipes) == (2, {})


@pytest.mark.parametrize(("limit", "asked"), [(0, 0), (1, 1), (2, 2)])
def test_no_question_is_asked_beyond_the_limit(limit: int, asked: int) -> None:
    shrinker = Shrinker(experiments(), two_inputs(), lambda found: False, limit)
    assert [shrinker.consider(two_inputs()) for _ in range(2)] == [False, False]
    assert shrinker.questions == asked
    assert not shrinker.consider(None)
    assert shrinker.questions == asked


@pytest.mark.parametrize(
    ("least", "size", "asked"),
    [
        (1, 1, [1]),
        (2, 2, [1, 10, 5, 2]),
        (3, 5, [1, 10, 5, 2]),
        (6, 10, [1, 10, 5]),
        (11, 20, [1, 10, 20]),
        (21, 40, [1, 10, 20]),
    ],
)
def test_a_size_is_made_one_or_halved_by_bisection(least: int, size: int, asked: list[int]) -> None:
    """Of 40, from the smallest up: 40 >> 2 first, then nearer."""
    sizes: list[int] = []

    def fails(found: Specimen) -> bool:
        sizes.append(found.inputs["x"].shape[-1])
        return sizes[-1] >= least

    shrinker = Shrinker(experiments(), Specimen(chain("ABS", shape=(1, 40)), {"x": f32([[1] * 40])}), fails, 60)
    narrow(shrinker)
    assert shrinker.best.inputs["x"].shape == (1, size)
    assert sizes[: len(asked)] == asked


def test_a_resized_input_with_a_recipe_is_made_anew() -> None:
    whole = Specimen(chain("ABS", shape=(1, 4)), {"x": f32([[1, 2, 3, 4]])})
    recipe = Recipe("normal", "float32", 2.0, 3)
    made, cropped = resized(experiments(), whole, 4, 2, {"x": recipe}), resized(experiments(), whole, 4, 2)
    assert made is not None
    assert cropped is not None
    np.testing.assert_array_equal(made.inputs["x"], recipe.values((1, 2)))
    np.testing.assert_array_equal(cropped.inputs["x"], [[1, 2]])
