"""`harness sam2 track`: a clip and prompts to masks, an overlay video, a contact sheet and track.json."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.core.errors import UsageError
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import to_json
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.files import make_folder, write_bytes
from harness.sam2.shared.image import Photo, overlay
from harness.sam2.video.bank import Padding
from harness.sam2.video.clip import Clip, VideoWriter, open_clip
from harness.sam2.video.stages import DecodedFrame, Stages
from harness.sam2.video.tracker import NOTHING_TO_TRACK, Tracked, Tracker

COLORS = ((230, 60, 60), (60, 130, 240), (70, 190, 90), (240, 170, 40), (170, 90, 220), (40, 200, 200))
SHEET_FRAMES = 12
SHEET_WIDTH = 320
SHEET_HEIGHT = 4 * SHEET_WIDTH
MAX_BACKWARD_BYTES = 4 << 30


@dataclass(frozen=True)
class TrackResult:
    """What a clip came to; everything it names lies in `folder`."""

    folder: Path
    provenance: str
    is_random: bool
    frames: tuple[dict[str, Any], ...]
    """One for each frame: its number, and for every object the model's IoU score, object score, share of pixels,
    and how many of its scores and mask logits are NaN or infinite."""

    @property
    def nonfinite(self) -> int:
        """How many scores and mask logits of all frames are NaN or infinite; any makes the masks wrong."""
        return sum(int(found["nonfinite"]) for row in self.frames for found in row["objects"].values())

    def to_json(self) -> dict[str, Any]:
        """track.json, schema 1."""
        return {
            "schema": 1,
            "weights": self.provenance,
            "random_weights": self.is_random,
            "frames": list(self.frames),
        }


def track_clip(
    path: Path,
    prompts: Mapping[int, Tap],
    *,
    stages: Stages,
    out: Path,
    start: int = 0,
    later: Mapping[int, Mapping[int, Tap]] | None = None,
    backward: bool = False,
    padding: Padding | None = None,
    progress: Progress = SILENT,
) -> TrackResult:
    """Follow the objects of `prompts`, given on frame `start`, to the clip's end, or with `backward` to its beginning.

    `later`: prompts by frame that correct an object after that frame was tracked. Writes masks/<object>/<frame>.png,
    overlay.mp4, contact.png and track.json into `out`. Backward, the frames up to `start` are held in memory.
    Raises `UsageError` for an unreadable clip, a frame that it lacks, and a prompt outside it.
    """
    clip = checked_clip(path, prompts, start=start, later=later or {}, backward=backward)
    total = clip.count if clip.images is not None else None
    tracker = Tracker(stages, total=total, backward=backward, padding=padding)
    make_folder(out)
    wanted = dict(later or {})
    expected = None if clip.count is None else (start + 1 if backward else clip.count - start)
    rows: list[dict[str, Any]] = []
    sheet = ContactSheet()
    progress.stage("tracking", 2.0 * (expected or 100))
    with VideoWriter(out / "overlay.mp4", clip.rate) as video:
        began: Fraction | None = None
        for number, frame, time in _ordered(clip.timed_frames(), start, backward):
            began = time if began is None else began
            seen = tracker.step(frame) if rows else tracker.seed(frame, prompts, number)
            if number in wanted:
                seen = tracker.refine(wanted.pop(number))
            shown = paint(frame, seen)
            video.add(shown, abs(time - began))
            sheet.add(number, shown)
            rows.append(_row(seen))
            _write_masks(out, seen)
            if expected:
                progress.fraction(min(len(rows) / expected, 0.99))
    if not rows:
        raise UsageError(f"{str(path)!r} ends before frame {start}.", "Give a frame that it has with --start.")
    if wanted:
        raise UsageError(f"No frame {min(wanted)} was tracked in {str(path)!r}.", "Give --click a frame of the clip.")
    constants = stages.constants
    result = TrackResult(out, constants.provenance, constants.is_random, tuple(rows))
    write_png(out / "contact.png", sheet.picture())
    write_bytes(out / "track.json", (json.dumps(to_json(result.to_json()), indent=1) + "\n").encode())
    return result


def checked_clip(
    path: Path,
    prompts: Mapping[int, Tap],
    *,
    start: int,
    later: Mapping[int, Mapping[int, Tap]],
    backward: bool,
) -> Clip:
    """The clip, once everything asked of it has been found possible as far as that is known before its frames are
    read; a video file only guesses how many it has. Raises `UsageError`."""
    clip = open_clip(path)
    if not prompts:
        raise UsageError(NOTHING_TO_TRACK, "Give at least one --at X,Y or --box L,T,R,B.")
    if start < 0:
        raise UsageError(f"There is no frame {start}.", "Give --start 0 or more.")
    if clip.images is not None and start >= len(clip.images):
        raise UsageError(f"{str(path)!r} ends before frame {start}.", f"Give --start 0 to {len(clip.images) - 1}.")
    first, last = (0, start) if backward else (start, None if clip.images is None else len(clip.images) - 1)
    for frame in sorted(later):
        if frame < first or (last is not None and frame > last):
            span = f"from {first} on" if last is None else f"{first} to {last}"
            raise UsageError(f"Frame {frame} will not be tracked in {str(path)!r}.", f"Give --click a frame {span}.")
    return clip


def _ordered(
    frames: Iterable[tuple[Photo, Fraction]], start: int, backward: bool
) -> Iterator[tuple[int, Photo, Fraction]]:
    if not backward:
        return ((number, frame, time) for number, (frame, time) in enumerate(frames) if number >= start)
    kept: list[tuple[int, Photo, Fraction]] = []
    for number, (frame, time) in enumerate(frames):
        if (number + 1) * frame.nbytes > MAX_BACKWARD_BYTES:
            raise UsageError(
                f"The {start + 1} frames to go back through take more than {MAX_BACKWARD_BYTES >> 30} GiB.",
                "Start at an earlier frame, or cut the clip.",
            )
        kept.append((number, frame, time))
        if number == start:
            return reversed(kept)
    return iter(())


def paint(frame: Photo, seen: Tracked) -> Photo:
    """The frame with every object's mask in a colour of its own."""
    shown = frame
    for identity in seen.objects:
        shown = overlay(shown, seen.mask(identity), COLORS[(identity - 1) % len(COLORS)])
    return shown


