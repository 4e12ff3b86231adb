"""Remedies that leave the model as it is and change how it is run: what `Options` has for it.

To add one: a member here. It is tried on the whole model like a rewrite, judged, timed and ranked with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.core.job import Options


@dataclass(frozen=True)
class OtherOptions:
    """A remedy by options. `worth_trying` takes how the model is run, and whether float32 sums mended a culprit in an
    experiment; `how` gives the options that are tried; `note` tells the user how to have them."""

    name: str
    how: Callable[[Options], Options]
    worth_trying: Callable[[Options, bool], bool]
    note: str


FLOAT32 = OtherOptions(
    "float32 throughout",
    lambda options: replace(options, precision="fp32"),
    lambda options, long_sums: options.half,
    "The same model, with --precision fp32.",
)
LONG_SUMS = OtherOptions(
    "float16 with float32 sums",
    lambda options: replace(options, precision="fp16-fp32acc"),
    lambda options, long_sums: long_sums,
    "The same model, with --precision fp16-fp32acc.",
)
OTHER_OPTIONS = (FLOAT32, LONG_SUMS)
