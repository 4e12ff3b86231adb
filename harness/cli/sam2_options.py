"""The options that the reference workload's commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.core.errors import UsageError
from harness.devices.cache import cache_folder
from harness.sam2.shared.contract import PRESETS, AttentionRank, BatchAxis, LayerNormKind, Reductions, WeightKind

WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="A folder, a Hugging Face name, or `random`; default what can be had."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="For random weights.")]
LayerNormOption = Annotated[
    LayerNormKind | None, typer.Option("--layernorm", help="`plain` is the A/B of the safe one.")
]
AttentionOption = Annotated[
    AttentionRank | None, typer.Option("--attention", help="Heads as batch, or a rank-4 tensor.")
]
ReductionsOption = Annotated[
    Reductions | None,
    typer.Option("--reductions", help="Long sums whole, in pieces, or in pieces added with one rounding."),
]
BatchOption = Annotated[
    BatchAxis | None,
    typer.Option("--batch", help="Whether tokens, pixels and constants keep a leading 1."),
]
VARIANT_HELP = f"How the decoder is written: {', '.join(PRESETS)}, or words as in `plain-rank4-split`."
VariantOption = Annotated[str | None, typer.Option("--variant", metavar="NAME", help=VARIANT_HELP)]
StorageOption = Annotated[WeightKind, typer.Option("--storage", help="How weights are stored.")]


def models_folder() -> Path:
    """Where converted models are kept."""
    return cache_folder() / "sam2"


def numbers(word: str, count: int) -> tuple[float, ...]:
    """The numbers in `X,Y` or `LEFT,TOP,RIGHT,BOTTOM`. Raises `UsageError` for another count."""
    try:
        numbers = tuple(float(part) for part in word.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        form = "X,Y" if count == 2 else "LEFT,TOP,RIGHT,BOTTOM"
        raise UsageError(f"{word!r} is not {form}.", "Write numbers in the photo's pixels.")
    return numbers