def _row(seen: Tracked) -> dict[str, Any]:
    objects = {
        str(identity): {
            "iou_score": decoded.iou,
            "object_score": decoded.object_score,
            "visible": decoded.object_score > 0,
            "area": float(seen.mask(identity).mean()),
            "nonfinite": _nonfinite(decoded),
        }
        for identity, decoded in seen.objects.items()
    }
    return {"frame": seen.frame, "objects": objects}


def _nonfinite(decoded: DecodedFrame) -> int:
    told = (decoded.low_res_mask, np.array([decoded.iou, decoded.object_score]))
    return sum(int(values.size - np.isfinite(values).sum()) for values in told)


def _write_masks(out: Path, seen: Tracked) -> None:
    for identity in seen.objects:
        folder = make_folder(out / "masks" / str(identity))
        write_png(folder / f"{seen.frame:05d}.png", seen.mask(identity).astype(np.uint8) * np.uint8(255))


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """A picture [H, W] or [H, W, 3] as PNG. Raises `StorageError`."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "png")
    write_bytes(path, stream.getvalue())


class ContactSheet:
    """Small pictures of frames spread over a clip of unknown length: every second one goes when there are too many."""

    def __init__(self) -> None:
        self._kept: list[Photo] = []
        self._every = 1
        self._seen = 0

    def add(self, number: int, frame: Photo) -> None:
        """Keep the frame if its turn has come."""
        if self._seen % self._every == 0:
            if len(self._kept) == 2 * SHEET_FRAMES:
                self._kept, self._every = self._kept[::2], 2 * self._every
            if self._seen % self._every == 0:
                # A frame that is a strip is squeezed: its height at that width would fill the memory.
                height = min(max(frame.shape[0] * SHEET_WIDTH // frame.shape[1], 1), SHEET_HEIGHT)
                self._kept.append(np.array(Image.fromarray(frame).resize((SHEET_WIDTH, height))))
        self._seen += 1

    def picture(self) -> Photo:
        """The kept ones in rows of four, in order."""
        kept = _spread(self._kept, SHEET_FRAMES)
        height = kept[0].shape[0]
        columns = min(4, len(kept))
        lines = -(-len(kept) // columns)
        sheet = np.zeros((lines * height, columns * SHEET_WIDTH, 3), np.uint8)
        for place, small in enumerate(kept):
            row, column = divmod(place, columns)
            sheet[row * height : (row + 1) * height, column * SHEET_WIDTH : (column + 1) * SHEET_WIDTH] = small
        return sheet


def _spread(items: Sequence[Photo], most: int) -> list[Photo]:
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
