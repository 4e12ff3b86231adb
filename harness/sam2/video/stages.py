"""What the tracking loop runs: five stages, on whatever backend. Arrays are float32 unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.sam2.video.contract import Constants, FloatArray


@dataclass(frozen=True)
class Features:
    """A frame, encoded; shapes are the published model's."""

    feats0: FloatArray
    """[1, 32, 256, 256]."""
    feats1: FloatArray
    """[1, 64, 128, 128]."""
    feats2: FloatArray
    """[1, 256, 64, 64], raw."""
    feats2_no_mem: FloatArray
    """[1, 256, 64, 64], for a frame without memory."""
    positions: FloatArray
    """[1, 256, 64, 64]."""


@dataclass(frozen=True)
class DecodedFrame:
    """One object on one frame."""

    low_res_mask: FloatArray
    """Logits [1, 1, 256, 256]; above 0 is the object; -1024 everywhere when it is not there."""
    high_res_mask: FloatArray
    """The same at the model's side, [1, 1, 1024, 1024]."""
    iou: float
    """The model's own estimate of the mask's IoU."""
    object_score: float
    """Logit of the object being there."""
    pointer: FloatArray
    """[256], the object pointer, or the learned one for no object."""


class Stages(Protocol):
    """The graphs."""

    @property
    def constants(self) -> Constants:
        """Sizes and tables."""

    def encode(self, pixels: FloatArray) -> Features:
        """A preprocessed image [1, 3, 1024, 1024]."""

    @property
    def takes_mask(self) -> bool:
        """Whether `decode` can be told of the mask that its points correct."""

    def decode(
        self,
        features: Features,
        conditioned: FloatArray,
        points: FloatArray,
        labels: NDArray[np.int32],
        mask: FloatArray | None = None,
    ) -> DecodedFrame:
        """Features [1, 256, 64, 64] and points [N, 2] in model space with labels [N]. `mask`: logits [1, 1, 256, 256]
        that they correct, where `takes_mask`."""

    def memorize(self, features: Features, decoded: DecodedFrame, *, binarize: bool) -> tuple[FloatArray, FloatArray]:
        """A frame's memory and its positions, both [4096, 64]."""

    def attend(self, features: Features, memory: FloatArray, positions: FloatArray) -> FloatArray:
        """The features conditioned on a bank of [28736, 64] memories and positions: [1, 256, 64, 64]."""

    def pointer_positions(self, offsets: FloatArray) -> FloatArray:
        """Normalized ages [P] of object pointers to positions [P, 64]."""
