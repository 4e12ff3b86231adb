"""What the tracker remembers of one object, and the memory bank that a frame attends to.

As `transformers` has it: every conditioning memory with the last row of the temporal table; the memories of the last
six frames, r frames back with row r - 1; object pointers of the conditioning frames so far and of the last fifteen
frames. The published graph has room for seven memories and sixteen pointers, and what is missing is filled up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.sam2.video.contract import MARK, Constants, FloatArray
from harness.sam2.video.stages import Stages

Padding = Literal["marked", "duplicate"]
"""How a bank that is not full is filled up: duplicates of the most recent memory and pointer, as published, which are
attended as often as they are there; or the same, marked so that this project's graphs do not attend them."""


def chosen_padding(asked: Padding | None, constants: Constants) -> Padding:
    """What was asked for, or else what the graphs allow. Raises `UsageError` for a mark that they would attend."""
    if asked == "marked" and not constants.marks:
        raise UsageError(
            f"A padding mark would be attended like a memory by {constants.provenance}.",
            "Give --padding duplicate, or graphs of `harness sam2 export-video`.",
        )
    return asked or ("marked" if constants.marks else "duplicate")


@dataclass(frozen=True)
class Memory:
    """One frame of one object."""

    tokens: NDArray[np.uint16]
    """[4096, 64] as bfloat16: upstream keeps memories so."""
    pointer: FloatArray
    """[256]."""


@dataclass
class ObjectMemory:
    """The frames remembered of one object. It holds at most `blocks` - 1 conditioning frames and `pointers` recent
    ones, however long the clip."""

    conditioning: dict[int, Memory] = field(default_factory=dict)
    recent: dict[int, Memory] = field(default_factory=dict)

    def remember(self, frame: int, memory: Memory, constants: Constants, *, conditioning: bool) -> None:
        """Keep a frame's memory, and drop what no later frame will ask for."""
        sizes = constants.sizes
        if conditioning:
            self.recent.pop(frame, None)
            self.conditioning[frame] = memory
            while len(self.conditioning) > max(sizes.blocks - 1, 1):
                # The first click says most about the object; of the others, the oldest goes.
                second = sorted(self.conditioning, key=lambda kept: abs(kept - frame))[-2]
                del self.conditioning[second]
        else:
            self.recent[frame] = memory
        for kept in list(self.recent):
            if abs(frame - kept) >= sizes.pointers:
                del self.recent[kept]


def to_bfloat16(values: FloatArray) -> NDArray[np.uint16]:
    """The nearest bfloat16 of each value, ties to even, as its bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(bits: NDArray[np.uint16]) -> FloatArray:
    """The values of bfloat16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def assemble(
    memory: ObjectMemory,
    frame: int,
    stages: Stages,
    positions: FloatArray,
    *,
    total: int | None,
    backward: bool,
    padding: Padding = "marked",
) -> tuple[FloatArray, FloatArray]:
    """The bank for `frame`: memories and their positions, both [28736, 64].

    `positions` [4096, 64] are those of one frame's memory; `total` is the number of frames where it is known: ages of
    pointers are divided by min(total, 16) - 1.
    """
    constants = stages.constants
    sizes = constants.sizes
    sign = -1 if backward else 1
    last = len(constants.temporal)
    blocks = [(from_bfloat16(kept.tokens), last) for kept in memory.conditioning.values()]
    near = ((age, memory.recent.get(frame - sign * age)) for age in range(last - 1, 0, -1))
    recent = [(from_bfloat16(kept.tokens), age) for age, kept in near if kept is not None]
    room = sizes.blocks - len(blocks)
    blocks += recent[max(len(recent) - room, 0) :]

    most = sizes.pointers if total is None else min(total, sizes.pointers)
    pointers = [(sign * (frame - at), kept.pointer) for at, kept in memory.conditioning.items()]
    pointers = [(age, pointer) for age, pointer in pointers if age >= 0]
    back = ((age, memory.recent.get(frame - sign * age)) for age in range(1, most))
    pointers += [(age, kept.pointer) for age, kept in back if kept is not None]
    pointers = pointers[: sizes.pointers]
    real = len(pointers)
    if not real:  # nothing is known but a click ahead of this frame
        pointers = [(0, next(iter(memory.conditioning.values())).pointer)]

    tokens = np.empty((sizes.memory, sizes.memory_channels), np.float32)
    places = np.empty_like(tokens)
    for index in range(sizes.blocks):
        values, row = blocks[min(index, len(blocks) - 1)]
        here = slice(index * sizes.tokens, (index + 1) * sizes.tokens)
        tokens[here] = values
        places[here] = positions + constants.temporal[row - 1]
        if index >= len(blocks) and padding == "marked":
            places[here, 0] = MARK
    # Empty places repeat the most recent pointer.
    newest = min(range(len(pointers)), key=lambda number: pointers[number][0])
    chosen = [*range(len(pointers)), *[newest] * (sizes.pointers - len(pointers))]
    scale = np.float32(max(most - 1, 1))
    offsets = np.array([pointers[number][0] for number in chosen], np.float32) / scale
    start = sizes.blocks * sizes.tokens
    tokens[start:] = np.stack([pointers[number][1] for number in chosen]).reshape(-1, sizes.memory_channels)
    places[start:] = np.repeat(stages.pointer_positions(offsets), sizes.splits, axis=0)
    if padding == "marked":
        places[start + real * sizes.splits :, 0] = MARK
    return tokens, places
