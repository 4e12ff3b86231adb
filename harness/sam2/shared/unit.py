"""On which unit of a device a stage runs, and the sentence that goes with random weights."""

from __future__ import annotations

from typing import Literal

from harness.core.errors import UsageError
from harness.core.job import Options

Unit = Literal["cpu", "gpu"]

RANDOM_NOTE = "[yellow]Random weights: the masks mean nothing; how far two runs of them differ does.[/]"


def options(unit: Unit) -> Options:
    """How a job runs on one of the two units."""
    if unit not in ("cpu", "gpu"):
        raise UsageError(f"There is no unit {unit!r}.", "Choose 'cpu' or 'gpu'.")
    return Options(accelerator=unit)
