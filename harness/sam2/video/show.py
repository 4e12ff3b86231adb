"""What a person sees of the video workload in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.core.markup import escape
from harness.localize.base.result import Localization
from harness.sam2.shared.unit import RANDOM_NOTE
from harness.sam2.video.drift.measure import LIMIT, SMALLEST, Drift
from harness.sam2.video.drift.origin import Traced, worst_ratio
from harness.sam2.video.track import TrackResult
from harness.sam2.video.validate import GOAL, Validation


def show_track(found: TrackResult, out: Console) -> None:
    """The end of a track: where things lie, and each object in a line."""
    table = Table("object", box=None, header_style="dim", pad_edge=False)
    for title in ("frames", "visible", "mean IoU score", "of the frame"):
        table.add_column(title, justify="right")
    identities = sorted({identity for row in found.frames for identity in row["objects"]}, key=int)
    for identity in identities:
        rows = [row["objects"][identity] for row in found.frames if identity in row["objects"]]
        visible = sum(row["visible"] for row in rows)
        score = sum(row["iou_score"] for row in rows) / len(rows)
        areas = [row["area"] for row in rows]
        table.add_row(identity, str(len(rows)), str(visible), f"{score:.3f}", f"{min(areas):.1%} … {max(areas):.1%}")
    out.print(table)
    out.print(
        f"\n{escape(str(found.folder))}: overlay.mp4, contact.png, masks/, track.json; {escape(found.provenance)}."
    )
    if found.nonfinite:
        out.print(f"[red]{found.nonfinite:,} scores and mask logits are NaN or infinite: the masks are wrong.[/]")
    if found.is_random:
        out.print(RANDOM_NOTE)


def show_validation(found: Validation, out: Console) -> None:
    """The loop against upstream, frame by frame and graph by graph."""
    identities = sorted({one.identity for one in found.frames})
    table = Table("frame", box=None, header_style="dim", pad_edge=False)
    for identity in identities:
        for title in (f"IoU of {identity}", "mask", "object score"):
            table.add_column(title, justify="right")
    rows = {(one.frame, one.identity): one for one in found.frames}
    for frame in dict.fromkeys(one.frame for one in found.frames):
        cells = []
        for identity in identities:
            one = rows.get((frame, identity))
            if one is None:
                cells += ["", "", ""]
                continue
            word = f"{one.area:.1%}" if one.upstream_score > 0 else "[yellow]gone[/]"
            cells += [f"{one.iou:.5f}", word, f"{one.score:.3f}"]
        table.add_row(str(frame), *cells)
    out.print(table)
    stages = Table("graph", "output", box=None, header_style="dim", pad_edge=False)
    for title in ("max error", "largest value"):
        stages.add_column(title, justify="right")
    for stage in found.stages:
        stages.add_row(stage.graph, stage.output, f"{stage.max_error:.2g}", f"{stage.peak:.3g}")
    out.print()
    out.print(stages)
    worst = found.worst
    word = "[green]right[/]" if found.ok else "[red]wrong[/]"
    back = ", and an object came back" if found.recovered else ""
    out.print(
        f"\n{word}: worst IoU {worst.iou:.5f} (object {worst.identity}, frame {worst.frame}; goal {GOAL}), "
        f"{len(found.frames)} masks, {found.occluded} of them gone{back}."
    )
    out.print(f"{found.side} pixels, padding {found.padding}; {escape(found.provenance)}.")
    if found.is_random:
        out.print(RANDOM_NOTE)


def show_parts(found: Sequence[tuple[Localization, Path]], out: Console) -> None:
    """The parts of a graph that drifts, each asked by itself on the CPU's values."""
    table = Table("part", "", box=None, header_style="dim", pad_edge=False)
    table.add_column("of what float16 explains", justify="right")
    for answer, _ in found:
        colour = "green" if answer.status == "pass" else "red"
        ratio = worst_ratio(answer)
        seen = "–" if ratio is None else f"{ratio:.1f}x"
        table.add_row(escape(Path(answer.model.path).stem), f"[{colour}]{answer.status}[/]", seen)
    out.print(table)


def show_lost_digits(traced: Traced, out: Console) -> None:
    """Which ops' rounding makes half of the error of a graph, or part, that is as right as float16 explains; or takes
    from an output what it needs to be of use."""
    if traced.lost is None:
        return
    answer, _ = traced.lost
    what = "lost digits that an output needs" if traced.min_cosine is None else "half of the error"
    for one in answer.culprits:
        out.print(f"  {what}: {escape(one.record.title)} {one.record.number}, {escape(one.signature or '')}")
    for note in () if answer.culprits else answer.notes:
        out.print(f"  [dim]{escape(note)}[/]")


def show_drift(found: Drift, out: Console) -> None:
    """Each graph in a line: residency, its worst mask, and where it drifts."""
    table = Table("graph on the GPU", box=None, header_style="dim", pad_edge=False)
    for title in ("delegated", "worst IoU", "last frame", "drifts from"):
        table.add_column(title, justify="right")
    for one in found.graphs:
        if one.failure:
            table.add_row(one.graph, "[red]not run[/]", "–", "–", "–")
            continue
        shares = list(one.by_frame().values())
        figures = [f"{share:.4f}" for share in (min(shares), shares[-1])] if shares else ["–", "–"]
        begun = "never" if one.start is None else f"frame {one.start.frame}, object {one.start.identity}"
        delegated = ("fully" if one.full else "partly") + (f", {one.parts} parts" if one.parts > 1 else "")
        table.add_row(one.graph, delegated, *figures, begun)
    out.print(table)
    failed = [one for one in found.graphs if one.failure]
    for one in failed:
        out.print(f"[red]{one.graph}[/]: {escape(one.failure)}", soft_wrap=True)
    if found.starter is not None:
        word = f"[red]drift[/] starts in {found.starter.graph}"
    elif failed:
        word = "[red]nothing measured[/]" if len(failed) == len(found.graphs) else "[yellow]no drift in the others[/]"
    else:
        word = "[green]no drift[/]"
    out.print(f"\n{word}: masks against all graphs on the CPU, limit {LIMIT}.")
    where = ", ".join(filter(None, (found.device, found.adapter)))
    out.print(f"{found.side} pixels, {escape(where)}; {escape(found.provenance)}.")
    small = sum(not mask.tells for one in found.graphs for mask in one.masks)
    if small:
        out.print(f"{small} masks of fewer than {SMALLEST} pixels are left out.")
    if not found.gated:
        out.print("Objects count as there on every frame: random weights cannot tell.")
