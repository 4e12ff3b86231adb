"""What a rewrite costs is counted on the models, and is what docs/remedies.md says of it."""

from __future__ import annotations

import pytest

from harness.remedies import catalogue
from harness.remedies.cost import Cost, cost_of
from tests.remedies.refused.models import Drawn, broadcast, ints, one, rewritten, sliced, transposed_conv
from tests.remedies.small import table


def test_a_product_with_ones_in_rank_4_moves_nothing() -> None:
    model = one(broadcast((1, 6, 1, 8), (1, 6, 5, 8)))
    made = rewritten(catalogue.PRODUCT_WITH_ONES, model)
    cost = cost_of(model, made)
    assert (cost.added, cost.removed) == ((("MUL", 1),), (("BROADCAST_TO", 1),))
    # Five ones in place of the four sizes of the shape.
    assert (cost.moved, cost.computed, cost.held) == (-240, 240, 4)


def test_heads_that_are_repeated_in_rank_5_cost_what_their_reshapes_did() -> None:
    def build(g: Drawn) -> int:
        keys = g.reshape(g.given((2, 3, 6, 8)), (2, 3, 1, 6, 8))
        wide = g.made("BROADCAST_TO", [keys, ints(g, 2, 3, 4, 6, 8)], (2, 3, 4, 6, 8), table("BroadcastTo"), version=2)
        return g.reshape(wide, (2, 12, 6, 8))

    model = one(build)
    cost = cost_of(model, rewritten(catalogue.PRODUCT_WITH_ONES, model, "BROADCAST_TO"))
    assert cost.words == "It puts in MUL and takes out BROADCAST_TO; 1,152 fewer elements are copied."


def test_a_zero_stuffed_map_is_moved_as_the_table_says() -> None:
    model = one(transposed_conv((8, 8), (3, 3), (2, 2), "SAME", (4, 4)))
    cost = cost_of(model, rewritten(catalogue.STUFFED, model))
    n, stride = 8 * 8 * 4, 2
    assert cost.added == (("CONV_2D", 1), ("PAD", 3), ("RESHAPE", 4), ("SLICE", 2)) or cost.added == (
        ("CONV_2D", 1), ("PAD", 3), ("RESHAPE", 4),
    )  # fmt: skip
    assert 0 < cost.moved <= (1 + 2 * stride + 2 * stride + 4 * stride * stride) * n + 4 * 4 * 18 * 18


def test_a_pooling_computes_each_element_that_is_taken() -> None:
    model = one(sliced((1, 8, 9, 5), ((0, 1, 1), (0, 8, 2), (0, 9, 3), (0, 5, 1)), (1, 4, 3, 5)))
    cost = cost_of(model, rewritten(catalogue.POOLED, model))
    # From the first to the last that is taken: 7 of 8 rows, 7 of 9 columns.
    assert (cost.moved, cost.computed) == (7 * 7 * 5 - 60, 60)


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (Cost((), (), 0, 0, 0), "It keeps its ops; no more elements are copied."),
        (Cost((("ADD", 2),), (), 1000, 0, 0), "It puts in 2 ADD; 1,000 more elements are copied."),
        (Cost((), (("EXP", 1),), -5, 0, 0), "It takes out EXP; 5 fewer elements are copied."),
    ],
)
def test_a_cost_in_words(cost: Cost, words: str) -> None:
    assert cost.words == words
