"""Whether a rewritten module is the original: both evaluated in float64.

In float32 two orders of the same sums differ by an amount that depends on the CPU and its BLAS. In float64 they differ
by some 1e-16 for each operation on the way: `EQUAL` leaves room for thousands of them, and a wrong formula shows.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Sam2Model

EQUAL = 1e-12
"""The most that two ways to compute the same in float64 may differ, relative to the largest value."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Standard-normal values, float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def difference(got: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest wanted value."""
    assert got.shape == wanted.shape
    return float((got - wanted).abs().max() / wanted.abs().max())


def doubled(model: Sam2Model) -> Sam2Model:
    """The same model in float64."""
    return copy.deepcopy(model).double()
