"""Whether this machine has the memory that a model's inputs and outputs need, asked before any of it is taken.

Where memory runs out Linux ends a process, and not always the one that asked for too much.
"""

from __future__ import annotations

import resource
from pathlib import Path

from harness.errors import UsageError
from harness.graph.model import Graph

NEXT_STEP = "Free memory, or export the model for smaller shapes."

COPIES_TO_RUN = 3
"""Of each input and output while a model is run: here, on its way in the worker, and in the runtime's buffer."""

COPIES_TO_COMPARE = 5
"""While outputs are judged: those, and the inputs rounded and moved; the reference's and the ideal device's outputs."""


def check_memory(graph: Graph, copies: int, free: int | None = None) -> None:
    """Compare what a run takes at least with what is free (default: `free_bytes`).

    That is `copies` of all inputs and outputs, and one of what the largest op reads and writes.

    Raises:
        UsageError: it is more.
    """
    inputs, outputs = (sum(graph.tensors[p.tensor].nbytes for p in ports) for ports in (graph.inputs, graph.outputs))
    largest = max(
        (sum(graph.tensors[t].nbytes for t in {*op.inputs, *op.outputs} if t >= 0) for op in graph.ops), default=0
    )
    needed = copies * (inputs + outputs) + largest
    free = free_bytes() if free is None else free
    if free is not None and needed > free:
        parts = f"its inputs have {_size(inputs)}, its outputs {_size(outputs)}, each held {copies} times"
        raise UsageError(
            f"The model takes at least {_size(needed)} of memory here, of which {_size(free)} are free: {parts}, its "
            f"largest op {_size(largest)}.",
            NEXT_STEP,
        )


def free_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can still be taken, swap included: what the kernel has, within the limits of the control group and of
    the process. None where the system does not tell."""
    limits = [_of_system(root), _of_group(root)]
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits.append(None if most == resource.RLIM_INFINITY else most)
    return min((limit for limit in limits if limit is not None), default=None)


def _of_system(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text("ascii").splitlines()
        kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return 1024 * (kib["MemAvailable"] + kib.get("SwapFree", 0))
    except (OSError, ValueError, IndexError, KeyError):
        return None


def _of_group(root: Path) -> int | None:
    """What a container's limit leaves (control groups, version 2): file pages can be given up."""
    group = root / "sys/fs/cgroup"
    try:
        most = int((group / "memory.max").read_text("ascii"))
        used = int((group / "memory.current").read_text("ascii"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
        return max(0, most - used + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no such limit: `max`
        return None


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
