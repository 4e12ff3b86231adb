"""A clip on the page: seeds by clicks on any frame, the tracker's masks as they come, corrections, downloads."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from harness.core import safe_files
from harness.core.errors import UsageError
from harness.core.progress import Progress
from harness.devices.scratch import Scratch
from harness.sam2.image_path.tap_page.photos import picture
from harness.sam2.image_path.tap_page.work import Work, Works
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo

Prompts = Mapping[int, Mapping[int, Tap]]
"""By frame, and there by object: what is asked."""

MOST_OBJECTS, MOST_PROMPTED, MOST_RUNS = 12, 64, 8
MOST_FILE = 1 << 30


class Tracking(Protocol):
    """What follows objects through the clip."""

    @property
    def name(self) -> str:
        """The clip's."""

    @property
    def rate(self) -> float:
        """Frames a second."""

    def frames(self) -> Iterator[Photo]:
        """Frame after frame. Raises `UsageError`."""

    def track(self, start: int, prompts: Mapping[int, Tap], later: Prompts, out: Path, progress: Progress) -> str:
        """Write masks/<object>/<frame>.png, overlay.mp4 and track.json into `out`; where the weights come from. Raises
        `HarnessError`."""

    def close(self) -> None:
        """End what is going on."""


class ClipDesk:
    """Answers what a clip's pages ask. Each tracking has a folder of its own: pages cannot mix."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.works = Works()
        self._scratch = Scratch("harness-clip-")
        self._shape: tuple[int, ...] = ()
        self._count = 0
        self._runs: dict[str, str] = {}
        """The provenance of each finished tracking, by its folder's name, the oldest first."""

    def close(self) -> None:
        """End what is going on, and remove what was written."""
        self.tracking.close()
        self._scratch.close()

    def state(self) -> dict[str, Any]:
        """What the page has to know at its start."""
        return {"schema": 1, "name": self.tracking.name, "rate": self.tracking.rate, "most_objects": MOST_OBJECTS}

    def open(self) -> Work:
        """Have all frames read; the result is their number and size."""
        return self.works.begin("open", self._open)

    def frame(self, number: int) -> bytes:
        """A frame as JPEG. Raises `UsageError` for one that there is not."""
        return self._file(Path("frames") / f"{number:05d}.jpg")

    def mask(self, run: str, identity: int, frame: int) -> bytes:
        """A mask of a tracking as PNG, while it goes on too; empty where there is none (yet). Raises `UsageError` for
        what is no tracking."""
        path = Path(_plain(run)) / "masks" / str(identity) / f"{frame:05d}.png"
        return self._file(path) if (self._scratch.path / path).is_file() else b""

    def track(self, prompts: Prompts, page: str) -> Work:
        """Have the objects followed from the first frame that has a prompt. The work's `result` names the tracking, and
        so does its id before. Raises `UsageError` for prompts that cannot be."""
        if not prompts:
            raise UsageError("There is nothing to track.", "Click on an object first.")
        if len(prompts) > MOST_PROMPTED:
            raise UsageError(f"{len(prompts)} frames have prompts, and {MOST_PROMPTED} may.", "Clear some.")
        for number, asked in prompts.items():
            if not 0 <= number < self._count:
                raise UsageError(f"There is no frame {number}: the clip has {self._count}.")
            for tap in asked.values():
                tap.check(self._shape)
        return self.works.begin(("track", page), partial(self._track, prompts))

    def download(self, run: str, kind: str) -> tuple[bytes, str, str]:
        """Content, type and name of a finished tracking's file. Raises `UsageError` for one that there is not."""
        if run not in self._runs:
            raise UsageError("That tracking is no longer kept.", "Track again.")
        name = Path(self.tracking.name).stem
        if kind == "overlay.mp4":
            return self._file(Path(run) / kind), "video/mp4", f"{name}-overlay.mp4"
        if kind == "track.json":
            return self._file(Path(run) / kind), "application/json", f"{name}-track.json"
        if kind == "masks.zip":
            return self._zipped(run), "application/zip", f"{name}-masks.zip"
        raise UsageError("There is no such file.", "Choose the overlay, the masks or track.json.")

    def _zipped(self, run: str) -> bytes:
        stream = io.BytesIO()
        folder = self._scratch.path / run
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("weights.txt", self._runs[run] + "\n")
            for path in sorted((folder / "masks").glob("*/*.png")):
                archive.write(path, path.relative_to(folder))
        return stream.getvalue()

    def _file(self, path: Path) -> bytes:
        try:
            return safe_files.read(self._scratch.path / path, MOST_FILE)
        except OSError:
            raise UsageError("There is no such picture (yet).") from None

    def _open(self, work: Work) -> dict[str, Any]:
        if not self._count:
            work.stage("reading the frames", 10.0)
            folder, count = self._scratch.path / "frames", 0
            folder.mkdir(exist_ok=True)
            for frame in self.tracking.frames():
                (folder / f"{count:05d}.jpg").write_bytes(picture(frame))
                self._shape = frame.shape
                count += 1
            self._count = count
        return {"frames": self._count, "width": self._shape[1], "height": self._shape[0]}

    def _track(self, prompts: Prompts, work: Work) -> dict[str, Any]:
        start = min(prompts)
        later = {number: asked for number, asked in prompts.items() if number != start}
        out = self._scratch.path / work.id
        provenance = self.tracking.track(start, prompts[start], later, out, work)
        self._runs[work.id] = provenance
        for old in list(self._runs)[:-MOST_RUNS]:
            self._forget(old)
        return {"run": work.id, "start": start, "weights": provenance, "random_weights": "random" in provenance}

    def _forget(self, run: str) -> None:
        del self._runs[run]
        shutil.rmtree(self._scratch.path / run, ignore_errors=True)


def _plain(run: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{16}", run):
        raise UsageError("There is no such tracking.")
    return run
