"""`harness sam2 export-video`, `track`, `drift`, `validate-video`: the video workload's commands, parsed and wired."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.api.localize import localize_command
from harness.api.session import ModelRequest
from harness.cli import render, screen
from harness.cli.options import DeviceOption, JsonOption, TimeoutOption
from harness.cli.sam2_options import OWN, PUBLISHED, SeedOption, WeightsOption, models_folder, numbers
from harness.cli.screen import answer
from harness.core.errors import EXIT_DEVICE, EXIT_OK, EXIT_WRONG, UsageError
from harness.core.job import Options
from harness.core.markup import escape
from harness.core.run_folder import to_json
from harness.graph.model import Model
from harness.localize.base.result import Localization
from harness.numerics.usefulness import Limits
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.published_files import TRACKER_FILES, fetch_published
from harness.sam2.shared.source import resolve
from harness.sam2.video.bank import Padding
from harness.sam2.video.contract import REWRITTEN, Rewritten, Sizes
from harness.sam2.video.conversion.convert import VideoModels
from harness.sam2.video.litert_stages import Backend
from harness.sam2.video.stages import Stages

if TYPE_CHECKING:
    from harness.sam2.video.drift.origin import Traced

SideOption = Annotated[
    int | None, typer.Option("--side", help="Pixels of the square image; default the model's own, 1024.")
]

BACKEND = "Where that graph runs: onnx, or LiteRT's cpu or gpu on --device."

MODELS = (
    "A folder with onnx/ and constants.json, as published or of export-video; `published`, once its digests are known; "
    "or `own`, exported when needed."
)

PADDING = typer.Option("--padding", help="How a bank that is not full is filled up; marked where the graphs read it.")


def export_video(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Where onnx/ and constants.json go.")],
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    side: SideOption = None,
    blocks: Annotated[int | None, typer.Option("--blocks", help="Frame memories in a bank; default 7.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Export the video tracker as the five published ONNX graphs, one for corrections, and constants.json."""
    from harness.sam2.video.contract import EXPORTED, Constants
    from harness.sam2.video.conversion.exported import export_video as run

    source, told = resolve(weights, seed), folder / "constants.json"
    files = [folder / "onnx" / f"{graph}.onnx" for graph in EXPORTED]

    def show(constants: Constants) -> None:
        for path in files:
            screen.out.print(f"{escape(str(path))}  [dim]{path.stat().st_size / 1e6:.1f} MB[/]")
        screen.out.print(f"{escape(str(told))}\n[dim]{escape(constants.provenance)}[/]")

    answer(
        lambda progress: run(folder, source, lambda what: progress.stage(what, 15.0), side=side, blocks=blocks),
        as_json=as_json,
        document=lambda constants: {
            "schema": 1,
            "graphs": files,
            "constants": told,
            "provenance": constants.provenance,
        },
        show=show,
    )


def validate_video(
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    side: SideOption = None,
    frames: Annotated[int, typer.Option("--frames", help="Length of the clip.")] = 24,
    padding: Annotated[Padding, PADDING] = "marked",
    as_json: JsonOption = False,
) -> None:
    """The tracker on ONNX Runtime against transformers' own, on a clip with motion, occlusion, two objects and a second
    click; exit 1 when a mask's IoU is below 0.999."""
    from harness.sam2.video.show import show_validation
    from harness.sam2.video.validate import validate_video as run

    source = resolve(weights, seed)
    answer(
        lambda progress: run(source, side=side, frames=frames, padding=padding, progress=progress),
        as_json=as_json,
        show=lambda found: show_validation(found, screen.out),
        code=lambda found: EXIT_OK if found.ok else EXIT_WRONG,
    )


