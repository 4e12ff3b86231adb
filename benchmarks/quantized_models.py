"""Small models of the usual kinds, quantized by LiteRT's own quantizer in the usual ways; the same ones for a seed."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model

RECIPES = {
    "dynamic int8": "dynamic_wi8_afp32",
    "dynamic int4": "dynamic_wi4_afp32",
    "static int8": "static_wi8_ai8",
    "static int8, int16 activations": "static_wi8_ai16",
}
SEEDS = 2
# Draws of the inputs that a static quantization is calibrated on.
CALIBRATION = 16
_RELU, _RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6


@dataclass(frozen=True)
class Quantized:
    """A quantized model with inputs of the distribution that it was calibrated on, or over its inputs' whole range."""

    name: str
    recipe: str
    seed: int
    model: Model
    inputs: dict[str, Array]


class _Net(GraphBuilder):
    """Layers with random weights of the size that keeps values near one."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = np.random.default_rng(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        return (self._rng.standard_normal(shape) * scale).astype(np.float32)

    def linear(self, x: int, width: int) -> int:
        inner = self.shape(x)[-1]
        return self.fully_connected(x, self.normal(width, inner, scale=inner**-0.5), self.normal(width, scale=0.3))

    def conv(self, x: int, width: int, size: int = 1, stride: int = 1, activation: int = 0) -> int:
        options = schema.Conv2DOptionsT()
        inner = self.shape(x)[-1]
        weights = self.normal(width, size, size, inner, scale=(size * size * inner / 2) ** -0.5)
        return self._sliding("CONV_2D", options, x, weights, width, stride, activation)

    def depthwise(self, x: int, size: int = 3, stride: int = 1, activation: int = 0) -> int:
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = 1
        inner = self.shape(x)[-1]
        weights = self.normal(1, size, size, inner, scale=1 / size)
        return self._sliding("DEPTHWISE_CONV_2D", options, x, weights, inner, stride, activation)

    def _sliding(self, kind: str, options: Any, x: int, weights: Array, width: int, stride: int, act: int) -> int:
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.padding, options.fusedActivationFunction = schema.Padding.SAME, act
        batch, rows, columns, _ = self.shape(x)
        shape = (batch, -(-rows // stride), -(-columns // stride), width)
        feeds = [x, self.constant(weights), self.constant(self.normal(width, scale=0.3))]
        return self.op(kind, feeds, shape, options)

    def mean_of_map(self, x: int) -> int:
        axes = self.constant(np.asarray([1, 2], np.int32))
        return self.op("MEAN", [x, axes], (1, self.shape(x)[-1]), schema.ReducerOptionsT())

    def attention(self, x: int, heads: int) -> int:
        _, tokens, width = self.shape(x)
        size = width // heads
        q, k, v = (
            self.transpose(self.reshape(self.linear(x, width), (1, tokens, heads, size)), (0, 2, 1, 3))
            for _ in range(3)
        )
        scores = self.binary("MUL", self.batch_matmul(q, k, adj_y=True), self.constant(np.asarray([size**-0.5])))
        mixed = self.transpose(self.batch_matmul(self.softmax(scores), v), (0, 2, 1, 3))
        return self.linear(self.reshape(mixed, (1, tokens, width)), width)


def convolutions(seed: int) -> Model:
    """A residual network of plain convolutions."""
    net = _Net(seed)
    x = net.conv(net.input("image", (1, 24, 24, 3)), 16, 3, 2, _RELU)
    for _ in range(2):
        x = net.binary("ADD", x, net.conv(net.conv(x, 16, 3, 1, _RELU), 16, 3))
    x = net.conv(x, 32, 3, 2, _RELU)
    net.output(net.softmax(net.linear(net.mean_of_map(x), 10)), "classes")
    return net.build()


def depthwise(seed: int) -> Model:
    """Inverted bottlenecks, as mobile networks have them."""
    net = _Net(seed)
    x = net.conv(net.input("image", (1, 24, 24, 3)), 16, 3, 2, _RELU6)
    for _ in range(2):
        inside = net.depthwise(net.conv(x, 48, activation=_RELU6), activation=_RELU6)
        x = net.binary("ADD", x, net.conv(inside, 16))
    x = net.conv(net.depthwise(x, stride=2, activation=_RELU6), 24)
    net.output(x, "map")
    return net.build()


def linear(seed: int) -> Model:
    """Three residual blocks of two linear layers with a GELU between them."""
    net = _Net(seed)
    x = net.input("features", (1, 16, 64))
    for _ in range(3):
        inside = net.unary("GELU", net.linear(x, 128), schema.GeluOptionsT())
        x = net.binary("ADD", x, net.linear(inside, 64))
    net.output(net.unary("TANH", x), "y")
    return net.build()


def attention(seed: int) -> Model:
    """Two blocks of attention."""
    net = _Net(seed)
    x = net.input("tokens", (1, 32, 48))
    for _ in range(2):
        x = net.binary("ADD", x, net.attention(x, 4))
    net.output(x, "y")
    return net.build()


def hybrid(seed: int) -> Model:
    """Convolutions, then attention over the map's places, then classes."""
    net = _Net(seed)
    x = net.conv(net.input("image", (1, 16, 16, 3)), 32, 3, 2, _RELU)
    x = net.depthwise(x, activation=_RELU)
    x = net.reshape(x, (1, 64, 32))
    x = net.binary("ADD", x, net.attention(x, 2))
    x = net.unary("LOGISTIC", net.linear(x, 16))
    net.output(net.reduce("MEAN", x, 1), "scores")
    return net.build()


