from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from harness.errors import UsageError
from harness.sam2.contract import CARD, RECOMMENDED, SPLIT, VARIANTS, DecoderVariant
from harness.sam2.decoder import (
    MaskDecoder,
    build_decoder,
    mask_logits,
    sample_inputs,
)
from harness.sam2.norm import PlainLayerNorm, SafeLayerNorm
from harness.sam2.upsample import UpsampleConv, zero_stuff
from tests.sam2.identities import EQUAL, difference, doubled, drawn

if TYPE_CHECKING:
    from transformers import Sam2Model


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


def test_zero_stuffing_keeps_the_values_at_even_places_and_zeros_the_rest() -> None:
    x = drawn(1, 3, 4, 5)
    wanted = torch.zeros(1, 3, 8, 10, dtype=x.dtype)
    wanted[:, :, ::2, ::2] = x
    assert torch.equal(zero_stuff(x), wanted)


def test_the_upsampling_convolution_is_the_transposed_convolution() -> None:
    source = nn.ConvTranspose2d(6, 4, kernel_size=2, stride=2).double()
    x = drawn(1, 6, 5, 7)
    with torch.no_grad():
        assert difference(UpsampleConv(source)(x), source(x)) < EQUAL


@pytest.mark.parametrize(
    "source",
    [
        nn.ConvTranspose2d(4, 4, kernel_size=3, stride=2),
        nn.ConvTranspose2d(4, 4, kernel_size=2, stride=1),
        nn.ConvTranspose2d(4, 4, kernel_size=2, stride=2, padding=1),
        nn.ConvTranspose2d(4, 4, kernel_size=2, stride=2, groups=2),
    ],
)
def test_a_transposed_convolution_of_another_kind_is_refused(source: nn.ConvTranspose2d) -> None:
    with pytest.raises(ValueError, match="only kernel 2, stride 2"):
        UpsampleConv(source)


@pytest.mark.parametrize("compensated", [False, True])
def test_mask_logits_are_each_tokens_weighted_sum_of_the_features(compensated: bool) -> None:
    hyper, upscaled = drawn(1, 4, 8), drawn(1, 8, 6, 5, seed=1)
    wanted = torch.einsum("bmc,bchw->bmhw", hyper, upscaled)
    assert difference(mask_logits(hyper, upscaled, compensated), wanted) < EQUAL


@pytest.mark.parametrize("kind", [SafeLayerNorm, PlainLayerNorm])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_both_layer_norms_are_torchs_at_every_scale(
    kind: type[SafeLayerNorm] | type[PlainLayerNorm], scale: float
) -> None:
    source = nn.LayerNorm(64).double()
    with torch.no_grad():
        source.weight.copy_(drawn(64, seed=1))
        source.bias.copy_(drawn(64, seed=2))
        x = scale * drawn(5, 64) + 3 * scale
        assert difference(kind(source)(x), source(x)) < EQUAL


@pytest.mark.parametrize("kind", [SafeLayerNorm, PlainLayerNorm])
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


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_small_decoder_is_upstreams(small_model: Sam2Model, variant: DecoderVariant) -> None:
    model, inputs = doubled(small_model), exact_inputs(small_model)
    masks, scores = upstream(model, inputs)
    got = build_decoder(model, variant)(*inputs)
    assert got[0].shape == (1, 3, 32, 32)
    assert got[1].shape == (1, 3)
    assert difference(got[0], masks) < EQUAL
    assert difference(got[1], scores) < EQUAL


@pytest.mark.parametrize("variant", [CARD, SPLIT, RECOMMENDED], ids=str)
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
    assert difference(build_decoder(model)(*inputs)[0], upstream(model, inputs)[0]) < EQUAL


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"layernorm": "fast"}, "There is no 'fast' LayerNorm. Choose 'safe' or 'plain'."),
        ({"attention": "rank5"}, "There is no 'rank5' attention. Choose 'rank3' or 'rank4'."),
        ({"batch": "lost"}, "There is no 'lost' batch dimension. Choose 'kept' or 'dropped'."),
        ({"reductions": "long"}, "There is no 'long' way to sum. Choose 'whole', 'split' or 'compensated'."),
    ],
)
def test_a_flag_that_does_not_exist_is_refused(flags: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        DecoderVariant(**flags)
    assert str(caught.value) == message


def test_there_are_twenty_four_variants_and_the_cards_is_the_first() -> None:
    assert VARIANTS[0] == CARD == DecoderVariant("safe", "rank3", "whole", "kept")
    assert len({str(variant) for variant in VARIANTS}) == 24


def test_a_variant_is_named_by_its_words_and_keeping_the_batch_dimension_is_not_said() -> None:
    assert [str(CARD), str(DecoderVariant("plain", "rank4", "split", "dropped"))] == [
        "safe-rank3-whole",
        "plain-rank4-split-dropped",
    ]
