from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from harness.sam2.shared.modules.upsample import UpsampleConv, upsampler, zero_stuff
from tests.sam2.identities import EQUAL, difference, drawn


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


@pytest.mark.parametrize("kind", ["pad", "resize"])
@pytest.mark.parametrize("reductions", ["whole", "split", "compensated"])
def test_every_upsampler_is_the_transposed_convolution(
    kind: Literal["pad", "resize"], reductions: Literal["whole", "split", "compensated"]
) -> None:
    source = nn.ConvTranspose2d(64, 4, kernel_size=2, stride=2).double()
    x = drawn(1, 64, 5, 5)
    with torch.no_grad():
        assert difference(upsampler(source, kind, reductions, 5)(x), source(x)) < EQUAL


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
