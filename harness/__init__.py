"""Find the operation that breaks a model on an on-device GPU.

import harness

harness.compare("model.tflite")                  # right on this machine's GPU?
harness.localize("model.tflite", explain=True)   # which op breaks it, why, and what helps
harness.audit("model.tflite", device="host")     # what the delegate refuses
harness.bench("model.tflite", device="pixel8a")  # how long it takes
harness.fix("model.tflite", target="mali")       # without what a GPU misreads, the same values
harness.load_runs("results")                     # all runs as data frames
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.frames import Frames, load_runs
    from harness.api.functions import audit, bench, compare, fix, localize

__all__ = ["Frames", "__version__", "audit", "bench", "compare", "fix", "load_runs", "localize"]
__version__ = "0.1.0"

DISTRIBUTION = "litert-device-harness"
"""What tells this package from others of its name."""

# pandas and the runtime take their time: what needs them is imported by those who ask for it.
_HANDED_OUT = dict.fromkeys(("audit", "bench", "compare", "fix", "localize"), "harness.api.functions") | dict.fromkeys(
    ("Frames", "load_runs"), "harness.api.frames"
)


def __getattr__(name: str) -> Any:
    if name in _HANDED_OUT:
        return getattr(import_module(_HANDED_OUT[name]), name)
    if name == "localize":
        return import_module("harness.localize")
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


class FunctionAndPackage(ModuleType):
    """A package that can be called: whoever imports a module of `harness.localize` puts the package where
    `harness.localize(model)` is looked for."""

    def __call__(self, *words: Any, **choices: Any) -> Any:
        """As `harness.api.functions.localize`."""
        return import_module("harness.api.functions").localize(*words, **choices)
