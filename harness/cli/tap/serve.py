"""`harness sam2 serve`: parsed and wired. What it runs on is imported when it is asked for."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
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
from harness.cli.sam2_video import SideOption, graphs_folder
from harness.cli.tap.ops import LocalizerProcess
from harness.core.errors import UsageError, install_extra
from harness.core.markup import escape

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from harness.core.progress import Progress
    from harness.sam2.image_path.tap_page.choices import DecoderChoice
    from harness.sam2.shared.unit import Unit
    from harness.sam2.video.stages import Stages

PACKAGES = ("starlette", "uvicorn")


@dataclass(frozen=True)
class _Page:
    """What is served, what ends it, and whether the weights behind it are random."""

    app: ASGIApp
    close: Callable[[], None]
    is_random: bool


def serve(
    photo: Annotated[
        Path, typer.Argument(metavar="PHOTO|FOLDER|VIDEO", help="A picture file, a folder of them, or a video.")
    ],
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
    clip: Annotated[bool, typer.Option("--clip", help="The folder's pictures are the frames of a clip.")] = False,
    side: SideOption = None,
    out: OutOption = Path("results"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 0,
    browser: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Show it in the browser; default where there is a screen."),
    ] = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
) -> None:
    """A page to tap on a photo: the device's mask beside the CPU's, and what differs. For a video: objects followed by
    the tracker, on ONNX Runtime. On 127.0.0.1 alone, until it is ended."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise UsageError(
            f"The tap page needs {' and '.join(missing)}, which this Python lacks.", f"Run {install_extra('serve')}."
        )
    from harness.sam2.image_path.tap_page.photos import SUFFIXES
    from harness.sam2.image_path.tap_page.serving import serve as run
    from harness.sam2.shared.unit import RANDOM_NOTE

    is_clip = clip or (photo.is_file() and photo.suffix.lower() not in SUFFIXES)
    if is_clip:
        told = {"--device": device, "--variant": variant, "--encoder": encoder == "gpu"}
        what = "a clip" if clip else f"taken for a video, as it is no photo ({', '.join(sorted(SUFFIXES))})"
        if given := [name for name, value in told.items() if value]:
            raise UsageError(
                f"{photo} is {what}, and {given[0]} does not go with one: its tracker runs on ONNX Runtime.",
                f"Leave {given[0]} out; `harness sam2 track` runs its graphs on a device.",
            )
        page = _clip_page(photo, models, weights, seed, side)
    else:
        if side is not None:
            raise UsageError("--side goes with a video.", "Leave it out.")
        words = DecoderWords(weights=weights, seed=seed)
        page = _photo_page(photo, device or ["host"], models, tuple(variant or ()), words, encoder, out, timeout)

    def ready(address: str) -> None:
        if as_json:
            screen.print_json({"schema": 1, "address": address, "random_weights": page.is_random})
            sys.stdout.flush()
        else:
            screen.say(f"{escape(address)}\n[dim]Ctrl-C ends it. Who has this address can tap.[/]")
            if page.is_random:
                screen.say(RANDOM_NOTE)
        if browser or (browser is None and not as_json and _has_screen()):
            webbrowser.open(address)

    def work(stopping: asyncio.Event) -> Any:
        return run(page.app, page.close, port, ready, stopping)

    screen.until_ended(work)


def join(app: typer.Typer) -> None:
    """Add the command to the workload's."""
    app.command(epilog="Example: harness sam2 serve photo.jpg --device pixel8a")(serve)


def _photo_page(
    photo: Path,
    devices: list[str],
    models: str | None,
    named: tuple[str, ...],
    words: DecoderWords,
    encoder: Unit,
    out: Path,
    timeout: float,
) -> _Page:
    from harness.devices.registry import check_device
    from harness.sam2.image_path.tap_page.app import make_app
    from harness.sam2.image_path.tap_page.choices import back_ends, first_choice
    from harness.sam2.image_path.tap_page.desk import Desk, Setup
    from harness.sam2.image_path.tap_page.photos import Photos

    photos = Photos.of(photo)
    if len(photos.names) == 1:
        photos.load(photos.names[0])  # complains of what is no photo
    ends = back_ends(devices)
    with screen.ProgressBar() as progress:
        for name in dict.fromkeys(devices):
            check_device(name, lambda what: progress.stage(what, 20.0))
        decoders = _decoders(models, named, words, progress)
    first = first_choice(decoders, named=bool(named))
    desk = Desk(Setup(photos, decoders, ends, first, encoder, timeout, LocalizerProcess(), out))
    return _Page(make_app(desk), desk.close, any(choice.models.is_random for choice in decoders))


def _clip_page(path: Path, models: str | None, weights: str | None, seed: int, side: int | None) -> _Page:
    from harness.sam2.image_path.tap_page.clip import ClipDesk
    from harness.sam2.image_path.tap_page.clip_app import make_clip_app
    from harness.sam2.shared.source import resolve
    from harness.sam2.video.conversion.exported import cached_export
    from harness.sam2.video.onnx_stages import OnnxStages
    from harness.sam2.video.page.tracking import ClipTracking

    folder = graphs_folder(models)
    told = {"--weights": weights, "--seed": seed, "--side": side}
    if folder is not None and (given := [name for name, value in told.items() if value]):
        raise UsageError(
            f"{given[0]} does not go with --models {models}: those graphs are as their files have them.",
            f"Leave {given[0]} out, or --models.",
        )
    # What is in files is looked at before anything is served.
    ready = None if folder is None else OnnxStages(folder)
    source = None if folder is not None else resolve(weights, seed)

    def stages(progress: Progress) -> Stages:
        if ready is not None:
            return ready
        assert source is not None
        return OnnxStages(cached_export(models_folder(), source, side, lambda what: progress.stage(what, 60.0)))

    desk = ClipDesk(ClipTracking(path, stages))
    is_random = source.is_random if source is not None else ready is not None and ready.constants.is_random
    return _Page(make_clip_app(desk), desk.close, is_random)


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
