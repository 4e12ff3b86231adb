"""MediaPipe's custom ops as builtin ones: bit for bit what their definition gives, in loops over elements."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.custom import with_builtin_ops
from tests.arrays import Evaluate, normal

SAME, VALID = 1, 2


def custom_model(
    name: str, inputs: Mapping[str, tuple[int, ...]], outputs: Sequence[tuple[int, ...]], *options: int
) -> Model:
    """A model of one custom op whose options are 32-bit integers; `y0`, `y1` are its outputs."""
    graph = GraphBuilder()
    feeds = [graph.input(key, shape) for key, shape in inputs.items()]
    made = graph.op("CUSTOM", feeds, outputs[0], custom=name, dtype=np.float32)
    graph.output(made, "y0")
    root = graph.build().root
    op, sub = root.subgraphs[0].operators[0], root.subgraphs[0]
    op.customOptions = np.frombuffer(struct.pack(f"<{len(options)}i", *options), np.uint8)
    for i, shape in enumerate(outputs[1:], 1):
        table = schema.TensorT()
        table.name, table.shape, table.type, table.hasRank = f"more_{i}", np.asarray(shape, np.int32), 0, True
        sub.tensors.append(table)
        place = len(sub.tensors) - 1
        op.outputs = np.append(op.outputs, np.int32(place))
        sub.outputs = np.append(sub.outputs, np.int32(place))
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = f"y{i}", place
        root.signatureDefs[0].outputs.append(entry)
    return Model.from_bytes(Model(root).to_bytes())


@pytest.mark.parametrize(
    ("padding", "stride", "size", "kernel"),
    [
        (SAME, (2, 2), (4, 5), (2, 2)),
        (SAME, (2, 2), (4, 5), (3, 3)),
        (SAME, (2, 1), (3, 4), (3, 3)),
        (VALID, (2, 2), (3, 3), (3, 2)),
    ],
)
def test_a_transposed_convolution_with_bias(
    evaluate: Evaluate, padding: int, stride: tuple[int, int], size: tuple[int, int], kernel: tuple[int, int]
) -> None:
    """Each input element is spread over a window of the output, which begins at half of what padding cuts off."""
    cut = [max(0, k - (n - 1) % s - 1) if padding == SAME else 0 for k, n, s in zip(kernel, size, stride, strict=True)]
    result = [s * (n - 1) + k - c for s, n, k, c in zip(stride, size, kernel, cut, strict=True)]
    shapes = {"x": (1, *size, 3), "w": (2, *kernel, 3), "b": (2,)}
    options = (padding, stride[1], stride[0], 0, 0)
    model = custom_model("Convolution2DTransposeBias", shapes, [(1, *result, 2)], *options)
    values = {name: normal(shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    expected = np.zeros((1, *result, 2)) + values["b"]
    for y in range(size[0]):
        for x in range(size[1]):
            for fy in range(kernel[0]):
                for fx in range(kernel[1]):
                    oy, ox = y * stride[0] - cut[0] // 2 + fy, x * stride[1] - cut[1] // 2 + fx
                    if 0 <= oy < result[0] and 0 <= ox < result[1]:
                        expected[0, oy, ox] += values["w"][:, fy, fx] @ values["x"][0, y, x]
    written = with_builtin_ops(model)
    assert [op.name for op in written.graph().ops] == ["TRANSPOSE_CONV", "ADD"]
    # At most 27 products a sum, each of a few units: float32's rounding of that.
    assert np.allclose(evaluate(written, values)["y0"], expected, rtol=0, atol=30 * 2.0**-24 * 50)


def test_pooling_with_the_place_of_the_largest(evaluate: Evaluate) -> None:
    values = normal((1, 4, 6, 3))
    values[0, 0, 0, 0] = values[0, 1, 1, 0] = 9  # of equal ones the first counts
    model = custom_model("MaxPoolingWithArgmax2D", {"x": (1, 4, 6, 3)}, [(1, 2, 2, 3)] * 2, VALID, 3, 2, 3, 2, 0)
    largest, place = np.zeros((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2, 3), np.float32)
    for y, x, c in np.ndindex(2, 2, 3):
        window = values[0, 2 * y : 2 * y + 2, 3 * x : 3 * x + 3, c].reshape(-1)
        largest[0, y, x, c] = np.max(window)
        place[0, y, x, c] = np.argmax(window)
    found = evaluate(with_builtin_ops(model), {"x": values})
    assert (found["y0"] == largest).all() and (found["y1"] == place).all()


def test_unpooling_undoes_pooling(evaluate: Evaluate) -> None:
    shapes = {"x": (1, 2, 3, 2), "i": (1, 2, 3, 2)}
    model = custom_model("MaxUnpooling2D", shapes, [(1, 4, 6, 2)], VALID, 2, 2, 2, 2, 0)
    values = normal((1, 2, 3, 2))
    places = np.random.default_rng(1).integers(0, 4, (1, 2, 3, 2))
    expected = np.zeros((1, 4, 6, 2), np.float32)
    for y, x, c in np.ndindex(2, 3, 2):
        row, column = divmod(int(places[0, y, x, c]), 2)
        expected[0, 2 * y + row, 2 * x + column, c] = values[0, y, x, c]
    found = evaluate(with_builtin_ops(model), {"x": values, "i": places.astype(np.float32) + np.float32(0.1)})
    assert (found["y0"] == expected).all()


@pytest.mark.parametrize(
    "options",
    [(SAME, 2, 2, 3, 3, 0), (VALID, 2, 2, 2, 2, 7), (VALID, 2, 2)],
    ids=["windows that overlap", "another activation", "no options"],
)
def test_another_form_stays_as_it_is(options: tuple[int, ...]) -> None:
    model = custom_model("MaxPoolingWithArgmax2D", {"x": (1, 4, 4, 1)}, [(1, 2, 2, 1)] * 2, *options)
    (op,) = with_builtin_ops(model).graph().ops
    assert op.custom == "MaxPoolingWithArgmax2D"


def test_shapes_of_another_rank_stay_as_they_are() -> None:
    """Four dimensions are asked of each, not of one of them."""
    options = (VALID, 2, 2, 2, 2, 0)
    model = custom_model("MaxPoolingWithArgmax2D", {"x": (4, 4, 1)}, [(1, 2, 2, 1)] * 2, *options)
    (op,) = with_builtin_ops(model).graph().ops
    assert op.custom == "MaxPoolingWithArgmax2D"


def test_a_model_without_them_is_not_touched(rich_model: Model) -> None:
    assert with_builtin_ops(rich_model) is rich_model
