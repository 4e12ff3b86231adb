from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils._python_dispatch
from torch import Tensor, nn

from harness.sam2.shared.modules.sums import (
    MOST_TERMS,
    CompensatedLinear,
    SplitLinear,
    Total,
    added,
    compensated_sum,
    halves,
    replace_linears,
    shortest_piece,
    split_conv,
    split_product,
    split_size,
    sum_pairwise,
)
from tests.sam2.identities import EQUAL, difference, drawn


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
    terms = drawn(2, count, 5)
    torch.testing.assert_close(sum_pairwise(terms), terms.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("total", [sum_pairwise, compensated_sum])
def test_a_split_product_is_the_product(total: Total) -> None:
    weights, value = drawn(3, 7, 64), drawn(3, 64, 5, seed=1)
    torch.testing.assert_close(split_product(weights, value, 8, total), torch.bmm(weights, value))


@pytest.mark.parametrize(
    ("count", "results", "piece"),
    [
        (256, 8 * 256, 1),
        (2048, 8 * 256, 1),
        (256, 4096 * 128, 16),
        (4096, 8 * 8 * 16, 1),
        (1, 1 << 30, 1),
        (48, 1 << 20, 8),
    ],
)
def test_compensated_sums_have_the_shortest_pieces_that_memory_allows(count: int, results: int, piece: int) -> None:
    assert shortest_piece(count, results) == piece
    assert count // piece * results <= MOST_TERMS or piece == count


def test_a_sum_that_does_not_divide_far_enough_stays_whole() -> None:
    assert shortest_piece(3 * 4, 1 << 23) == 12


@pytest.mark.parametrize("count", [1, 2, 3, 16, 13])
def test_a_compensated_sum_is_the_sum(count: int) -> None:
    terms = drawn(2, count, 5)
    torch.testing.assert_close(compensated_sum(terms), terms.sum(dim=1, keepdim=True))


class TruncatingSum(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs float16 as the device does: SUM adds in float32 and cuts what does not fit off its result."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*(a.float() for a in args[:1]), *args[1:], **(kwargs or {})) if "sum" in str(func) else None
        if result is None:
            return func(*args, **(kwargs or {}))
        stored = result.half()
        down = torch.nextafter(stored, torch.zeros_like(stored))
        return torch.where(stored.float().abs() > result.abs(), down, stored)


def test_on_a_device_whose_sum_truncates_a_compensated_sum_is_rounded_once() -> None:
    # Multiples of 2^-10, whose sums float32 holds exactly, in whatever order a CPU adds them.
    terms = (drawn(1, 256, 400) * 1024).round().div(1024).half()
    exact = terms.double().sum(dim=1, keepdim=True)
    with TruncatingSum():  # type: ignore[no-untyped-call]
        plain, compensated = terms.sum(dim=1, keepdim=True), compensated_sum(terms)
    nearest = exact.half()
    assert float((plain != nearest).double().mean()) > 0.3, "truncation is seen"
    assert torch.equal(compensated, nearest)
    pairwise = sum_pairwise(terms)
    assert float((pairwise.double() - exact).std()) > 1.5 * float((compensated.double() - exact).std())


def test_two_halves_are_the_value_and_what_float16_cannot_hold_stays_whole() -> None:
    values = torch.cat([drawn(100).float(), torch.tensor([1e5, -7e4, 0.0, 1e-6])])
    high, low = halves(values)
    assert torch.equal(high + low, values)
    assert torch.equal(high[:100].half().float(), high[:100])
    assert (low[:100].abs() <= 2.0**-11 * high[:100].abs()).all()
    assert torch.equal(high[100:102], values[100:102])


def test_pieces_that_do_not_divide_the_sum_are_refused() -> None:
    with pytest.raises(ValueError, match="over 64 keys cannot be split into pieces of 24"):
        split_product(drawn(1, 2, 64), drawn(1, 64, 2), 24)


def test_in_float16_pieces_keep_the_digits_that_one_long_sum_loses() -> None:
    terms = 0.8 / 4096 * (1 + 0.1 * drawn(4096))
    exact = float(terms.sum())
    pieces = torch.tensor([in_half(piece) for piece in terms.reshape(64, 64)]).half()
    assert abs(in_half(terms) - exact) > 0.3 * exact, "the accumulator stagnates"
    assert abs(float(sum_pairwise(pieces.reshape(1, 64, 1))) - exact) < 0.003 * exact


@pytest.mark.parametrize("shape", [(1, 8, 256), (8, 256), (1, 1, 256)])
def test_a_split_linear_layer_is_the_linear_layer(shape: tuple[int, ...]) -> None:
    source = nn.Linear(256, 32).double()
    x = drawn(*shape)
    with torch.no_grad():
        assert difference(SplitLinear(source)(x), source(x)) < EQUAL


@pytest.mark.parametrize("rows", [8, 100])
@pytest.mark.parametrize("outputs", [32, 1024])
def test_a_compensated_linear_layer_is_the_linear_layer_and_takes_the_residual_into_its_sum(
    rows: int, outputs: int
) -> None:
    source = nn.Linear(256, outputs).double()
    x, residual = drawn(1, rows, 256), drawn(1, rows, outputs, seed=1)
    with torch.no_grad():
        layer = CompensatedLinear(source)
        torch.testing.assert_close(layer(x), source(x))
        torch.testing.assert_close(added(layer, x, residual), residual + source(x))
        torch.testing.assert_close(added(source, x, residual), residual + source(x))
    assert (layer.low is None) == (outputs == 1024)


def test_a_compensated_layers_weights_outlast_being_stored_as_float16() -> None:
    source = nn.Linear(256, 32)
    x = drawn(8, 256)
    with torch.no_grad():
        fine, plain = CompensatedLinear(source), SplitLinear(source)
        wanted = source.double()(x)
        # Two float16 numbers hold a value to 2^-22 of itself, or to 2^-36 where the lower, times 2^11, is subnormal.
        sizes = x.abs() @ source.weight.abs().T + source.bias.abs()
        bound = 2.0**-22 * sizes + 2.0**-36 * (x.abs().sum(dim=1, keepdim=True) + 1)
        for name, values in list(fine.named_buffers()):
            setattr(fine, name, values.half().double())
        plain.weight, plain.bias = plain.weight.half().double(), nn.Parameter(plain.bias.half().double())
        assert ((fine(x) - wanted).abs() <= bound).all()
        assert ((plain(x) - wanted).abs() > bound).any()


@pytest.mark.parametrize("layer", [SplitLinear, CompensatedLinear])
def test_only_long_linear_layers_are_replaced_at_any_depth(layer: type[SplitLinear] | type[CompensatedLinear]) -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Linear(128, 64))
    module = nn.Sequential(nn.Linear(256, 128), inner, nn.Linear(64, 2)).double()
    x = drawn(3, 256)
    with torch.no_grad():
        wanted = module(x)
        replace_linears(module, layer)
        assert difference(module(x), wanted) < EQUAL
    assert [type(part) for part in (module[0], inner[1], module[2])] == [layer, layer, nn.Linear]


@pytest.mark.parametrize("channels", [16, 32, 64, 96, 100])
@pytest.mark.parametrize("compensated", [False, True])
def test_a_split_convolution_is_the_convolution(channels: int, compensated: bool) -> None:
    shapes = ((1, channels, 6, 5), (4, channels, 2, 2), (4,))
    x, weight, bias = (drawn(*shape, seed=seed) for seed, shape in enumerate(shapes))
    torch.testing.assert_close(split_conv(x, weight, bias, 32, compensated), F.conv2d(x, weight, bias))
    torch.testing.assert_close(split_conv(x, weight, None, 32, compensated), F.conv2d(x, weight))
