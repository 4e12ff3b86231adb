"""Clips in and out: video files by PyAV, folders of images by Pillow. Frames are uint8 [H, W, 3], RGB.

What a file says of itself is not believed: a frame's size is bounded before its pixels are kept. Frames are turned and
mirrored as the recording says they are to be shown, so that a phone's clip stands upright, as in a player.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from harness.core.errors import StorageError, UsageError, install_extra
from harness.sam2.shared.image import MAX_PIXELS, Photo, load_photo

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
DEFAULT_RATE = Fraction(24)
TICK = Fraction(1, 90_000)
"""In which the times of written frames are counted, in seconds."""
# What has its frames in itself. FFmpeg goes by the content, whatever a file is called, and knows playlists (hls,
# concat, dash and others), which have it open any file that they name.
_FORMATS = (
    *("apng", "asf", "avi", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mp3", "mp4"),
    *("mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "wav", "webm", "webp_anim", "webp_pipe"),
    "yuv4mpegpipe",
)
_STEP = "Give a video file with pictures in it, or a folder of images."


@dataclass(frozen=True)
class Clip:
    """A clip that can be read, once or several times."""

    path: Path
    images: tuple[Path, ...] | None
    """The images of a folder, in order; None for a video file."""
    count: int | None
    """Frames, if known: a video file only guesses."""
    rate: Fraction
    """Frames per second."""

    def frames(self) -> Iterator[Photo]:
        """Frame after frame, all of one size. Raises as `timed_frames`."""
        return (frame for frame, _ in self.timed_frames())

    def timed_frames(self) -> Iterator[tuple[Photo, Fraction]]:
        """Frame after frame, all of one size, each with its time in seconds: the recording's own where it has one.

        Raises `UsageError` for a frame of another size, an unreadable one, and a clip without any.
        """
        shape: tuple[int, ...] = ()
        timed = self._from_images() if self.images is not None else self._from_video()
        for number, (frame, time) in enumerate(timed):
            shape = shape or frame.shape
            if frame.shape != shape:
                where = f"{self.images[number].name!r}" if self.images is not None else f"frame {number}"
                raise UsageError(
                    f"In {str(self.path)!r}, {where} has {frame.shape[1]} x {frame.shape[0]} pixels and the first "
                    f"frame {shape[1]} x {shape[0]}.",
                    "Give frames of one size.",
                )
            yield frame, time
        if not shape:
            raise UsageError(f"{str(self.path)!r} has not a single frame that can be decoded.", _STEP)

    def _from_images(self) -> Iterator[tuple[Photo, Fraction]]:
        for number, path in enumerate(self.images or ()):
            yield load_photo(path), number / self.rate

    def _from_video(self) -> Iterator[tuple[Photo, Fraction]]:
        av = _av()
        number = 0
        with _opened(self.path) as container:
            try:
                for frame in container.decode(container.streams.video[0]):
                    if frame.width * frame.height > MAX_PIXELS:
                        raise UsageError(
                            f"{str(self.path)!r} has frames of {frame.width} x {frame.height} pixels, more than "
                            f"{MAX_PIXELS // 10**6} million.",
                            "Scale it down first.",
                        )
                    shown = _as_shown(frame.to_ndarray(format="rgb24"), _display_matrix(frame))
                    told = frame.pts is not None and frame.time_base
                    yield np.ascontiguousarray(shown), frame.pts * frame.time_base if told else number / self.rate
                    number += 1
            except av.error.FFmpegError as error:
                raise UsageError(
                    f"{str(self.path)!r} cannot be decoded from frame {number} on ({_reason(error)}).",
                    "This FFmpeg reads no animated WebP; save its frames as images into a folder, and give that."
                    if self.path.suffix.lower() == ".webp"
                    else "It may be cut off; mend it, or cut it before that frame.",
                ) from error


def open_clip(path: Path) -> Clip:
    """The clip in a video file or a folder of images, which are taken in the order of the numbers in their names.

    Raises `UsageError` for a path that is missing, empty, without pictures, or no video.
    """
    if path.is_dir():
        images = sorted((p for p in path.iterdir() if p.suffix.lower() in IMAGES), key=_natural)
        if not images:
            raise UsageError(f"The folder {str(path)!r} holds no images.", _STEP)
        return Clip(path, tuple(images), len(images), DEFAULT_RATE)
    if not path.exists():
        raise UsageError(f"The clip {str(path)!r} does not exist.", "Check the path.")
    if path.stat().st_size == 0:
        raise UsageError(f"{str(path)!r} is empty.", _STEP)
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or DEFAULT_RATE
        return Clip(path, None, int(stream.frames) or None, Fraction(rate))


class VideoWriter:
    """Writes frames of one size as H.264 in MP4, `rate` a second or each at its own time; an odd last row or column is
    left out. Raises `StorageError`."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self.rate = path, rate
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._next, self._step = 0, max(round(1 / rate / TICK), 1)

    def __enter__(self) -> VideoWriter:
        av = _av()
        try:
            self._container = self._stack.enter_context(av.open(_address(self.path), "w"))
        except (OSError, av.error.FFmpegError) as error:
            raise StorageError(f"{str(self.path)!r} cannot be written ({_reason(error)}).") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        av = _av()
        try:
            with self._stack:
                if self._stream is not None and kind is None:
                    self._container.mux(self._stream.encode(None))
        except (OSError, av.error.FFmpegError) as failed:  # a full disk shows when the file is finished
            if kind is None:
                raise StorageError(f"{str(self.path)!r} cannot be written ({_reason(failed)}).") from failed

    def add(self, frame: Photo, time: Fraction | None = None) -> None:
        """The next frame, at `time` in seconds from the first one's; None: one step of the rate after the last. A frame
        that is not after the last is put a tick behind it."""
        av = _av()
        height, width = (max(size - size % 2, 2) for size in frame.shape[:2])
        try:
            if self._stream is None:
                self._stream = self._container.add_stream("libx264", rate=self.rate)
                self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
                self._stream.codec_context.time_base = TICK
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            at = self._next if time is None else max(round(time / TICK), self._next - self._step + 1)
            picture.pts, picture.time_base = at, TICK
            self._next = at + self._step
            self._container.mux(self._stream.encode(picture))
        except (OSError, av.error.FFmpegError) as error:
            raise StorageError(f"{str(self.path)!r} cannot be written ({_reason(error)}).") from error


