"""Reading a model's file; and files that are no .tflite, known by their first bytes or their name, with what to do
about each."""

from __future__ import annotations

import stat
from pathlib import Path

from harness.core.errors import UsageError
from harness.graph.verify import IDENTIFIER

_CONVERT = "Convert the model with litert-torch (from PyTorch) or ai-edge-litert's tools, and give the .tflite."
_UNPACK = "Unpack it (`unzip -l` lists what is in it) and give a .tflite of it."
_TASK = "It is a bundle for MediaPipe or LiteRT-LM: unpack it (`unzip` for .task) and give a .tflite of it."

MAX_FILE_BYTES = (1 << 31) - 1

# By first bytes, then by ending: a zip may be a PyTorch checkpoint or a MediaPipe bundle.
_BY_BYTES: tuple[tuple[bytes, str, str], ...] = (
    (b"LITERTLM", "a LiteRT-LM bundle", _TASK),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras 2 saves models", "Export it with Keras: model.export(…, 'litert')."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it and give the .tflite."),
    (b"<!DOCTYPE html", "a web page", "Download the file itself: what was saved is the page about it."),
    (b"<html", "a web page", "Download the file itself: what was saved is the page about it."),
    (b"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself with `git lfs pull`."),
)
_BY_ENDING: dict[str, tuple[str, str]] = {
    ".onnx": ("an ONNX model", "Convert it to .tflite first, with onnx2tf for one."),
    ".pt": ("a PyTorch file", _CONVERT),
    ".pth": ("a PyTorch file", _CONVERT),
    ".safetensors": ("a file of weights", _CONVERT),
    ".pt2": ("an exported PyTorch program", _CONVERT),
    ".keras": ("a Keras model", "Export it with Keras: model.export(…, 'litert')."),
    ".h5": ("a Keras model", "Export it with Keras: model.export(…, 'litert')."),
    ".pb": ("a TensorFlow graph", "Convert it with tf.lite.TFLiteConverter, and give the .tflite."),
    ".mlmodel": ("a Core ML model", "Convert the model that it was made from to .tflite."),
    ".task": ("a MediaPipe bundle", _TASK),
    ".litertlm": ("a LiteRT-LM bundle", _TASK),
    ".zip": ("a zip archive", _UNPACK),
    ".npz": ("a file of arrays", "Give the model first, and these with --inputs."),
}


def read_model_file(path: Path) -> bytes:
    """The bytes of what is meant to be a .tflite of up to 2 GB.

    Raises:
        UsageError: the file is not there, cannot be read, is too large, or is known to be of another kind.
    """
    if is_address(path):
        raise UsageError(
            f"{str(path).replace(':/', '://', 1)} is a web address.", "Download the file, and give its path."
        )
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise UsageError(f"{path} is no regular file.", "Give the path of a .tflite file.")
        if found.st_size > MAX_FILE_BYTES:
            size = f"{found.st_size:,} bytes"
            raise UsageError(f"{path} has {size}; models over 2 GB are not supported.", "Split the model.")
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist.", "Give the path of a .tflite file.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder.", "Give the path of a .tflite file.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).", "Check its permissions.") from None
    if data and data[4:8] != IDENTIFIER and (known := what_it_is(path, data[:64])) is not None:
        raise UsageError(f"{path} is {known[0]}, not a .tflite.", known[1])
    return data


def what_it_is(path: Path, head: bytes) -> tuple[str, str] | None:
    """What a file that is no .tflite is, with its article, and the next step; None where that is not known. `head` are
    its first bytes."""
    for start, name, step in _BY_BYTES:
        if head[: len(start)].lower() == start.lower():
            return name, step
    known = _BY_ENDING.get(path.suffix.lower())
    if known is not None:
        return known
    return ("a zip archive", _UNPACK) if head[:4] == b"PK\x03\x04" else None


def is_address(path: Path) -> bool:
    """Whether a path is a web address, of which `Path` has made one slash of two."""
    return str(path).lower().startswith(("http:/", "https:/", "gs:/", "s3:/", "hf:/"))
