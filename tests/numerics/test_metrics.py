"""Every figure against plain numpy, whatever the values and wherever the chunks end."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.core.visible import best_at_one
from harness.numerics import metrics
from harness.numerics.metrics import (
    METRICS,
    Comparator,
    compare,
    finite_range,
    mask_iou,
    one_error,
    share_of_rms,
)
from tests.arrays import f32, i32, normal

Pair = tuple[NDArray[Any], NDArray[Any]]


def pair(seed: int) -> Pair:
    """Two tensors of a random shape, with NaN and infinities on either side, both sides, or none."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(d) for d in rng.integers(1, 7, rng.integers(0, 5)))
    reference = np.array(rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 6), np.float32)
    actual = np.array(reference * (1 + rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 1)), np.float32)
    odd = f32([np.nan, np.inf, -np.inf])
    for values in (actual, reference):
        if rng.random() < 0.5:
            values[rng.random(shape) < 0.2] = rng.choice(odd)
    both = rng.random(shape) < 0.1
    actual[both] = reference[both] = rng.choice(odd)
    return actual, reference


@pytest.mark.parametrize("seed", range(200))
def test_every_figure_is_what_numpy_says(seed: int) -> None:
    actual, reference = pair(seed)
    got = compare(actual, reference)
    a, r = actual.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    fresh = np.isfinite(r) & ~np.isfinite(a)
    same = (a == r) | (np.isnan(a) & np.isnan(r))
    both = np.isfinite(a) & np.isfinite(r)
    error = np.abs(a[both] - r[both])
    assert got.count == a.size
    assert got.finite == both.sum()
    assert got.nonfinite == fresh.sum()
    assert got.nonfinite_mismatch == (~np.isfinite(r) & ~same).sum()
    assert got.reference_nonfinite == (~np.isfinite(r)).sum()
    assert got.identical == bool(same.all())
    if both.any():
        assert got.max_abs == error.max()
        assert got.mean_abs == pytest.approx(error.mean())
        assert got.rms == pytest.approx(np.sqrt((error**2).mean()))
        assert got.reference_rms == pytest.approx(np.sqrt((r[both] ** 2).mean()))
        norms = np.linalg.norm(a[both]) * np.linalg.norm(r[both])
        assert got.cosine == pytest.approx(a[both] @ r[both] / norms, abs=1e-12)
    else:
        assert (got.max_abs, got.mean_abs, got.rms, got.reference_rms, got.cosine) == (0, 0, 0, 0, 0)
    for seen, values in ((got.range, a), (got.reference_range, r)):
        finite = values[np.isfinite(values)]
        assert seen == ((np.min(finite), np.max(finite)) if finite.size else (math.inf, -math.inf))
    if fresh.any():
        place = int(np.argmax(fresh))
    elif both.any():
        place = int(np.flatnonzero(both)[np.argmax(error)])
    else:
        place = 0
    assert got.worst == (np.unravel_index(place, actual.shape) if actual.ndim else ())


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 64])
def test_where_chunks_end_makes_no_difference(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [pair(seed) for seed in range(40)]
    whole = [compare(*values) for values in pairs]
    monkeypatch.setattr(metrics, "CHUNK", chunk)
    for values, expected in zip(pairs, whole, strict=True):
        for field, got in dataclasses.asdict(compare(*values)).items():
            expectation = getattr(expected, field)
            if field in ("mean_abs", "rms", "rms_unflushed", "reference_rms", "cosine"):
                expectation = pytest.approx(expectation, rel=1e-12, abs=1e-12)
            assert got == expectation, field


def test_a_nan_later_than_the_largest_error_is_still_the_worst() -> None:
    reference = np.zeros(10, np.float32)
    actual = reference.copy()
    actual[2], actual[7] = 100, np.nan
    comparator = Comparator((10,))
    for i in range(10):
        comparator.update(actual[i : i + 1], reference[i : i + 1])
    got = comparator.result()
    assert (got.worst, got.max_abs, got.nonfinite) == ((7,), 100, 1)


def test_nan_is_never_taken_for_agreement() -> None:
    got = compare(f32([np.nan, 1]), f32([0, 1]))
    assert (got.nonfinite, got.nonfinite_mismatch, got.max_abs, got.cosine, got.identical) == (1, 0, 0, 1, False)
    got = compare(f32([0, 1]), f32([np.nan, 1]))
    assert (got.nonfinite, got.nonfinite_mismatch, got.identical) == (0, 1, False)


def test_equal_infinities_agree_and_opposite_ones_do_not() -> None:
    assert compare(f32([np.inf, np.nan]), f32([np.inf, np.nan])).identical
    assert compare(f32([np.inf]), f32([-np.inf])).nonfinite_mismatch == 1
    assert compare(f32([np.inf]), f32([np.nan])).nonfinite_mismatch == 1


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2, 2)])
def test_a_comparison_of_nothing_says_so(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a comparison of no elements says nothing"):
        compare(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="a comparison of no elements"):
        Comparator((3,)).result()


@pytest.mark.parametrize(("a", "b"), [((2, 3), (3, 2)), ((6,), (2, 3)), ((1,), ())])
def test_shapes_must_be_equal(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(np.zeros(a, np.float32), np.zeros(b, np.float32))
    with pytest.raises(ValueError, match="1 elements cannot be compared with 2"):
        Comparator((2,)).update(f32([1]), f32([1, 2]))


def test_zero_references_and_zero_errors_have_their_own_ratios() -> None:
    equal = compare(f32([1, 2]), f32([1, 2]))
    assert (equal.relative_rms, equal.snr_db, equal.identical) == (0, math.inf, True)
    assert equal.cosine == pytest.approx(1)
    nothing = compare(f32([1, 2]), f32([0, 0]))
    assert (nothing.relative_rms, nothing.snr_db, nothing.cosine) == (math.inf, -math.inf, 0)
    assert compare(f32([0, 0]), f32([0, 0])).cosine == 1
    assert compare(f32([0, 0]), f32([3, 4])).cosine == 0
    half = compare(f32([3, 4.5]), f32([3, 4]))
    assert half.relative_rms == pytest.approx(0.1)
    assert half.snr_db == pytest.approx(20)


def test_opposite_tensors_have_cosine_minus_one() -> None:
    values = normal((3, 50))
    assert compare(-values, values).cosine == pytest.approx(-1)
    assert compare(values, values).cosine <= 1


def test_small_differences_of_large_numbers_are_not_lost() -> None:
    reference = np.full(100_000, 1e6, np.float32)
    actual = reference.copy()
    actual[99_999] = np.nextafter(np.float32(1e6), np.float32(2e6))
    got = compare(actual, reference)
    assert got.max_abs == 0.0625
    assert got.worst == (99_999,)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.bool_, np.float16, np.float64])
