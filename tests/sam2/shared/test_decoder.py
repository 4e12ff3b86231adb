from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from harness.sam2.shared.contract import CARD, PUBLISHED_V1, RECOMMENDED, SPLIT, VARIANTS, DecoderVariant
from harness.sam2.shared.modules.decoder import MaskDecoder, build_decoder, mask_logits, sample_inputs
from harness.sam2.shared.modules.norm import PlainLayerNorm, SafeLayerNorm, ScaledLayerNorm
from tests.sam2.identities import EQUAL, difference, doubled, drawn
from tests.sam2.variants import each_word_once

if TYPE_CHECKING:
    from transformers import Sam2Model


PUBLISHED = tuple(
    DecoderVariant.named(name)
    for name in (
        "published-v1",
        "scaled",
        "resize",
        "image",
        "image-dropped",
        "scaled-split-dropped-resize-image",
        "scaled-compensated-dropped-resize-image",
    )
)
"""The first published decoder, its differences from the card's alone, and with its sums made in pieces."""


def upstream(model: Sam2Model, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The masks and scores of transformers' own decoder for the rewritten decoder's inputs."""
    embeddings, sparse, feat_s1, feat_s0 = inputs
    dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embeddings)
    with torch.no_grad():
        masks, scores, _, _ = model.mask_decoder(
            image_embeddings=embeddings,
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse[None],
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=[feat_s0, feat_s1],
        )
    return masks[:, 0], scores[:, 0]


def exact_inputs(model: Sam2Model) -> tuple[Tensor, ...]:
    return tuple(tensor.double() for tensor in sample_inputs(model))


class Half(nn.Module):
    """A LayerNorm run as a device with fp16 storage would: every result rounded to fp16."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm.half()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(x.half())
        return result.float()


@pytest.mark.parametrize("compensated", [False, True])
def test_mask_logits_are_each_tokens_weighted_sum_of_the_features(compensated: bool) -> None:
    hyper, upscaled = drawn(1, 4, 8), drawn(1, 8, 6, 5, seed=1)
    wanted = torch.einsum("bmc,bchw->bmhw", hyper, upscaled)
    for tokens in (hyper, hyper[0]):
        assert difference(mask_logits(tokens, upscaled, compensated), wanted) < EQUAL


@pytest.mark.parametrize("kind", [SafeLayerNorm, PlainLayerNorm, ScaledLayerNorm])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_all_layer_norms_are_torchs_at_every_scale(
    kind: type[SafeLayerNorm] | type[PlainLayerNorm], scale: float
) -> None:
    source = nn.LayerNorm(64).double()
    with torch.no_grad():
        source.weight.copy_(drawn(64, seed=1))
        source.bias.copy_(drawn(64, seed=2))
        x = scale * drawn(5, 64) + 3 * scale
        assert difference(kind(source)(x), source(x)) < EQUAL


@pytest.mark.parametrize("kind", [SafeLayerNorm, PlainLayerNorm, ScaledLayerNorm])
def test_a_constant_input_gives_the_offset(kind: type[SafeLayerNorm] | type[PlainLayerNorm]) -> None:
    source = nn.LayerNorm(64).double()
    with torch.no_grad():
        source.bias.copy_(drawn(64))
        assert torch.equal(kind(source)(torch.full((1, 64), 5.0, dtype=torch.float64)), source.bias[None])


def test_in_fp16_the_safe_layer_norm_is_right_where_the_plain_one_overflows() -> None:
    x = (2000 * drawn(4, 64)).float()
    wanted = nn.LayerNorm(64)(x)
    with torch.no_grad():
        # Ten roundings to float16 at most, each by 2^-11 of a value no larger than the result.
        assert difference(Half(SafeLayerNorm(nn.LayerNorm(64)))(x), wanted) < 10 * 2.0**-11
        assert difference(Half(PlainLayerNorm(nn.LayerNorm(64)))(x), wanted) > 0.9


def test_the_image_positions_and_the_dense_prompt_are_baked_in(small_model: Sam2Model) -> None:
    decoder = MaskDecoder(small_model, CARD)
    positions = small_model.get_image_wide_positional_embeddings()
    assert decoder.image_positions.shape == (1, 64, 64)
    assert torch.equal(decoder.image_positions[0].T.reshape(1, 64, 8, 8), positions)
    assert torch.equal(decoder.dense_prompt, small_model.prompt_encoder.no_mask_embed.weight)


def test_without_the_batch_dimension_they_are_baked_in_for_each_position(small_model: Sam2Model) -> None:
    decoder = MaskDecoder(small_model, DecoderVariant(batch="dropped"))
    kept = MaskDecoder(small_model, CARD)
    assert decoder.output_tokens.shape == (6, 64)
    assert torch.equal(decoder.output_tokens, kept.output_tokens[0])
    assert torch.equal(decoder.image_positions, kept.image_positions[0])
    assert torch.equal(decoder.dense_prompt, kept.dense_prompt.T.expand(64, 8 * 8))


def test_the_first_published_decoder_bakes_the_dense_prompt_as_an_image(small_model: Sam2Model) -> None:
    dense = MaskDecoder(small_model, PUBLISHED_V1).dense_prompt
    assert torch.equal(dense, small_model.prompt_encoder.no_mask_embed.weight.reshape(1, 64, 1, 1).expand(1, 64, 8, 8))


@pytest.mark.parametrize("variant", each_word_once(VARIANTS + PUBLISHED))
def test_the_small_decoder_is_upstreams(small_model: Sam2Model, variant: DecoderVariant) -> None:
    model, inputs = doubled(small_model), exact_inputs(small_model)
    masks, scores = upstream(model, inputs)
    got = build_decoder(model, variant)(*inputs)
    assert got[0].shape == (1, 3, 32, 32)
    assert got[1].shape == (1, 3)
    assert difference(got[0], masks) < EQUAL
    assert difference(got[1], scores) < EQUAL


def test_the_output_tokens_keep_their_shape_without_the_batch_dimension(small_model: Sam2Model) -> None:
    inputs = sample_inputs(small_model)
    with torch.no_grad():
        kept, _, _ = MaskDecoder(small_model, CARD).decode(*inputs)
        dropped, _, _ = MaskDecoder(small_model, DecoderVariant(batch="dropped")).decode(*inputs)
    assert kept.shape == (1, 8, 64)
    assert difference(dropped, kept) < 1e-5


@pytest.mark.parametrize(
    "variant", each_word_once([RECOMMENDED, PUBLISHED_V1, CARD, SPLIT, DecoderVariant(batch="dropped")])
)
def test_the_published_decoder_is_upstreams(full_decoder_model: Sam2Model, variant: DecoderVariant) -> None:
    model, inputs = doubled(full_decoder_model), exact_inputs(full_decoder_model)
    shapes = [list(tensor.shape) for tensor in inputs]
    assert shapes == [[1, 256, 64, 64], [1, 2, 256], [1, 64, 128, 128], [1, 32, 256, 256]]
    masks, scores = upstream(model, inputs)
    got = build_decoder(model, variant)(*inputs)
    assert got[0].shape == (1, 3, 256, 256)
    assert difference(got[0], masks) < EQUAL
    assert difference(got[1], scores) < EQUAL


def test_more_tokens_than_one_click_are_taken(small_model: Sam2Model) -> None:
    embeddings, _, feat_s1, feat_s0 = exact_inputs(small_model)
    model, inputs = doubled(small_model), (embeddings, drawn(1, 5, 64), feat_s1, feat_s0)
    for variant in (CARD, DecoderVariant(batch="dropped")):
        assert difference(build_decoder(model, variant)(*inputs)[0], upstream(model, inputs)[0]) < EQUAL


@pytest.mark.parametrize("variant", each_word_once(VARIANTS + PUBLISHED))
def test_no_tensor_has_more_than_four_axes_and_no_operation_depends_on_values(
    small_model: Sam2Model, variant: DecoderVariant
) -> None:
    program = torch.export.export(build_decoder(small_model, variant), sample_inputs(small_model), strict=False)
    ranks = [value.dim() for node in program.graph.nodes if isinstance(value := node.meta.get("val"), torch.Tensor)]
    operations = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert len(ranks) > 200
    assert max(ranks) == 4
    assert not [name for name in operations if any(bad in name for bad in ("argmax", "gather", "where", "sin"))]


def test_building_leaves_the_model_as_it_was(small_model: Sam2Model) -> None:
    inputs = sample_inputs(small_model)
    before = upstream(small_model, inputs)[0]
    decoder = build_decoder(small_model)
    for parameter in decoder.parameters():
        parameter.data.zero_()
    assert torch.equal(upstream(small_model, inputs)[0], before)
