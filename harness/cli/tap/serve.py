"""`harness sam2 serve`: parsed and wired. What it runs on is imported when it is asked for."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import screen
from harness.cli.options import JsonOption, OutOption, TimeoutOption
from harness.cli.sam2_options import (
    VARIANT_HELP,
    DecoderWords,
    ModelsOption,
    SeedOption,
    WeightsOption,
    files_folder,
    models_folder,
)
from harness.cli.tap.ops import LocalizerProcess
from harness.core.errors import UsageError, install_extra
from harness.core.markup import escape

if TYPE_CHECKING:
    from harness.core.progress import Progress
    from harness.sam2.image_path.tap_page.choices import DecoderChoice

PACKAGES = ("starlette", "uvicorn")


def serve(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO|FOLDER", help="A picture file, or a folder of them.")],
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device", show_default="host", help="host, web, either @RELEASE, a phone, or planted:NAME; repeatable."
        ),
    ] = None,
    models: ModelsOption = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", metavar="NAME", help=f"{VARIANT_HELP} Repeatable; with --models: v1, v2 or a file."),
    ] = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    encoder: Annotated[
        Literal["cpu", "gpu"], typer.Option("--encoder", help="cpu: the host's; gpu: the first device's.")
    ] = "cpu",
    out: OutOption = Path("results"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 0,
    browser: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Show it in the browser; default where there is a screen."),
    ] = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """A page to tap on a photo: the device's mask beside the CPU's, and what differs. On 127.0.0.1 alone, until it is
    ended."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise UsageError(
            f"The tap page needs {' and '.join(missing)}, which this Python lacks.", f"Run {install_extra('serve')}."
        )
    from harness.devices.registry import check_device
    from harness.sam2.image_path.tap_page.choices import back_ends, first_choice
    from harness.sam2.image_path.tap_page.desk import Desk, Setup
    from harness.sam2.image_path.tap_page.photos import Photos
    from harness.sam2.image_path.tap_page.serving import serve as run

    photos, named = Photos.of(photo), tuple(variant or ())
    if len(photos.names) == 1:
        photos.load(photos.names[0])  # complains of what is no photo
    ends = back_ends(device or ["host"])
    with screen.ProgressBar() as progress:
        for name in dict.fromkeys(end.device for end in ends):
            check_device(name, lambda what: progress.stage(what, 20.0))
        decoders = _decoders(models, named, DecoderWords(weights=weights, seed=seed), progress)
    first = first_choice(decoders, named=bool(named))
    desk = Desk(Setup(photos, decoders, ends, first, encoder, timeout, LocalizerProcess(), out))

    def ready(address: str) -> None:
        if as_json:
            screen.print_json({"schema": 1, "address": address})
            sys.stdout.flush()
        else:
            screen.say(f"{escape(address)}\n[dim]Ctrl-C ends it. Who has this address can tap.[/]")
        if browser or (browser is None and not as_json and _has_screen()):
            webbrowser.open(address)

    def work(stopping: asyncio.Event) -> Any:
        return run(desk, port, ready, stopping)

    screen.until_ended(work)


def join(app: typer.Typer) -> None:
    """Add the command to the workload's."""
    app.command(epilog="Example: harness sam2 serve photo.jpg --device pixel8a")(serve)


def _decoders(
    models: str | None, named: tuple[str, ...], words: DecoderWords, progress: Progress
) -> tuple[DecoderChoice, ...]:
    from harness.sam2.image_path.pipeline import Models
    from harness.sam2.image_path.tap_page.choices import own_decoders, published_decoders

    folder = files_folder(models, words, progress)
    if folder is not None:
        return published_decoders(folder, named)
    return own_decoders(Models.of(models_folder(), words.weights, words.seed), named)


def _has_screen() -> bool:
    """Whether a browser window can be seen by whoever started this."""
    there = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return there and sys.stdout.isatty() and "SSH_CONNECTION" not in os.environ
