"""How a device is said to have misread what it was given, for people. Experiments find which one it was."""

from __future__ import annotations

BEYOND = {side: f"zeros in place of the {side} side beyond its own batches" for side in ("left", "right")}
UNTURNED = {side: f"the {side} side not transposed" for side in ("left", "right")}
ROW_0 = "row 0 of the constant for every row"
ROUNDED = "each position rounded to the nearest element instead of down"
FIRST = {
    1: "element 0 of the constant for every element",
    2: ROW_0,
    3: "block 0 of the constant for every block",
}
"""What an element-wise op reads of a constant of that rank: the sentence for people."""
