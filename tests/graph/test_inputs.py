"""Inputs from a file or drawn, checked against what the model takes before a device sees them."""

from __future__ import annotations

import io
import pickle
import random
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.graph.inputs import check_inputs, load_inputs, random_inputs
from harness.graph.model import Graph, Model
from tests.arrays import f32, i32


def takes_three() -> Graph:
    builder = GraphBuilder()
    image = builder.input("image", (2, 3))
    builder.input("count", (), np.int32)
    builder.input("flags", (4,), np.bool_)
    builder.output(builder.unary("RELU", image), "y")
    return builder.build().graph()


def good() -> dict[str, NDArray[Any]]:
    return {"flags": np.zeros(4, np.bool_), "image": np.ones((2, 3), np.float32), "count": i32(3)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "inputs.npz"


def fault(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_inputs(path, takes_three())
    assert caught.value.next_step
    return caught.value.message


class TestFiles:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_good_inputs_come_in_the_signatures_order(self, path: Path, save: Any) -> None:
        save(path, **good())
        got = load_inputs(path, takes_three())
        assert list(got) == ["image", "count", "flags"]
        assert all(np.array_equal(got[name], values) for name, values in good().items())
        assert got["count"].shape == ()
        assert all(values.flags.c_contiguous for values in got.values())

    def test_a_missing_file_is_named(self, path: Path) -> None:
        assert fault(path) == f"The inputs {path} do not exist."

    @pytest.mark.parametrize("content", [b"", b"text", b"PK", b"\x80\x04N.", pickle.dumps({"x": [1]}), bytes(10_000)])
    def test_a_file_that_is_no_zip_is_no_npz(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        assert fault(path) == f"{path} is not an .npz."

    def test_a_folder_is_no_npz(self, tmp_path: Path) -> None:
        assert fault(tmp_path) == f"{tmp_path} is not an .npz."

    def test_an_npy_is_no_npz(self, path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.ones(3))
        assert fault(path) == f"{path} is not an .npz."

    def test_pickled_objects_are_never_loaded(self, path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return (pytest.fail, ("a pickle was loaded",))

        np.savez(path, allow_pickle=True, **(good() | {"image": np.asarray([Bomb()], object)}))
        assert fault(path) == f"{path} holds pickled Python objects, which are never loaded."

    def test_every_truncation_is_refused(self, path: Path) -> None:
        np.savez_compressed(path, **good())  # type: ignore[arg-type]  # numpy's stub takes names for options
        data = path.read_bytes()
        for length in range(len(data)):
            path.write_bytes(data[:length])
            assert fault(path) == f"{path} is not an .npz."

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_corrupted_files_are_refused_or_read(self, path: Path, save: Any) -> None:
        save(path, **good())
        data = path.read_bytes()
        rng = random.Random(0)
        refused = 0
        for _ in range(500):
            changed = bytearray(data)
            for _ in range(rng.randint(1, 3)):
                changed[rng.randrange(len(data))] = rng.randrange(256)
            path.write_bytes(changed)
            try:
                load_inputs(path, takes_three())
            except UsageError:
                refused += 1
        assert refused > 250

    def test_an_entry_that_is_no_array_is_refused(self, path: Path) -> None:
        np.savez(path, image=good()["image"], count=good()["count"])
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("flags", "true false")
        assert fault(path) == f"'flags' in {path} is no array."

    def test_a_bomb_is_refused_unpacked(self, path: Path) -> None:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (1 << 28,)})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("image.npy", "w", force_zip64=True) as entry:
                entry.write(head.getvalue())
                for _ in range(256):
                    entry.write(bytes(1 << 20))
            for name in ("count", "flags"):
                with archive.open(f"{name}.npy", "w") as entry:
                    np.save(entry, good()[name])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert fault(path) == f"'image.npy' in {path} holds 268 MB, more than any input of the model."
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


class TestFit:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"image": None}, "The inputs lack 'image'."),
            ({"extra": f32(1)}, "The inputs hold the unknown name 'extra'."),
            ({"image": None, "Image": f32(1)}, "The inputs lack 'image' and hold the unknown name 'Image'."),
            ({"image": f32([1, 2])}, "Input 'image' has shape [2], the model takes [2, 3]."),
            ({"image": np.ones((3, 2), np.float32)}, "Input 'image' has shape [3, 2], the model takes [2, 3]."),
            ({"count": i32([3])}, "Input 'count' has shape [1], the model takes []."),
            ({"image": np.ones((2, 3))}, "Input 'image' has type float64, the model takes float32."),
            ({"image": np.ones((2, 3), ">f4")}, "Input 'image' has type >f4, the model takes float32."),
            ({"count": np.asarray(3, np.int64)}, "Input 'count' has type int64, the model takes int32."),
            ({"flags": np.ones(4, np.uint8)}, "Input 'flags' has type uint8, the model takes bool."),
            ({"image": f32([[np.nan, 1, np.inf]] * 2)}, "Input 'image' holds 4 NaN or infinite values."),
        ],
    )
    def test_what_does_not_fit_is_told(self, path: Path, changes: dict[str, Any], sentence: str) -> None:
        arrays = {name: values for name, values in (good() | changes).items() if values is not None}
        with pytest.raises(UsageError) as caught:
            check_inputs(arrays, takes_three())
        assert caught.value.message == sentence
        np.savez(path, **arrays)
        assert fault(path) == sentence

    def test_the_next_step_lists_what_the_model_takes(self) -> None:
        with pytest.raises(UsageError) as caught:
            check_inputs({}, takes_three())
        assert caught.value.next_step == "The model takes: image, count, flags."

    def test_views_become_contiguous(self) -> None:
        values = np.arange(6, dtype=np.float32).reshape(3, 2).T
        got = check_inputs(good() | {"image": values}, takes_three())
        assert got["image"].flags.c_contiguous
        assert np.array_equal(got["image"], values)

    def test_a_dynamic_input_takes_any_shape(self) -> None:
        builder = GraphBuilder()
        builder.output(builder.unary("RELU", builder.input("x", (-1, 3))), "y")
        graph = builder.build().graph()
        assert check_inputs({"x": np.ones((5, 3), np.float32)}, graph)["x"].shape == (5, 3)


