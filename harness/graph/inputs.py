"""A model's inputs: from an .npz file or drawn at random, and checked before any device sees them."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.core.visible import counted
from harness.graph.model import Graph

# All inputs together. Of a run the harness holds each several times: as given, rounded, moved, and in the worker.
MAX_DRAWN_BYTES = 1 << 28

# What zipfile, zlib and numpy raise about files that are not what they say.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_inputs(path: str | Path, graph: Graph) -> dict[str, Array]:
    """Read and check the inputs of a signature from an .npz file with one array for each input name.

    Raises:
        UsageError: no such file, not an .npz, an array holds Python objects (pickle is never read), or
            :func:`check_inputs` finds fault.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"The inputs {path} do not exist.", "Give an .npz with one array for each input.")
    if not path.is_file():  # a pipe would be waited for
        raise UsageError(f"{path} is not an .npz.", "Save it with np.savez.")
    try:
        if not zipfile.is_zipfile(path):  # numpy would take any other file for a pickle
            raise UsageError(f"{path} is not an .npz.", "Save it with np.savez.")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_names(archive.files, graph)
            _check_sizes(path, archive.zip.infolist(), graph)
            arrays = {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        if "Object arrays" in str(error):
            raise UsageError(
                f"{path} holds pickled Python objects, which are never loaded.",
                "Save plain arrays with np.savez.",
            ) from None
        raise UsageError(f"{path} is not a readable .npz ({error}).", "Save it with np.savez.") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UsageError(f"'{name}' in {path} is no array.", "Save it with np.savez.")
    return check_inputs(arrays, graph)


def random_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    """Standard normal floats, small non-negative integers and coin flips, reproducible from `seed`.

    Raises:
        UsageError: an input has no static shape or a type that cannot be drawn, or is implausibly large.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, Array] = {}
    total = 0
    for port in graph.inputs:
        tensor = graph.tensors[port.tensor]
        if tensor.shape is None or tensor.dtype is None:
            raise UsageError(
                f"Input '{port.name}' has type {tensor.type}, shape {tensor.shape or 'dynamic'}: it cannot be drawn.",
                "Give the inputs with --inputs FILE.npz, or export the model with static shapes.",
            )
        # An array without elements has limits too: numpy counts its other sizes.
        total += max(tensor.nbytes, math.prod(d for d in tensor.shape if d))
        if total > MAX_DRAWN_BYTES:
            size = f"{tensor.nbytes / 1e9:.3g} GB: too much to draw at random." if tensor.nbytes else ""
            raise UsageError(
                f"Input '{port.name}' has shape {list(tensor.shape)}, {size or 'which no array can have.'}",
                "Give the inputs with --inputs FILE.npz, if that is meant.",
            )
        if tensor.dtype.kind == "f":
            drawn[port.name] = rng.standard_normal(tensor.shape).astype(tensor.dtype)
        elif tensor.dtype.kind == "b":
            drawn[port.name] = rng.random(tensor.shape) < 0.5
        elif tensor.quantized and tensor.dtype.kind in "iu":
            bounds = np.iinfo(tensor.dtype)
            drawn[port.name] = rng.integers(bounds.min, bounds.max, tensor.shape, tensor.dtype, endpoint=True)
        else:
            drawn[port.name] = rng.integers(0, 8, tensor.shape).astype(tensor.dtype)
    return drawn


def check_inputs(arrays: dict[str, Array], graph: Graph) -> dict[str, Array]:
    """The arrays in the signature's order, C-contiguous.

    Raises:
        UsageError: a name is missing or unknown, a shape or type differs, or a value is NaN or infinite (a comparison
            would then say nothing about the device).
    """
    _check_names(arrays, graph)
    checked = {}
    for port in graph.inputs:
        tensor, array = graph.tensors[port.tensor], arrays[port.name]
        if tensor.shape is not None and tuple(array.shape) != tensor.shape:
            raise UsageError(
                f"Input '{port.name}' has shape {list(array.shape)}, the model takes {list(tensor.shape)}.",
                "Reshape it, run the model at that shape with --shape, or export it for that shape.",
            )
        if array.dtype != tensor.dtype:
            raise UsageError(
                f"Input '{port.name}' has type {array.dtype}, the model takes {tensor.dtype or tensor.type}.",
                f"Convert it with .astype('{tensor.dtype}')." if tensor.dtype is not None else "",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise UsageError(
                f"Input '{port.name}' holds {counted(bad, 'NaN or infinite value')}.",
                "Give finite inputs.",
            )
        checked[port.name] = np.asarray(array, order="C")
    return checked


def _check_names(given: Iterable[str], graph: Graph) -> None:
    names, given = [port.name for port in graph.inputs], set(given)
    if given != set(names):
        unknown, missing = sorted(given - set(names)), sorted(set(names) - given)
        parts = [f"lack '{', '.join(missing)}'"] if missing else []
        parts += [f"hold the unknown name '{', '.join(unknown)}'"] if unknown else []
        raise UsageError(f"The inputs {' and '.join(parts)}.", f"The model takes: {', '.join(names) or 'none'}.")


def _check_sizes(path: Path, entries: Iterable[zipfile.ZipInfo], graph: Graph) -> None:
    """A few megabytes of zeros, compressed, are as many gigabytes: none is unpacked that no input can be."""
    tensors = [graph.tensors[port.tensor] for port in graph.inputs]
    if any(tensor.shape is None for tensor in tensors):
        return
    most = max((16 * tensor.elements for tensor in tensors), default=0) + (1 << 20)
    for entry in entries:
        if entry.file_size > most:
            raise UsageError(
                f"'{entry.filename}' in {path} holds {entry.file_size / 1e6:.0f} MB, more than any input of the model.",
                "Save the inputs of this model.",
            )
