"""Files that are no .tflite are called what they are, with what to do."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.graph.foreign import read_model_file
from harness.graph.model import Model

FILES = {
    "model.onnx": (b"\x08\x07\x12\x07pytorch", "an ONNX model"),
    "model.pt": (b"PK\x03\x04rest", "a PyTorch file"),
    "bundle.task": (b"PK\x03\x04rest", "a MediaPipe bundle"),
    "bundle.litertlm": (b"LITERTLM\x01", "a LiteRT-LM bundle"),
    "model.keras": (b"PK\x03\x04rest", "a Keras model"),
    "model.h5": (b"\x89HDF\r\n\x1a\nrest", "an HDF5 file"),
    "model.tflite.gz": (b"\x1f\x8b\x08rest", "a gzip archive"),
    "page.tflite": (b"<!DOCTYPE html><html>", "a web page"),
    "lower.tflite": (b"<!doctype HTML>", "a web page"),
    "pointer.tflite": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "renamed.tflite": (b"PK\x03\x04rest", "a zip archive"),
    "inputs.npz": (b"PK\x03\x04rest", "a file of arrays"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_tflite_is_named(name: str, tmp_path: Path) -> None:
    content, what = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=what) as caught:
        Model.load(tmp_path / name)
    assert "not a .tflite" in caught.value.message and caught.value.next_step


@pytest.mark.parametrize("address", ["https://example.org/m.tflite", "HTTP://example.org/m", "gs://bucket/m.tflite"])
def test_an_address_is_no_path(address: str) -> None:
    with pytest.raises(UsageError, match="is a web address"):
        read_model_file(Path(address))


def test_a_model_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (1, 4))), "y")
    for name in ("model.onnx", "model", "model.zip"):
        (tmp_path / name).write_bytes(graph.build().to_bytes())
        assert len(Model.load(tmp_path / name).graph().ops) == 1


def test_a_real_zip_and_bytes_of_no_known_kind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as archive:
        archive.writestr("model.tflite", b"x")
    with pytest.raises(UsageError, match="a zip archive"):
        Model.load(tmp_path / "a.bin")
    (tmp_path / "b.tflite").write_bytes(b"\x00" * 64)
    with pytest.raises(UsageError, match="is not a readable"):
        Model.load(tmp_path / "b.tflite")
