"""A small attention block in which faults are planted, and words for what is found there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.result import Localization
from tests.localize.planted import noisy

Localize = Callable[..., Localization]


def attention() -> Model:
    """18 ops: projections, two layouts of heads, masked softmax, a residual, a normalization, a last projection."""
    rng = np.random.default_rng(11)

    def weights(*shape: int) -> NDArray[np.float32]:
        return np.asarray(rng.standard_normal(shape) / np.sqrt(shape[-1]), np.float32)

    graph = GraphBuilder()
    x = graph.input("x", (1, 16, 32))
    hidden = graph.fully_connected(x, weights(32, 32), weights(32))
    heads = graph.transpose(graph.reshape(hidden, (1, 16, 4, 8)), (0, 2, 1, 3))
    scores = graph.binary("MUL", graph.batch_matmul(heads, heads, adj_y=True), graph.constant([0.3]))
    mask = np.triu(np.full((16, 16), -4.0), 1)
    probabilities = graph.softmax(graph.binary("ADD", scores, graph.constant(mask[None, None])))
    mixed = graph.transpose(graph.batch_matmul(probabilities, heads), (0, 2, 1, 3))
    joined = graph.binary("ADD", graph.reshape(mixed, (1, 16, 32)), x)
    centred = graph.binary("SUB", joined, graph.reduce("MEAN", joined, 2))
    spread = graph.unary("RSQRT", graph.reduce("MEAN", graph.binary("MUL", centred, centred), 2))
    graph.output(graph.fully_connected(graph.binary("MUL", centred, spread), weights(32, 32)), "y")
    return graph.build()


ATTENTION = attention()
RESULTS = [op.outputs[0] for op in ATTENTION.graph().ops]


def ops(tensors: Iterable[int], model: Model = ATTENTION) -> list[int]:
    return sorted(model.graph().producer[t] for t in tensors)


def kind_of(tensor: int) -> str:
    graph = ATTENTION.graph()
    return graph.ops[graph.producer[tensor]].name


def op_of(tensor: int) -> str:
    return f"{kind_of(tensor)} #{ATTENTION.graph().producer[tensor]}"


def named(answer: Localization) -> list[tuple[int, int]]:
    return [(culprit.record.first, culprit.record.index) for culprit in answer.culprits]


def exactly(indices: Iterable[int]) -> list[tuple[int, int]]:
    return [(i, i) for i in sorted(indices)]


LOUD = noisy(0.5, 3)
LAST = len(RESULTS) - 1
