"""Tables in a narrow terminal lose columns, and never cut a figure."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.cli.render import outputs_table
from harness.localize.base.result import OutputVerdict
from harness.numerics.metrics import compare
from harness.numerics.tolerance import judge
from tests.arrays import f32


def shown(width: int) -> str:
    exact = f32([-1234.5, 0.001, 7.0])
    verdict = OutputVerdict(
        "StatefulPartitionedCall:0_pred_masks",
        judge(compare(exact * 1.25, exact), compare(exact, exact), roundoff=2.0**-11),
        0.4321,
    )
    stream = io.StringIO()
    Console(file=stream, width=width).print(outputs_table([verdict], width))
    return stream.getvalue()


@pytest.mark.parametrize("width", [120, 80, 60, 48, 36])
def test_what_is_shown_is_shown_whole(width: int) -> None:
    text = shown(width)
    assert "…" not in text.replace("-1.23e+03…7", "")
    assert "fail" in text and all(len(line) <= width for line in text.splitlines())
    name = "".join(line.split()[0] for line in text.splitlines()[1:] if line.strip())
    assert name.startswith("Stateful") and "pred_masks" in name


def test_the_widest_has_all_columns_and_the_narrowest_the_ones_that_decide() -> None:
    assert all(title in shown(140) for title in ("cosine", "max error", "range", "explained", "ratio", "mask IoU"))
    narrow = shown(36)
    assert "cosine" in narrow and "ratio" in narrow and "range" not in narrow
