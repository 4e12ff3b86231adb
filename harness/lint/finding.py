"""What a model is accused of: an entry of the catalogue, at an op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.lint.knowledge.entry import Effect, Entry, Sure

Level = Literal["refused", "silent", "precision", "crash", "slow", "risk"]


@dataclass(frozen=True)
class Finding:
    """An entry's match in one model, for one target. `op` is the op's index in its subgraph, `output` the name of its
    first result, `tensor` the one that the sentence is about; `constant` whether its values are in the file."""

    entry: Entry
    effect: Effect
    sure: Sure
    target: str
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

    @property
    def rule(self) -> str:
        """The entry's name."""
        return self.entry.name

    @property
    def level(self) -> Level:
        """What `--fail-on` goes by: the effect where it is certain, else that it is at risk."""
        return self.effect if self.sure == "certain" else "risk"

    def to_json(self) -> dict[str, Any]:
        """One entry of `findings` in `lint --json`, schema 1."""
        return {
            "rule": self.rule,
            "effect": self.effect,
            "certain": self.sure == "certain",
            "target": self.target,
            "subgraph": self.subgraph,
            "signature": self.signature,
            "op": self.op,
            "op_name": self.op_name,
            "output": self.output,
            "tensor": {"name": self.tensor, "shape": list(self.shape), "constant": self.constant},
            "sentence": self.sentence,
            "why": self.entry.why,
            "fix": self.fix,
            "remedy": self.entry.remedy,
            "releases": list(self.entry.releases),
            "evidence": [each.to_json() for each in self.entry.evidence if not each.planted],
        }
