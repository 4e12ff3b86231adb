"""`harness sam2 …`: the reference workload's own commands, parsed and wired."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer

from harness.cli import demo, sam2_video, screen
from harness.cli.options import DeviceOption, JsonOption, OutOption, TimeoutOption
from harness.cli.sam2_options import (
    OWN,
    VARIANT_HELP,
    DecoderWords,
    ModelsOption,
    SeedOption,
    StorageOption,
    WeightsOption,
    models_folder,
    numbers,
    published_models,
    with_decoder,
)
from harness.cli.screen import answer
from harness.cli.tap import serve
from harness.core.errors import EXIT_OK, EXIT_WRONG, UsageError
from harness.core.markup import escape
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import CARD, RECOMMENDED, VARIANTS, DecoderVariant

if TYPE_CHECKING:
    from harness.core.progress import Progress
    from harness.sam2.image_path.pipeline import ImageModels

app = typer.Typer(help="The reference workload: SAM 2.1 Hiera-Tiny.", no_args_is_help=True)


@app.command()
@with_decoder
def convert(
    words: DecoderWords,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the decoder and its inputs go.")],
    storage: StorageOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Convert the mask decoder, the model card's unless told otherwise, and encode the sample portrait with a tap on
    the face as its inputs."""
    chosen = words.over(CARD)

    def show(made: demo.Made) -> None:
        screen.out.print(f"{escape(str(made.model))}\n{escape(str(made.inputs))}\n[dim]{escape(made.provenance)}[/]")

    answer(
        lambda progress: demo.convert(folder, words.weights, chosen, storage, words.seed, progress),
        as_json=as_json,
        document=lambda made: {"schema": 1} | asdict(made),
        show=show,
    )


@app.command()
@with_decoder
def click(
    words: DecoderWords,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture file.")],
    at: Annotated[list[str] | None, typer.Option("--at", metavar="X,Y", help="A point on the object.")] = None,
    away: Annotated[list[str] | None, typer.Option("--away", metavar="X,Y", help="A point beside it.")] = None,
    box: Annotated[str | None, typer.Option("--box", metavar="L,T,R,B", help="A box around it.")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="All points mean one object; default with --away or --box.")
    ] = False,
    single: Annotated[
        bool, typer.Option("--single-mask", help="The model's single mask, not the best of its three candidates.")
    ] = False,
    encoder: Annotated[Literal["gpu", "cpu"], typer.Option("--encoder", help="What runs the encoder.")] = "gpu",
    decoder: Annotated[Literal["gpu", "cpu"], typer.Option("--decoder", help="What runs the decoder.")] = "gpu",
    device: DeviceOption = "host",
    models: ModelsOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where masks and click.json go.")] = Path("clicked"),
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """Tap to segment: mask and overlay PNGs and click.json; the photo is encoded once for all taps. Exit 1 when a mask
    holds NaN or infinity."""
    from harness.sam2.image_path.click import click as run
    from harness.sam2.image_path.show import show_click

    points = [numbers(word, 2) for word in at or ()]
    if together or away or box:
        edges = None if box is None else numbers(box, 4)
        negative = tuple((x, y) for x, y in (numbers(word, 2) for word in away or ()))
        taps = [Tap(tuple((x, y) for x, y in points), negative, None if edges is None else _box(edges))]
    else:
        taps = [Tap.at(x, y) for x, y in points]
    chosen = _variant(words, models, RECOMMENDED)
    answer(
        lambda progress: run(
            photo,
            taps,
            out=out,
            cache_dir=models_folder(),
            encoder=encoder,
            decoder=decoder,
            device=device,
            source=words.weights,
            seed=words.seed,
            variant=chosen,
            models=published_models(models, words, progress),
            single=single,
            timeout=timeout,
            progress=lambda what: progress.stage(what, demo.PREPARE_SECONDS),
        ),
        as_json=as_json,
        show=lambda found: show_click(found, screen.out),
        code=lambda found: EXIT_WRONG if found.nonfinite else EXIT_OK,
    )