def _opened(path: Path) -> Any:
    av = _av()
    try:
        container = av.open(_address(path), options={"format_whitelist": ",".join(_FORMATS)})
    except (OSError, av.error.FFmpegError) as error:
        raise UsageError(f"{str(path)!r} is not a video that can be read ({_reason(error)}).", _STEP) from error
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        container.close()
        raise UsageError(f"{str(path)!r} has no pictures, only {kinds}.", _STEP)
    return container


def _address(path: Path) -> str:
    """The path as FFmpeg takes it for one: of `12:30.mp4` it would take the beginning for a protocol."""
    return str(path.absolute())


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UsageError(
            "Reading and writing video needs PyAV, which this Python lacks.", f"Run {install_extra('sam2')}."
        ) from error
    return av


def _display_matrix(frame: Any) -> bytes:
    found = frame.side_data.get("DISPLAYMATRIX")
    return b"" if found is None else bytes(found)


def _as_shown(picture: Photo, matrix: bytes) -> Photo:
    """A picture as its recording's display matrix has it shown, where that is by quarter turns and mirrors; else as it
    is. The matrix is nine 32-bit numbers, rows (a, b, u), (c, d, v) and (x, y, w), which take a place (p, q), in pixels
    to the right and down, to (ap + cq + x, bp + dq + y) (ISO/IEC 14496-12, track header)."""
    if len(matrix) != 36:
        return picture
    a, b, _, c, d = np.sign(np.frombuffer(matrix, np.int32))[:5]
    if a and d and not (b or c):
        across, down, shown = a, d, picture
    elif b and c and not (a or d):
        across, down, shown = c, b, picture.transpose(1, 0, 2)
    else:
        return picture
    return shown[:: int(down), :: int(across)]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
