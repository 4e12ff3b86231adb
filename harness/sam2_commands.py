"""`harness sam2 …`: the reference workload's own commands, parsed and wired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness import demo, terminal
from harness.devices.cache import cache_folder
from harness.errors import EXIT_OK, EXIT_WRONG, UsageError
from harness.markup import escape
from harness.request_options import DeviceOption, JsonOption, OutOption, TimeoutOption
from harness.sam2.contract import (
    CARD,
    PRESETS,
    RECOMMENDED,
    VARIANTS,
    AttentionRank,
    BatchAxis,
    DecoderVariant,
    LayerNormKind,
    Reductions,
    WeightKind,
)
from harness.sam2.taps import Tap

app = typer.Typer(help="The reference workload: SAM 2.1 Hiera-Tiny.", no_args_is_help=True)

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


def _variant(
    default: DecoderVariant,
    name: str | None,
    layernorm: LayerNormKind | None,
    attention: AttentionRank | None,
    reductions: Reductions | None,
    batch: BatchAxis | None,
) -> DecoderVariant:
    """The decoder that is named, else the command's default, with those words in place that are given."""
    chosen = default if name is None else DecoderVariant.named(name)
    return replace(
        chosen,
        layernorm=layernorm or chosen.layernorm,
        attention=attention or chosen.attention,
        reductions=reductions or chosen.reductions,
        batch=batch or chosen.batch,
    )


def _models() -> Path:
    return cache_folder() / "sam2"


@app.command()
def convert(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the decoder and its inputs go.")],
    weights: WeightsOption = None,
    variant: VariantOption = None,
    reductions: ReductionsOption = None,
    layernorm: LayerNormOption = None,
    attention: AttentionOption = None,
    batch: BatchOption = None,
    storage: StorageOption = "float32",
    seed: SeedOption = 0,
) -> None:
    """Convert the mask decoder, the model card's unless told otherwise, and encode the sample portrait with a tap on
    the face as its inputs."""
    chosen = _variant(CARD, variant, layernorm, attention, reductions, batch)
    with terminal.Stages() as progress:
        made = demo.convert(folder, weights, chosen, storage, seed, progress)
    terminal.out.print(f"{escape(str(made.model))}\n{escape(str(made.inputs))}\n[dim]{escape(made.provenance)}[/]")


@app.command()
def click(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture file.")],
    at: Annotated[list[str] | None, typer.Option("--at", metavar="X,Y", help="A point on the object.")] = None,
    away: Annotated[list[str] | None, typer.Option("--away", metavar="X,Y", help="A point beside it.")] = None,
    box: Annotated[str | None, typer.Option("--box", metavar="L,T,R,B", help="A box around it.")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="All points mean one object; default with --away or --box.")
    ] = False,
    encoder: Annotated[Literal["gpu", "cpu"], typer.Option("--encoder", help="What runs the encoder.")] = "gpu",
    decoder: Annotated[Literal["gpu", "cpu"], typer.Option("--decoder", help="What runs the decoder.")] = "gpu",
    device: DeviceOption = "host",
    variant: VariantOption = None,
    reductions: ReductionsOption = None,
    layernorm: LayerNormOption = None,
    attention: AttentionOption = None,
    batch: BatchOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where masks and click.json go.")] = Path("clicked"),
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """Tap to segment: mask and overlay PNGs and click.json; the photo is encoded once for all taps. Exit 1 when a mask
    holds NaN or infinity."""
    from harness.sam2.click import click as run
    from harness.sam2.show import show_click

    points = [numbers(word, 2) for word in at or ()]
    if together or away or box:
        edges = None if box is None else numbers(box, 4)
        negative = tuple((x, y) for x, y in (numbers(word, 2) for word in away or ()))
        taps = [Tap(tuple((x, y) for x, y in points), negative, None if edges is None else _box(edges))]
    else:
        taps = [Tap.at(x, y) for x, y in points]
    chosen = _variant(RECOMMENDED, variant, layernorm, attention, reductions, batch)
    with terminal.Stages() as progress:
        found = run(
            photo,
            taps,
            out=out,
            cache_dir=_models(),
            encoder=encoder,
            decoder=decoder,
            device=device,
            source=weights,
            seed=seed,
            variant=chosen,
            timeout=timeout,
            progress=lambda what: progress.stage(what, demo.PREPARE_SECONDS),
        )
    if as_json:
        terminal.print_json(found.to_json())
    else:
        show_click(found, terminal.out)
    raise typer.Exit(EXIT_WRONG if found.nonfinite else EXIT_OK)


@app.command()
def ablate(
    device: DeviceOption = "host",
    variant: Annotated[
        list[str] | None, typer.Option("--variant", metavar="NAME", help=f"{VARIANT_HELP} May be repeated.")
    ] = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    out: OutOption = Path("results"),
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """Ways of writing the decoder on a GPU: residency, accuracy, worst op, culprits, latency.

    All twenty-four unless named; a software GPU takes one to two minutes for each, so most of an hour for all.
    """
    from harness.sam2.ablate import ablate as run
    from harness.sam2.show import show_ablation

    chosen = [DecoderVariant.named(name) for name in variant] if variant else VARIANTS
    with terminal.Stages() as progress:
        found = run(
            device,
            cache_dir=_models(),
            out=out,
            source=weights,
            seed=seed,
            variants=chosen,
            timeout=timeout,
            progress=progress,
        )
    if as_json:
        terminal.print_json(found.to_json())
    else:
        show_ablation(found, terminal.out)


@app.command()
def accuracy(
    device: DeviceOption = "host",
    variant: VariantOption = None,
    reductions: ReductionsOption = None,
    layernorm: LayerNormOption = None,
    attention: AttentionOption = None,
    batch: BatchOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """One decoder on the portrait and five drawn scenes, GPU against CPU; exit 1 when one is wrong."""
    from harness.sam2.accuracy import decoder_accuracy
    from harness.sam2.show import show_accuracy

    chosen = _variant(RECOMMENDED, variant, layernorm, attention, reductions, batch)
    with terminal.Stages() as progress:
        found = decoder_accuracy(
            device,
            cache_dir=_models(),
            source=weights,
            seed=seed,
            variant=chosen,
            timeout=timeout,
            progress=progress,
        )
    if as_json:
        terminal.print_json(found.to_json())
    else:
        show_accuracy(found, terminal.out)
    raise typer.Exit(EXIT_OK if found.ok else EXIT_WRONG)


@app.command()
def fidelity(
    variant: VariantOption = None,
    reductions: ReductionsOption = None,
    layernorm: LayerNormOption = None,
    attention: AttentionOption = None,
    batch: BatchOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """The model card's fidelity table for any weights, on the host's CPU against `transformers`; exit 1 when a goal is
    missed."""
    from harness.sam2.fidelity import fidelity as run
    from harness.sam2.show import show_fidelity

    chosen = _variant(CARD, variant, layernorm, attention, reductions, batch)
    with terminal.Stages() as progress:
        found = run(cache_dir=_models(), source=weights, seed=seed, variant=chosen, timeout=timeout, progress=progress)
    if as_json:
        terminal.print_json(found.to_json())
    else:
        show_fidelity(found, terminal.out)
    raise typer.Exit(EXIT_OK if found.ok else EXIT_WRONG)


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


def _box(edges: tuple[float, ...]) -> tuple[float, float, float, float]:
    left, top, right, bottom = edges
    return left, top, right, bottom
