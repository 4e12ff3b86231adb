"""Where marks and labels come to lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from harness.numerics.tolerance import LOCAL_FACTOR
from harness.report.chart import Chart, Kind, draw
from harness.report.tables import OpRow, read_ops

if TYPE_CHECKING:
    from tests.report.conftest import Json, Make, Samples


def rows_of(make: Make, ops: list[Json]) -> tuple[OpRow, ...]:
    return read_ops(make(ops=ops) / "ops.csv").rows


def test_a_larger_ratio_lies_higher_and_a_later_op_further_right(make: Make, samples: Samples) -> None:
    chart = draw(rows_of(make, [samples.op(i, ratio=10.0**i / 1000) for i in range(7)]), "ratio")
    heights = [mark.y for mark in chart.marks]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == 7
    places = [mark.x for mark in chart.marks]
    assert places == sorted(places)
    assert all(0 < x < 100 for x in places)
    assert all(chart.plot_top <= y <= chart.plot_bottom for y in heights)


def test_the_threshold_parts_culprits_from_the_rest(make: Make, samples: Samples) -> None:
    ops = [samples.op(0, ratio=LOCAL_FACTOR * 0.99), samples.op(1, "culprit", ratio=LOCAL_FACTOR * 1.01)]
    chart = draw(rows_of(make, ops), "ratio")
    assert chart.threshold is not None
    assert chart.marks[1].y < chart.threshold < chart.marks[0].y


def test_the_threshold_is_in_the_picture_when_every_ratio_is_tiny(make: Make, samples: Samples) -> None:
    chart = draw(rows_of(make, [samples.op(0, ratio=1e-3)]), "ratio")
    assert chart.threshold is not None and chart.plot_top < chart.threshold < chart.plot_bottom


def test_infinite_ratios_are_pinned_above_the_plot(make: Make, samples: Samples) -> None:
    chart = draw(rows_of(make, [samples.op(0), samples.op(1, "culprit", ratio="inf", nonfinite=8609)]), "ratio")
    assert [mark.pinned for mark in chart.marks] == [False, True]
    assert chart.infinite == chart.marks[1].y < chart.plot_top
    assert "8609 elements NaN or infinite" in chart.marks[1].title


def test_zero_and_unread_ops_lie_below_the_plot(make: Make, samples: Samples) -> None:
    chart = draw(rows_of(make, [samples.op(0, ratio=0), samples.op(1, "unread"), samples.op(2, ratio="nan")]), "ratio")
    assert {mark.y for mark in chart.marks} == {chart.zero}
    assert chart.zero > chart.plot_bottom
    assert chart.marks[1].title == "#1 ADD: not read"


def test_the_chart_of_errors_shows_the_expected_error_of_every_judged_op(make: Make, samples: Samples) -> None:
    ops = [samples.op(0, local_max_abs=1.0, expected_max_abs=0.01), samples.op(1, local_max_abs=0)]
    chart = draw(rows_of(make, ops), "error")
    assert chart.threshold is None
    first, second = chart.marks
    assert first.tick is not None and first.y < first.tick
    assert second.tick is not None and second.y == chart.zero


@pytest.mark.parametrize("kind", ["ratio", "error"])
@pytest.mark.parametrize("ratio", [1e-300, 1e-9, 1.0, 1e9, 1e300])
def test_any_magnitude_stays_in_the_picture(kind: Kind, ratio: float, make: Make, samples: Samples) -> None:
    ops = [samples.op(0, ratio=ratio, local_max_abs=ratio), samples.op(1, ratio=1.0)]
    chart = draw(rows_of(make, ops), kind)
    assert all(chart.plot_top <= mark.y <= chart.plot_bottom for mark in chart.marks)
    assert 2 <= len(chart.values) <= 10


@pytest.mark.parametrize("count", [1, 2, 3, 8, 12, 13, 100, 354, 5000])
def test_the_axis_of_ops_has_a_dozen_round_numbers_at_most(count: int, make: Make, samples: Samples) -> None:
    ticks = draw(rows_of(make, [samples.op(count - 1)]), "ratio").ops
    assert 1 <= len(ticks) <= 12
    assert ticks[0].label == "0"
    assert all(0 < tick.at < 100 for tick in ticks)


def overlapping(chart: Chart) -> list[tuple[str, str]]:
    letter = 100 * 6.7 / 640
    boxes = []
    for label in chart.labels:
        width = letter * len(label.text)
        left = {"start": label.x, "middle": label.x - width / 2, "end": label.x - width}[label.anchor]
        boxes.append((label, left, left + width))
    return [
        (a.text, b.text)
        for i, (a, a0, a1) in enumerate(boxes)
        for b, b0, b1 in boxes[i + 1 :]
        if abs(a.y - b.y) < 12 and a0 < b1 and b0 < a1
    ]


@pytest.mark.parametrize("kind", ["ratio", "error"])
def test_labels_of_crowded_culprits_do_not_overlap(kind: Kind, make: Make, samples: Samples) -> None:
    ops = [samples.op(i, "culprit", op="BATCH_MATMUL", ratio=100 + i) for i in range(300)]
    chart = draw(rows_of(make, ops), kind)
    assert 3 <= len(chart.labels) < 300
    assert overlapping(chart) == []


def test_the_worst_culprit_is_always_labelled_in_full(make: Make, samples: Samples) -> None:
    ops = [samples.op(i, "culprit", op="BATCH_MATMUL", ratio=1000 if i == 39 else 100) for i in range(40)]
    assert "BATCH_MATMUL #39" in [label.text for label in draw(rows_of(make, ops), "ratio").labels]


def test_no_mark_is_not_a_number(make: Make, samples: Samples) -> None:
    ops = [samples.op(0, ratio="nan", local_max_abs="nan", expected_max_abs="inf"), samples.op(1, ratio="inf")]
    for kind in ("ratio", "error"):
        chart = draw(rows_of(make, ops), kind)
        assert all(math.isfinite(mark.x) and math.isfinite(mark.y) for mark in chart.marks)
        assert all(mark.tick is None or math.isfinite(mark.tick) for mark in chart.marks)
