"""The photos that may be asked for: one file, or those of a folder, and nothing outside it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from harness.core.errors import UsageError
from harness.core.visible import visible
from harness.sam2.shared.image import Photo, load_photo

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
MOST_PHOTOS = 500
SHOWN_SIDE = 2048
"""The longer side of the picture that is sent, in pixels."""
MASK_SIDE = 1024
"""The longer side of the masks that are sent; what is compared is what is seen."""


@dataclass(frozen=True)
class Photos:
    """Photos by name. Those of a folder are what lay in it at the start."""

    folder: Path
    names: tuple[str, ...]
    left_out: int = 0
    """How many of the folder are not offered, because there are too many."""
    alone: bool = False
    """The photo itself was named, which may be a link."""

    @classmethod
    def of(cls, path: Path) -> Photos:
        """A photo, or all of a folder. Raises `UsageError` where there is none."""
        if path.is_file():
            if not _sayable(path.name):
                raise UsageError(f"The name {visible(path.name)!r} is no text.", "Give the photo another name.")
            return cls(path.parent, (path.name,), alone=True)
        if not path.is_dir():
            what = "is neither a file nor a folder" if path.exists() else "does not exist"
            raise UsageError(f"{str(path)!r} {what}.", "Give a photo, or a folder with photos.")
        inside = path.resolve()
        found = sorted(
            entry.name
            for entry in path.iterdir()
            if entry.suffix.lower() in SUFFIXES and _sayable(entry.name)
            if entry.is_file() and entry.resolve().parent == inside
        )
        if not found:
            raise UsageError(f"The folder {str(path)!r} holds no photo.", "Give a folder with JPEG, PNG or WebP files.")
        return cls(path, tuple(found[:MOST_PHOTOS]), len(found[MOST_PHOTOS:]))

    def load(self, name: str) -> Photo:
        """The photo of that name, uint8 [H, W, 3]. Raises `UsageError` for a name that is not one of those offered, and
        for a file that is no readable photo, or is a link to elsewhere by now."""
        if name not in self.names:
            raise UsageError(f"There is no photo {name[:80]!r} here.", "Choose one of the list.")
        path = self.folder / name
        if not self.alone and path.resolve().parent != self.folder.resolve():
            raise UsageError(f"{name!r} leads out of its folder.", "Put the photo itself there.")
        return load_photo(path)


def mask_shape(photo: Photo) -> tuple[int, int]:
    """Height and width of the masks that are shown over a photo."""
    return _bounded(photo, MASK_SIDE)


def picture(photo: Photo) -> bytes:
    """The photo as it is sent, a JPEG of at most `SHOWN_SIDE`."""
    height, width = _bounded(photo, SHOWN_SIDE)
    image = Image.fromarray(photo)
    if (height, width) != photo.shape[:2]:
        image = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "jpeg", quality=92)
    return stream.getvalue()


def _sayable(name: str) -> bool:
    """Whether a document in UTF-8 can hold a file's name."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _bounded(photo: Photo, side: int) -> tuple[int, int]:
    height, width = photo.shape[:2]
    scale = min(1.0, side / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)
