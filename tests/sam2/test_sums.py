from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.sam2.sums import SplitLinear, split_conv, split_linears, split_product, split_size, sum_pairwise


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def in_half(terms: Tensor) -> float:
    """The sum of a vector one by one in a float16 accumulator, as the device does it."""
    total = torch.tensor(0.0, dtype=torch.float16)
    for term in terms.half():
        total = total + term
    return float(total)


@pytest.mark.parametrize(
    ("count", "size"),
    [(4096, 64), (2048, 32), (256, 16), (128, 8), (64, 8), (16, 4), (4, 2), (3, 1), (1, 1), (4099, 4099)],
)
def test_a_piece_is_about_the_root_of_the_whole(count: int, size: int) -> None:
    assert split_size(count) == size


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13])
def test_terms_are_summed_whatever_their_number(count: int) -> None:
    terms = drawn(2, count, 5).double()
    torch.testing.assert_close(sum_pairwise(terms), terms.sum(dim=1, keepdim=True))


def test_a_split_product_is_the_product() -> None:
    weights, value = drawn(3, 7, 64).double(), drawn(3, 64, 5, seed=1).double()
    torch.testing.assert_close(split_product(weights, value, 8), torch.bmm(weights, value))


def test_pieces_that_do_not_divide_the_sum_are_refused() -> None:
    with pytest.raises(ValueError, match="over 64 keys cannot be split into pieces of 24"):
        split_product(drawn(1, 2, 64), drawn(1, 64, 2), 24)


def test_in_float16_pieces_keep_the_digits_that_one_long_sum_loses() -> None:
    terms = torch.full((4096,), 0.8 / 4096) * (1 + 0.1 * drawn(4096))
    exact = float(terms.double().sum())
    pieces = torch.tensor([in_half(piece) for piece in terms.reshape(64, 64)]).half()
    assert abs(in_half(terms) - exact) > 0.3 * exact, "the accumulator stagnates"
    assert abs(float(sum_pairwise(pieces.reshape(1, 64, 1))) - exact) < 0.003 * exact


@pytest.mark.parametrize("shape", [(1, 8, 256), (8, 256), (1, 1, 256)])
def test_a_split_linear_layer_is_the_linear_layer(shape: tuple[int, ...]) -> None:
    source = nn.Linear(256, 32)
    x = drawn(*shape)
    with torch.no_grad():
        torch.testing.assert_close(SplitLinear(source)(x), source(x), rtol=0, atol=2e-6)


def test_only_long_linear_layers_are_replaced_at_any_depth() -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Linear(128, 64))
    module = nn.Sequential(nn.Linear(256, 128), inner, nn.Linear(64, 2))
    x = drawn(3, 256)
    with torch.no_grad():
        wanted = module(x)
        split_linears(module)
        torch.testing.assert_close(module(x), wanted, rtol=0, atol=1e-6)
    assert [type(part).__name__ for part in (module[0], inner[1], module[2])] == [
        "SplitLinear",
        "SplitLinear",
        "Linear",
    ]


@pytest.mark.parametrize("channels", [16, 32, 64, 96, 100])
def test_a_split_convolution_is_the_convolution(channels: int) -> None:
    shapes = ((1, channels, 6, 5), (4, channels, 2, 2), (4,))
    x, weight, bias = (drawn(*shape, seed=seed).double() for seed, shape in enumerate(shapes))
    torch.testing.assert_close(split_conv(x, weight, bias), F.conv2d(x, weight, bias))
    torch.testing.assert_close(split_conv(x, weight, None), F.conv2d(x, weight))
