"""Reading a .tflite and writing it again."""

from __future__ import annotations

import resource
import struct
import time
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.model import Graph, Model, Op, Port, Tensor
from tests.arrays import Evaluate, f32


def repacked(model: Model) -> Model:
    """Written anew from the object tree, and read again."""
    return Model.from_bytes(Model(model.root).to_bytes())


def linear(k: int = 4, seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    graph = GraphBuilder()
    x = graph.input("x", (2, k))
    weights = rng.standard_normal((3, k)).astype(np.float32)
    graph.output(graph.fully_connected(x, weights, np.arange(3, dtype=np.float32)), "y")
    return graph.build()


def with_data_behind(model: Model, gap: int = 0) -> bytes:
    """The model with its buffers behind the flatbuffer, as files over 2 GB have them."""
    root = schema.ModelT.InitFromPackedBuf(model.to_bytes())
    contents = [b"" if buffer.data is None else bytes(buffer.data) for buffer in root.buffers]

    def place(start: int) -> bytes:
        for buffer, content in zip(root.buffers, contents, strict=True):
            buffer.data, buffer.offset, buffer.size = None, start if content else 0, len(content)
            start += (len(content) + 15) // 16 * 16
        builder = flatbuffers.Builder(1024)
        builder.Finish(root.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    start = (len(place(1 << 20)) + 15) // 16 * 16 + gap  # the first packing tells how long the flatbuffer is
    data = bytearray(place(start))
    for buffer, content in zip(root.buffers, contents, strict=True):
        if content:
            data.extend(b"\xee" * (buffer.offset - len(data)))
            data.extend(content)
    return bytes(data)


class TestLoading:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as caught:
            Model.load(tmp_path / "no.tflite")
        assert str(caught.value) == f"{tmp_path / 'no.tflite'} does not exist. Give the path of a .tflite file."

    def test_a_folder_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is a folder"):
            Model.load(tmp_path)

    def test_a_path_through_a_file_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="cannot be read"):
            Model.load(tmp_path / "file" / "model.tflite")

    def test_an_empty_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "empty.tflite").touch()
        with pytest.raises(UsageError, match=r"empty\.tflite is empty"):
            Model.load(tmp_path / "empty.tflite")

    def test_a_file_over_two_gigabytes_is_refused_unread(self, tmp_path: Path) -> None:
        path = tmp_path / "huge.tflite"
        with path.open("wb") as file:
            file.truncate(1 << 31)
        with pytest.raises(UsageError, match="models over 2 GB are not supported"):
            Model.load(path)

    def test_the_path_and_the_bytes_are_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "m.tflite"
        path.write_bytes(linear().to_bytes() + b"trailing")
        model = Model.load(path)
        assert model.path == path
        assert model.to_bytes() == path.read_bytes()


