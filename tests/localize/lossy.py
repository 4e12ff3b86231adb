"""Small graphs of which float16 leaves nothing, and healthy ones that resemble them."""

from __future__ import annotations

import numpy as np

from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def constant(graph: GraphBuilder, *values: float) -> int:
    return graph.constant(np.asarray(values, np.float32))


def rope() -> Model:
    """Rotary embedding: COS #1 and SIN #2 of positions times frequencies (MUL #0), and the rotation of q by them."""
    graph = GraphBuilder()
    positions, q = graph.input("pos", (1, 64, 1)), graph.input("q", (1, 64, 32))
    frequencies = graph.constant((10000.0 ** (-np.arange(32) / 32)).astype(np.float32)[None, None])
    angles = graph.binary("MUL", positions, frequencies)
    cosine, sine = graph.unary("COS", angles), graph.unary("SIN", angles)
    graph.output(graph.binary("ADD", graph.binary("MUL", q, cosine), graph.binary("MUL", q, sine)), "y")
    return graph.build()


def far_positions() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """For `rope`: float16 holds whole numbers up to 2,048; these go to 3,993, where its steps are 2 rad."""
    positions = (150 + 61 * np.arange(64)).astype(np.float32)
    return {
        "pos": positions.reshape(1, 64, 1),
        "q": np.random.default_rng(0).standard_normal((1, 64, 32)).astype(np.float32),
    }


def log_of_complement() -> Model:
    """log(1 - sigmoid(6x) + 1e-7): float16 has no number between 0.9995 and 1, so SUB #2 gives 0 from 6x = 8 on."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 64))
    sigmoid = graph.unary("LOGISTIC", graph.binary("MUL", x, constant(graph, 6)))
    rest = graph.binary("SUB", constant(graph, 1), sigmoid)
    graph.output(graph.unary("LOG", graph.binary("ADD", rest, constant(graph, 1e-7))), "y")
    return graph.build()


def residual(part: float) -> Model:
    """x + part·tanh(Wx): ADD #3 stores the sum in steps of 2^-11 of x at least."""
    graph = GraphBuilder()
    x = graph.input("x", (64, 32))
    weights = np.random.default_rng(1).standard_normal((32, 32)).astype(np.float32) / np.float32(6)
    learned = graph.unary("TANH", graph.fully_connected(x, weights))
    graph.output(graph.binary("ADD", x, graph.binary("MUL", learned, constant(graph, part))), "y")
    return graph.build()


def around(offset: float) -> Model:
    """tanh(x) + offset - offset: of an offset of 1,000 float16's steps are 0.5, where tanh keeps within ±1."""
    graph = GraphBuilder()
    shifted = graph.binary("ADD", graph.unary("TANH", graph.input("x", (1, 64, 64))), constant(graph, offset))
    graph.output(graph.binary("SUB", graph.reshape(shifted, (64, 64)), constant(graph, offset)), "y")
    return graph.build()


def two_branches() -> Model:
    """The same twice, for two outputs: SUB #2 and SUB #5."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 64, 64))
    for name, kind in (("a", "TANH"), ("b", "LOGISTIC")):
        shifted = graph.binary("ADD", graph.unary(kind, x), constant(graph, 1000))
        graph.output(graph.binary("SUB", shifted, constant(graph, 1000)), name)
    return graph.build()


def beside() -> Model:
    """Lost digits in a, by SUB #2, and nothing wrong with b, which LOGISTIC #3 and TANH #4 make."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 64, 64))
    shifted = graph.binary("ADD", graph.unary("TANH", x), constant(graph, 1000))
    graph.output(graph.binary("SUB", shifted, constant(graph, 1000)), "a")
    graph.output(graph.unary("TANH", graph.unary("LOGISTIC", x)), "b")
    return graph.build()


def saturated() -> Model:
    """Scores that are nearly all 0.9999: float16's steps there are 0.0005."""
    graph = GraphBuilder()
    graph.output(graph.unary("LOGISTIC", graph.binary("ADD", graph.input("x", (1, 256)), constant(graph, 9.5))), "y")
    return graph.build()


def normalized(size: int) -> Model:
    """x over its RMS. Random numbers are normalized already, the better the more they are."""
    graph = GraphBuilder()
    x = graph.input("x", (1, size))
    graph.output(graph.binary("MUL", x, graph.unary("RSQRT", graph.reduce("MEAN", graph.binary("MUL", x, x), 1))), "y")
    return graph.build()


def vanishing() -> Model:
    """Values of 1e-9, which float16 does not hold."""
    graph = GraphBuilder()
    graph.output(graph.binary("MUL", graph.unary("TANH", graph.input("x", (1, 64))), constant(graph, 1e-9)), "y")
    return graph.build()


def zero_mean() -> Model:
    """The mean of what was centred: nothing but float32's own rounding is left of it."""
    graph = GraphBuilder()
    x = graph.input("x", (64, 256))
    centred = graph.binary("SUB", x, graph.reduce("MEAN", x, 1))
    graph.output(graph.unary("TANH", centred), "y")
    graph.output(graph.reduce("MEAN", centred, 1), "mean")
    return graph.build()


def photo() -> Model:
    """A convolution of an image."""
    graph = GraphBuilder()
    x = graph.input("photo", (1, 32, 32, 3))
    graph.output(graph.unary("TANH", x), "y")
    return graph.build()
