"""From a file to the model that a command works on: one signature, every port named, every shape static.

What is not in the file is assumed, and said: an open dimension is run at the size that the file stores or that the
caller gives, and the shapes behind it are those that the host's runtime computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.devices.shapes import Unanswered, shapes_at
from harness.errors import UsageError
from harness.graph.concrete import (
    Shape,
    declared_shape,
    open_tensors,
    startable,
    starting_shapes,
    still_open,
    stored_shape,
    with_shapes,
)
from harness.graph.model import Model
from harness.graph.ports import with_named_ports
from harness.graph.surgery import isolate


@dataclass(frozen=True)
class Opened:
    """The model to work on, the shapes of inputs that were chosen for it, and a sentence on what was assumed; both
    empty where the file leaves nothing open."""

    model: Model
    shapes: dict[str, Shape] = field(default_factory=dict)
    assumed: str = ""


def as_in_the_file(path: Path, signature: str | None = None) -> Opened:
    """Read a model with its shapes left as open as they are. Raises UsageError as `Model.load` and `Model.graph`."""
    model = with_named_ports(isolate(Model.load(path), signature))
    model.path = path
    return Opened(model)


def open_model(path: Path, signature: str | None = None, shapes: Mapping[str, Sequence[int]] | None = None) -> Opened:
    """Read a model for a command; `shapes` by input name.

    Raises:
        UsageError: as `Model.load` and `Model.graph`; a shape asked for does not fit, an open input has no size to run
            at, the runtime refuses the shapes, or a tensor's shape depends on values.
    """
    model = as_in_the_file(path, signature).model
    unknown = open_tensors(model)
    chosen = starting_shapes(model, shapes or {})
    ports = {port.name: port.tensor for port in model.graph().inputs}
    new = {name: shape for name, shape in chosen.items() if shape != stored_shape(model, ports[name])}
    if not unknown and not new:
        return Opened(model)
    said = _said(model, chosen, ports, new)
    try:
        found = shapes_at(startable(model), {ports[name]: shape for name, shape in chosen.items()})
    except Unanswered as error:
        found = _as_stored(model, unknown, new, error, said)
    wanted = unknown if not new else [*ports.values(), *(t for op in model.graph().ops for t in op.outputs)]
    bad = still_open(model.graph(), found, wanted)
    if bad is not None:
        producer = model.graph().producer.get(bad.index)
        maker = "" if producer is None else f", which {model.graph().ops[producer].name} #{producer} makes,"
        raise UsageError(
            f"The shape of tensor '{bad.name}'{maker} depends on the values of the inputs.",
            "Only static shapes can be compared: export the model without that op.",
        )
    every = {*unknown, *ports.values(), *(t for op in model.graph().ops for t in op.outputs)}
    return Opened(with_shapes(model, {t: shape for t in every if (shape := found.get(t)) is not None}), chosen, said)


def _said(model: Model, chosen: Mapping[str, Shape], ports: Mapping[str, int], new: Mapping[str, Shape]) -> str:
    """One sentence: at which shapes, and where they are from."""
    each = [
        f"input '{name}' {declared_shape(model, ports[name])} is {list(shape)}"
        + (", as asked" if name in new else ", as the file stores it")
        for name, shape in chosen.items()
    ]
    return "; ".join(each) or "shapes that the file leaves out are those that the host's runtime computes"


def _as_stored(
    model: Model, unknown: Sequence[int], new: Mapping[str, Shape], error: Unanswered, said: str
) -> dict[int, Shape | None]:
    """The stored shapes, for a model that the host's runtime cannot prepare because it lacks a custom op.

    Raises:
        UsageError: it refuses the shapes.
    """
    lacks = any(op.custom is not None for op in model.graph().ops)
    if new or not lacks:
        step = "Give shapes that the model takes with --shape, or export it with static ones."
        raise UsageError(f"The runtime does not take the model with {said}: {str(error).rstrip('.')}.", step)
    return {t: stored_shape(model, t) for t in unknown}
