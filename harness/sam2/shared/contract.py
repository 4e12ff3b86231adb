"""What the parts of this workload agree on: the decoder's tensor names, and the choices a caller has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from harness.core.errors import UsageError

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

LayerNormKind = Literal["safe", "plain", "scaled"]
"""safe: the variance cannot exceed fp16's range. plain: it can. scaled: it can, while the sum in it is 32^2 times
smaller."""

AttentionRank = Literal["rank3", "rank4"]
"""rank3: attention on [heads, N, d]. rank4: on [1, heads, N, d]."""

LongSums = Literal["whole", "split"]
"""whole: each sum is one product. split: attention over the image's positions and, in the decoder and the tracker, long
linear layers and convolutions in pieces, added pairwise."""

Reductions = Literal["whole", "split", "compensated"]
"""`LongSums`, and for the decoder compensated: shorter pieces, added as if with one rounding where SUM adds in float32;
small linear layers have weights of two float16 numbers."""

BatchAxis = Literal["kept", "dropped"]
"""kept: tokens [1, T, C], pixels [1, P, C], and constants that have the leading 1 too. dropped: [T, C] and [P, C], the
image's constants baked for each position, [P, C] and [C, P]."""

Upsampler = Literal["pad", "resize"]
"""How zeros come between the pixels. pad: by PAD. resize: each pixel is repeated, then masked."""

PromptPlace = Literal["pixels", "image"]
"""What the constant "no mask" prompt is added to. pixels: the flattened image. image: [1, C, H, W], baked so large."""

Candidates = Literal["three", "four"]
"""Which masks come out. three: the candidates for a point. four: before them, the one for asking a single mask."""

WeightKind = Literal["float32", "float16"]
"""How weights are stored; the graph computes in float32 either way, unless a device decides otherwise."""


@dataclass(frozen=True)
class DecoderVariant:
    """How the decoder is written. All variants compute the same masks in real arithmetic."""

    layernorm: LayerNormKind = "safe"
    attention: AttentionRank = "rank3"
    reductions: Reductions = "whole"
    batch: BatchAxis = "kept"
    upsampler: Upsampler = "pad"
    prompt: PromptPlace = "pixels"
    candidates: Candidates = "three"

    def __post_init__(self) -> None:
        for axis, (what, choices) in AXES.items():
            word = getattr(self, axis)
            if word not in choices:
                known = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
                raise UsageError(f"There is no {word!r} {what}.", f"Choose {known}.")

    def __str__(self) -> str:
        return "-".join((self.layernorm, self.attention, self.reductions, *self.further))

    @property
    def further(self) -> tuple[str, ...]:
        """The words of the fields after the first three, where they differ from the card's."""
        words = [(getattr(self, axis), choices[0]) for axis, (_, choices) in AXES.items()]
        return tuple(word for word, cards in words[3:] if word != cards)

    @classmethod
    def named(cls, name: str) -> DecoderVariant:
        """A name in `PRESETS`, or the words in which a decoder differs from the card's, joined by "-" in any order:
        `dropped`, `plain-rank4-split`, or all of them as `str` gives them. Raises `UsageError` for others."""
        if name in PRESETS:
            return PRESETS[name]
        axis_of = {word: axis for axis, (_, choices) in AXES.items() for word in choices}
        given: dict[str, str] = {}
        for word in name.split("-"):
            axis = axis_of.get(word)
            if axis is None or axis in given:
                problem = "is no word for it" if axis is None else f"is a second {AXES[axis][0]}"
                raise UsageError(
                    f"There is no decoder variant {name!r}: {word!r} {problem}.",
                    f"Give {', '.join(PRESETS)}, or words among {', '.join(axis_of)}, joined by '-'.",
                )
            given[axis] = word
        return replace(CARD, **given)  # type: ignore[arg-type]


AXES: dict[str, tuple[str, tuple[str, ...]]] = {
    "layernorm": ("LayerNorm", get_args(LayerNormKind)),
    "attention": ("attention", get_args(AttentionRank)),
    "reductions": ("way to sum", get_args(Reductions)),
    "batch": ("batch dimension", get_args(BatchAxis)),
    "upsampler": ("upsampler", get_args(Upsampler)),
    "prompt": ("place for the prompt", get_args(PromptPlace)),
    "candidates": ("number of masks", get_args(Candidates)),
}
"""Each field of a variant: what it is called, and its choices, the card's first. No word belongs to two."""


CARD = DecoderVariant()
"""The model card's way: rank-3 attention, overflow-safe LayerNorm, whole sums."""

SPLIT = DecoderVariant(reductions="split")
"""Right in float16 where the masks' logits are not all near 0; what the tracker's graphs are written as."""

RECOMMENDED = DecoderVariant(reductions="compensated")
"""The way that is right in float16 where SUM adds in float32, as on GPUs; docs/sam2.md has the measurements."""

PUBLISHED_V1 = DecoderVariant(layernorm="scaled", batch="dropped", upsampler="resize", prompt="image")
"""The first published decoder's way, as litert-samples' `convert_sam2_decoder.py` had it before rank-4 attention. Its
mask head, a product of rank 2, is none of them: litert-torch drops a leading 1 there by itself."""

PRESETS = {"card": CARD, "split": SPLIT, "recommended": RECOMMENDED, "published-v1": PUBLISHED_V1}
"""Variants with a name of their own."""

VARIANTS = tuple(
    DecoderVariant(layernorm, attention, reductions, batch)
    for batch in ("kept", "dropped")
    for reductions in ("whole", "split", "compensated")
    for attention in ("rank3", "rank4")
    for layernorm in ("safe", "plain")
)
"""All ways of the first four fields but the scaled LayerNorm, the card's first; the other fields are the card's."""
