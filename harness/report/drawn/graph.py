"""graph.json: which op reads what, kept in the run folder so that a page can draw the graph around an op.

The model itself is not in the run folder, and may be gone or another one by the time somebody opens the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from harness.core import safe_files, safe_json
from harness.core.arrays import OpIndex
from harness.core.errors import UsageError
from harness.core.fields import Fields
from harness.core.run_folder import write_page
from harness.graph.model import Graph

FILE = "graph.json"
SCHEMA = 1
MOST_OPS = 20_000
MOST_TENSORS = 100_000
_MOST_BYTES = 64 << 20
_LONGEST_NAME = 200

Role = Literal["input", "constant", "computed"]
_ROLES: tuple[Role, ...] = ("input", "constant", "computed")


@dataclass(frozen=True)
class KeptTensor:
    """A tensor of the model: `role` says where its values come from; no `shape` where it is not static."""

    name: str
    shape: tuple[int, ...] | None
    type: str
    role: Role


@dataclass(frozen=True)
class KeptOp:
    """An op, and the tensors that it reads and makes by their places among the graph's."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class KeptGraph:
    """What graph.json says: tensors, ops in their order, and the tensors that are the model's outputs."""

    tensors: tuple[KeptTensor, ...]
    ops: tuple[KeptOp, ...]
    outputs: tuple[int, ...]

    @cached_property
    def producer(self) -> dict[int, OpIndex]:
        """Which op makes a tensor."""
        return {t: place for place, op in enumerate(self.ops) for t in op.outputs}

    @cached_property
    def consumers(self) -> dict[int, tuple[OpIndex, ...]]:
        """Which ops read a tensor."""
        found: dict[int, list[OpIndex]] = {}
        for place, op in enumerate(self.ops):
            for t in dict.fromkeys(op.inputs):
                found.setdefault(t, []).append(place)
        return {t: tuple(places) for t, places in found.items()}


def write_graph(folder: Path, graph: Graph) -> None:
    """Keep a model's graph in a run folder; one of more ops than a page can use is not kept. Raises StorageError."""
    if len(graph.ops) > MOST_OPS or len(graph.tensors) > MOST_TENSORS:
        return
    fed = {port.tensor for port in graph.inputs}
    document = {
        "schema": SCHEMA,
        "tensors": [
            {
                "name": tensor.name[:_LONGEST_NAME],
                "shape": None if tensor.shape is None else list(tensor.shape),
                "type": tensor.type,
                "role": "constant" if tensor.constant else "input" if tensor.index in fed else "computed",
            }
            for tensor in graph.tensors
        ],
        "ops": [
            {
                "op": (op.custom or op.name)[:_LONGEST_NAME],
                "inputs": [t for t in op.inputs if t >= 0],
                "outputs": list(op.outputs),
            }
            for op in graph.ops
        ],
        "outputs": [port.tensor for port in graph.outputs],
    }
    write_page(folder / FILE, json.dumps(document, separators=(",", ":")) + "\n")


def read_graph(folder: Path) -> KeptGraph | None:
    """The graph that a run kept; None where it kept none, as those of older releases.

    Raises:
        UsageError: the file is not what this release writes.
    """
    path = folder / FILE
    if not safe_files.is_file(path):
        return None
    try:
        document = safe_json.loads(safe_files.read(path, _MOST_BYTES))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}).", "Run the command again.") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f"{path} is not of schema {SCHEMA}.", "Run the command again.")
    top = Fields(document, FILE)
    if len(top.entries("tensors")) > MOST_TENSORS or len(top.entries("ops")) > MOST_OPS:
        raise UsageError(f"{path} has more tensors or ops than are kept.", "Run the command again.")
    tensors = tuple(map(_tensor, top.children("tensors")))
    ops = tuple(
        KeptOp(each.text("op"), _places(each, "inputs", tensors), _places(each, "outputs", tensors))
        for each in top.children("ops")
    )
    return KeptGraph(tensors, ops, _places(top, "outputs", tensors))


def _tensor(fields: Fields) -> KeptTensor:
    shape = fields.numbers("shape")
    role = next((role for role in _ROLES if role == fields.text("role")), None)
    if role is None or any(size % 1 or not 0 <= size < 1 << 60 for size in shape):
        raise UsageError(f"{fields.where} is no tensor.", "Run the command again.")
    known = fields.values.get("shape") is not None
    return KeptTensor(fields.text("name"), tuple(map(int, shape)) if known else None, fields.text("type"), role)


def _places(fields: Fields, key: str, tensors: Sequence[KeptTensor]) -> tuple[int, ...]:
    values = fields.entries(key)
    if any(type(value) is not int or not 0 <= value < len(tensors) for value in values):
        raise UsageError(f"{fields.where}: {key} names a tensor that is not there.", "Run the command again.")
    return tuple(values)
