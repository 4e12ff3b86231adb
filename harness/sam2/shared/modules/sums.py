"""Long sums for devices that add in float16, two ways, both equal to the whole sum in real arithmetic.

A sum over 4096 products of about 1/4096 each loses most of its digits in a float16 accumulator: once the sum is large,
what is added falls below its last digit.

- Split: in pieces, each piece's sum is short, and the partial sums are added pairwise, in a tree, so that no addition
  meets a far larger one.
- Compensated: the pieces of a product of matrices are as short as memory allows, down to single products, and are added
  by `compensated_sum`, whose result is as good as one rounding of their exact sum.

This module imports torch. Import it lazily.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORT_LINEAR = 128
"""Linear layers over fewer terms stay as they are."""

MOST_TERMS = 1 << 23
"""The most values that the products of one compensated product of matrices may be, 16 MB as float16."""

FINE_WEIGHTS = 1 << 17
"""A compensated linear layer with more weights than this has them as float16 alone, to keep the file small."""

FEW_ROWS = 64
"""On more rows a compensated linear layer adds its bias afterwards: repeated for every row it would be large."""

LOW_SCALE = 2048.0
"""The low halves of constants are stored times this, 2^11, which takes them out of float16's subnormal numbers."""

LOW_PIECES = 2
"""Products of the low halves are made in so many pieces. In one, litert-torch makes a FULLY_CONNECTED of them and puts
the scale that follows into its weights."""

CONV_PIECE = 16
"""Channels in one piece of a compensated convolution."""

Total = Callable[[Tensor], Tensor]
"""Adds terms: [B, K, n] to [B, 1, n]."""


def split_size(count: int) -> int:
    """The number of terms in one piece of a split sum over `count` terms: the power of two nearest to its root from
    below, so that neither the pieces nor their number get long; `count` itself where it does not divide evenly."""
    size = 1
    while 4 * size * size <= count:
        size *= 2
    return size if count % size == 0 else count


def shortest_piece(count: int, results: int) -> int:
    """The number of terms in one piece of a compensated sum over `count` terms, made for each of `results` results: the
    smallest power of two with which all pieces' sums are `MOST_TERMS` values at most; `count` where none is."""
    piece = 1
    while count % piece == 0:
        if count // piece * results <= MOST_TERMS:
            return piece
        piece *= 2
    return count


def products(x: Tensor, weight: Tensor, count: int) -> Tensor:
    """The terms of `x` [..., K], N rows, times `weight` [K, D], in `count` pieces of K: [1, count, N D]."""
    inputs, outputs = weight.shape
    rows, piece = x.numel() // inputs, inputs // count
    parts = x.reshape(rows, count, piece).permute(1, 0, 2)
    return torch.bmm(parts, weight.reshape(count, piece, outputs)).reshape(1, count, rows * outputs)


def split_product(weights: Tensor, value: Tensor, piece: int, total: Total | None = None) -> Tensor:
    """`weights` [B, N, M] times `value` [B, M, d], to [B, N, d]: products over `piece` keys each, summed pairwise or
    by `total`.

    Raises `ValueError` when M is no multiple of `piece`.
    """
    batch, queries, keys = weights.shape
    width = value.shape[-1]
    if keys % piece:
        raise ValueError(f"a sum over {keys} keys cannot be split into pieces of {piece}")
    count = keys // piece
    parts = weights.reshape(batch, queries, count, piece).permute(0, 2, 1, 3).reshape(batch * count, queries, piece)
    partial = torch.bmm(parts, value.reshape(batch * count, piece, width)).reshape(batch, count, queries * width)
    return (total or sum_pairwise)(partial).reshape(batch, queries, width)


def sum_pairwise(terms: Tensor) -> Tensor:
    """[B, K, n] to [B, 1, n]: the K terms added in a tree of halves; an odd one out joins at the next level."""
    while (count := terms.shape[1]) > 1:
        half = count // 2
        added = terms[:, :half] + terms[:, half : 2 * half]
        terms = added if count == 2 * half else torch.cat([added, terms[:, 2 * half :]], dim=1)
    return terms


