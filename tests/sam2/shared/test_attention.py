from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

from harness.sam2.shared.contract import VARIANTS, DecoderVariant
from harness.sam2.shared.modules.attention import HeadAttention, head_attention
from tests.sam2.identities import EQUAL, difference, doubled, drawn

if TYPE_CHECKING:
    from transformers import Sam2Model


@pytest.mark.parametrize("piece", [None, 64, 16, 1])
def test_head_attention_is_scaled_dot_product_attention(piece: int | None) -> None:
    query, key, value = drawn(8, 9, 16), drawn(8, 64, 16, seed=1), drawn(8, 64, 16, seed=2)
    wanted = F.scaled_dot_product_attention(query, key, value, scale=0.25)
    assert difference(head_attention(query, key, value, 0.25, piece), wanted) < EQUAL


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.layernorm == "safe"], ids=str)
@pytest.mark.parametrize("name", ["self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"])
@pytest.mark.parametrize("over_image", [False, True])
def test_each_attention_is_upstreams(
    small_model: Sam2Model, name: str, variant: DecoderVariant, over_image: bool
) -> None:
    decoder: Any = doubled(small_model).mask_decoder
    source = getattr(decoder.transformer.layers[1], name)
    query, key, value = drawn(1, 8, 64), drawn(1, 64, 64, seed=1), drawn(1, 64, 64, seed=2)
    with torch.no_grad():
        wanted = source(query=query[None], key=key[None], value=value[None])[0][0]
        assert difference(HeadAttention(source, variant, over_image)(query, key, value), wanted) < EQUAL
