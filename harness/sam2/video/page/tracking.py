"""A clip for the tap page: its frames as pictures, and objects followed through it by `track_clip`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.core.errors import HarnessError, UsageError
from harness.core.progress import Progress
from harness.core.visible import visible
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo
from harness.sam2.video.clip import Clip, open_clip
from harness.sam2.video.stages import Stages
from harness.sam2.video.track import track_clip

MOST_FRAMES = 1200
"""Of a clip: each is kept as a picture while the page is served, and a mask for each object besides."""


class ClipTracking:
    """One clip, tracked anew for each set of prompts; `stages` are made when they are first needed."""

    def __init__(self, path: Path, stages: Callable[[Progress], Stages]) -> None:
        self.path = path
        self.clip: Clip = open_clip(path)
        inside = path.resolve()
        for image in self.clip.images or ():
            if image.resolve().parent != inside:
                raise UsageError(f"{image.name!r} leads out of its folder.", "Put the frame itself there.")
        if self.clip.count is not None and self.clip.count > MOST_FRAMES:
            raise UsageError(
                f"{str(path)!r} has {self.clip.count:,} frames, and the page takes {MOST_FRAMES:,}.",
                "Cut the clip, or track it by `harness sam2 track`.",
            )
        self._make = stages
        self._stages: Stages | None = None
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        """The clip's; bytes of it that are no text are shown as such."""
        return visible(self.path.name)

    @property
    def rate(self) -> float:
        """Frames a second."""
        return float(self.clip.rate)

    def frames(self) -> Iterator[Photo]:
        """Frame after frame. Raises `UsageError` where one cannot be read, and for too many."""
        for number, frame in enumerate(self.clip.frames()):
            if number >= MOST_FRAMES:
                raise UsageError(
                    f"{str(self.path)!r} has more than {MOST_FRAMES:,} frames, which the page takes.",
                    "Cut the clip, or track it by `harness sam2 track`.",
                )
            yield frame

    def track(
        self,
        start: int,
        prompts: Mapping[int, Tap],
        later: Mapping[int, Mapping[int, Tap]],
        out: Path,
        progress: Progress,
    ) -> str:
        """As `track_clip`; where the weights come from, as a sentence fragment. Raises `HarnessError`, also once
        `close` was called."""
        if self._stages is None:
            progress.stage("making the tracker's graphs", 60.0)
            self._stages = self._make(progress)
        watched = _Ending(progress, self._closed)
        result = track_clip(
            self.path, prompts, stages=self._stages, out=out, start=start, later=later, progress=watched
        )
        return result.provenance

    def close(self) -> None:
        """Have what is being tracked end at the next frame."""
        self._closed.set()


class _Ending:
    """A `Progress` that ends the work which tells it."""

    def __init__(self, progress: Progress, ended: threading.Event) -> None:
        self._progress, self._ended = progress, ended

    def stage(self, what: str, expected_seconds: float) -> None:
        """A stage begins."""
        self._check()
        self._progress.stage(what, expected_seconds)

    def fraction(self, done: float) -> None:
        """That share of it is done."""
        self._check()
        self._progress.fraction(done)

    def note(self, sentence: str) -> None:
        """Something to know."""
        self._progress.note(sentence)

    def _check(self) -> None:
        if self._ended.is_set():
            raise HarnessError("The page is being ended.")
