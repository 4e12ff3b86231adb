"""What the parts of this workload agree on: the decoder's tensor names, and the choices a caller has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.errors import UsageError

INPUT_NAMES = ("image_embeddings", "sparse_prompt", "feat_s1", "feat_s0")
"""The decoder's inputs in order, float32; the published shapes are [1, 256, 64, 64], [1, 2, 256],
[1, 64, 128, 128] and [1, 32, 256, 256]."""

OUTPUT_NAMES = ("pred_masks", "iou_scores")
"""The decoder's outputs in order, float32: mask logits [1, 3, 256, 256] and the model's own estimate of each
mask's IoU [1, 3]."""

ENCODER_OUTPUTS = ("image_embeddings", "feat_s1", "feat_s0")
"""The encoder's outputs, named and shaped as the decoder's inputs."""

EncoderPart = Literal["whole", "first", "second"]
"""Which part of the encoder a model holds. Halves are for a GPU so slow that the runtime would give up waiting."""

ENCODER_PORTS: dict[EncoderPart, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "whole": (("image",), ENCODER_OUTPUTS),
    "first": (("image",), ("hidden", "feat_s1", "feat_s0")),
    "second": (("hidden",), ("image_embeddings",)),
}
"""Inputs and outputs of each part, in order, float32. `image` is the preprocessed photo, [1, 3, 1024, 1024] in the
published model, and `hidden` [1, 64, 64, 384]."""

LayerNormKind = Literal["safe", "plain"]
"""safe: the variance cannot exceed fp16's range. plain: it can."""

AttentionRank = Literal["rank3", "rank4"]
"""rank3: attention on [heads, N, d]. rank4: on [1, heads, N, d]."""

LongSums = Literal["whole", "split"]
"""whole: each sum is one product. split: attention over the image's positions and, in the decoder and the tracker, long
linear layers and convolutions in pieces, added pairwise."""

Reductions = Literal["whole", "split", "compensated"]
"""`LongSums`, and for the decoder compensated: shorter pieces, added as if with one rounding where SUM adds in float32;
small linear layers have weights of two float16 numbers."""

BatchAxis = Literal["kept", "dropped"]
"""kept: tokens [1, T, C] and pixels [1, P, C], with constants that have the leading 1 too. dropped: [T, C] and [P, C], the
image's constants baked for each position, [P, C]."""

WeightKind = Literal["float32", "float16"]
"""How weights are stored; the graph computes in float32 either way, unless a device decides otherwise."""

Progress = Callable[[str], None]
"""Told in a few words what is being done."""


@dataclass(frozen=True)
class DecoderVariant:
    """How the decoder is written. All variants compute the same in real arithmetic."""

    layernorm: LayerNormKind = "safe"
    attention: AttentionRank = "rank3"
    reductions: Reductions = "whole"
    batch: BatchAxis = "kept"

    def __post_init__(self) -> None:
        for what, word, choices in (
            ("LayerNorm", self.layernorm, ("safe", "plain")),
            ("attention", self.attention, ("rank3", "rank4")),
            ("way to sum", self.reductions, ("whole", "split", "compensated")),
            ("batch dimension", self.batch, ("kept", "dropped")),
        ):
            if word not in choices:
                known = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
                raise UsageError(f"There is no {word!r} {what}.", f"Choose {known}.")

    def __str__(self) -> str:
        return f"{self.layernorm}-{self.attention}-{self.reductions}{'-dropped' if self.batch == 'dropped' else ''}"


CARD = DecoderVariant()
"""The published decoder's way: rank-3 attention, overflow-safe LayerNorm, whole sums."""

SPLIT = DecoderVariant(reductions="split")
"""Right in float16 where the masks' logits are not all near 0; what the tracker's graphs are written as."""

RECOMMENDED = DecoderVariant(reductions="compensated")
"""The way that is right in float16 where SUM adds in float32, as on GPUs; docs/sam2.md has the measurements."""

VARIANTS = tuple(
    DecoderVariant(layernorm, attention, reductions, batch)
    for batch in ("kept", "dropped")
    for reductions in ("whole", "split", "compensated")
    for attention in ("rank3", "rank4")
    for layernorm in ("safe", "plain")
)
"""All of them, the card's first."""
