"""The options that the reference workload's commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from harness.core.progress import Progress
    from harness.sam2.image_path.published import PublishedModels

OWN, PUBLISHED = "own", "published"

ModelsOption = Annotated[
    str | None,
    typer.Option(
        "--models",
        metavar="SOURCE",
        help="`published` (fetched once), a folder with such files, or `own`, converted here with torch.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="A folder, Meta's .pt, a Hugging Face name, or `random`; default what can be had."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="For random weights.")]
LayerNormOption = Annotated[
    LayerNormKind | None, typer.Option("--layernorm", help="`plain` is the A/B of the safe one.")
]
VARIANT_HELP = f"How the decoder is written: {', '.join(PRESETS)}, or words as in `plain-rank4-split`."
VariantOption = Annotated[
    str | None,
    typer.Option("--variant", metavar="NAME", help=f"{VARIANT_HELP} With --models: v1, v2 or a file's name."),
]
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


def published_models(source: str | None, words: DecoderWords, progress: Progress) -> PublishedModels | None:
    """The files that `--models` names; None where models are converted here. Of the words only `variant` says which
    decoder, as a version or a file's name. Raises `UsageError` for other words, and for files that cannot be had or do
    not fit."""
    folder = files_folder(source, words, progress)
    if folder is None:
        return None
    from harness.sam2.image_path.published import PublishedModels

    found = PublishedModels.of(folder, words.variant)
    if found.files.chosen:
        progress.note(found.files.chosen)
    return found


def files_folder(source: str | None, words: DecoderWords, progress: Progress) -> Path | None:
    """The folder of the files that `--models` names, which are fetched if need be; None where models are converted
    here. Raises `UsageError` for words that do not go with files, and for files that cannot be had."""
    if source is None or source == OWN:
        return None
    given = [name for name, value in vars(words).items() if value and name != "variant"]
    if given:
        raise UsageError(
            f"--{given[0]} does not go with --models {source}: those models are as their files have them.",
            f"Leave --{given[0]} out, or give --models own.",
        )
    from harness.sam2.shared.published_files import fetch_published

    return fetch_published(published_folder(), progress) if source == PUBLISHED else Path(source).expanduser()


def published_folder() -> Path:
    """Where the published files are kept."""
    return models_folder() / "published"


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