def track(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video file, or a folder of images.")],
    at: Annotated[list[str] | None, typer.Option("--at", metavar="X,Y", help="A point on an object.")] = None,
    box: Annotated[list[str] | None, typer.Option("--box", metavar="L,T,R,B", help="A box around one.")] = None,
    click: Annotated[
        list[str] | None,
        typer.Option("--click", metavar="FRAME:OBJECT:X,Y", help="A further point once that frame is tracked."),
    ] = None,
    start: Annotated[int, typer.Option("--start", min=0, help="The frame that --at and --box mean.")] = 0,
    backward: Annotated[bool, typer.Option("--backward", help="From there to the beginning.")] = False,
    models: Annotated[
        str | None,
        typer.Option("--models", "--graphs", metavar="SOURCE", help=f"{MODELS} Default `own`."),
    ] = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    side: SideOption = None,
    padding: Annotated[Padding | None, PADDING] = None,
    encoder: Annotated[Backend, typer.Option("--encoder", help=BACKEND)] = "onnx",
    decoder: Annotated[Backend, typer.Option("--decoder", help=BACKEND)] = "onnx",
    memory_encoder: Annotated[Backend, typer.Option("--memory-encoder", help=BACKEND)] = "onnx",
    memory_attention: Annotated[Backend, typer.Option("--memory-attention", help=BACKEND)] = "onnx",
    device: DeviceOption = "host",
    timeout: TimeoutOption = 600.0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")] = Path("tracked"),
    as_json: JsonOption = False,
) -> None:
    """Follow objects through a clip: masks, overlay video, contact sheet, track.json. Every --at and --box is an object
    of its own: first the points, then the boxes, from 1. Graphs run on ONNX Runtime, or through LiteRT on the CPU or
    GPU of --device. Exit 1 when scores or mask logits are NaN or infinite."""
    from harness.devices.registry import open_device
    from harness.sam2.video.conversion.exported import cached_export
    from harness.sam2.video.litert_stages import mixed
    from harness.sam2.video.onnx_stages import OnnxStages
    from harness.sam2.video.show import show_track
    from harness.sam2.video.track import checked_clip, track_clip

    taps = [Tap.at(x, y) for x, y in (numbers(word, 2) for word in at or ())]
    taps += [Tap(box=(left, top, right, low)) for left, top, right, low in (numbers(word, 4) for word in box or ())]
    prompts = dict(enumerate(taps, 1))
    later: dict[int, dict[int, Tap]] = {}
    for word in click or ():
        frame, identity, point = _click(word, len(prompts))
        before = later.setdefault(frame, {}).get(identity, Tap())
        later[frame][identity] = Tap((*before.positive, point))
    # What cannot be is told before anything is exported.
    checked_clip(clip, prompts, start=start, later=later, backward=backward)
    folder, cache = graphs_folder(models), models_folder()
    backends: dict[Rewritten, Backend] = {
        "vision_encoder": encoder,
        "mask_decoder": decoder,
        "memory_encoder": memory_encoder,
        "memory_attention": memory_attention,
    }
    given = None if folder is None else OnnxStages(folder)
    told = {"--weights": weights is not None, "--seed": seed != 0, "--side": side is not None}
    if given and set(backends.values()) == {"onnx"} and any(told.values()):
        option = next(option for option, there in told.items() if there)
        raise UsageError(
            f"{option} does not go with --models {models}: those graphs are as their files have them.",
            f"Leave {option} out, or --models.",
        )
    # Where everything is in files, nothing is asked of weights.
    source = None if given and set(backends.values()) == {"onnx"} else resolve(weights, seed)
    tokens = {tap.tokens for asked in (prompts, *later.values()) for tap in asked.values()}
    with screen.ProgressBar() as progress, open_device(device) as opened:

        def tell(what: str) -> None:
            progress.stage(what, 15.0)

        stages: Stages
        if source is None:
            assert given is not None
            stages = given
        else:
            onnx = given or OnnxStages(cached_export(cache, source, side, tell))
            converted = VideoModels(cache, source, side)
            stages = mixed(onnx, opened, converted, backends, tokens, tell, timeout=timeout)
        found = track_clip(
            clip,
            prompts,
            stages=stages,
            out=out,
            start=start,
            later=later,
            backward=backward,
            padding=padding,
            progress=progress,
        )
    if as_json:
        screen.print_json(found.to_json())
    else:
        show_track(found, screen.out)
    if found.nonfinite:
        raise typer.Exit(EXIT_WRONG)


