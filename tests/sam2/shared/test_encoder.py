from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.sam2.shared import image
from harness.sam2.shared.contract import EncoderPart
from harness.sam2.shared.modules.encoder import (
    SCORES_BYTES,
    WindowAttention,
    build_encoder,
    folded,
    from_windows,
    pool,
    sample_input,
    to_windows,
)
from tests.sam2.identities import EQUAL, difference, doubled, drawn

if TYPE_CHECKING:
    from transformers import Sam2Model

# Parts of it have no types.
COARSEST_ROUNDED = 2.0**-23
"""Upstream's pyramid rounds the coarsest level to float32, whatever the model's type is, before it adds it to the next:
an error of 2^-24 of values up to twice as large as the sums."""

upstream: Any = importlib.import_module("transformers.models.sam2.modeling_sam2")


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    photo = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return torch.from_numpy(image.preprocess(photo, 128)).double()


@pytest.fixture(scope="module")
def model(small_model: Sam2Model) -> Sam2Model:
    return doubled(small_model)


@pytest.fixture(scope="module")
def wanted(model: Sam2Model, pixels: Tensor) -> list[Tensor]:
    """Upstream's features, deepest first."""
    return list(model.get_image_embeddings(pixels))[::-1]


def test_windows_are_upstreams() -> None:
    x = drawn(1, 12, 8, 5)
    assert torch.equal(to_windows(x, 4), upstream.window_partition(x, 4)[0].reshape(6, 16, 5))
    assert torch.equal(from_windows(to_windows(x, 4), 4, 12, 8), x)


def test_windows_need_no_more_than_four_axes() -> None:
    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return from_windows(to_windows(x, 4), 4, 12, 8)

    program = torch.export.export(Module(), (drawn(1, 12, 8, 5),))
    ranks = [value.dim() for node in program.graph.nodes if isinstance(value := node.meta.get("val"), torch.Tensor)]
    assert max(ranks) == 4


def test_pooling_keeps_the_largest_of_each_block() -> None:
    x = drawn(1, 6, 4, 3)
    assert torch.equal(pool(x, (2, 2)), x.reshape(1, 3, 2, 2, 2, 3).amax(dim=(2, 4)))


