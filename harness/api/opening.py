"""From a file to the model that a command works on: one signature, every port named, every shape static.

What is not in the file is assumed, and said: an open dimension is run at the size that the file stores or that the
caller gives, and the shapes behind it are those that the host's runtime computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.api.ports import with_named_ports
from harness.core.errors import HarnessError, UsageError
from harness.devices.fold import with_folded_constants
from harness.devices.refusal import first_words
from harness.devices.shapes import Unanswered, shapes_at
from harness.graph.concrete import (
    Shape,
    declared_shape,
    open_tensors,
    settled_by_shapes,
    startable,
    starting_shapes,
    still_open,
    stored_shape,
    with_shapes,
)
from harness.graph.model import Graph, Model, indices
from harness.graph.surgery import isolate
from harness.lint.lint import shapeless


@dataclass(frozen=True)
class Opened:
    """The model to work on, the shapes of inputs that were chosen for it, and a sentence on what was assumed; both
    empty where the file leaves nothing open. `folded` is a sentence on ops that were computed ahead; `signatures` are
    the keys of all that the file has, `file_sha256` is its digest as it is on the disk."""

    model: Model
    shapes: dict[str, Shape] = field(default_factory=dict)
    assumed: str = ""
    folded: str = ""
    signatures: tuple[str, ...] = ()
    file_sha256: str = ""


def as_in_the_file(path: Path, signature: str | None = None) -> Opened:
    """Read a model with its shapes left as open as they are.

    Raises:
        UsageError: as `Model.load` and `Model.graph`, and where the signature names a tensor that its graph does not
            take or give: runtimes find ports by their place there.
    """
    whole = Model.load(path)
    isolated = isolate(whole, signature)
    graph, sub = isolated.graph(), isolated.root.subgraphs[0]
    for kind, ports, listed in (("input", graph.inputs, sub.inputs), ("output", graph.outputs, sub.outputs)):
        there = set(indices(listed))
        for port in ports:
            if port.tensor not in there:
                raise UsageError(
                    f"The signature's {kind} {port.name[:80]!r} is no {kind} of its graph.", "Export the model again."
                )
    model = with_named_ports(isolated)
    model.path = path
    return Opened(model, signatures=whole.signatures, file_sha256=whole.sha256)


def with_constants(opened: Opened) -> Opened:
    """With the ops that only prepare constants computed (`devices.fold`), as a GPU delegate needs it.

    Raises:
        DeviceError: the host's kernels do not compute them.
    """
    model, ops = with_folded_constants(opened.model)
    if not ops:
        return opened
    graph = opened.model.graph()
    counts = Counter(graph.ops[o].custom or graph.ops[o].name for o in ops)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    told = f"Ops that only prepare constants, which no GPU takes as they are in the file, are computed ahead: {kinds}."
    return replace(opened, model=model, folded=told)


def open_model(path: Path, signature: str | None = None, shapes: Mapping[str, Sequence[int]] | None = None) -> Opened:
    """Read a model for a command; `shapes` by input name.

    Raises:
        UsageError: as `Model.load` and `Model.graph`; a shape asked for does not fit, an open input has no size to run
            at, the runtime refuses the shapes, or a tensor's shape depends on values.
    """
    opened = as_in_the_file(path, signature)
    model = opened.model
    unknown = open_tensors(model)
    chosen = starting_shapes(model, shapes or {})
    ports = {port.name: port.tensor for port in model.graph().inputs}
    new = {name: shape for name, shape in chosen.items() if shape != stored_shape(model, ports[name])}
    if not unknown and not new:
        return opened
    said = "; ".join(
        f"input '{name}' {declared_shape(model, ports[name])} is {list(shape)}, "
        + ("as asked" if name in new else "as the file stores it")
        for name, shape in chosen.items()
    )
    try:
        found = shapes_at(startable(model), {ports[name]: shape for name, shape in chosen.items()})
    except Unanswered as error:
        found = _as_stored(model, unknown, new, error, said)
    graph = model.graph()
    wanted = unknown if not new else [*ports.values(), *(t for op in graph.ops for t in op.outputs)]
    # The runtime sizes this op's result as it runs, and until then shows what the file has, in the operand's memory.
    unsure = {op.outputs[0] for op in graph.ops if op.name == "RESHAPE" and not _constant(graph, op.inputs[1:])}
    found |= dict.fromkeys(unsure)
    late = [t for t in {*wanted, *unsure} if found.get(t) is None]
    sized = frozenset(t for t, shape in found.items() if shape is not None)
    fixed = settled_by_shapes(graph, sized) if late else frozenset()
    if late and fixed.issuperset(late):
        with suppress(Unanswered):
            found = shapes_at(startable(model), {ports[name]: shape for name, shape in chosen.items()}, run=True)
    # What the runtime sizes late may still be the same in each run; the op to name is one of which that is not known.
    bad = still_open(graph, found, [t for t in wanted if t not in fixed]) or still_open(graph, found, wanted)
    if bad is not None:
        producer = graph.producer.get(bad.index)
        maker = "" if producer is None else f", which {graph.ops[producer].name} #{producer} makes,"
        raise UsageError(
            f"The shape of tensor '{bad.name}'{maker} depends on the values of the inputs.",
            "Only static shapes can be compared: export the model without that op.",
        )
    every = {*unknown, *ports.values(), *(t for op in graph.ops for t in op.outputs)}
    said = said or "shapes that the file leaves out are those that the host's runtime computes"
    shaped = with_shapes(model, {t: shape for t in every if (shape := found.get(t)) is not None})
    return replace(opened, model=shaped, shapes=chosen, assumed=said)


def as_linted(path: Path) -> tuple[Model, Model, str]:
    """A file, what `lint` looks at of it, and what was assumed for that: the file itself; one with a single signature
    that leaves shapes open, as every other command takes it. Raises UsageError as `Model.load`."""
    file = Model.load(path)
    if shapeless(file) and len(file.signatures) < 2:
        with suppress(HarnessError):
            opened = open_model(path)
            return file, opened.model, opened.assumed
    return file, file, ""


def _constant(graph: Graph, tensors: Sequence[int]) -> bool:
    return all(graph.tensors[t].constant for t in tensors if t >= 0)


def _as_stored(
    model: Model, unknown: Sequence[int], new: Mapping[str, Shape], error: Unanswered, said: str
) -> dict[int, Shape | None]:
    """The stored shapes, for a model that the host's runtime cannot prepare because it lacks a custom op.

    Raises:
        UsageError: it refuses the shapes.
    """
    lacks = any(op.custom is not None for op in model.graph().ops)
    if new or not lacks:
        step = "Give shapes that the model takes with --shape, or export it anew."
        where = f" where {said}" if said else ""
        raise UsageError(f"The runtime does not prepare the model{where}: {first_words(str(error))}.", step)
    return {t: stored_shape(model, t) for t in unknown}
