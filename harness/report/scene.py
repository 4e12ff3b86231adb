"""The masks of both sides over the photo, as pictures that live inside the page.

Pictures are decoded and written anew: what a photo carries besides its pixels (place, camera, owner) stays behind, and
a file that is no picture never enters the page.
"""

from __future__ import annotations

import io
import warnings
from base64 import b64encode
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from harness.core import safe_files
from harness.core.fields import Fields
from harness.numerics.metrics import mask_iou

SceneMask = np.ndarray[Any, np.dtype[np.bool_]]
Colour = tuple[int, int, int]

CPU_COLOUR: Colour = (56, 150, 255)
GPU_COLOUR: Colour = (255, 140, 26)

_PHOTO_EDGE = 1024
_LARGEST = 64_000_000
_MOST_BYTES = 64 << 20
_MOST_TRIED = 12
_MOST_TAPS, _MOST_COLUMNS = 12, 6
_MOST_CHAPTERS, _MOST_SENTENCES = 12, 24
_FILL, _EDGE = 110, 255


class _Unusable(Exception):
    """The pictures cannot be shown; the message says why."""


@dataclass(frozen=True)
class View:
    """Part of the photo, in its pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class ScenePart:
    """What one colour of a picture covers."""

    side: Literal["cpu", "gpu"]
    text: str


@dataclass(frozen=True)
class Panel:
    """One picture: a title, what its colours cover, and a `data:` URI to lay over the photo."""

    title: str
    parts: tuple[ScenePart, ...]
    overlay: str
    view: View
    dimmed: bool = False


@dataclass(frozen=True)
class Cell:
    """The mask of one column at one tap; without an overlay it did not run there."""

    title: str
    ok: bool | None
    overlay: str
    iou: float | None


@dataclass(frozen=True)
class TapLine:
    """A tap and its masks, one for each column; the first column's is what the others are held to."""

    name: str
    tap: tuple[float, float] | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class StoryChapter:
    """One step of a story that a run tells."""

    key: str
    title: str
    sentences: tuple[str, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class PhotoScene:
    """Everything the masks' section shows. With a `problem` there is nothing but that sentence."""

    problem: str = ""
    photo: str = ""
    width: int = 0
    height: int = 0
    tap: tuple[float, float] | None = None
    label: str = ""
    iou: float | None = None
    panels: tuple[Panel, ...] = ()
    lines: tuple[TapLine, ...] = ()
    chapters: tuple[StoryChapter, ...] = ()


def read_scene(run: Path, fields: Fields, device: str) -> PhotoScene:
    """Load the pictures of `run.json: scene`. `device` names the device's side.

    Raises:
        UsageError: a field is of another type than documented. Missing or bad pictures become the scene's `problem`.
    """
    chapters = tuple(_chapter(entry) for entry in fields.children("story")[:_MOST_CHAPTERS])
    try:
        return replace(_pictures(run, fields, device), chapters=chapters)
    except _Unusable as error:
        return PhotoScene(problem=str(error), chapters=chapters)


def _chapter(entry: Fields) -> StoryChapter:
    said, commands = (entry.texts(key)[:_MOST_SENTENCES] for key in ("sentences", "commands"))
    return StoryChapter(entry.text("key"), entry.text("title"), said, commands)


def _pictures(run: Path, fields: Fields, device: str) -> PhotoScene:
    """The pictures alone. Raises _Unusable."""
    masks, tap = fields.child("masks"), fields.numbers("tap")
    names = (fields.text("photo"), masks.text("reference"), masks.text("device"))
    label, iou = fields.text("label"), fields.number("iou")
    photo = _open(run, names[0]).convert("RGB")
    reference, actual = (_mask(run, name) for name in names[1:])
    if reference.shape != actual.shape or reference.shape != photo.size[::-1]:
        raise _Unusable("The masks of this run differ from its photo in size, so they are not shown.")
    width, height = photo.size
    whole = View(0, 0, width, height)
    only_cpu, only_gpu = reference & ~actual, actual & ~reference
    zoomed = _around(reference | actual, width, height)
    tried = [_tried(run, entry, reference) for entry in fields.children("tried")[:_MOST_TRIED]]
    scale = width / zoomed.width
    enlarged = f", enlarged {scale:.1f}×" if scale >= 1.1 else ""
    return PhotoScene(
        photo=_photo(photo),
        width=width,
        height=height,
        tap=_within(tap, width, height),
        label=label,
        iou=mask_iou(actual, reference) if iou is None else iou,
        panels=(
            Panel("CPU reference", (_part("cpu", reference),), _overlay(reference, CPU_COLOUR), whole),
            Panel(device, (_part("gpu", actual),), _overlay(actual, GPU_COLOUR), whole),
            Panel(
                f"Difference{enlarged}",
                (_part("cpu", only_cpu, " on the CPU alone"), _part("gpu", only_gpu, " on the device alone")),
                _difference(only_cpu, only_gpu, reference & actual),
                zoomed,
                dimmed=True,
            ),
            *tried,
        ),
        lines=_lines(run, fields.child("grid"), photo.size) if fields.values.get("grid") else (),
    )


def _within(tap: tuple[float, ...], width: int, height: int) -> tuple[float, float] | None:
    return (tap[0], tap[1]) if len(tap) == 2 and 0 <= tap[0] <= width and 0 <= tap[1] <= height else None


def _mask(run: Path, name: str) -> SceneMask:
    mask: SceneMask = np.asarray(_open(run, name).convert("L")) > 127
    return mask


def _lines(run: Path, grid: Fields, size: tuple[int, int]) -> tuple[TapLine, ...]:
    """The taps' masks. Raises _Unusable for a mask of another size than the photo."""
    columns = [(each.text("title"), each.flag("ok")) for each in grid.children("columns")[:_MOST_COLUMNS]]
    lines = []
    for row in grid.children("rows")[:_MOST_TAPS]:
        cells: list[Cell] = []
        reference: SceneMask | None = None
        for (title, ok), entry in zip(columns, row.children("masks"), strict=False):
            name = entry.text("mask")
            if not name:
                cells.append(Cell(title, ok, "", None))
                continue
            mask = _mask(run, name)
            if mask.shape != size[::-1]:
                raise _Unusable("The masks of this run differ from its photo in size, so they are not shown.")
            first = reference is None
            reference = mask if reference is None else reference
            overlay = _overlay(mask, CPU_COLOUR) if first else _beside(mask, reference)
            cells.append(Cell(title, ok, overlay, None if first else entry.number("iou")))
        lines.append(TapLine(row.text("name"), _within(row.numbers("tap"), *size), tuple(cells)))
    return tuple(lines)


def _beside(mask: SceneMask, reference: SceneMask) -> str:
    """A mask light where the reference has it too, and solid where it differs: in the device's colour what it has more,
    in the CPU's what it lacks."""
    levels = np.where(mask, 3, 0).astype(np.uint8)
    levels[reference & ~mask], levels[mask & ~reference] = 1, 2
    return _picture(levels, [((0, 0, 0), 0), (CPU_COLOUR, 255), (GPU_COLOUR, 255), ((255, 255, 255), _FILL)])


def _tried(run: Path, entry: Fields, reference: SceneMask) -> Panel:
    """Where the mask that a remedy gave differs from the CPU's."""
    mask = _mask(run, entry.text("mask"))
    if mask.shape != reference.shape:
        raise _Unusable("The masks of this run differ in size, so they are not shown.")
    height, width = mask.shape
    iou = entry.number("iou")
    said = f"IoU {mask_iou(mask, reference) if iou is None else iou:.4f}, {'pass' if entry.flag('ok') else 'fail'}"
    only_cpu, only_gpu = reference & ~mask, mask & ~reference
    return Panel(
        f"{entry.text('title')}: {said}",
        (_part("cpu", only_cpu, " on the CPU alone"), _part("gpu", only_gpu, " on the device alone")),
        _difference(only_cpu, only_gpu, reference & mask),
        View(0, 0, width, height),
        dimmed=True,
    )


def _part(side: Literal["cpu", "gpu"], mask: SceneMask, where: str = "") -> ScenePart:
    return ScenePart(side, f"{np.count_nonzero(mask):,} px{where}")


def _open(run: Path, name: str) -> Image.Image:
    """A picture inside the run folder, decoded."""
    try:
        path = (run / name).resolve()
        if not name or not path.is_relative_to(run.resolve()):
            raise _Unusable(f"A picture of this run would lie at {name!r}, outside its folder, so it is not shown.")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(safe_files.read(path, _MOST_BYTES)), formats=("JPEG", "PNG"))
        if image.width * image.height > _LARGEST:
            raise _Unusable(f"{name} has {image.width}×{image.height} pixels, too many to be shown.")
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no picture that can be read"
        raise _Unusable(f"{name} cannot be shown: {why}.") from None
    return image


