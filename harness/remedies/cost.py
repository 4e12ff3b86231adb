"""What a rewrite costs, counted on the two models: ops that came and went, and elements that are only moved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.graph.model import Model

# Ops that compute nothing: each element of the result is one of the operands', a zero or another constant.
MOVES = frozenset((
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "CONCATENATION", "PACK", "UNPACK",
    "SPLIT", "SPLIT_V", "PAD", "PADV2", "MIRROR_PAD", "TILE", "BROADCAST_TO", "GATHER", "GATHER_ND", "EMBEDDING_LOOKUP",
    "REVERSE_V2", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND",
))  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Ops by kind that a rewrite put in and took out; `moved` and `computed` are how many more elements the model
    writes by moves and by other ops, negative where it writes fewer; `held` is bytes of constants, likewise."""

    added: tuple[tuple[str, int], ...]
    removed: tuple[tuple[str, int], ...]
    moved: int
    computed: int
    held: int

    @property
    def words(self) -> str:
        """In a sentence."""
        said = [f"puts in {_listed(self.added)}"] if self.added else []
        said += [f"takes out {_listed(self.removed)}"] if self.removed else []
        copied = f"{abs(self.moved):,} {'more' if self.moved > 0 else 'fewer'}" if self.moved else "no more"
        return f"It {' and '.join(said) or 'keeps its ops'}; {copied} elements are copied."


def cost_of(before: Model, after: Model) -> Cost:
    """What writing a model anew has cost; ops that work on constants alone are left out."""
    kinds, moved, computed = [], [], []
    for model in (before, after):
        graph = model.graph()
        ops = [op for op in graph.ops if op.index not in graph.constant_ops]
        kinds.append(Counter(op.custom or op.name for op in ops))
        sizes = [(op.name in MOVES, sum(graph.tensors[t].elements for t in op.outputs)) for op in ops]
        moved.append(sum(size for moves, size in sizes if moves))
        computed.append(sum(size for moves, size in sizes if not moves))
    return Cost(
        tuple(sorted((kinds[1] - kinds[0]).items())),
        tuple(sorted((kinds[0] - kinds[1]).items())),
        moved[1] - moved[0],
        computed[1] - computed[0],
        after.weights_bytes - before.weights_bytes,
    )


def _listed(kinds: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds)