@pytest.mark.parametrize("block", range(5))
@pytest.mark.parametrize("size", [16, 10])
def test_each_blocks_attention_is_upstreams_at_sizes_that_fill_windows_and_that_do_not(
    model: Sam2Model, block: int, size: int
) -> None:
    encoder: Any = model.vision_encoder
    source = encoder.backbone.blocks[block]
    window, stride = source.window_size, source.query_stride
    x = drawn(1, size, size, source.dim)
    with torch.no_grad():
        got = WindowAttention(source.attn, window, stride, "split")(x)
        if window:
            windows, padded = upstream.window_partition(x, window)
            step = 1 if stride is None else stride[0]
            padded = tuple(side // step for side in padded)
            expected = upstream.window_unpartition(
                source.attn(windows), window // step, padded, (size // step, size // step)
            )
        else:
            expected = source.attn(x)
        assert difference(got, expected) < EQUAL


def test_over_the_whole_image_queries_come_in_blocks_that_bound_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Sam2HieraDetConfig

    source = upstream.Sam2MultiScaleAttention(Sam2HieraDetConfig(), 8, 8, 2).double()
    attention = WindowAttention(source, 0, None, "split")
    x = drawn(1, 32, 32, 8)
    with torch.no_grad():
        whole = attention(x)
        monkeypatch.setattr("harness.sam2.shared.modules.encoder.SCORES_BYTES", 4 * 2 * 1024 * 100)
        program = torch.export.export(attention, (x,))
        sizes = [node.meta["val"].shape for node in program.graph.nodes if "softmax" in str(node.target)]
        assert [tuple(size) for size in sizes] == [(2, 100, 1024)] * 10 + [(2, 24, 1024)]
        assert difference(attention(x), whole) < EQUAL
    assert SCORES_BYTES == 64 * 2**20


def test_a_window_that_pooling_would_straddle_is_refused() -> None:
    from transformers import Sam2HieraDetConfig

    source = upstream.Sam2MultiScaleAttention(Sam2HieraDetConfig(), 8, 8, 2, (2, 2))
    with pytest.raises(ValueError, match=r"window of 7 cannot be pooled by \(2, 2\)"):
        WindowAttention(source, 7, (2, 2), "whole")


def test_folding_is_one_convolution_after_the_other_and_the_offset() -> None:
    first, second, offset = nn.Conv2d(6, 8, 1).double(), nn.Conv2d(8, 3, 1).double(), drawn(3)
    x = drawn(1, 6, 5, 4, seed=1)
    with torch.no_grad():
        expected = second(first(x)) + offset[None, :, None, None]
        assert difference(folded(first, second, offset)(x), expected) < EQUAL


@pytest.mark.parametrize("conv", [nn.Conv2d(6, 8, 3), nn.Conv2d(6, 8, 1, stride=2), nn.Conv2d(6, 8, 1, bias=False)])
def test_a_convolution_of_another_kind_is_not_folded(conv: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="only a plain 1x1 convolution"):
        folded(conv)


@pytest.mark.parametrize("layernorm", ["safe", "plain"])
@pytest.mark.parametrize("reductions", ["whole", "split"])
def test_the_encoder_gives_what_upstreams_decoder_reads(
    model: Sam2Model, pixels: Tensor, wanted: list[Tensor], layernorm: Any, reductions: Any
) -> None:
    got = build_encoder(model, "whole", layernorm, reductions)(pixels)
    assert [tuple(features.shape) for features in got] == [(1, 64, 8, 8), (1, 16, 16, 16), (1, 8, 32, 32)]
    for features, expected, most in zip(got, wanted, (COARSEST_ROUNDED, EQUAL, EQUAL), strict=True):
        assert difference(features, expected) < most


def test_the_halves_after_each_other_are_the_whole(model: Sam2Model, pixels: Tensor, wanted: list[Tensor]) -> None:
    hidden, feat_s1, feat_s0 = build_encoder(model, "first")(pixels)
    assert hidden.shape == sample_input(model, "second").shape == (1, 8, 8, 32)
    deepest = build_encoder(model, "second")(hidden)
    assert difference(deepest, wanted[0]) < COARSEST_ROUNDED
    assert difference(feat_s1, wanted[1]) < EQUAL
    assert difference(feat_s0, wanted[2]) < EQUAL


@pytest.mark.parametrize("part", ["whole", "first", "second"])
def test_no_tensor_has_more_than_four_axes(small_model: Sam2Model, part: EncoderPart) -> None:
    program = torch.export.export(build_encoder(small_model, part), (sample_input(small_model, part),), strict=False)
    ranks = [value.dim() for node in program.graph.nodes if isinstance(value := node.meta.get("val"), torch.Tensor)]
    assert len(ranks) > 80
    assert max(ranks) == 4


def test_the_positions_are_one_buffer(small_model: Sam2Model) -> None:
    trunk: Any = small_model.vision_encoder.backbone
    encoder: Any = build_encoder(small_model)
    assert torch.equal(encoder.positions, trunk._get_pos_embed((32, 32)))
    upsampled = F.interpolate(trunk.pos_embed, size=(32, 32), mode="bicubic")
    assert not torch.equal(encoder.positions.permute(0, 3, 1, 2), upsampled), "the window's part is in it too"


def test_a_pyramid_of_another_kind_is_refused(small_model: Sam2Model, monkeypatch: pytest.MonkeyPatch) -> None:
    neck: Any = small_model.vision_encoder.neck
    monkeypatch.setattr(neck, "fpn_top_down_levels", [0, 1, 2, 3])
    with pytest.raises(ValueError, match="only a pyramid of four levels"):
        build_encoder(small_model)


def test_building_leaves_the_model_as_it_was(model: Sam2Model, pixels: Tensor, wanted: list[Tensor]) -> None:
    encoder = build_encoder(model)
    for parameter in encoder.parameters():
        parameter.data.zero_()
    assert torch.equal(model.get_image_embeddings(pixels)[-1], wanted[0])
