"""Points and boxes to the decoder's sparse prompt, on the host and in numpy.

Doing it here keeps sines and cosines, which fp16 spoils, out of the model that runs on the device.
Formula: `transformers.models.sam2.modeling_sam2.Sam2PromptEncoder._embed_points`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.core import safe_files
from harness.core.errors import UsageError
from harness.sam2.shared.files import read_arrays, write_arrays

NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = 0, 1, 2, 3
PADDING = -1
EMBEDDED = (NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT)
LABELS = (PADDING, *EMBEDDED)
_MEANING = {NEGATIVE: "a point beside the object", POSITIVE: "a point on the object"}


@dataclass(frozen=True)
class PromptConstants:
    """The learned constants of the prompt encoder, float32; C is 256 in the published model."""

    posmat: NDArray[np.float32]
    """[2, C/2], the random Fourier matrix of the positional encoding."""
    point_embed: NDArray[np.float32]
    """[4, C], one row per label: negative, positive, box top left, box bottom right."""
    not_a_point: NDArray[np.float32]
    """[C], what stands for the padding point."""
    image_size: int
    """Side of the square model space in which points are given; 1024 in the published model."""
    labels: tuple[int, ...] = EMBEDDED
    """The labels that `point_embed` has an embedding for; the rows of others hold NaN."""
    delta: float = 0.05
    stable: float = 0.98
    """What the single mask is held to, see `is_stable`; the published model's."""

    def check_labels(self, labels: Sequence[int]) -> None:
        """Raise `UsageError` for a label that these constants have no embedding for."""
        for label in labels:
            if label != PADDING and label not in self.labels:
                raise UsageError(
                    f"These prompt constants have no embedding of {_MEANING.get(label, 'a box')}.",
                    "Give points on the object alone, or convert models of your own (`--models own`).",
                )

    def save(self, path: Path) -> None:
        """Write the constants to an .npz file, in one piece: a reader sees the old file or the whole new
        one."""
        write_arrays(
            path,
            {
                "posmat": self.posmat,
                "point_embed": self.point_embed,
                "not_a_point": self.not_a_point,
                "image_size": np.array(self.image_size, dtype=np.int64),
                "stability": np.array([self.delta, self.stable]),
            },
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises `OSError` or `ValueError` when the file is not that."""
        arrays = read_arrays(path, ("posmat", "point_embed", "not_a_point", "image_size", "stability"))
        delta, stable = (float(value) for value in arrays["stability"])
        kept = arrays["posmat"], arrays["point_embed"], arrays["not_a_point"], int(arrays["image_size"])
        return cls(*kept, delta=delta, stable=stable)

    @classmethod
    def published(cls, path: Path, channels: int, image_size: int) -> Self:
        """Read `prompt_encode_const.bin`, as it lies beside the published decoder: little-endian float32, posmat
        [2, C/2], the embedding of a point on the object [C], and not_a_point [C], for a decoder of `channels` C.

        Raises `UsageError` when the file has another size, values that are not finite, or a part of zeros alone.
        """
        step = "Take the constants that belong to the decoder."
        wanted = 4 * 3 * channels
        try:
            content = safe_files.head(path.resolve(), wanted + 1)
        except OSError as error:
            raise UsageError(f"The prompt constants {str(path)!r} cannot be read ({error.strerror}).", step) from error
        if len(content) != wanted:
            size = f"{len(content):,}" if len(content) < wanted else f"more than {wanted:,}"
            raise UsageError(
                f"The prompt constants {str(path)!r} have {size} bytes, not the {wanted:,} of a decoder with "
                f"{channels} channels.",
                step,
            )
        values = np.frombuffer(content, "<f4").astype(np.float32)
        if bad := int(values.size - np.isfinite(values).sum()):
            raise UsageError(f"The prompt constants {str(path)!r} hold {bad:,} values that are not finite.", step)
        if not values.reshape(3, channels).any(axis=1).all():
            # As a copy that broke off may leave it: without the matrix, every tap would be the same.
            raise UsageError(f"The prompt constants {str(path)!r} hold nothing but zeros for one of the three.", step)
        posmat, point, padding = values.reshape(3, channels)
        embeddings = np.full((len(EMBEDDED), channels), np.nan, np.float32)
        embeddings[POSITIVE] = point
        return cls(posmat.reshape(2, channels // 2), embeddings, padding, image_size, (POSITIVE,))


def is_stable(mask: NDArray[np.float32], delta: float, least: float) -> bool:
    """Whether upstream keeps a single mask: where its logits are above `delta` is at least that share of where they are
    above -`delta`. Else the best of three takes its place."""
    sure, seen = int((mask > delta).sum()), int((mask > -delta).sum())
    return seen == 0 or sure / seen >= least


def encode_points(
    points: Sequence[tuple[float, float]] | ArrayLike, labels: Sequence[int], constants: PromptConstants
) -> NDArray[np.float32]:
    """The sparse prompt of N points and their padding point, float32 [1, N+1, C].

    `points` is [N, 2], x then y, in model space (0 to `constants.image_size`, see `image.to_model_space`).
    `labels` has N entries: 1 the object, 0 not the object, 2 and 3 the top-left and bottom-right corner of a
    box, -1 a padding point. A box is its two corners: points [[x1, y1], [x2, y2]] with labels [2, 3].
    The points are rounded to float32, as upstream takes them; what follows is computed in float64 and rounded once, so
    that the prompt is the same on every CPU. Raises `UsageError` for points that are not finite pairs, no points at
    all, or labels that do not fit them or that `constants` has no embedding for.
    """
    places = np.asarray(points, dtype=np.float32)
    kinds = np.asarray(labels)
    if places.ndim != 2 or places.shape[1] != 2 or len(places) == 0:
        raise UsageError(f"Points of shape {list(places.shape)} are not pairs (x, y).", "Give at least one (x, y).")
    if not np.isfinite(places).all():
        raise UsageError(f"The points {places.tolist()} are not all finite.", "Give positions within the photo.")
    if kinds.shape != (len(places),) or not np.isin(kinds, LABELS).all():
        raise UsageError(
            f"The labels {kinds.tolist()} do not fit {len(places)} points.",
            "Give each point a label: 1 object, 0 not the object, 2 and 3 a box's corners, -1 padding.",
        )
    constants.check_labels(kinds.tolist())
    places = np.concatenate([places, np.zeros((1, 2), np.float32)])
    kinds = np.concatenate([kinds, [PADDING]])

    # In float32, angles of many radians are off by some 1e-6, and differently with every BLAS and CPU.
    unit = (places.astype(np.float64) + 0.5) / constants.image_size
    angles = 2 * np.pi * ((2 * unit - 1) @ constants.posmat.astype(np.float64))
    encoding = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    embedded = encoding + constants.point_embed[np.maximum(kinds, 0)]
    tokens = np.where((kinds == PADDING)[:, None], constants.not_a_point, embedded)
    return tokens.astype(np.float32)[None]
