"""What is in a model, before anything runs it: ops, ranks, weights, and what a GPU delegate is known to refuse."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from harness.core.visible import html_table, visible
from harness.graph.model import Graph, Model, Port
from harness.graph.ops.repeatable import varying_op

MAX_GPU_RANK = 4
# MediaPipe's, which the GPU delegate has kernels for and the CPU has not.
KNOWN_CUSTOM = frozenset(("MaxPoolingWithArgmax2D", "MaxUnpooling2D", "Convolution2DTransposeBias"))


@dataclass(frozen=True)
class Interface:
    """An input or output: its name, type and shape, None where the file leaves it open."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.shape)) if self.shape is not None else "shape left open"
        return f"{self.name} {self.dtype} [{sizes}]"

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"name": self.name, "dtype": self.dtype, "shape": None if self.shape is None else list(self.shape)}


@dataclass(frozen=True)
class Expected:
    """What the catalogue of `harness lint` says of an op for a device: its entry, the effect, whether that was measured
    on such a device, and a sentence."""

    op: int
    op_name: str
    rule: str
    effect: str
    certain: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return dict(vars(self))


@dataclass(frozen=True, repr=False)
class Audit:
    """Counts over one signature. `unsupported` holds `OP: why` lines, from the file alone or, when `asked` names one,
    from a delegate itself. `folded` is a sentence on ops that were computed before it was asked. `fallback`: whether it
    takes the model where the CPU may run what it refuses; None where it was not asked, or gave no answer. `varying`:
    the op for which two runs need not agree, and why, in a clause. `asked_alone` are the lines of `unsupported` that a
    phone's log left out, and that came of single ops; `cut` is a sentence on that. `lint`: what the catalogue says for
    the device that was asked, and `differs`, sentences on where the device says otherwise."""

    ops: dict[str, int]
    total: int
    max_rank: int
    rank_over_4: int
    unsupported: tuple[str, ...]
    weights_bytes: int
    signatures: tuple[str, ...]
    asked: str = ""
    folded: str = ""
    fallback: bool | None = None
    varying: str = ""
    inputs: tuple[Interface, ...] = ()
    outputs: tuple[Interface, ...] = ()
    asked_alone: tuple[str, ...] = ()
    cut: str = ""
    lint: tuple[Expected, ...] = ()
    differs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        refused = f"{len(self.unsupported)} refusals" if self.unsupported else "nothing refused"
        return visible(f"<Audit: {self.total} ops, {refused}{f' by {self.asked}' if self.asked else ''}>")

    def _repr_html_(self) -> str:
        caption = f"{self.total} ops, {self.weights_bytes:,} bytes of weights"
        return html_table(caption, ("op", "count"), self.ops.items(), self.unsupported)

    def to_json(self) -> dict[str, Any]:
        """`audit --json`, schema 1."""
        return {
            "schema": 1,
            "ops": self.ops,
            "total": self.total,
            "max_rank": self.max_rank,
            "rank_over_4": self.rank_over_4,
            "unsupported": list(self.unsupported),
            "weights_bytes": self.weights_bytes,
            "signatures": list(self.signatures),
            "asked": self.asked,
            "folded": self.folded,
            "fallback": self.fallback,
            "varying": self.varying,
            "inputs": [port.to_json() for port in self.inputs],
            "outputs": [port.to_json() for port in self.outputs],
            "asked_alone": list(self.asked_alone),
            "cut": self.cut,
            "lint": [each.to_json() for each in self.lint],
            "differs": list(self.differs),
        }


def audit(model: Model, signature: str | None = None) -> Audit:
    """Count ops and ranks; list what the file alone shows to be refused: custom ops, tensors of rank over 4, types
    other than float, 32-bit and 8-bit integer and bool, control flow."""
    graph = model.graph(signature)
    live = {t for op in graph.ops if op.index not in graph.constant_ops for t in (*op.inputs, *op.outputs) if t >= 0}
    ranks = [len(graph.tensors[t].shape or ()) for t in live]
    counts = Counter(op.custom or op.name for op in graph.ops)
    return Audit(
        ops=dict(counts.most_common()),
        total=len(graph.ops),
        max_rank=max(ranks, default=0),
        rank_over_4=sum(rank > MAX_GPU_RANK for rank in ranks),
        unsupported=tuple(dict.fromkeys(_refusals(graph))),
        weights_bytes=model.weights_bytes,
        signatures=model.signatures,
        varying=varying_op(model),
        inputs=tuple(_interface(graph, port) for port in graph.inputs),
        outputs=tuple(_interface(graph, port) for port in graph.outputs),
    )


def _interface(graph: Graph, port: Port) -> Interface:
    tensor = graph.tensors[port.tensor]
    return Interface(port.name, tensor.type.lower(), tensor.shape)


def _refusals(graph: Graph) -> list[str]:
    lines = []
    for op in graph.ops:
        if op.index in graph.constant_ops:
            continue
        if op.custom is not None and op.custom not in KNOWN_CUSTOM:
            lines.append(f"CUSTOM: no delegate knows custom op '{op.custom}'")
        if op.name in ("WHILE", "IF", "CALL", "CALL_ONCE"):
            lines.append(f"{op.name}: control flow stays on the CPU")
        for t in (*op.inputs, *op.outputs):
            if t < 0 or graph.tensors[t].constant:
                continue
            tensor = graph.tensors[t]
            if tensor.shape is None:
                lines.append(f"{op.name}: tensor '{tensor.name}' has no static shape")
            elif len(tensor.shape) > MAX_GPU_RANK:
                lines.append(f"{op.name}: tensor '{tensor.name}' has rank {len(tensor.shape)}, over {MAX_GPU_RANK}")
            if tensor.type not in ("FLOAT32", "FLOAT16", "INT32", "INT8", "UINT8", "BOOL"):
                lines.append(f"{op.name}: tensor '{tensor.name}' has type {tensor.type}")
    return lines
