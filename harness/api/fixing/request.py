"""What is asked of `lint --fix`, and where the rewritten model goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.core.arrays import Array
from harness.core.choices import Precision
from harness.core.errors import UsageError
from harness.lint.knowledge.target import Target


@dataclass(frozen=True)
class FixRequest:
    """A model, what it is for, and on what it is checked. `to` is where the rewritten model is written, None for
    nowhere. `inputs` and `given` are the user's own, tried beside random ones of `seed` and those after it; `precision`
    is how a device computes, and run folders go under `runs`."""

    model: Path
    target: Target
    to: Path | None = None
    inputs: Path | None = None
    given: dict[str, Array] | None = None
    seed: int = 0
    precision: Precision = "default"
    runs: Path = Path("results")
    timeout: float = 600.0


def check_place(model: Path, to: Path) -> None:
    """Raises UsageError where a rewritten model would take the place of a file, or can have no such name."""
    try:
        there, inside = to.exists() or to.is_symlink(), to.parent.is_dir()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"{to} can be no file ({why}).", "Give another place with --out.") from None
    if there:
        what = "the model itself" if to.exists() and to.samefile(model) else "there already"
        raise UsageError(f"{to} is {what}.", "Move it away, or give another place with --out.")
    if not inside:
        raise UsageError(f"{to.parent}, where {to.name} would be written, is no folder.", "Make it, or give another.")


def fixed_name(model: Path) -> str:
    """`model.fixed.tflite` for `model.tflite`."""
    return f"{model.name.removesuffix('.tflite')}.fixed.tflite"