FAMILIES: dict[str, Callable[[int], Model]] = {
    "convolutions": convolutions,
    "depthwise": depthwise,
    "linear": linear,
    "attention": attention,
    "hybrid": hybrid,
}


def quantized_models() -> Iterator[Quantized]:
    """Every family, quantized by every recipe, from every seed: 40 of them."""
    for seed in range(SEEDS):
        for family, make in FAMILIES.items():
            whole = make(seed)
            for title, recipe in RECIPES.items():
                model = quantize(whole, recipe, seed)
                yield Quantized(f"{family}, {title}", title, seed, model, inputs_of(model, seed))


def quantize(model: Model, recipe: str, seed: int) -> Model:
    """A float model as LiteRT's quantizer makes it by one of its recipes, calibrated on normal inputs."""
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes

    graph = model.graph()
    rng = np.random.default_rng(1000 + seed)
    quiet = contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tool's own way of running the model, which it warns of
        path = Path(folder) / "float.tflite"
        path.write_bytes(model.to_bytes())
        tool = quantizer.Quantizer(str(path), getattr(recipes, recipe)())
        found = None
        if tool.need_calibration:
            draws = [
                {
                    p.name: np.asarray(rng.standard_normal(graph.tensors[p.tensor].shape), np.float32)
                    for p in graph.inputs
                }
                for _ in range(CALIBRATION)
            ]
            found = tool.calibrate({"serving_default": draws})
        made = tool.quantize(found, enable_progress_report=False).quantized_model
    return Model.from_bytes(bytes(made))


def inputs_of(model: Model, seed: int) -> dict[str, Array]:
    """For an even seed, what the harness draws, which takes the whole range of a quantized input; for an odd one,
    normal values, which is what the model was calibrated on."""
    graph = model.graph()
    if seed % 2 == 0:
        return random_inputs(graph, seed)
    rng = np.random.default_rng(seed)
    inputs = {}
    for port in graph.inputs:
        tensor = graph.tensors[port.tensor]
        values = np.asarray(rng.standard_normal(tensor.shape), np.float32)
        inputs[port.name] = values if tensor.grid is None else tensor.grid.nearest(values)
    return inputs
