"""Whether this machine has the memory that a model's inputs and outputs need, asked before any of it is taken.

Where memory runs out Linux ends a process, and not always the one that asked for too much.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import FREE_MEMORY, UsageError
from harness.graph.model import Graph, Op


@dataclass(frozen=True)
class Copies:
    """How many times a command holds each input and output at once, and all the weights, at least."""

    ports: int
    weights: int


COPIES_TO_COMPILE = Copies(0, 2)
"""While a device only says what it takes: the weights as below."""

COPIES_TO_RUN = Copies(3, 2)
"""Of each input and output while a model is run: here, on its way in the worker, and in the runtime's buffer. Of the
weights: the file's content here and in the worker, which then gives its room to the runtime's own."""

COPIES_TO_COMPARE = Copies(5, 4)
"""While outputs are judged: those, and the inputs rounded and moved; the reference's and the ideal device's outputs. Of
the weights while the ideal device's model is made: as read, rounded, in the flatbuffer that is built, and its bytes."""


def check_memory(graph: Graph, copies: Copies, weights: int = 0, free: int | None = None) -> None:
    """Compare what a run takes at least with what is free (default: `free_bytes`).

    That is so many copies of all inputs and outputs and of the weights (their bytes), and one of what the largest op
    reads and writes.

    Raises:
        UsageError: it is more.
    """
    inputs, outputs = (sum(graph.tensors[p.tensor].nbytes for p in ports) for ports in (graph.inputs, graph.outputs))
    largest = max((_computed_bytes(graph, op) for op in graph.ops), default=0) if copies.ports else 0
    needed = copies.ports * (inputs + outputs) + copies.weights * weights + largest
    free = free_bytes() if free is None else free
    if free is not None and needed > free:
        parts = [f"its weights {_size(weights)}, held {copies.weights} times"] if weights else []
        if copies.ports:
            ports = f"its inputs have {_size(inputs)}, its outputs {_size(outputs)}, each held {copies.ports} times"
            parts = [ports, *parts, f"its largest op {_size(largest)}"]
        raise UsageError(
            f"The model takes at least {_size(needed)} of memory here, of which {_size(free)} are free: "
            f"{', '.join(parts)}.",
            FREE_MEMORY,
        )


def _computed_bytes(graph: Graph, op: Op) -> int:
    """Of what an op reads and writes, without its weights."""
    tensors = (graph.tensors[t] for t in {*op.inputs, *op.outputs} if t >= 0)
    return sum(tensor.nbytes for tensor in tensors if not tensor.constant)


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