class TestDrawn:
    def test_the_seed_decides(self) -> None:
        first, again, other = (random_inputs(takes_three(), seed) for seed in (1, 1, 2))
        assert all(np.array_equal(first[name], again[name]) for name in first)
        assert not np.array_equal(first["image"], other["image"])
        assert list(first) == ["image", "count", "flags"]
        assert check_inputs(first, takes_three()).keys() == first.keys()

    def test_integers_are_small_and_quantized_ones_use_the_whole_range(self) -> None:
        builder = GraphBuilder()
        builder.input("plain", (1000,), np.int32)
        stored = builder.input("quantized", (1000,), np.int8)
        builder.output(builder.unary("ABS", builder.input("x", (1,))), "y")
        model = builder.build()
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = f32([0.1]), np.asarray([0], np.int64)
        model.root.subgraphs[0].tensors[stored].quantization = quantization
        got = random_inputs(Model(model.root).graph(), 0)
        assert set(got["plain"].tolist()) == set(range(8))
        assert (got["quantized"].min(), got["quantized"].max()) == (-128, 127)
        assert got["quantized"].dtype == np.int8

    @pytest.mark.parametrize(
        ("shape", "kind", "why"),
        [
            ((-1, 3), schema.TensorType.FLOAT32, "has type FLOAT32, shape dynamic: it cannot be drawn"),
            ((2, 3), schema.TensorType.STRING, "has type STRING, shape (2, 3): it cannot be drawn"),
            ((1 << 20, 1 << 20), schema.TensorType.FLOAT32, "has shape [1048576, 1048576], 4.4e+03 GB"),
            ((1, 16384, 16383), schema.TensorType.FLOAT32, "1.07 GB: too much to draw at random"),
            ((2**31 - 1,) * 9, schema.TensorType.INT8, "GB"),
            ((0, 2**31 - 1, 2**31 - 1), schema.TensorType.FLOAT32, "has shape [0, 2147483647, 2147483647], which no"),
        ],
    )
    def test_what_cannot_be_drawn_is_misuse(self, shape: tuple[int, ...], kind: int, why: str) -> None:
        builder = GraphBuilder()
        builder.output(builder.unary("RELU", builder.input("x", (2, 3))), "y")
        root = builder.build().root
        root.subgraphs[0].tensors[0].type = kind
        root.subgraphs[0].tensors[0].shape = np.asarray(shape, np.int32)
        with pytest.raises(UsageError) as caught:
            random_inputs(Model(root).graph(), 0)
        assert why in caught.value.message
        assert "--inputs FILE.npz" in caught.value.next_step
