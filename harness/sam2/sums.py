"""Long sums in pieces, for devices that add in float16.

A sum over 4096 products of about 1/4096 each loses most of its digits in a float16 accumulator: once the sum is large,
what is added falls below its last digit. In pieces, each piece's sum is short, and the partial sums are added pairwise,
in a tree, so that no addition meets a far larger one. Equal to the whole sum in real arithmetic.
This module imports torch. Import it lazily.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORT_LINEAR = 128
"""Linear layers over fewer terms stay as they are."""


def split_size(count: int) -> int:
    """The number of terms in one piece of a split sum over `count` terms: the power of two nearest to its root from
    below, so that neither the pieces nor their number get long; `count` itself where it does not divide evenly."""
    size = 1
    while 4 * size * size <= count:
        size *= 2
    return size if count % size == 0 else count


def split_product(weights: Tensor, value: Tensor, piece: int) -> Tensor:
    """`weights` [B, N, M] times `value` [B, M, d], to [B, N, d]: products over `piece` keys each, summed pairwise.

    Raises `ValueError` when M is no multiple of `piece`.
    """
    batch, queries, keys = weights.shape
    width = value.shape[-1]
    if keys % piece:
        raise ValueError(f"a sum over {keys} keys cannot be split into pieces of {piece}")
    count = keys // piece
    parts = weights.reshape(batch, queries, count, piece).permute(0, 2, 1, 3).reshape(batch * count, queries, piece)
    partial = torch.bmm(parts, value.reshape(batch * count, piece, width)).reshape(batch, count, queries * width)
    return sum_pairwise(partial).reshape(batch, queries, width)


def sum_pairwise(terms: Tensor) -> Tensor:
    """[B, K, n] to [B, 1, n]: the K terms added in a tree of halves; an odd one out joins at the next level."""
    while (count := terms.shape[1]) > 1:
        half = count // 2
        added = terms[:, :half] + terms[:, half : 2 * half]
        terms = added if count == 2 * half else torch.cat([added, terms[:, 2 * half :]], dim=1)
    return terms


class SplitLinear(nn.Module):
    """A linear layer over the last axis whose sums are made of pieces of `split_size` terms."""

    weight: Tensor

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        outputs, inputs = source.weight.shape
        piece = split_size(inputs)
        pieces = source.weight.detach().T.reshape(inputs // piece, piece, outputs)
        self.register_buffer("weight", pieces.contiguous())
        self.bias = source.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] to [..., D]."""
        count, piece, outputs = self.weight.shape
        rows = x.numel() // (count * piece)
        parts = x.reshape(rows, count, piece).permute(1, 0, 2)
        partial = torch.bmm(parts, self.weight).reshape(1, count, rows * outputs)
        return sum_pairwise(partial).reshape(*x.shape[:-1], outputs) + self.bias


def split_linears(module: nn.Module) -> None:
    """Put a `SplitLinear` in the place of every linear layer inside `module` with at least `SHORT_LINEAR` terms."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            if child.in_features >= SHORT_LINEAR:
                setattr(module, name, SplitLinear(child))
        else:
            split_linears(child)


def split_conv(x: Tensor, weight: Tensor, bias: Tensor | None, piece: int = 32) -> Tensor:
    """A convolution without padding of [1, C, H, W], with sums over `piece` channels at a time; whole where C does not
    divide by that."""
    channels = x.shape[1]
    if channels <= piece or channels % piece:
        return F.conv2d(x, weight, bias)
    partial = [F.conv2d(x[:, at : at + piece], weight[:, at : at + piece]) for at in range(0, channels, piece)]
    while len(partial) > 1:
        paired = [one + other for one, other in zip(partial[::2], partial[1::2], strict=False)]
        partial = paired + partial[2 * len(paired) :]
    return partial[0] if bias is None else partial[0] + bias[None, :, None, None]
