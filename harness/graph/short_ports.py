"""Parts of a model without ports that are too long for a GPU where the whole model has none."""

from __future__ import annotations

from collections.abc import Iterable

from harness.core.arrays import Array
from harness.graph import fold
from harness.graph.model import Model
from harness.graph.rebuild import Rebuild


def with_short_ports(model: Model, kept: Iterable[str] = ()) -> Model:
    """The model with inputs and outputs in two dimensions where their last one may be too long for a GPU, but for those
    named in `kept`. Elements keep their order. A model without such ports is returned as it is."""
    graph, stay = model.graph(), frozenset(kept)
    long = {
        port.tensor: graph.tensors[port.tensor].shape or ()
        for port in (*graph.inputs, *graph.outputs)
        if port.name not in stay and fold.too_large(graph.tensors[port.tensor].shape)
    }
    if not long:
        return model
    rebuild = Rebuild(model)
    for port in graph.inputs:
        if port.tensor in long:
            declared = rebuild.take_in(port.tensor, fold.in_two_dimensions(long[port.tensor]))
            rebuild.replace(port.tensor, rebuild.reshape(declared, long[port.tensor]))
    for op in graph.ops:
        rebuild.keep(op)
    for port in graph.outputs:
        if port.tensor in long:
            rebuild.give_out(port.tensor, rebuild.reshape(port.tensor, fold.in_two_dimensions(long[port.tensor])))
    return rebuild.finish()


def without_large_outputs(model: Model) -> Model:
    """The model without the outputs that may be too large for a GPU, unless it has no others: beside one of these a GPU
    writes none."""
    graph = model.graph()
    large = [port.name for port in graph.outputs if fold.too_large(graph.tensors[port.tensor].shape)]
    if len(large) in (0, len(graph.outputs)):
        return model
    rebuild = Rebuild(model)
    for op in graph.ops:
        rebuild.keep(op)
    for name in large:
        rebuild.drop_output(name)
    return rebuild.finish()


def as_declared(model: Model, inputs: dict[str, Array]) -> dict[str, Array]:
    """Inputs by name in the shapes that the model declares, elements in the same order."""
    graph = model.graph()
    shapes = {port.name: graph.tensors[port.tensor].shape or () for port in graph.inputs}
    return {name: values.reshape(shapes[name]) for name, values in inputs.items()}
