"""What the host does around the graphs for LiteRT, in numpy: the prompt, the choice among masks, gates, the memory
bank's bias. Together with them it is what the ONNX graphs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.sam2.shared.files import read_arrays
from harness.sam2.shared.image import upsample_mask
from harness.sam2.shared.prompt import PromptConstants, encode_points, is_stable
from harness.sam2.video.contract import MARK, NO_OBJECT_SCORE, PADDED, FloatArray
from harness.sam2.video.onnx_stages import rows
from harness.sam2.video.stages import DecodedFrame, Features

THERE = 1.0
"""The object score where an object counts as there, whatever the model says."""


@dataclass(frozen=True)
class HostConstants:
    """The constants of the host's half, float32; shapes are the published model's."""

    prompt: PromptConstants
    no_memory: FloatArray
    """[1, 256, 1, 1], added to the features of a frame without memory."""
    vision_positions: FloatArray
    """[1, 256, 64, 64]."""
    memory_positions: FloatArray
    """[4096, 64]."""
    occluded: FloatArray
    """[64], added to the memory of a frame on which the object is not there."""
    no_object_pointer: FloatArray
    """[256]."""
    scale: float
    """Of the mask that the memory encoder sees, and its offset."""
    offset: float
    most_points: int
    """Up to that many prompted points, the best of three masks is taken."""
    delta: float
    """Above it the one mask asked for is sure, below its negative it is not seen; their areas' ratio is stability."""
    stable: float

    @classmethod
    def load(cls, prompt: Path, host: Path) -> HostConstants:
        """Read what the worker wrote. Raises `OSError` or `ValueError` when the files are not that."""
        names = ("no_memory", "vision_positions", "memory_positions", "occluded", "no_object_pointer", "numbers")
        arrays = read_arrays(host, names)
        numbers = [float(value) for value in arrays.pop("numbers")]
        scale, offset, most_points, delta, stable = numbers
        return cls(PromptConstants.load(prompt), **arrays, scale=scale, offset=offset,
                   most_points=int(most_points), delta=delta, stable=stable)  # fmt: skip

    def features(self, made: dict[str, FloatArray]) -> Features:
        """A frame's features from the vision encoder's outputs."""
        deepest = made["feats2"]
        return Features(made["feats0"], made["feats1"], deepest, deepest + self.no_memory, self.vision_positions)

    def decoder_inputs(
        self, features: Features, conditioned: FloatArray, points: FloatArray, labels: NDArray[np.int32]
    ) -> dict[str, FloatArray]:
        """The mask decoder's inputs for points [N, 2] in model space with labels [N]."""
        return {
            "image_embeddings": conditioned,
            "sparse_prompt": encode_points(points, labels.tolist(), self.prompt),
            "feat_s1": features.feats1,
            "feat_s0": features.feats0,
        }

    def decoded(self, made: dict[str, FloatArray], points: int, *, gated: bool = True) -> DecodedFrame:
        """One mask of the decoder's four, as upstream chooses it for a prompt of that many points: the best of three
        for a point at most; else the first, unless that is unstable. Gated by whether the object is there, unless
        it is to count as there always."""
        masks, scores = made["masks"], made["scores"]
        best = int(np.argmax(scores[0, 1:])) + 1
        few = points <= self.most_points
        choice = best if few or not is_stable(masks[0, 0], self.delta, self.stable) else 0
        score = float(made["object_score"].reshape(-1)[0]) if gated else THERE
        low = masks[:, choice : choice + 1]
        pointer = made["pointers"][0, best if few else 0]
        if not score > 0:
            low, pointer = np.full_like(low, NO_OBJECT_SCORE), self.no_object_pointer
        side = self.prompt.image_size
        high = upsample_mask(low[0, 0], (side, side))[None, None]
        return DecodedFrame(low, high, float(scores[0, choice]), score, pointer)

    def memory_inputs(self, features: Features, decoded: DecodedFrame, *, binarize: bool) -> dict[str, FloatArray]:
        """The memory encoder's inputs."""
        logits = decoded.high_res_mask
        shares = (logits > 0).astype(np.float32) if binarize else _sigmoid(logits)
        mask = shares * np.float32(self.scale) + np.float32(self.offset)
        return {"feats2": features.feats2, "mask": mask}

    def memory(self, made: dict[str, FloatArray], decoded: DecodedFrame) -> tuple[FloatArray, FloatArray]:
        """A frame's memory and its positions, both [4096, 64], from the memory encoder's output."""
        tokens = made["memory"][0]
        return (tokens if decoded.object_score > 0 else tokens + self.occluded), self.memory_positions

    def attention_inputs(self, features: Features, memory: FloatArray, positions: FloatArray) -> dict[str, FloatArray]:
        """Memory attention's inputs; a padding token's mark becomes a bias."""
        marked = positions[:, :1] <= MARK / 2
        return {
            "features": rows(features.feats2)[None],
            "memory": memory[None],
            "memory_pos": np.where(marked, np.float32(0), positions)[None],
            "bias": np.where(marked, np.float32(PADDED), np.float32(0))[None],
        }

    def conditioned(self, made: dict[str, FloatArray]) -> FloatArray:
        """Memory attention's output as an image, [1, 256, 64, 64]."""
        return np.ascontiguousarray(made["conditioned"].transpose(0, 2, 1)).reshape(self.vision_positions.shape)


def _sigmoid(values: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        shares: FloatArray = (1 / (1 + np.exp(-values.astype(np.float32)))).astype(np.float32)
    return shares
