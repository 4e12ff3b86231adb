"""Inputs and outputs of other people's models: inputs by place and shape, outputs by shape, sizes from the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.sam2.image_path.ports import FLAT_ORDER, ImageSizes, bind_decoder, bind_encoder

SIZES = ImageSizes(channels=16, side=4)
EMBEDDINGS, SPARSE, S1, S0 = (1, 16, 4, 4), (1, 2, 16), (1, 4, 8, 8), (1, 2, 16, 16)
MASKS, SCORES = (1, 3, 16, 16), (1, 3)
IMAGE = (1, 3, 64, 64)
LENGTH = 256 + 32 + 256 + 512


def model(inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]], dtype: Any = np.float32) -> Model:
    """A model of these shapes: the inputs' sum, added to constants of the outputs' shapes."""
    graph = GraphBuilder()
    handles = [graph.input(f"args_{i}", shape, dtype) for i, shape in enumerate(inputs)]
    flat = [graph.reshape(handle, (int(np.prod(shape)),)) for handle, shape in zip(handles, inputs, strict=True)]
    total = graph.reshape(graph.op("CONCATENATION", flat, (sum(graph.shape(f)[0] for f in flat),)), (1, -1))
    for i, shape in enumerate(outputs):
        count = int(np.prod(shape))
        start, size = (graph.constant(np.array(part, np.int32)) for part in ([0, 0], [1, min(count, 2)]))
        part = graph.op("SLICE", [total, start, size], (1, min(count, 2)))
        tiled = graph.op("TILE", [part, graph.constant(np.array([1, count], np.int32))], (1, min(count, 2) * count))
        begin = graph.constant(np.array([0, 0], np.int32))
        cut = graph.op("SLICE", [tiled, begin, graph.constant(np.array([1, count], np.int32))], (1, count))
        graph.output(graph.reshape(cut, shape), f"output_{i}")
    return Model.from_bytes(graph.build().to_bytes())


DECODER = [EMBEDDINGS, SPARSE, S1, S0]


def test_a_decoders_inputs_are_bound_by_place_and_its_outputs_by_shape() -> None:
    for outputs, masks in (([MASKS, SCORES], 0), ([SCORES, MASKS], 1)):
        found = bind_decoder(model(DECODER, outputs), "d.tflite")
        assert found.ports.inputs == {
            "image_embeddings": "args_0",
            "sparse_prompt": "args_1",
            "feat_s1": "args_2",
            "feat_s0": "args_3",
        }
        assert found.ports.outputs == {"pred_masks": f"output_{masks}", "iou_scores": f"output_{1 - masks}"}
        assert (found.sizes, found.tokens) == (SIZES, 2)


def test_a_longer_prompt_is_seen_in_the_file() -> None:
    assert bind_decoder(model([EMBEDDINGS, (1, 5, 16), S1, S0], [MASKS, SCORES]), "d.tflite").tokens == 5


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        # As many elements as the right one has: only the shape tells.
        ([EMBEDDINGS, SPARSE, S1[::-1], S0], [MASKS, SCORES], r"input 2 has shape \[8, 8, 4, 1\]"),
        (
            [EMBEDDINGS, SPARSE, S0, S1],
            [MASKS, SCORES],
            r"input 2 has shape \[1, 2, 16, 16\], where feat_s1",
        ),
        ([S1, SPARSE, EMBEDDINGS, S0], [MASKS, SCORES], r"input 0 has shape \[1, 4, 8, 8\]"),
        ([(1, 16, 4, 5), SPARSE, S1, S0], [MASKS, SCORES], r"input 0 has shape \[1, 16, 4, 5\]"),
        ([EMBEDDINGS, (1, 1, 16), S1, S0], [MASKS, SCORES], r"input 1 has shape \[1, 1, 16\].*\[1, T, 16\]"),
        ([EMBEDDINGS, (1, 2, 8), S1, S0], [MASKS, SCORES], r"input 1 has shape \[1, 2, 8\]"),
        ([EMBEDDINGS, SPARSE, S1], [MASKS, SCORES], "has 3 inputs"),
        (DECODER, [MASKS], r"gives \[1, 3, 16, 16\], where pred_masks"),
        (DECODER, [MASKS, MASKS], r"gives \[1, 3, 16, 16\], \[1, 3, 16, 16\], where"),
        (DECODER, [(1, 4, 16, 16), SCORES], r"gives \[1, 4, 16, 16\]"),
        ([(1, LENGTH + 1)], [MASKS, SCORES], rf"one input has shape \[1, {LENGTH + 1}\]"),
        ([(1, LENGTH)], [SCORES], "with no masks"),
    ],
)
def test_a_decoder_that_does_not_fit_is_refused_with_the_shape(
    inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], said: str
) -> None:
    with pytest.raises(UsageError, match=f"The decoder 'd.tflite'.*{said}"):
        bind_decoder(model(inputs, outputs), "d.tflite")


def test_a_decoder_of_one_flat_input_gets_its_parts_end_to_end() -> None:
    found = bind_decoder(model([(1, LENGTH)], [SCORES, MASKS]), "d.tflite")
    assert (found.sizes, found.tokens) == (SIZES, 2)
    shapes = {**SIZES.features, "sparse_prompt": SPARSE}
    values = {name: np.full(shape, i, np.float32) for i, (name, shape) in enumerate(shapes.items())}
    fed = found.ports.feed(values)
    assert list(fed) == ["args_0"] and fed["args_0"].shape == (1, LENGTH)
    wanted = [values[name].reshape(-1) for name in ("image_embeddings", "sparse_prompt", "feat_s0", "feat_s1")]
    np.testing.assert_array_equal(fed["args_0"][0], np.concatenate(wanted))
    assert FLAT_ORDER == ("image_embeddings", "sparse_prompt", "feat_s0", "feat_s1")


def test_the_published_flat_input_has_the_published_sizes() -> None:
    found = ImageSizes(256, 64)
    assert found.features["feat_s1"] == (1, 64, 128, 128) and found.features["feat_s0"] == (1, 32, 256, 256)
    assert sum(int(np.prod(s)) for s in found.features.values()) + 512 == 4_194_816
    assert found.image == 1024


def test_an_encoders_outputs_are_told_apart_by_shape() -> None:
    found = bind_encoder(model([IMAGE], [S0, EMBEDDINGS, S1]), "e.tflite")
    assert found.ports.inputs == {"image": "args_0"}
    assert found.ports.outputs == {"image_embeddings": "output_1", "feat_s1": "output_2", "feat_s0": "output_0"}
    assert found.sizes == SIZES


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ([IMAGE, IMAGE], [S0, EMBEDDINGS, S1], "has 2 inputs"),
        ([(1, 64, 64, 3)], [S0, EMBEDDINGS, S1], r"its input has shape \[1, 64, 64, 3\]"),
        ([(1, 3, 60, 60)], [S0, EMBEDDINGS, S1], r"its input has shape \[1, 3, 60, 60\]"),
        ([(3, 64)], [S0, EMBEDDINGS, S1], r"its input has shape \[3, 64\]"),
        ([IMAGE], [S0, S1], r"gives \[1, 2, 16, 16\], \[1, 4, 8, 8\], none of them embeddings \[1, C, 4, 4\]"),
        ([IMAGE], [S0, (1, 12, 4, 4), S1], r"embeddings has shape \[1, 12, 4, 4\]"),
        ([IMAGE], [EMBEDDINGS, S1, S1], r"gives .* where image_embeddings"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_with_the_shape(
    inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], said: str
) -> None:
    with pytest.raises(UsageError, match=f"The encoder 'e.tflite'.*{said}"):
        bind_encoder(model(inputs, outputs), "e.tflite")


def test_integers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"its input 0 is INT32 with shape \[1, 16, 4, 4\], not FLOAT32"):
        bind_decoder(model(DECODER, [MASKS, SCORES], np.int32), "d.tflite")


def test_two_outputs_of_one_name_and_one_that_the_signature_lacks_are_refused_as_such() -> None:
    twice = model(DECODER, [MASKS, SCORES])
    for port in twice.root.signatureDefs[0].outputs:
        port.name = b"same"
    twice.edited()
    twice = Model.from_bytes(twice.to_bytes())
    with pytest.raises(UsageError, match=r"its outputs have one name twice, 'same'\."):
        bind_decoder(twice, "d.tflite")
    lacking = model(DECODER, [MASKS, SCORES])
    del lacking.root.signatureDefs[0].inputs[0]
    lacking.edited()
    lacking = Model.from_bytes(lacking.to_bytes())
    with pytest.raises(UsageError, match=r"its input 0, '.*', is not in the file's signature\."):
        bind_decoder(lacking, "d.tflite")
