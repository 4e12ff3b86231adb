"""What is known of one op's result: a line of ops.csv, and of quantized.csv with the errors in steps of its grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph.grid import Grid
from harness.numerics.tolerance import Judgement

OpVerdict = Literal["fine", "inherited", "culprit", "unread"]


@dataclass(frozen=True)
class OpRecord:
    """One tensor made by an op, judged. `local` compares the device's value with the op re-run on the device's own
    inputs; `reference_…` with the host's run of the whole model. Figures of a quantized tensor, which is on a `grid`,
    are of the real numbers that its integers stand for."""

    index: OpIndex
    op: str
    first: OpIndex
    output: str
    tensor: TensorIndex
    shape: tuple[int, ...]
    dtype: str
    verdict: OpVerdict
    local: Judgement | None = None
    reference_max_abs: float = 0.0
    reference_cosine: float = 1.0
    reading: Literal["copy", "output", "window"] = "copy"
    grid: Grid | None = None

    HEADER = (
        "index", "first", "op", "output", "shape", "dtype", "verdict", "reading", "local_max_abs", "local_rms",
        "expected_max_abs", "expected_rms", "ratio", "nonfinite", "cosine_vs_reference", "max_abs_vs_reference",
        "device_min", "device_max",
    )  # fmt: skip
    """Columns of ops.csv. Ops `first` to `index` were judged together where they differ. Errors are in tensor units;
    `ratio` is local error over expected error; `nonfinite` counts elements; the two `_vs_reference` columns compare
    with the host's run of the whole model."""

    @property
    def key(self) -> tuple[TensorIndex, bool]:
        """The tensor, and whether a copy of it was read."""
        return self.tensor, self.reading == "copy"

    @property
    def title(self) -> str:
        """The op; of a run of ops how many they are, for which of them is wrong is not known."""
        return self.op if self.first == self.index else f"{self.index - self.first + 1} ops"

    @property
    def number(self) -> str:
        """`#49`, or `#3-5` for a run of ops."""
        return f"#{self.index}" if self.first == self.index else f"#{self.first}-{self.index}"

    def row(self) -> tuple[Any, ...]:
        """The line of ops.csv."""
        head = (
            self.index,
            self.first,
            self.op,
            self.output,
            "x".join(map(str, self.shape)),
            self.dtype,
            self.verdict,
        )
        if self.local is None:
            return (*head, self.reading, *[""] * 6, self.reference_cosine, self.reference_max_abs, "", "")
        actual, expected = self.local.actual, self.local.expected
        figures = (
            actual.max_abs,
            actual.rms,
            expected.max_abs,
            expected.rms,
            self.local.ratio,
            actual.nonfinite,
        )
        return (*head, self.reading, *figures, self.reference_cosine, self.reference_max_abs, *actual.range)


STEPS_HEADER = (
    "index", "first", "output", "dtype", "step", "zero_point", "local_max_steps", "local_rms_steps",
    "expected_max_steps", "expected_rms_steps",
)  # fmt: skip
"""Columns of quantized.csv, which has the quantized tensors of ops.csv. An integer q stands for step·(q - zero_point),
and errors are in steps: those of ops.csv, which are in real units, over the step."""


def steps_row(record: OpRecord) -> tuple[Any, ...] | None:
    """The line of quantized.csv; None for a tensor that is not quantized."""
    grid, local = record.grid, record.local
    if grid is None:
        return None
    errors = (local.actual.max_abs, local.actual.rms, local.expected.max_abs, local.expected.rms) if local else ()
    head = (record.index, record.first, record.output, record.dtype, grid.step, grid.zero)
    return (*head, *(error / grid.step for error in errors), *[""] * (4 - len(errors)))


def in_steps(record: OpRecord) -> dict[str, Any] | None:
    """The grid of a quantized result, and its errors in steps, for a culprit's JSON; None for other tensors."""
    grid, local = record.grid, record.local
    if grid is None:
        return None
    return {
        "dtype": grid.dtype,
        "step": grid.step,
        "zero_point": grid.zero,
        "local_error_steps": local.actual.max_abs / grid.step if local else None,
        "expected_error_steps": local.expected.max_abs / grid.step if local else None,
    }
