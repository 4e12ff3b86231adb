"""Words that the rules share."""

from __future__ import annotations

from harness.graph.model import Tensor

LONGEST_NAME = 100


def dims(shape: tuple[int, ...]) -> str:
    """`[4096x256]`."""
    return f"[{'x'.join(map(str, shape))}]"


def called(tensor: Tensor) -> str:
    """`'pos' [4096x256]`; what would steer a terminal is left out, and a long name cut."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in tensor.name)
    return f"'{name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + '…'}' {dims(tensor.shape or ())}"
