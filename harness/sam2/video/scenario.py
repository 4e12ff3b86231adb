"""Clips that need no file: shapes that move, leave and return, and what is asked of them on which frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo

WIDTH, HEIGHT = 320, 240
AWAY = (9, 14)
"""First and last frame of the motion clip on which the ellipse is out of the frame."""
COVERED = (10, 12)
"""First and last frame on which something close to the lens hides everything."""


@dataclass(frozen=True)
class Event:
    """Prompts on one frame, by object. `again`: the frame has been tracked already, and this corrects it."""

    frame: int
    prompts: dict[int, Tap]
    again: bool = False

    def to_json(self) -> dict[str, Any]:
        """The event as a worker process is told of it."""
        taps = {str(identity): tap.to_json() for identity, tap in self.prompts.items()}
        return {"frame": self.frame, "prompts": taps, "again": self.again}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Event:
        """The event that `to_json` wrote."""
        prompts = {int(identity): Tap.from_json(tap) for identity, tap in told["prompts"].items()}
        return cls(int(told["frame"]), prompts, bool(told["again"]))


def motion_frame(number: int) -> Photo:
    """One frame, uint8 [240, 320, 3], of a clip as long as one likes: an ellipse that leaves to the right on the frames
    `AWAY` of every 24 and comes back, a rectangle that moves up and down behind a bar, and a panel that hides both on
    the frames `COVERED`."""
    rng = np.random.default_rng(20)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    texture = 110 + 30 * np.sin((rows + 2 * columns) / 17.0)[..., None] + rng.normal(0, 10, (HEIGHT, WIDTH, 3))
    picture = Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    phase = number % 24
    x, y = rectangle_at(number)
    pen.rectangle((x - 28, y - 22, x + 28, y + 22), fill=(40, 90, 200))
    pen.rectangle((60, 150, 150, 168), fill=(70, 70, 70))
    if not AWAY[0] <= phase <= AWAY[1]:
        x, y = ellipse_at(number)
        pen.ellipse((x - 34, y - 26, x + 34, y + 26), fill=(220, 70, 40))
        pen.ellipse((x - 10, y - 8, x + 10, y + 8), fill=(250, 220, 120))
    if COVERED[0] <= phase <= COVERED[1]:
        pen.rectangle((0, 0, WIDTH, HEIGHT), fill=(12, 10, 14))
    return np.array(picture)


def ellipse_at(number: int) -> tuple[float, float]:
    """The middle of the ellipse, (x, y); out of the frame while it is away."""
    phase = number % 24
    steps = phase if phase < AWAY[0] else 24 - phase
    return 140.0 + 26.0 * steps, 90.0 - 2.0 * steps


def rectangle_at(number: int) -> tuple[float, float]:
    """The middle of the rectangle, (x, y)."""
    return 100.0 + 3.0 * (number % 24), 140.0 + 50.0 * float(np.sin(number / 4.0))


def motion_clip(frames: int) -> Iterator[Photo]:
    """The first `frames` frames of `motion_frame`."""
    return (motion_frame(number) for number in range(frames))


def settling_frames(frames: int) -> tuple[list[Photo], set[int]]:
    """A short clip of the first frames, the covered ones and the ones after: and which of them are covered."""
    after = COVERED[1] + 1
    numbers = [*range(4), *range(COVERED[0], after), *range(after, after + 3)]
    numbers = [number for number in numbers if number < frames]
    hidden = {place for place, number in enumerate(numbers) if COVERED[0] <= number < after}
    return [motion_frame(number) for number in numbers], hidden


def motion_events(frames: int, objects: int = 2) -> tuple[Event, ...]:
    """A point on the ellipse and a box around the rectangle on frame 0, and, past the ellipse's return, two points that
    correct the rectangle on a frame already tracked. Of one object, the ellipse alone."""
    if objects == 1:
        return (Event(0, {1: Tap.at(*ellipse_at(0))}),)
    x, y = rectangle_at(0)
    first = Event(0, {1: Tap.at(*ellipse_at(0)), 2: Tap(box=(x - 28, y - 22, x + 28, y + 22))})
    later = min(17, frames - 2)
    if later < 1:
        return (first,)
    x, y = rectangle_at(later)
    correction = Tap(((x - 10, y - 5),), ((x + 60, y),))
    return first, Event(later, {2: correction}, again=True)