def compensated_sum(terms: Tensor) -> Tensor:
    """[B, K, n] to [B, 1, n]: the K terms added, as good as with one rounding in all; NaN where the sum overflows.

    A GPU's SUM adds in float32 whatever it stores (`GetAccumType` in TFLite's GPU kernel `reduce.cc`), and loses digits
    only as it writes the result. What it lost is a sum too, of the terms less that result: a small number, which
    float16 holds. Adding it is compensated summation (Kahan 1965) with the accumulator's help.
    """
    if terms.shape[1] == 1:
        return terms
    total = terms.sum(dim=1, keepdim=True)
    lost = torch.cat([terms, -total], dim=1).sum(dim=1, keepdim=True)
    return total + lost


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors whose sum is `values`: the float16 number nearest to each, as float32, and what that lacks. Where a
    value is beyond float16 the first is the value itself."""
    nearest = values.half().to(values.dtype)
    high = torch.where(nearest.isfinite(), nearest, values)
    return high, values - high


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


class CompensatedLinear(nn.Module):
    """A linear layer over the last axis whose sums are compensated.

    Up to `FINE_WEIGHTS` weights, and the bias on few rows, are two float16 numbers each: a device that rounds constants
    to float16 loses nothing of them.
    """

    high: Tensor
    low: Tensor | None
    bias_high: Tensor
    bias_low: Tensor

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        weight = source.weight.detach().T.contiguous()
        low = None
        if weight.numel() <= FINE_WEIGHTS:
            weight, low = halves(weight)
            low = LOW_SCALE * low
        self.register_buffer("high", weight)
        self.register_buffer("low", low)
        self.bias = source.bias
        bias_high, bias_low = halves(source.bias.detach())
        self.register_buffer("bias_high", bias_high)
        self.register_buffer("bias_low", LOW_SCALE * bias_low)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[..., K] to [..., D]; with `residual` [..., D], that is added in the same sum."""
        inputs, outputs = self.high.shape
        shape = (*x.shape[:-1], outputs)
        rows = x.numel() // inputs
        terms = [products(x, self.high, inputs // shortest_piece(inputs, rows * outputs))]
        few = rows <= FEW_ROWS
        low = []
        if self.low is not None:
            low.append(products(x, self.low, LOW_PIECES if inputs % LOW_PIECES == 0 else 1))
        if few:
            terms.append(torch.cat([self.bias_high] * rows).reshape(1, 1, rows * outputs))
            low.append(torch.cat([self.bias_low] * rows).reshape(1, 1, rows * outputs))
        if low:
            terms.append(torch.cat(low, dim=1) * (1 / LOW_SCALE))
        if residual is not None:
            terms.append(residual.reshape(1, 1, rows * outputs))
        total = compensated_sum(torch.cat(terms, dim=1)).reshape(shape)
        return total if few else total + self.bias


def added(layer: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """`residual` plus the layer's result, in one sum where the layer can."""
    result: Tensor = layer(x, residual) if isinstance(layer, CompensatedLinear) else residual + layer(x)
    return result


def replace_linears(module: nn.Module, layer: type[SplitLinear] | type[CompensatedLinear]) -> None:
    """Put a `layer` in the place of every linear layer inside `module` with at least `SHORT_LINEAR` terms."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            if child.in_features >= SHORT_LINEAR:
                setattr(module, name, layer(child))
        else:
            replace_linears(child, layer)


def split_conv(x: Tensor, weight: Tensor, bias: Tensor | None, piece: int = 32, compensated: bool = False) -> Tensor:
    """A convolution without padding of [1, C, H, W], with sums over `piece` channels at a time; whole where C does not
    divide by that."""
    channels = x.shape[1]
    if channels <= piece or channels % piece:
        return F.conv2d(x, weight, bias)
    partial = [F.conv2d(x[:, at : at + piece], weight[:, at : at + piece]) for at in range(0, channels, piece)]
    summed = _compensated(partial) if compensated else _pairwise(partial)
    return summed if bias is None else summed + bias[None, :, None, None]


def _pairwise(partial: list[Tensor]) -> Tensor:
    while len(partial) > 1:
        paired = [one + other for one, other in zip(partial[::2], partial[1::2], strict=False)]
        partial = paired + partial[2 * len(paired) :]
    return partial[0]


def _compensated(partial: list[Tensor]) -> Tensor:
    terms = torch.cat([part.reshape(1, 1, -1) for part in partial], dim=1)
    return compensated_sum(terms).reshape(partial[0].shape)