def drift(
    device: DeviceOption = "host",
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="DIR",
            help="A folder of export-video with the same weights: what the loop needs beside the converted graphs.",
        ),
    ] = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    side: SideOption = None,
    frames: Annotated[int, typer.Option("--frames", min=2, max=512, help="Length of the clip.")] = 24,
    objects: Annotated[int, typer.Option("--objects", min=1, max=2, help="How many are tracked.")] = 2,
    graph: Annotated[
        list[str] | None, typer.Option("--graph", help=f"Only that one ({', '.join(REWRITTEN)}); repeatable.")
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option("--parts", min=1, max=256, help="At most so many pieces of each graph; default: as host needs."),
    ] = None,
    localize: Annotated[
        bool, typer.Option("--localize/--no-localize", help="Look for the op in the graph that starts the drift.")
    ] = False,
    timeout: TimeoutOption = 600.0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")] = Path("drift"),
    as_json: JsonOption = False,
) -> None:
    """The tracker with each graph in turn on the GPU in fp16, the others on the CPU: mask IoU against all on the CPU,
    frame after frame, on a synthetic clip; exit 1 when a mask falls below 0.99, 3 when a graph does not run."""
    from harness.devices.host.device import HostDevice
    from harness.devices.registry import check_device, kind_of, open_device
    from harness.sam2.shared.files import make_folder, write_bytes
    from harness.sam2.shared.in_parts import parts_needed
    from harness.sam2.video.conversion.exported import cached_export
    from harness.sam2.video.drift.answers import forget
    from harness.sam2.video.drift.measure import measure_drift
    from harness.sam2.video.drift.origin import Piece, pieces_of, trace
    from harness.sam2.video.drift.plot import write_plots
    from harness.sam2.video.litert_stages import check_same_weights
    from harness.sam2.video.onnx_stages import OnnxStages
    from harness.sam2.video.scenario import motion_clip, motion_events
    from harness.sam2.video.show import show_drift

    graphs = tuple(one for one in REWRITTEN if one in (graph or REWRITTEN))
    if unknown := set(graph or ()) - set(REWRITTEN):
        raise UsageError(f"There is no graph {sorted(unknown)[0]!r}.", f"Choose from {', '.join(REWRITTEN)}.")
    check_device(device)
    if models == PUBLISHED:
        raise UsageError(
            "`drift` runs each graph through LiteRT, and the published ones are ONNX, which it does not run.",
            "Leave --models out: --weights says what is converted.",
        )
    folder, source, cache = graphs_folder(models), resolve(weights, seed), models_folder()
    converted = VideoModels(cache, source, side)
    given = None if folder is None else OnnxStages(folder)
    if given is not None:
        if side is None and given.constants.sizes.side != Sizes().side:
            side = given.constants.sizes.side  # what the graphs were exported for
            converted = VideoModels(cache, source, side)
        check_same_weights(given.constants, converted)
    in_parts = (lambda model: parts) if parts else parts_needed if kind_of(device).in_parts else None
    answers = make_folder(out) / "answers"
    events = motion_events(frames, objects)
    with screen.ProgressBar() as progress:

        def tell(what: str) -> None:
            progress.stage(what, 15.0)

        onnx = given or OnnxStages(cached_export(cache, source, side, tell))
        converted.prepare({2, *(tap.tokens for event in events for tap in event.prompts.values())}, tell)
        with open_device(device) as opened, HostDevice() as host:
            found = measure_drift(
                opened, host, converted, onnx.constants, onnx.pointer_positions, list(motion_clip(frames)), events,
                graphs=graphs, gated=not source.is_random, in_parts=in_parts, answers=answers,
                timeout=timeout, progress=progress,
            )  # fmt: skip
            starter = found.starter
            pieces: list[Piece] = []
            if localize and starter is not None and starter.model is not None:
                count = in_parts(Model.load(starter.model)) if in_parts else 1
                pieces = pieces_of(starter, host, out / "parts", count, timeout=timeout)

        def ask(piece: Piece, limits: Limits) -> tuple[Localization, Path]:
            request = ModelRequest(
                piece[0], device, Options(accelerator="gpu"), out=out / "runs", timeout=timeout,
                given=piece[1], provenance=source.provenance, limits=limits,
            )  # fmt: skip
            return localize_command(request, progress)

        traced = trace(pieces, ask)
    told = to_json(found.to_json() | traced.to_json())
    write_bytes(out / "drift.json", (json.dumps(told, indent=1) + "\n").encode())
    write_plots(found, out)
    if as_json:
        screen.print_json(told)
    else:
        show_drift(found, screen.out)
        _show_origin(traced)
        screen.out.print(f"\n{escape(str(out))}: drift.json, drift.svg, drift.png.")
    failed = any(one.failure for one in found.graphs)
    if not failed:
        forget(answers)
    raise typer.Exit(EXIT_WRONG if starter is not None else EXIT_DEVICE if failed else EXIT_OK)


def _show_origin(traced: Traced) -> None:
    from harness.sam2.video.drift.origin import DRIFT_IS
    from harness.sam2.video.show import show_lost_digits, show_parts

    if not traced.found:
        return
    if len(traced.found) > 1:
        show_parts(traced.found, screen.out)
    for one, folder in traced.found:
        if len(traced.found) == 1 or one.status != "pass":
            render.show_localization(one, folder)
    screen.say(f"\n{DRIFT_IS[traced.origin]}")
    show_lost_digits(traced, screen.out)


def graphs_folder(models: str | None) -> Path | None:
    """The folder that `--models` names, fetched for `published`; None where graphs are exported here. Raises
    `UsageError` and `StorageError` as `fetch_published`."""
    if models is None or models == OWN:
        return None
    if models != PUBLISHED:
        return Path(models).expanduser()
    with screen.ProgressBar() as progress:
        return fetch_published(models_folder() / "published-video", progress, TRACKER_FILES)


def _click(word: str, objects: int) -> tuple[int, int, tuple[float, float]]:
    found = re.fullmatch(r"(\d{1,9}):(\d{1,9}):(.+)", word)
    if found is None:
        raise UsageError(f"{word!r} is not FRAME:OBJECT:X,Y.", "Write for example 12:1:200,150.")
    x, y = numbers(found[3], 2)
    if not 1 <= int(found[2]) <= objects:
        raise UsageError(f"There is no object {found[2]} in {word!r}.", f"Objects are numbered from 1 to {objects}.")
    return int(found[1]), int(found[2]), (x, y)


def join(app: typer.Typer) -> None:
    """Add the video workload's commands to `harness sam2`."""
    app.command(name="export-video")(export_video)
    app.command(name="track")(track)
    app.command(name="drift")(drift)
    app.command(name="validate-video")(validate_video)
