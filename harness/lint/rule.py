"""What a rule of the catalogue is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.graph.model import Graph, Model, Op, Tensor


@dataclass(frozen=True)
class Hit:
    """One op that a rule accuses: `tensor` is the operand that the delegate misreads, `sentence` what goes wrong,
    `fix` what to write in the model's source instead."""

    op: Op
    tensor: Tensor
    sentence: str
    fix: str


Check = Callable[[Model, Graph], Iterator[Hit]]


@dataclass(frozen=True)
class Rule:
    """A pattern that is delegated in full and wrong: what it is, why, and since when it is known.

    `releases` are the releases of ai-edge-litert on whose GPU delegate every accused form was measured wrong; another
    release may be wrong too. `check` accuses only what is wrong whatever the model's inputs are, up to inputs that hide
    it (a maximum that the other operand always wins, an input of zeros).
    """

    name: str
    description: str
    why: str
    releases: tuple[str, ...]
    check: Check


@dataclass(frozen=True)
class Finding:
    """A rule's hit in one model. `op` is the op's index in its subgraph, `output` the name of its result."""

    rule: str
    subgraph: int
    signature: str | None
    op: int
    op_name: str
    output: str
    tensor: str
    shape: tuple[int, ...]
    constant: bool
    sentence: str
    fix: str
    releases: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One entry of `lint --json`, schema 1."""
        return {
            "rule": self.rule,
            "subgraph": self.subgraph,
            "signature": self.signature,
            "op": self.op,
            "op_name": self.op_name,
            "output": self.output,
            "tensor": {"name": self.tensor, "shape": list(self.shape), "constant": self.constant},
            "sentence": self.sentence,
            "fix": self.fix,
            "releases": list(self.releases),
        }
