"""Find the operation that breaks a model on an on-device GPU.

`harness.load_runs("results")` gives the runs of a results folder as data frames.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.frames import Frames, load_runs

__all__ = ["Frames", "__version__", "load_runs"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # pandas takes half a second: it is imported by those who ask for frames.
    if name in ("Frames", "load_runs"):
        return getattr(import_module("harness.frames"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
