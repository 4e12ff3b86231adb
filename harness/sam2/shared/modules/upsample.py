"""A stride-2 ConvTranspose2d as zero-stuffing and a convolution; some phones refuse TRANSPOSE_CONV.

A transposed convolution is a convolution of the zero-stuffed input with the kernel flipped and its channels swapped.
The zeros come from PAD, or as in the first published decoder from a nearest-neighbour resize times a mask.

This module imports torch. Import it lazily.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.sam2.shared.contract import Reductions, Upsampler
from harness.sam2.shared.modules.sums import CONV_PIECE, split_conv


def zero_stuff(x: Tensor) -> Tensor:
    """[1, C, H, W] to [1, C, 2H, 2W] with x at the even places and zeros elsewhere, by rank-4 PADs and
    RESHAPEs alone."""
    _, channels, height, width = x.shape
    columns = F.pad(x.reshape(channels, height, width, 1), (0, 1)).reshape(channels, height, 1, 2 * width)
    return F.pad(columns, (0, 0, 0, 1)).reshape(1, channels, 2 * height, 2 * width)


class UpsampleConv(nn.Module):
    """`ConvTranspose2d(kernel_size=2, stride=2)` as a convolution with the same sums, zeros stuffed by PAD."""

    def __init__(self, source: nn.ConvTranspose2d, reductions: Reductions = "whole") -> None:
        super().__init__()
        self.reductions = reductions
        shape = (source.kernel_size, source.stride, source.padding, source.groups)
        if shape != ((2, 2), (2, 2), (0, 0), 1):
            raise ValueError(f"only kernel 2, stride 2, no padding and one group can be rewritten, not {source}")
        self.weight = nn.Parameter(source.weight.detach().flip(2, 3).transpose(0, 1).contiguous())
        self.bias = source.bias

    def forward(self, x: Tensor) -> Tensor:
        """[1, C, H, W] to [1, D, 2H, 2W]."""
        # zero_stuff ends on a zero, so only the leading side still needs room for the kernel's overlap.
        return self._convolved(F.pad(zero_stuff(x), (1, 0, 1, 0)))

    def _convolved(self, stuffed: Tensor) -> Tensor:
        if self.reductions == "whole":
            return F.conv2d(stuffed, self.weight, self.bias)
        if self.reductions == "split":
            return split_conv(stuffed, self.weight, self.bias)
        return split_conv(stuffed, self.weight, self.bias, CONV_PIECE, compensated=True)


class ResizeUpsampleConv(UpsampleConv):
    """The same for inputs of `side` x `side` alone: each value is repeated by a resize, and a constant mask keeps the
    one at the even place. The convolution has room on all sides, and its last row and column are cut off."""

    mask: Tensor

    def __init__(self, source: nn.ConvTranspose2d, reductions: Reductions, side: int) -> None:
        super().__init__(source, reductions)
        mask = torch.zeros(1, 1, 2 * side, 2 * side)
        mask[:, :, ::2, ::2] = 1
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """[1, C, side, side] to [1, D, 2 side, 2 side]."""
        height, width = self.mask.shape[2:]
        repeated = F.interpolate(x, size=(height, width), mode="nearest")
        return self._convolved(F.pad(repeated * self.mask, (1, 1, 1, 1)))[:, :, :height, :width]


def upsampler(source: nn.ConvTranspose2d, kind: Upsampler, reductions: Reductions, side: int) -> UpsampleConv:
    """The upsampler of the wanted kind with the weights of `source`, for inputs of `side` x `side`.

    Raises `ValueError` for one that cannot be rewritten.
    """
    return UpsampleConv(source, reductions) if kind == "pad" else ResizeUpsampleConv(source, reductions, side)
