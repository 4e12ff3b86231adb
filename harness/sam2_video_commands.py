"""`harness sam2 export-video`, `track`, `validate-video`, `drift`: the video workload's commands, parsed and wired."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness import terminal
from harness.errors import EXIT_OK, EXIT_WRONG
from harness.request_options import JsonOption
from harness.sam2.source import resolve
from harness.sam2.video.bank import Padding
from harness.sam2_commands import SeedOption, WeightsOption

SideOption = Annotated[
    int | None, typer.Option("--side", help="Pixels of the square image; default the model's own, 1024.")
]


def export_video(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Where onnx/ and constants.json go.")],
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    side: SideOption = None,
    blocks: Annotated[int | None, typer.Option("--blocks", help="Frame memories in a bank; default 7.")] = None,
) -> None:
    """Export the video tracker as five ONNX graphs, and constants.json."""
    from harness.sam2.video.contract import GRAPHS
    from harness.sam2.video.exported import export_video as run

    source = resolve(weights, seed)
    with terminal.Stages() as progress:
        constants = run(folder, source, lambda what: progress.stage(what, 15.0), side=side, blocks=blocks)
    for graph in GRAPHS:
        path = folder / "onnx" / f"{graph}.onnx"
        terminal.out.print(f"{escape(str(path))}  [dim]{path.stat().st_size / 1e6:.1f} MB[/]")
    terminal.out.print(f"{escape(str(folder / 'constants.json'))}\n[dim]{escape(constants.provenance)}[/]")


def validate_video(
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    side: SideOption = None,
    frames: Annotated[int, typer.Option("--frames", help="Length of the clip.")] = 24,
    padding: Annotated[Padding, typer.Option("--padding", help="How a bank that is not full is filled up.")] = "marked",
    as_json: JsonOption = False,
) -> None:
    """The tracker on ONNX Runtime against transformers' own, on a clip with motion, occlusion, two objects and a second
    click; exit 1 when a mask's IoU is below 0.999."""
    from harness.sam2.video.show import show_validation
    from harness.sam2.video.validate import validate_video as run

    source = resolve(weights, seed)
    with terminal.Stages() as progress:
        found = run(source, side=side, frames=frames, padding=padding, progress=progress)
    if as_json:
        terminal.print_json(found.to_json())
    else:
        show_validation(found, terminal.out)
    raise typer.Exit(EXIT_OK if found.ok else EXIT_WRONG)


def join(app: typer.Typer) -> None:
    """Add the video workload's commands to `harness sam2`."""
    app.command(name="export-video")(export_video)
    app.command(name="validate-video")(validate_video)
