"""Attention as a mobile GPU takes it: operands of rank 3 or 4, long sums whole or in pieces. Shared by encoder and
decoder.

This module imports torch. Import it lazily.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.sam2.shared.contract import DecoderVariant, Reductions
from harness.sam2.shared.modules.sums import (
    Total,
    added,
    compensated_sum,
    shortest_piece,
    split_product,
    split_size,
    sum_pairwise,
)


def head_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, piece: int | None = None, total: Total = sum_pairwise
) -> Tensor:
    """Scaled dot-product attention: softmax(scaling * Q K^T) V, for each head on its own.

    `query` is [heads, N, d]; `key` and `value` are [heads, M, d]; the result is [heads, N, d]. With `piece`, the sum
    over the M keys is made of pieces that long, added by `total`.
    """
    weights = torch.softmax(torch.bmm(query * scaling, key.transpose(1, 2)), dim=-1)
    return torch.bmm(weights, value) if piece is None else split_product(weights, value, piece, total)


class HeadAttention(nn.Module):
    """Upstream's `Sam2Attention`, for one image and one prompt.

    Its sums over the keys are long when those are the image's positions, `over_image`; over tokens they stay whole.
    """

    def __init__(self, source: Any, variant: DecoderVariant, over_image: bool = False) -> None:
        super().__init__()
        self.q_proj, self.k_proj = source.q_proj, source.k_proj
        self.v_proj, self.o_proj = source.v_proj, source.o_proj
        self.heads = int(source.num_attention_heads)
        self.scaling = float(source.scaling)
        self.rank4 = variant.attention == "rank4"
        self.reductions: Reductions = variant.reductions if over_image else "whole"

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(tokens.shape[-2], self.heads, -1).permute(1, 0, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, residual: Tensor | None = None) -> Tensor:
        """[1, N, C] queries on [1, M, C] keys and values, to [1, N, C]; `residual` [1, N, C] is added to it. All may do
        without the leading 1."""
        q, k, v = self._split(self.q_proj(query)), self._split(self.k_proj(key)), self._split(self.v_proj(value))
        attend = _rank4_attention if self.rank4 else head_attention
        attended = attend(q, k, v, self.scaling, *self._way_to_sum(key.shape[-2], q.numel()))
        merged = attended.permute(1, 0, 2).reshape(*query.shape[:-1], -1)
        result: Tensor = self.o_proj(merged) if residual is None else added(self.o_proj, merged, residual)
        return result

    def _way_to_sum(self, keys: int, results: int) -> tuple[int | None, Total]:
        """How many of the `keys` terms of each result one piece has, None for all, and what adds the pieces."""
        if self.reductions == "whole":
            return None, sum_pairwise
        if self.reductions == "split":
            return split_size(keys), sum_pairwise
        return shortest_piece(keys, results), compensated_sum


def _rank4_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, piece: int | None, total: Total
) -> Tensor:
    scores = torch.matmul(query[None] * scaling, key[None].transpose(2, 3))
    weights = torch.softmax(scores, dim=-1)
    if piece is None:
        return torch.matmul(weights, value[None])[0]
    heads, queries, keys = weights.shape[1:]
    count, width = keys // piece, value.shape[-1]
    parts = weights.reshape(heads, queries, count, piece).permute(0, 2, 1, 3)
    partial = torch.matmul(parts, value.reshape(heads, count, piece, width)).reshape(heads, count, queries * width)
    return total(partial).reshape(heads, queries, width)
