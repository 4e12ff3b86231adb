"""How errors are spread: exact figures on tensors whose errors are known, NaN and infinities told and in no bar."""

from __future__ import annotations

import io
import tracemalloc
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.report.drawn.errors import MOST_BARS, MOST_COLUMNS, MOST_ROWS, Errors, errors_of, scale

NAN, INF = np.nan, np.inf


def of(device: Any, reference: Any, expected: float | None = None) -> Errors:
    found = errors_of(np.asarray(device, np.float32), np.asarray(reference, np.float32), expected)
    assert found is not None
    return found


def pixels(found: Errors) -> Any:
    assert found.heat is not None
    return np.asarray(Image.open(io.BytesIO(b64decode(found.heat.picture.partition(",")[2]))))


def test_the_figures_are_those_of_the_differences() -> None:
    found = of([[1, 2, 3], [4, 5, 6]], [[1, 2, 3.5], [4, 3, 6]])
    assert (found.shape, found.count, found.equal, found.lost, found.both) == ((2, 3), 6, 4, 0, 0)
    assert found.largest == 2 and found.rms == pytest.approx(((0.25 + 4) / 6) ** 0.5)
    assert (found.worst_at, found.device_there, found.reference_there) == ((1, 1), 5, 3)


def test_what_is_nan_or_infinite_on_one_side_is_lost_and_in_no_figure() -> None:
    found = of([NAN, INF, 1.0, NAN, INF, -INF, 2.0], [1.0, 2.0, NAN, NAN, INF, INF, 2.5])
    assert (found.lost, found.both, found.equal) == (4, 2, 0)
    assert found.largest == 0.5 and found.rms == 0.5
    assert found.worst_at == (0,) and np.isnan(found.device_there)
    assert found.spread is not None and sum(found.spread.bars) == pytest.approx(1)
    assert found.channels is not None
    assert [channel.number for channel in found.channels.worst] == [0, 1, 2, 5, 6]
    assert [lost for _, lost in found.channels.bars] == [True, True, True, False, False, True, False]


def test_a_tensor_that_is_lost_whole_has_no_bars_but_says_so() -> None:
    found = of(np.full((4, 4), NAN), np.ones((4, 4)))
    assert found.lost == 16 and found.largest == found.rms == 0 and found.spread is None
    assert set(pixels(found).ravel()) == {255}


def test_a_tensor_without_errors_and_one_without_elements() -> None:
    found = of([1.0, 2.0], [1.0, 2.0])
    assert (found.equal, found.largest, found.spread) == (2, 0, None)
    assert errors_of(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)) is None
    scalar = of(1.0, 3.0)
    assert scalar.worst_at == () and scalar.heat is None and scalar.channels is None and scalar.largest == 2


def test_a_difference_beyond_float32_is_lost_and_no_warning() -> None:
    found = of([3e38], [-3e38])
    assert found.lost == 1 and found.largest == 0


def test_errors_whose_squares_are_beyond_float64_give_no_warning() -> None:
    found = errors_of(np.full((2, 2), 1e300), np.zeros((2, 2)))
    assert found is not None and found.largest == 1e300 and found.rms == INF


@pytest.mark.parametrize("expected", [-1.0, 0.0, NAN, INF])
def test_an_expected_error_that_is_none_is_not_drawn(expected: float) -> None:
    spread = of([1.0, 2.0], [1.5, 2.0], expected).spread
    assert spread is not None and spread.expected is None


def test_bars_lie_between_powers_of_ten() -> None:
    errors = np.asarray([0.02, 0.2, 0.2, 0.9, 0.0], np.float32)
    found = errors_of(errors, np.zeros(5, np.float32), expected=0.1)
    assert found is not None and found.spread is not None
    assert [power for _, power in found.spread.decades] == [-2, -1, 0]
    assert found.spread.bars == (0.2, 0, 0, 0.4, 0, 0.2)  # of all elements: a fifth is equal and in no bar
    assert found.spread.expected == pytest.approx(0.5) and found.spread.smaller == 0


