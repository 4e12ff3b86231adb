"""The options that the reference workload's commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import with_options
from harness.core.errors import UsageError
from harness.devices.cache import cache_folder
from harness.sam2.shared.contract import (
    PRESETS,
    AttentionRank,
    BatchAxis,
    DecoderVariant,
    LayerNormKind,
    Reductions,
    WeightKind,
)

WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="A folder, Meta's .pt, a Hugging Face name, or `random`; default what can be had."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="For random weights.")]
LayerNormOption = Annotated[
    LayerNormKind | None, typer.Option("--layernorm", help="`plain` is the A/B of the safe one.")
]
VARIANT_HELP = f"How the decoder is written: {', '.join(PRESETS)}, or words as in `plain-rank4-split`."
VariantOption = Annotated[str | None, typer.Option("--variant", metavar="NAME", help=VARIANT_HELP)]
StorageOption = Annotated[WeightKind, typer.Option("--storage", help="How weights are stored.")]


@dataclass(frozen=True)
class DecoderWords:
    """Which decoder with which weights, as the options said it."""

    variant: VariantOption = None
    reductions: Annotated[
        Reductions | None,
        typer.Option("--reductions", help="Long sums whole, in pieces, or in pieces added with one rounding."),
    ] = None
    layernorm: LayerNormOption = None
    attention: Annotated[
        AttentionRank | None, typer.Option("--attention", help="Heads as batch, or a rank-4 tensor.")
    ] = None
    batch: Annotated[
        BatchAxis | None, typer.Option("--batch", help="Whether tokens, pixels and constants keep a leading 1.")
    ] = None
    weights: WeightsOption = None
    seed: SeedOption = 0

    def over(self, default: DecoderVariant) -> DecoderVariant:
        """The decoder that is named, else the command's default, with those words in place that are given."""
        chosen = default if self.variant is None else DecoderVariant.named(self.variant)
        return replace(
            chosen,
            layernorm=self.layernorm or chosen.layernorm,
            attention=self.attention or chosen.attention,
            reductions=self.reductions or chosen.reductions,
            batch=self.batch or chosen.batch,
        )


def with_decoder(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes `DecoderWords` first, as one whose parameters are their options and the rest."""
    return with_options(command, (DecoderWords,), lambda given: DecoderWords(**given))


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