class TestViews:
    def test_a_graph_lists_tensors_ops_and_ports(self) -> None:
        graph = linear().graph()
        assert graph == Graph(
            0,
            "serving_default",
            (
                Tensor(0, "x", "FLOAT32", (2, 4), False, False),
                Tensor(1, "const_1", "FLOAT32", (3, 4), True, False),
                Tensor(2, "const_2", "FLOAT32", (3,), True, False),
                Tensor(3, "fully_connected_0", "FLOAT32", (2, 3), False, False),
            ),
            (Op(0, "FULLY_CONNECTED", (0, 1, 2), (3,)),),
            (Port("x", 0),),
            (Port("y", 3),),
        )
        assert graph.producer == {3: 0}
        assert graph.consumers == {0: (0,), 1: (0,), 2: (0,)}

    def test_the_second_signature_has_ports_and_ops_of_its_own(self, rich_model: Model) -> None:
        inner = rich_model.graph("inner")
        assert (inner.subgraph, inner.signature) == (1, "inner")
        assert (inner.inputs, inner.outputs) == ((Port("v", 0),), (Port("w", 1),))
        assert [op.name for op in inner.ops] == ["GELU"]

    def test_an_unknown_signature_is_answered_with_the_known_ones(self, rich_model: Model) -> None:
        with pytest.raises(UsageError) as caught:
            rich_model.graph("training")
        assert str(caught.value) == "The model has no signature 'training'. It has: serving_default, inner."

    def test_without_signatures_ports_are_named_after_tensors(self) -> None:
        builder = GraphBuilder()
        builder.output(builder.unary("RELU", builder.input("x", (1, 2)), name="relu"), "ignored")
        graph = builder.build(signature="").graph()
        assert (graph.signature, graph.inputs, graph.outputs) == (None, (Port("x", 0),), (Port("relu", 1),))
        with pytest.raises(UsageError, match="It has: none"):
            builder.build(signature="").graph("serving_default")

    def test_custom_ops_keep_their_own_name(self, rich_model: Model) -> None:
        op = rich_model.graph().ops[4]
        assert (op.name, op.custom) == ("CUSTOM", "MyOwnOp")

    def test_an_op_of_a_later_schema_has_its_number_as_name(self) -> None:
        root = linear().root
        root.operatorCodes[0].builtinCode = 5000
        assert Model.from_bytes(Model(root).to_bytes()).graph().ops[0].name == "BUILTIN_5000"

    def test_quantized_tensors_are_marked(self, rich_model: Model) -> None:
        assert [t.index for t in rich_model.graph().tensors if t.quantized] == [0]

    @pytest.mark.parametrize("field", ["shape", "shapeSignature"])
    def test_a_negative_size_makes_a_shape_dynamic(self, field: str) -> None:
        root = linear().root
        setattr(root.subgraphs[0].tensors[0], field, np.asarray([-1, 4], np.int32))
        tensor = Model.from_bytes(Model(root).to_bytes()).graph().tensors[0]
        assert (tensor.shape, tensor.elements, tensor.nbytes) == (None, 0, 0)

    def test_a_type_without_numpy_equal_has_no_dtype(self) -> None:
        root = linear().root
        root.subgraphs[0].tensors[0].type = schema.TensorType.STRING
        tensor = Model.from_bytes(Model(root).to_bytes()).graph().tensors[0]
        assert (tensor.type, tensor.dtype, tensor.nbytes) == ("STRING", None, 0)

    def test_half_weights_behind_dequantize_are_constant_ops(self) -> None:
        builder = GraphBuilder()
        x = builder.input("x", (2, 4))
        weights = builder.dequantize(np.ones((3, 4), np.float32))
        turned = builder.transpose(weights, (0, 1))
        options = schema.FullyConnectedOptionsT()
        builder.output(builder.op("FULLY_CONNECTED", [x, turned, -1], (2, 3), options), "y")
        graph = builder.build().graph()
        assert graph.constant_ops == {0, 1}
        assert graph.tensors[1].dtype == np.float16

    def test_constants_come_back_as_they_went_in(self) -> None:
        builder = GraphBuilder()
        x = builder.input("x", (2, 3))
        values: dict[str, NDArray[Any]] = {
            "half": np.asarray([[1, 2], [3, 4]], np.float16),
            "whole": np.asarray([1, -2, 3], np.int64),
            "flags": np.asarray([True, False, True]),
            "scalar": f32(2.5),
        }
        handles = {name: builder.constant(value, name) for name, value in values.items()}
        builder.output(builder.unary("RELU", x), "y")
        model = repacked(builder.build())
        for name, value in values.items():
            read = model.constant(handles[name])
            assert read is not None
            assert read.dtype == value.dtype
            assert read.shape == value.shape
            assert np.array_equal(read, value)
        assert model.constant(x) is None


class TestWriting:
    def test_bytes_are_as_read_until_edited(self, rich_model: Model) -> None:
        data = rich_model.to_bytes()
        model = Model.from_bytes(data)
        assert model.to_bytes() is data
        model.root.description = "edited"
        model.edited()
        assert b"edited" in model.to_bytes()

    def test_reading_and_writing_is_stable(self, rich_model: Model) -> None:
        once = repacked(rich_model)
        twice = repacked(once)
        assert once.to_bytes() == twice.to_bytes()
        assert once.sha256 == twice.sha256
        for signature in ("serving_default", "inner"):
            assert once.graph(signature) == rich_model.graph(signature)

    def test_nothing_is_lost_on_the_way(self, rich_model: Model) -> None:
        sub = repacked(rich_model).root.subgraphs[0]
        composite = sub.operators[3].builtinOptions2
        assert composite.name == b"odml.gelu"
        assert composite.decompositionSubgraphIndex == 1
        assert bytes(composite.compositeAttributes) == bytes(range(9))
        assert bytes(sub.operators[4].customOptions) == bytes(range(24))
        assert list(sub.tensors[0].quantization.scale) == [0.5]
        assert list(sub.tensors[0].quantization.zeroPoint) == [3]
        assert list(sub.tensors[0].shapeSignature) == [1, 4, 8]
        assert repacked(rich_model).root.metadata[0].name == b"min_runtime_version"

    @pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 5, 17), (64, 1, 33), (4096, 3, 8)])
    def test_every_buffer_lies_on_a_multiple_of_16(self, sizes: tuple[int, ...]) -> None:
        builder = GraphBuilder()
        builder.output(builder.unary("RELU", builder.input("x", (1, 2))), "y")
        contents = [np.arange(n, dtype=np.uint8) for n in sizes]
        for content in contents:
            builder.constant(content)
        data = builder.build().to_bytes()
        read = schema.Model.GetRootAs(data)
        assert read.BuffersLength() == 1 + len(sizes)
        for i, content in enumerate(contents, 1):
            place = read.Buffers(i)._tab.Vector(read.Buffers(i)._tab.Offset(4))
            assert place % 16 == 0
            assert data[place : place + len(content)] == content.tobytes()

    def test_an_edit_that_takes_a_model_over_two_gigabytes_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flatbuffers.Builder.MAX_BUFFER_SIZE", 1 << 16)
        with pytest.raises(UsageError, match="A copy of the model that was to be run has over 2 GB"):
            Model(linear().root).to_bytes()


