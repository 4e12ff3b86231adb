"""LayerNorm in elementary operations, three ways that are equal in real arithmetic. Shared by encoder and decoder.

This module imports torch. Import it lazily.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.sam2.shared.contract import LayerNormKind

SQUARED_AT = 1 / 32
"""A `ScaledLayerNorm` squares deviations times this."""


class SafeLayerNorm(nn.Module):
    """LayerNorm over the last axis whose squares stay in fp16's range, whatever the size of the input.

    With d = x - mean(x) and any m > 0, d / sqrt(mean(d^2) + eps) = e / sqrt(mean(e^2) + (sqrt(eps) / m)^2)
    for e = d / m. Taking m = max(max|d|, sqrt(eps)) keeps e within [-1, 1] and the added term within [0, 1]:
    nothing overflows, and a constant input does not divide by zero.
    """

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias = source.weight, source.bias
        self.root_eps = float(source.eps) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C], each last axis brought to mean 0 and deviation 1, then scaled and shifted."""
        deviation = x - x.mean(dim=-1, keepdim=True)
        largest = deviation.abs().amax(dim=-1, keepdim=True).clamp(min=self.root_eps)
        unit = deviation / largest
        floor = self.root_eps / largest
        variance = (unit * unit).mean(dim=-1, keepdim=True) + floor * floor
        return unit * torch.rsqrt(variance) * self.weight + self.bias


class PlainLayerNorm(nn.Module):
    """LayerNorm over the last axis as the textbook has it; in fp16 its variance overflows beyond 65504."""

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias = source.weight, source.bias
        self.eps = float(source.eps)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C], each last axis brought to mean 0 and deviation 1, then scaled and shifted."""
        deviation = x - x.mean(dim=-1, keepdim=True)
        variance = (deviation * deviation).mean(dim=-1, keepdim=True)
        return deviation * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class ScaledLayerNorm(PlainLayerNorm):
    """The same with the deviations squared at 1/32 of their size and the variance multiplied by 32^2, as in the first
    published decoder: the sum of squares stays in fp16's range for 32 times larger inputs, the variance does not."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C], each last axis brought to mean 0 and deviation 1, then scaled and shifted."""
        deviation = x - x.mean(dim=-1, keepdim=True)
        small = deviation * SQUARED_AT
        variance = (small * small).mean(dim=-1, keepdim=True) / SQUARED_AT**2
        return deviation * torch.rsqrt(variance + self.eps) * self.weight + self.bias


_KINDS: dict[LayerNormKind, type[SafeLayerNorm] | type[PlainLayerNorm]] = {
    "safe": SafeLayerNorm,
    "plain": PlainLayerNorm,
    "scaled": ScaledLayerNorm,
}


def layer_norm(source: nn.LayerNorm, kind: LayerNormKind) -> nn.Module:
    """The LayerNorm of the wanted kind with the weights of `source`."""
    return _KINDS[kind](source)


class FusedLayerNorm(nn.Module):
    """LayerNorm over the last axis as one op, for runtimes that have one."""

    def __init__(self, source: PlainLayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = source.weight, source.bias, source.eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C], each last axis brought to mean 0 and deviation 1, then scaled and shifted."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def fuse_norms(module: nn.Module) -> None:
    """Put a `FusedLayerNorm` in the place of every `PlainLayerNorm` inside `module`."""
    for name, child in list(module.named_children()):
        if isinstance(child, PlainLayerNorm):
            setattr(module, name, FusedLayerNorm(child))
        else:
            fuse_norms(child)
