"""A form in its contexts: alone, behind and before a matrix product, and with a result that is an output and read too.

The products are of forms that are right by themselves on every release asked: BATCH_MATMUL of two run-time tensors of
equal batches in ranks 3 and 4,
FULLY_CONNECTED with constant weights in rank 2. A tensor of rank 1 is reshaped to and from
one row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.graph.build import GraphBuilder
from harness.graph.forms.form import NAMES, SEED, Form, Given, draw, put_input
from harness.graph.model import Model

Context = Literal["alone", "behind", "before", "read"]
CONTEXTS: tuple[Context, ...] = get_args(Context)
CONTEXT_WORDS: dict[Context, str] = {
    "alone": "alone",
    "behind": "behind a matrix product",
    "before": "before a matrix product",
    "read": "as an output that is read",
}

# Terms of a product ahead, columns of one behind.
_TERMS, _COLUMNS = 4, 5
# How what a product gives may be drawn: of factors drawn so, it is so too.
_PRODUCTS = {"normal": "normal", "positive": "positive", "nonzero": "normal", "unit": "", "wide": "normal"}


Put = Callable[[str, Given], TensorIndex]


@dataclass(frozen=True)
class Built:
    """A model, and values for its inputs."""

    model: Model
    inputs: dict[str, Array]


def contexts_of(form: Form) -> tuple[Context, ...]:
    """The contexts in which a form says something. Of a pair and a pattern: alone, and with what is on the way read as
    outputs too."""
    if form.family != "op":
        return ("alone", "read")
    if not form.base:
        return ("alone",)
    found: list[Context] = ["alone"]
    if _behind_at(form) is not None:
        found.append("behind")
    result = _result_of(form)
    if result is not None:
        found += ["before", "read"]
    return tuple(found)


def build(form: Form, context: Context = "alone") -> Built:
    """The form's model in a context, with values for its inputs."""
    graph, given = GraphBuilder(), dict[str, Given]()

    def put(name: str, what: Given) -> TensorIndex:
        given[name] = what
        return put_input(graph, name, what)

    at = _behind_at(form) if context == "behind" else None
    feeds = [
        _product_ahead(graph, put, what) if i == at else put(NAMES[i] if i < len(NAMES) else f"x{i}", what)
        for i, what in enumerate(form.inputs)
    ]
    results = list(form.build(graph, feeds))
    if form.family != "op":
        on_the_way = results[:-1] if context == "read" else []
        for i, handle in enumerate(on_the_way):
            graph.output(handle, f"inside{i}")
        graph.output(results[-1], "out")
    elif context == "before":
        graph.output(_product_behind(graph, put, results[0]), "out")
    else:
        for i, handle in enumerate(results):
            graph.output(handle, "out" if i == 0 else f"out{i}")
        if context == "read":
            other = put("beside", Given(graph.shape(results[0])))
            twice = graph.binary("MUL", graph.unary("RELU", results[0]), graph.constant([2.0]))
            graph.output(graph.binary("ADD", twice, other), "reader")
    rng = np.random.default_rng(SEED)
    return Built(graph.build(), {name: draw(what, rng) for name, what in given.items()})


def _behind_at(form: Form) -> int | None:
    """Which of a form's inputs a product can give; None where none can be."""
    for i, given in enumerate(form.inputs):
        able = given.dtype == "float32" and 1 <= len(given.shape) <= 4 and _PRODUCTS.get(given.values)
        if able:
            return i
    return None


def _result_of(form: Form) -> tuple[int, ...] | None:
    """The shape of a form's first result, if it is float32 and a product can read it."""
    graph = GraphBuilder()
    made = form.build(graph, [put_input(graph, f"x{i}", given) for i, given in enumerate(form.inputs)])
    shape = graph.shape(made[0])
    return shape if graph.dtype(made[0]) == np.float32 and 1 <= len(shape) <= 4 else None


def _product_ahead(graph: GraphBuilder, put: Put, what: Given) -> TensorIndex:
    shape, values = what.shape, _PRODUCTS[what.values]
    if len(shape) < 3:
        rows = shape[0] if len(shape) == 2 else 1
        weights = draw(Given((shape[-1], _TERMS), values))
        made = graph.fully_connected(put("p", Given((rows, _TERMS), values)), weights)
        return made if len(shape) == 2 else graph.reshape(made, shape)
    left = put("p", Given((*shape[:-1], _TERMS), values))
    right = put("q", Given((*shape[:-2], _TERMS, shape[-1]), values))
    return graph.batch_matmul(left, right)


def _product_behind(graph: GraphBuilder, put: Put, result: TensorIndex) -> TensorIndex:
    shape = graph.shape(result)
    if len(shape) < 3:
        row = graph.reshape(result, (1, *shape)) if len(shape) == 1 else result
        return graph.fully_connected(row, draw(Given((_COLUMNS, shape[-1]))))
    return graph.batch_matmul(result, put("r", Given((*shape[:-2], shape[-1], _COLUMNS))))