class TestDataBehindTheFlatbuffer:
    @pytest.mark.parametrize("gap", [0, 3, 4096])
    def test_weights_behind_the_flatbuffer_are_found(self, gap: int, evaluate: Evaluate) -> None:
        model = linear()
        moved = Model.from_bytes(with_data_behind(model, gap))
        weights, expected = moved.constant(1), model.constant(1)
        assert weights is not None
        assert expected is not None
        assert np.array_equal(weights, expected)
        assert moved.weights_bytes == model.weights_bytes
        x = {"x": np.ones((2, 4), np.float32)}
        assert np.array_equal(evaluate(repacked(moved), x)["y"], evaluate(model, x)["y"])

    def test_an_edited_model_brings_them_inside(self) -> None:
        tapped = surgery.tap(Model.from_bytes(with_data_behind(linear(), 64)), [3])[0]
        assert Model.from_bytes(tapped.to_bytes()).graph().tensors[1].constant
        assert all(b.offset == 0 for b in schema.ModelT.InitFromPackedBuf(tapped.to_bytes()).buffers)

    def test_weights_past_the_end_of_the_file_are_refused(self) -> None:
        data = with_data_behind(linear())
        with pytest.raises(UsageError, match=f"buffer 2 ends at byte {len(data)}, past the end of the file"):
            Model.from_bytes(data[:-1])

    def test_options_of_custom_ops_behind_the_flatbuffer_are_found(self, rich_model: Model) -> None:
        root = Model.from_bytes(rich_model.to_bytes()).root
        op = root.subgraphs[0].operators[4]
        op.customOptions, op.largeCustomOptionsOffset, op.largeCustomOptionsSize = None, 1 << 20, 5
        length = len(Model(root).to_bytes())
        op.largeCustomOptionsOffset = length
        model = Model.from_bytes(Model(root).to_bytes() + b"hello")
        again = repacked(model).root.subgraphs[0].operators[4]
        assert bytes(again.customOptions) == b"hello"
        assert again.largeCustomOptionsOffset == again.largeCustomOptionsSize == 0


def test_a_model_of_150_megabytes_is_read_and_cut_within_bounds() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 1024))
    rng = np.random.default_rng(0)
    for _ in range(36):
        x = builder.unary("RELU", builder.fully_connected(x, rng.standard_normal((1024, 1024), np.float32)))
    builder.output(x, "y")
    data = builder.build().to_bytes()
    del builder
    assert len(data) > 150_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    model = Model.from_bytes(data)
    graph = model.graph()
    tapped, _ = surgery.tap(model, surgery.tappable(graph))
    assert len(tapped.to_bytes()) > len(data)
    piece = surgery.extract(model, [graph.ops[9].outputs[0]], [graph.ops[7].outputs[0]])
    assert len(piece.model.to_bytes()) < 5_000_000
    assert time.monotonic() - began < 10
    # The builder's own bytes, the copy that is returned, and one weight at a time.
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 3.5 * len(data)


def test_two_models_differ_in_their_digest() -> None:
    assert linear(seed=0).sha256 != linear(seed=1).sha256
    assert struct.unpack_from("<4s", linear().to_bytes(), 4) == (b"TFL3",)


class TestNothing:
    """Constants without elements, and shapes that no memory has."""

    @pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
    def test_a_constant_without_elements_needs_no_data(self, shape: tuple[int, ...]) -> None:
        model = linear()
        (bias,) = (t for t in model.graph().tensors if t.constant and t.shape == (3,))
        raw = model.root.subgraphs[0].tensors[bias.index]
        raw.shape, model.root.buffers[raw.buffer].data = np.asarray(shape, np.int32), None
        values = repacked(model).constant(bias.index)
        assert values is not None
        assert (values.shape, values.dtype) == (shape, np.float32)

    @pytest.mark.parametrize("shape", [[0, 2**31 - 1, 2**31 - 1], [2**31 - 1] * 3])
    def test_a_shape_that_no_array_can_have_is_refused(self, shape: list[int]) -> None:
        model = linear()
        model.root.subgraphs[0].tensors[0].shape = np.asarray(shape, np.int32)
        with pytest.raises(UsageError, match=r"tensor 0 of subgraph 0 has shape \[.*\], which no array can have"):
            repacked(model)