def test_only_eight_decades_are_drawn_and_what_is_smaller_is_counted() -> None:
    found = of([1.0, 1e-12, 1e-20, 0], [0, 0, 0, 0], expected=1e-15)
    assert found.spread is not None
    assert len(found.spread.decades) == 9 and found.spread.smaller == 2 and found.spread.expected is None


def test_a_map_has_the_two_axes_before_the_channels() -> None:
    error = np.zeros((1, 4, 6, 3), np.float32)
    error[0, 2, 5, 1] = 1.0
    error[0, 1, 0, 2] = 0.001
    found = of(error, np.zeros_like(error))
    heat = found.heat
    assert heat is not None
    assert (heat.rows, heat.columns, heat.over) == ("axis 1, 4", "axis 2, 6", "axis 3")
    assert (round(heat.least, 6), heat.most) == (0.001, 1.0)
    np.testing.assert_allclose(heat.worst, (5.5 / 6, 2.5 / 4))
    seen = pixels(found)
    assert seen.shape == (4, 6) and seen[2, 5] == 254 and seen[1, 0] == 1 and np.count_nonzero(seen) == 2


def test_two_long_axes_are_the_map_and_one_is_none() -> None:
    heat = of(np.eye(3)[None, :, None, :], np.zeros((1, 3, 1, 3))).heat
    assert heat is not None and (heat.rows, heat.columns, heat.over) == ("axis 1, 3", "axis 3, 3", "")
    assert of(np.ones((1, 1, 7)), np.zeros((1, 1, 7))).heat is None


def test_a_large_map_is_pooled_and_keeps_its_worst_and_its_lost_places() -> None:
    error = np.full((1000, 2000), 1e-3, np.float32)
    error[999, 1999] = 5.0
    error[3, 4] = NAN
    found = of(error, np.zeros_like(error))
    seen = pixels(found)
    assert seen.shape == (MOST_ROWS, MOST_COLUMNS)
    assert seen[-1, -1] == 254 and seen[0, 0] == 255 and np.count_nonzero(seen == 255) == 1
    assert found.heat is not None and len(found.heat.picture) < 20_000


def test_channels_are_those_of_the_last_axis_that_has_several() -> None:
    error = np.zeros((1, 2, 4, 1), np.float32)
    error[0, :, 2, 0] = (3.0, 4.0)
    error[0, 1, 0, 0] = 1.0
    found = of(error, np.zeros_like(error)).channels
    assert found is not None and (found.axis, found.count, found.together, found.alone) == (2, 4, 1, False)
    assert found.bars == ((0.25, False), (0.0, False), (1.0, False), (0.0, False))
    assert [(c.number, c.largest) for c in found.worst] == [(2, 4.0), (0, 1.0)]
    np.testing.assert_allclose([c.rms for c in found.worst], [12.5**0.5, 0.5**0.5])


def test_many_channels_are_drawn_together_and_the_worst_is_named() -> None:
    error = np.zeros((5, 1000), np.float32)
    error[2, 777] = 2.0
    found = of(error, np.zeros_like(error)).channels
    assert found is not None and found.together == 11 and len(found.bars) <= MOST_BARS
    assert [channel.number for channel in found.worst] == [777]


def test_the_worst_of_many_channels_are_found_without_a_list_of_all() -> None:
    error = np.zeros(1_000_000, np.float32)
    error[[5, 70, 900_000]] = 1.0, 3.0, 3.0
    error[[8, 9]] = NAN
    tracemalloc.start()
    found = of(error, np.zeros_like(error)).channels
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None and [channel.number for channel in found.worst] == [8, 9, 70, 900_000, 5]
    assert peak < 100 * error.size


def test_the_colours_grow_lighter_so_that_they_are_told_without_colour() -> None:
    def light(colour: str) -> float:
        r, g, b = (int(part) for part in colour[4:-1].split())
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    lights = [light(colour) for colour in scale(24)]
    assert lights == sorted(lights) and lights[-1] - lights[0] > 120
