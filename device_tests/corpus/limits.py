"""Beyond what WebGPU takes. Inputs and outputs too large are read as zeros, or not written, with all that is written
beside them; so is what a kernel of too many operands computes."""

from __future__ import annotations

import numpy as np

from device_tests.corpus.bug import EVERY, Bug
from device_tests.corpus.ops import draw, slices
from harness.graph.build import GraphBuilder
from harness.graph.model import Model

# What the SAM 2.1 mask decoder reads, joined in one row: embeddings, points, two maps of features.
_PARTS = ((1, 64, 64, 256), (1, 1, 2, 256), (1, 256, 256, 32), (1, 128, 128, 64))


def flat_input() -> Model:
    """One row of 4,194,816 values, over 65,535 workgroups of 16 slices of four, in another shape."""
    graph = GraphBuilder()
    graph.output(graph.reshape(graph.input("x", (1, 4194816)), (1, 512, 8193)), "y")
    return graph.build()


def flat_input_cut_up() -> Model:
    """The same row as one dimension, cut by SLICE and RESHAPE into the four inputs of the SAM 2.1 mask decoder."""
    graph, start = GraphBuilder(), 0
    row = graph.reshape(graph.input("x", (1, 4194816)), (4194816,))
    for i, shape in enumerate(_PARTS):
        count = int(np.prod(shape))
        cut = graph.reshape(slices(graph, row, [start], [count]), shape)
        graph.output(graph.reduce("MEAN", graph.unary("TANH", cut), 3), f"y{i}")
        start += count
    return graph.build()


def uneven_input() -> Model:
    """One row of 262,148 values: 65,537 slices, which is prime, so that each takes a workgroup."""
    graph = GraphBuilder()
    graph.output(graph.reshape(graph.input("x", (1, 262148)), (1, 4, 65537)), "y")
    return graph.build()


def large_vocabulary() -> Model:
    """A layer of 262,148 results: as many slices, and an output of the model."""
    graph = GraphBuilder()
    graph.output(graph.fully_connected(graph.input("x", (1, 8)), draw(262148, 8)), "y")
    return graph.build()


def narrow_input() -> Model:
    """8,388,612 values of one channel: in slices of four, 64 bytes more than 128 MiB. The RESHAPE's result is within
    every limit, so that it can be read."""
    graph = GraphBuilder()
    graph.output(graph.reduce("MEAN", graph.reshape(graph.input("x", (1, 8388612, 1)), (1, 36, 233017)), 2), "y")
    return graph.build()


def many_operands() -> Model:
    """A sum of 49 inputs, one after another: one kernel, which may read 48 textures."""
    graph = GraphBuilder()
    total = graph.input("x0", (1, 8, 8, 4))
    for i in range(1, 49):
        total = graph.binary("ADD", total, graph.input(f"x{i}", (1, 8, 8, 4)))
    graph.output(total, "y")
    return graph.build()


LIMITS = (
    Bug("flat_input", flat_input, ((0, "RESHAPE", "limits"),), EVERY, unwritten=True),
    Bug("flat_input_cut_up", flat_input_cut_up, ((0, "RESHAPE", "limits"),), EVERY, unwritten=True),
    Bug("uneven_input", uneven_input, ((0, "RESHAPE", "limits"),), EVERY, unwritten=True),
    Bug("large_vocabulary", large_vocabulary, ((0, "FULLY_CONNECTED", "limits"),), EVERY, unwritten=True),
    Bug("narrow_input", narrow_input, ((0, "RESHAPE", "limits"),), EVERY, unwritten=True),
    Bug("many_operands", many_operands, ((47, "ADD", "limits"),), EVERY, first=0, unwritten=True),
)
