"""The drift of each graph as a picture: mask IoU over frames."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Literal

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.sam2.shared.files import write_bytes
from harness.sam2.video.drift.measure import LIMIT, SMALLEST, Drift

_COLOURS = {
    "vision_encoder": "#4477aa",
    "mask_decoder": "#cc6677",
    "memory_encoder": "#228833",
    "memory_attention": "#aa7711",
}


def write_plots(found: Drift, folder: Path) -> tuple[Path, ...]:
    """drift.svg and drift.png in `folder`: for each graph the smallest IoU of every frame. Raises `StorageError`."""
    kinds: tuple[Literal["svg", "png"], ...] = ("svg", "png")
    return tuple(_write(found, folder / f"drift.{kind}", kind) for kind in kinds)


def _write(found: Drift, path: Path, kind: Literal["svg", "png"]) -> Path:
    with rc_context({"svg.hashsalt": "harness", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7.2, 4.2), dpi=120)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        least, gaps = 1.0, False
        for one in found.graphs:
            frames = one.by_frame()
            if not frames:
                continue
            least = min(least, *frames.values())
            label = f"{one.graph.replace('_', ' ')} (worst {min(frames.values()):.4f})"
            places = range(max(frames) + 1)
            gaps |= len(frames) < len(places)
            shares = [frames.get(place, math.nan) for place in places]
            axes.plot(places, shares, "o-", ms=3, lw=1.4, color=_COLOURS[one.graph], label=label)
        axes.axhline(LIMIT, color="#888888", lw=0.8, ls="--")
        axes.annotate(f"{LIMIT}", (1.0, LIMIT), xycoords=("axes fraction", "data"), xytext=(3, 0),
                      textcoords="offset points", va="center", color="#666666", fontsize=8)  # fmt: skip
        axes.set_ylim(min(least, LIMIT) - 0.05 * (1.002 - min(least, LIMIT)), 1.002)
        note = f"; no point: masks of fewer than {SMALLEST} pixels" if gaps else ""
        axes.set(xlabel=f"frame{note}", ylabel="mask IoU against all on the CPU")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        weights = "; random weights" if found.is_random else ""
        title = f"One graph on the GPU in fp16, {found.side} pixels, {found.device}{weights}"
        axes.set_title(title, fontsize=10, loc="left")
        if axes.lines[:-1]:
            axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
        figure.tight_layout()
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_bytes(path, stream.getvalue())
    return path
