"""How a misreading is said, for people."""

from __future__ import annotations

from harness.localize.base.misreadings import BEYOND, FIRST, ROW_0, UNTURNED


def test_each_side_of_a_product_and_each_rank_of_a_constant_has_its_own_words() -> None:
    assert BEYOND == {
        "left": "zeros in place of the left side beyond its own batches",
        "right": "zeros in place of the right side beyond its own batches",
    }
    assert UNTURNED == {"left": "the left side not transposed", "right": "the right side not transposed"}
    assert ROW_0 == "row 0 of the constant for every row"
    assert FIRST == {
        1: "element 0 of the constant for every element",
        2: ROW_0,
        3: "block 0 of the constant for every block",
    }
