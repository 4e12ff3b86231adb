"""Files that somebody broke: bytes changed, cut or moved, and trees whose fields hold what no converter writes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from harness.graph.model import Model

# Ends of ranges and their neighbours: where checks are off by one.
NUMBERS = (-(2**31), -(2**31) + 1, -2, -1, 0, 1, 2, 3, 127, 128, 255, 256, 65_535, 2**31 - 1)
_WORDS = tuple(struct.pack("<i", number) for number in NUMBERS)


@st.composite
def broken_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Up to eight changes to a file: bytes, 32-bit words on their own boundary, pieces moved, doubled or cut."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 8))):
        if not made:
            break
        at = draw(st.integers(0, len(made) - 1))
        kind = draw(st.sampled_from(("byte", "word", "word", "move", "double", "cut", "end")))
        length = draw(st.integers(1, 64))
        if kind == "byte":
            made[at] = draw(st.integers(0, 255))
        elif kind == "word":
            at -= at % 4
            made[at : at + 4] = draw(st.sampled_from(_WORDS))
        elif kind == "move":
            piece = bytes(made[at : at + length])
            to = draw(st.integers(0, len(made) - 1))
            made[to : to + len(piece)] = piece
        elif kind == "double":
            made[at:at] = made[at : at + length]
        elif kind == "cut":
            del made[at : at + length]
        else:
            del made[at:]
    return bytes(made)


@st.composite
def broken_tree(draw: st.DrawFn, model: Model) -> bytes:
    """Up to four fields of a model with values that are of their type and make no sense."""
    root = deepcopy(model.root)
    fields = list(_fields(root))
    for _ in range(draw(st.integers(1, 4))):
        table, name = draw(st.sampled_from(fields))
        value = getattr(table, name)
        setattr(table, name, _other(draw, value))
    try:
        return Model(root).to_bytes()
    except (struct.error, OverflowError, TypeError, ValueError, AttributeError, AssertionError):
        assume(False)  # no such file can be written
        raise


def _fields(node: Any) -> Iterator[tuple[Any, str]]:
    """Every field of every table under a node."""
    for name, value in vars(node).items():
        yield node, name
        for child in value if isinstance(value, list) else (value,):
            if hasattr(child, "__dict__") and not isinstance(child, np.ndarray):
                yield from _fields(child)


def _other(draw: st.DrawFn, value: Any) -> Any:
    number = draw(st.sampled_from(NUMBERS))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return number
    if isinstance(value, float):
        return draw(st.sampled_from((0.0, -1.0, float("nan"), float("inf"), 1e38)))
    if isinstance(value, np.ndarray):
        if not value.size or draw(st.booleans()):
            return None if draw(st.booleans()) else value[: len(value) // 2]
        changed = value.copy()
        with np.errstate(all="ignore"):
            changed.flat[draw(st.integers(0, value.size - 1))] = np.asarray(number).astype(value.dtype)
        return changed
    if isinstance(value, list):
        if not value:
            return None
        at = draw(st.integers(0, len(value) - 1))
        return draw(
            st.sampled_from((None, value[:at], value[at:], [*value, value[at]], [*value[:at], *value[at + 1 :]]))
        )
    if isinstance(value, bytes):
        return draw(st.sampled_from((b"", b"\xff\xfe", value * 1000, value[:1], None)))
    return None
