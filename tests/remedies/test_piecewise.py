"""What is computed in parts, and in how many; what has no parts says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.piecewise import (
    convolved_by_group,
    image_by_image,
    largest_of_fours,
    repeated_before,
    sliced_from_whole,
)
from tests.arrays import i32
from tests.remedies.small import Build, of, one_op, table, weights

Rewrite = Callable[[Rebuild, Op], int]
ONCE = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def images(count: int) -> Build:
    return of("SPACE_TO_DEPTH", table("SpaceToDepth", blockSize=2), (count, 2, 4, 3), (count, 1, 2, 12))


def grouped(count: int) -> Build:
    options = table("Conv2D", padding=schema.Padding.VALID, **ONCE)
    return of("CONV_2D", options, (1, 2, 2, 2 * count), (1, 2, 2, count), weights(count, 1, 1, 2), weights(count))


def multiplied(by: int) -> Build:
    options = table("DepthwiseConv2D", padding=schema.Padding.VALID, depthMultiplier=by, **ONCE)
    return of("DEPTHWISE_CONV_2D", options, (1, 2, 2, 3), (1, 2, 2, 3 * by), weights(1, 1, 1, 3 * by))


def grown(padding: int, kernel: int, stride: int, out: int) -> Build:
    def build(graph: GraphBuilder) -> int:
        options = table("TransposeConv", padding=padding, strideH=stride, strideW=stride)
        constants = [graph.constant(i32([1, out, out, 2])), graph.constant(weights(2, kernel, kernel, 3))]
        feeds = [*constants, graph.input("x", (1, 4, 4, 3))]
        return graph.op("TRANSPOSE_CONV", feeds, (1, out, out, 2), options, dtype=np.float32)

    return build


def rewritten(build: Build, rewrite: Rewrite) -> tuple[Rebuild, int]:
    rebuild = Rebuild(one_op(build))
    (op,) = rebuild.graph.ops
    return rebuild, rewrite(rebuild, op)


@pytest.mark.parametrize("count", [2, 64])
@pytest.mark.parametrize(("build", "rewrite"), [(images, image_by_image), (grouped, convolved_by_group)])
def test_two_to_sixty_four_parts_are_joined_to_the_whole(
    build: Callable[[int], Build], rewrite: Rewrite, count: int
) -> None:
    rebuild, made = rewritten(build(count), rewrite)
    assert rebuild.shape(made) == rebuild.shape(rebuild.graph.ops[0].outputs[0])


@pytest.mark.parametrize(
    ("build", "rewrite", "why"),
    [
        (images(1), image_by_image, "it has one image only"),
        (images(65), image_by_image, "it has 65 images"),
        (grouped(1), convolved_by_group, "it has one group only"),
        (grouped(65), convolved_by_group, "it has 65 groups"),
        (multiplied(1), repeated_before, "its multiplier is 1"),
        (grown(schema.Padding.VALID, 3, 1, 6), sliced_from_whole, "its padding is VALID already"),
        (grown(schema.Padding.SAME, 1, 1, 4), sliced_from_whole, "there is nothing to cut off"),
        (grown(schema.Padding.SAME, 1, 2, 8), sliced_from_whole, "there is nothing to cut off"),
        (of("TOPK_V2", table("TopKV2"), (2, 8), (2, 3), i32(3)), largest_of_fours, "a multiple of four values"),
    ],
)
def test_what_has_no_parts_says_why(build: Build, rewrite: Rewrite, why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        rewritten(build, rewrite)


@pytest.mark.parametrize(("kernel", "stride", "out"), [(2, 1, 4), (3, 1, 4), (3, 2, 8)])
def test_a_border_of_one_row_is_cut_off(kernel: int, stride: int, out: int) -> None:
    rebuild, made = rewritten(grown(schema.Padding.SAME, kernel, stride, out), sliced_from_whole)
    assert rebuild.shape(made) == (1, out, out, 2)


def test_repeated_channels_give_as_many_as_the_multiplier_did() -> None:
    rebuild, made = rewritten(multiplied(2), repeated_before)
    assert rebuild.shape(made) == (1, 2, 2, 6)
