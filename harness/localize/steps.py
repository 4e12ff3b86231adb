"""Errors of quantized tensors in steps of their grid, beside those in real units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.localize.result import OpRecord

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
