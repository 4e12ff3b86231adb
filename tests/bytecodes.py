"""How much Python a call runs: instructions of the interpreter, which no load on the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def instructions(do: Callable[[], object]) -> int:
    """The bytecode instructions that a call runs in this thread. What one instruction does inside the interpreter or a
    library counts once, however much it is."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        # From 3.12 on, what runs for the first time under a trace is not told of from its beginning.
        for _ in range(2 if sys.version_info >= (3, 12) else 1):
            count = 0
            do()
    finally:
        sys.settrace(before)
    return count
