"""A sum in a tree: which ops it is made of, and which sums are not split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.split_sum import add_pairwise, joined, part, split_sum
from tests.arrays import Evaluate, f32, i32
from tests.remedies.small import Build, of, one_op, rows, table


def rebuilt(shape: tuple[int, ...], write: Callable[[Rebuild, int], int]) -> Rebuild:
    """A RELU of an input of `shape`, replaced by what is written of that."""
    rebuild = Rebuild(one_op(lambda g: g.unary("RELU", g.input("x", shape))))
    rebuild.give_out(rebuild.graph.outputs[0].tensor, write(rebuild, rebuild.graph.inputs[0].tensor))
    return rebuild


@pytest.mark.parametrize(("count", "rounds"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (7, 3), (8, 3)])
@pytest.mark.parametrize("axis", [0, 1])
def test_halves_are_added_until_one_is_left(count: int, rounds: int, axis: int, evaluate: Evaluate) -> None:
    """An odd one waits for the next round: of 7 there are 4, 2 and 1 left."""
    x = (2.0 ** np.arange(2 * count)).astype(np.float32).reshape((count, 2) if axis == 0 else (2, count))
    model = rebuilt(x.shape, lambda rebuild, t: add_pairwise(rebuild, t, axis)).finish()
    names = [op.name for op in model.graph().ops]
    assert names.count("ADD") == rounds
    assert evaluate(model, {"x": x})["y"].tolist() == x.sum(axis, keepdims=True).tolist()


def test_a_part_has_the_elements_from_its_start_to_before_its_stop(evaluate: Evaluate) -> None:
    model = rebuilt((2, 5), lambda rebuild, t: part(rebuild, t, 1, 1, 4)).finish()
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    assert evaluate(model, {"x": x})["y"].tolist() == x[:, 1:4].tolist()


def test_parts_are_joined_in_their_order(evaluate: Evaluate) -> None:
    def swapped(rebuild: Rebuild, t: int) -> int:
        return joined(rebuild, [part(rebuild, t, 0, 1, 3), part(rebuild, t, 0, 0, 1)], 0)

    model = rebuilt((3, 2), swapped).finish()
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert evaluate(model, {"x": x})["y"].tolist() == x[[1, 2, 0]].tolist()


def summed(kind: str, shape: tuple[int, ...], out: tuple[int, ...], *axes: int) -> Build:
    return of(kind, table("Reducer", keepDims=len(out) == len(shape)), shape, out, i32(axes))


@pytest.mark.parametrize("kind", ["SUM", "MEAN"])
@pytest.mark.parametrize(
    ("shape", "out", "axes"),
    [
        ((3, 16), (3,), (1,)),
        ((3, 16), (3, 1), (-1,)),
        ((16, 3), (3,), (0,)),
        ((2, 4, 4, 3), (2, 3), (1, 2)),
        ((2, 4, 5, 3), (2, 1, 1, 3), (2, 1)),
        ((2, 17), (2,), (1,)),
    ],
)
def test_a_reduction_in_parts_is_the_whole(
    kind: str, shape: tuple[int, ...], out: tuple[int, ...], axes: tuple[int, ...], evaluate: Evaluate
) -> None:
    rebuild = Rebuild(one_op(summed(kind, shape, out, *axes)))
    split_sum(rebuild, rebuild.graph.ops[0])
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    exact = x.sum(axes) if kind == "SUM" else x.mean(axes, dtype=np.float64)
    made = evaluate(rebuild.finish(), {"x": x})["y"]
    np.testing.assert_allclose(made, exact.reshape(out), rtol=2.0**-20)  # a few roundings of float32
    assert made.shape == out


def apart(graph: GraphBuilder) -> int:
    options = table("BatchMatMul")
    return graph.op("BATCH_MATMUL", [graph.input("a", (2, 3, 16)), graph.input("b", (16, 4))], (2, 3, 4), options)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (summed("SUM", (3, 15), (3,), 1), "it sums over 15 terms only"),
        (rows((2, 15), 15, (2, 7)), "it sums over 15 terms only"),
        (summed("MEAN", (16, 3, 16), (3,), 0, 2), "its axes are not neighbours"),
        (lambda g: g.unary("RELU", g.input("x", (2, 16))), "RELU is no sum that can be split"),
        (apart, "its operands have different batches"),
        (
            of("CONV_2D", table("Conv2D"), (1, 2, 2, 32), (1, 2, 2, 4), f32(np.ones((4, 1, 1, 16)))),
            "it is a grouped convolution",
        ),
        (of("CONV_2D", table("Conv2D"), (1, 2, 2, 15), (1, 2, 2, 4), f32(np.ones((4, 1, 1, 15)))), "over 15 terms"),
        (
            lambda g: g.op("SUM", [g.input("x", (2, 16)), g.input("axes", (1,), np.int32)], (2,), table("Reducer")),
            "its axes are no constant",
        ),
    ],
)
def test_a_sum_that_is_not_split_says_why(build: Build, why: str) -> None:
    rebuild = Rebuild(one_op(build))
    with pytest.raises(CannotRewrite, match=why):
        split_sum(rebuild, rebuild.graph.ops[0])