@app.command()
def ablate(
    device: DeviceOption = "host",
    variant: Annotated[
        list[str] | None, typer.Option("--variant", metavar="NAME", help=f"{VARIANT_HELP} May be repeated.")
    ] = None,
    models: ModelsOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    out: OutOption = Path("results"),
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """Ways of writing the decoder on a GPU: residency, accuracy, worst op, culprits, latency.

    All twenty-four unless named; a software GPU takes one to two minutes for each, so most of an hour for all.
    """
    from harness.sam2.image_path.ablate import ablate as run
    from harness.sam2.image_path.show import show_ablation

    if models not in (None, OWN):
        raise UsageError(
            f"`ablate` writes the decoder anew in each way, so --models {models} has nothing to give it.",
            "Leave --models out, or ask `accuracy` or `fidelity`.",
        )
    chosen = [DecoderVariant.named(name) for name in variant] if variant else VARIANTS
    answer(
        lambda progress: run(
            device,
            cache_dir=models_folder(),
            out=out,
            source=weights,
            seed=seed,
            variants=chosen,
            timeout=timeout,
            progress=progress,
        ),
        as_json=as_json,
        show=lambda found: show_ablation(found, screen.out),
    )


@app.command()
@with_decoder
def accuracy(
    words: DecoderWords,
    device: DeviceOption = "host",
    models: ModelsOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """One decoder on the portrait and five drawn scenes, GPU against CPU; exit 1 when one is wrong."""
    from harness.sam2.image_path.accuracy import decoder_accuracy
    from harness.sam2.image_path.show import show_accuracy

    answer(
        lambda progress: decoder_accuracy(device, **_asked(words, models, RECOMMENDED, timeout, progress)),
        as_json=as_json,
        show=lambda found: show_accuracy(found, screen.out),
        code=lambda found: EXIT_OK if found.ok else EXIT_WRONG,
    )


@app.command()
@with_decoder
def fidelity(
    words: DecoderWords,
    models: ModelsOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """The model card's fidelity table for any weights, on the host's CPU against `transformers`; exit 1 when a goal is
    missed. Files of --models are held to themselves, run by plain kernels: only torch has the network besides."""
    from harness.sam2.image_path.fidelity import fidelity as run
    from harness.sam2.image_path.show import show_fidelity

    answer(
        lambda progress: run(**_asked(words, models, CARD, timeout, progress)),
        as_json=as_json,
        show=lambda found: show_fidelity(found, screen.out),
        code=lambda found: EXIT_OK if found.ok else EXIT_WRONG,
    )


class _Asked(TypedDict):
    """Which decoder is measured, and how."""

    cache_dir: Path
    source: str | None
    seed: int
    variant: DecoderVariant
    models: ImageModels | None
    timeout: float
    progress: Progress


def _asked(
    words: DecoderWords, models: str | None, default: DecoderVariant, timeout: float, progress: Progress
) -> _Asked:
    return _Asked(
        cache_dir=models_folder(),
        source=words.weights,
        seed=words.seed,
        variant=_three(_variant(words, models, default)),
        models=published_models(models, words, progress),
        timeout=timeout,
        progress=progress,
    )


def _variant(words: DecoderWords, models: str | None, default: DecoderVariant) -> DecoderVariant:
    """How the decoder is to be written; with files, `--variant` names one of them instead."""
    return words.over(default) if models in (None, OWN) else default


def _three(variant: DecoderVariant) -> DecoderVariant:
    """`variant`, if its masks are those that the command compares. Raises `UsageError` for a decoder of four."""
    if variant.candidates != "three":
        raise UsageError(
            "This command compares the three candidates, and a decoder of variant 'four' gives the single mask too.",
            "Leave 'four' out of --variant; `harness sam2 click --single-mask` uses it.",
        )
    return variant


def _box(edges: tuple[float, ...]) -> tuple[float, float, float, float]:
    left, top, right, bottom = edges
    return left, top, right, bottom


sam2_video.join(app)
serve.join(app)