def _photo(photo: Image.Image) -> str:
    small = photo.copy()
    small.thumbnail((_PHOTO_EDGE, _PHOTO_EDGE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode("ascii")


def _overlay(mask: SceneMask, colour: Colour) -> str:
    """The mask tinted, with a solid outline."""
    levels = mask.astype(np.uint8)
    levels[mask & ~_eroded(mask, max(1, max(mask.shape) // 300))] = 2
    return _picture(levels, [((0, 0, 0), 0), (colour, _FILL), (colour, _EDGE)])


def _difference(only_cpu: SceneMask, only_gpu: SceneMask, both: SceneMask) -> str:
    levels = np.where(both, 3, 0).astype(np.uint8)
    levels[only_cpu], levels[only_gpu] = 1, 2
    return _picture(levels, [((0, 0, 0), 0), (CPU_COLOUR, 255), (GPU_COLOUR, 255), ((255, 255, 255), 40)])


def _picture(levels: np.ndarray[Any, np.dtype[np.uint8]], colours: list[tuple[Colour, int]]) -> str:
    image = Image.frombytes("P", levels.shape[::-1], levels.tobytes())
    image.putpalette([channel for colour, _ in colours for channel in colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=2, optimize=True, transparency=bytes(alpha for _, alpha in colours))
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode("ascii")


def _eroded(mask: SceneMask, steps: int) -> SceneMask:
    """The mask without its outermost pixels; the photo's border is no edge."""
    inner = np.pad(mask, steps, constant_values=True)
    for _ in range(steps):
        inner[1:-1, 1:-1] = inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    trimmed: SceneMask = inner[steps:-steps, steps:-steps]
    return trimmed


def _around(mask: SceneMask, width: int, height: int) -> View:
    """The part of the photo that holds the masks, in the photo's proportions and with room around them."""
    if not mask.any():
        return View(0, 0, width, height)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    share = min(1.0, 1.15 * max((right - left) / width, (bottom - top) / height))
    wide, high = share * width, share * height
    x = min(max(0.0, (left + right - wide) / 2), width - wide)
    y = min(max(0.0, (top + bottom - high) / 2), height - high)
    return View(round(x, 1), round(y, 1), round(wide, 1), round(high, 1))