def test_every_type_is_compared_by_value(dtype: Any) -> None:
    actual, reference = np.asarray([1, 0, 1, 1]).astype(dtype), np.asarray([1, 1, 1, 0]).astype(dtype)
    got = compare(actual, reference)
    assert (got.max_abs, got.mean_abs, got.worst) == (1, 0.5, (1,))


def test_complex_values_are_compared_in_both_parts() -> None:
    got = compare(np.asarray([1 + 2j, 3 + 4j], np.complex64), np.asarray([1 + 2j, 3 + 1j], np.complex64))
    assert (got.count, got.max_abs, got.worst) == (4, 3, (1, 1))
    assert finite_range(np.asarray([1 + 2j, np.nan - 3j], np.complex64)) == (-3, 2)


def test_a_view_that_is_not_contiguous_is_read_in_its_own_order() -> None:
    values = normal((4, 5))
    assert compare(values.T, np.ascontiguousarray(values.T)).identical
    assert not compare(values.T, np.ascontiguousarray(values).reshape(5, 4)).identical


def test_masks_overlap_as_sets_do() -> None:
    assert mask_iou(f32([1, 1, -1, -1]), f32([1, -1, 1, -1])) == pytest.approx(1 / 3)
    assert mask_iou(f32([1, 2]), f32([5, 6])) == 1
    assert mask_iou(f32([1, -2]), f32([-5, 6])) == 0
    assert mask_iou(f32([-1, 0]), f32([0, -6])) == 1  # both empty
    assert mask_iou(f32([np.nan, 1]), f32([1, 1])) == 0.5
    assert mask_iou(f32([np.inf, -np.inf]), f32([1, -1])) == 1
    assert mask_iou(np.asarray([True, False]), np.asarray([True, True])) == 0.5


def test_the_range_is_that_of_finite_values() -> None:
    assert finite_range(f32([np.nan, -2, np.inf, 7])) == (-2, 7)
    assert finite_range(i32([4, -9])) == (-9, 4)
    assert all(math.isnan(bound) for bound in finite_range(f32([np.nan])))
    assert all(math.isnan(bound) for bound in finite_range(np.zeros((0,), np.int32)))


def test_every_figure_knows_its_unit_and_direction() -> None:
    got = compare(f32([1, 2]), f32([1, 3]))
    for name, metric in METRICS.items():
        assert metric.better in ("lower", "higher")
        assert metric.unit and metric.meaning
        assert name == "iou" or isinstance(getattr(got, name), (int, float))


@pytest.mark.parametrize(
    ("relative", "words"),
    [
        (0.0849, "8.49% of its RMS"),
        (10.0, "1000.00% of its RMS"),
        (10.01, "more than 10 times its RMS"),
        (5e38, "more than 10 times its RMS"),
        (math.inf, "more than 10 times its RMS"),
    ],
)
def test_a_share_without_bound_is_told_as_that(relative: float, words: str) -> None:
    assert share_of_rms(relative) == words


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.arange(4), np.arange(4)),
        (f32([]), f32([])),
        (f32([1, np.nan]), f32([1, 2])),
        (f32([1, 2]), f32([1, np.inf])),
        (f32([1, 2]), f32([1, -2])),
    ],
    ids=["integers", "nothing", "NaN", "infinity", "another"],
)
def test_errors_that_cannot_be_compared_are_not_one(first: NDArray[Any], second: NDArray[Any]) -> None:
    assert not one_error(first, second)


def test_an_error_is_itself_and_nearly_itself() -> None:
    error = f32([1, -2, 3])
    assert one_error(error, error)
    assert one_error(error, error * f32(1.01))


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (1.0, 6, "1.000000"),
        (1 - 4e-7, 6, "0.999999"),
        (1 - 6e-7, 6, "0.999999"),
        (0.9999984, 6, "0.999998"),
        (-1.0, 6, "-1.000000"),
        (0.99951, 3, "0.999"),
        (math.nan, 6, "nan"),
        (1.25, 2, "1.25"),
    ],
)
def test_only_what_is_1_is_shown_as_1(value: float, digits: int, shown: str) -> None:
    assert best_at_one(value, digits) == shown


def test_a_tensor_has_cosine_1_with_itself() -> None:
    # The square root of a sum of squares, squared, may fall short of that sum by a rounding.
    rng = np.random.default_rng(0)
    for size in range(1, 200):
        values = rng.standard_normal(size).astype(np.float32)
        assert compare(values, values).cosine == 1.0
