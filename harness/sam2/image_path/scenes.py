"""Photos that need no file: shapes on textured backgrounds, drawn from fixed seeds, each with a tap on a shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import SAMPLE_FACE, Photo, sample_photo

WIDTH, HEIGHT = 640, 480
COUNT = 5


@dataclass(frozen=True)
class Scene:
    """A photo and where to tap it."""

    name: str
    photo: Photo
    """uint8 [H, W, 3]."""
    tap: Tap


def portrait() -> Scene:
    """The sample portrait, tapped on the face."""
    return Scene("portrait", sample_photo(), Tap.at(*SAMPLE_FACE))


PORTRAIT_TAPS = {"face": SAMPLE_FACE, "uniform": (100.0, 400.0), "cap": (265.0, 110.0), "flag": (60.0, 130.0)}
"""Where the sample portrait is tapped, (x, y) in its pixels: the face first, as on the model card."""


def drawn(seed: int) -> Scene:
    """Four shapes on stripes and noise, uint8 [480, 640, 3], tapped in the middle of the topmost. The same seed draws
    the same scene."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    angle, period = rng.uniform(0, np.pi), rng.uniform(12, 60)
    stripes = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * 2 * np.pi / period)
    base = rng.uniform(60, 190, 3)
    texture = base + 25 * stripes[..., None] + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    picture = Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    x = y = 0.0
    for index in range(4):
        x, y = rng.uniform(120, WIDTH - 120), rng.uniform(110, HEIGHT - 110)
        across, down = rng.uniform(40, 110), rng.uniform(40, 100)
        red, green, blue = (int(level) for level in rng.integers(0, 256, 3))
        edges = (x - across, y - down, x + across, y + down)
        kind = (index + seed) % 3
        if kind == 0:
            pen.ellipse(edges, fill=(red, green, blue))
        elif kind == 1:
            pen.rectangle(edges, fill=(red, green, blue))
        else:
            pen.polygon([(x, y - down), (x - across, y + down), (x + across, y + down)], fill=(red, green, blue))
    return Scene(f"drawn {seed}", np.array(picture), Tap.at(round(x, 1), round(y, 1)))


def all_scenes() -> tuple[Scene, ...]:
    """The portrait and five drawn scenes."""
    return (portrait(), *(drawn(seed) for seed in range(COUNT)))
