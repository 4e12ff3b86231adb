"""What the parts of this workload agree on: the decoder's tensor names, and the choices a caller has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

INPUT_NAMES = ("image_embeddings", "sparse_prompt", "feat_s1", "feat_s0")
"""The decoder's inputs in order, float32; the published shapes are [1, 256, 64, 64], [1, 2, 256],
[1, 64, 128, 128] and [1, 32, 256, 256]."""

OUTPUT_NAMES = ("pred_masks", "iou_scores")
"""The decoder's outputs in order, float32: mask logits [1, 3, 256, 256] and the model's own estimate of each
mask's IoU [1, 3]."""

LayerNormKind = Literal["safe", "plain"]
"""safe: the variance cannot exceed fp16's range. plain: it can."""

WeightKind = Literal["float32", "float16"]
"""How weights are stored; the graph computes in float32 either way, unless a device decides otherwise."""

Progress = Callable[[str], None]
"""Told in a few words what is being done."""
