"""A model's inputs: from an .npz file or drawn at random, and checked before any device sees them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.graph.model import Graph

Array = np.ndarray[Any, Any]

MAX_DRAWN_BYTES = 1 << 30


def load_inputs(path: str | Path, graph: Graph) -> dict[str, Array]:
    """Read and check the inputs of a signature from an .npz file with one array for each input name.

    Raises:
        UsageError: no such file, not an .npz, an array holds Python objects (pickle is never read), or
            :func:`check_inputs` finds fault.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UsageError(f"The inputs {path} do not exist.", "Give an .npz with one array for each input.") from None
    except ValueError as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise UsageError(
                f"{path} holds pickled Python objects, which are never loaded.",
                "Save plain arrays with np.savez.",
            ) from None
        raise UsageError(f"{path} is not a readable .npz ({error}).", "Save it with np.savez.") from None
    except (OSError, zipfile.BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise UsageError(f"{path} is not a readable .npz ({error}).", "Save it with np.savez.") from None
    return check_inputs(arrays, graph)


def random_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    """Standard normal floats, small non-negative integers and coin flips, reproducible from `seed`.

    Raises:
        UsageError: an input has no static shape or a type that cannot be drawn, or is implausibly large.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, Array] = {}
    for port in graph.inputs:
        tensor = graph.tensors[port.tensor]
        if tensor.shape is None or tensor.dtype is None:
            raise UsageError(
                f"Input '{port.name}' has type {tensor.type}, shape {tensor.shape or 'dynamic'}: it cannot be drawn.",
                "Give the inputs with --inputs FILE.npz, or export the model with static shapes.",
            )
        if tensor.nbytes > MAX_DRAWN_BYTES:
            raise UsageError(
                f"Input '{port.name}' has shape {list(tensor.shape)}, {tensor.nbytes / 1e9:.3g} GB.",
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
    names = [port.name for port in graph.inputs]
    if set(arrays) != set(names):
        unknown, missing = sorted(set(arrays) - set(names)), sorted(set(names) - set(arrays))
        parts = [f"lack '{', '.join(missing)}'"] if missing else []
        parts += [f"hold the unknown name '{', '.join(unknown)}'"] if unknown else []
        raise UsageError(f"The inputs {' and '.join(parts)}.", f"The model takes: {', '.join(names)}.")
    checked = {}
    for port in graph.inputs:
        tensor, array = graph.tensors[port.tensor], arrays[port.name]
        if tensor.shape is not None and tuple(array.shape) != tensor.shape:
            raise UsageError(
                f"Input '{port.name}' has shape {list(array.shape)}, the model takes {list(tensor.shape)}.",
                "Reshape it or export the model for this shape.",
            )
        if array.dtype != tensor.dtype:
            raise UsageError(
                f"Input '{port.name}' has type {array.dtype}, the model takes {tensor.dtype or tensor.type}.",
                f"Convert it with .astype('{tensor.dtype}')." if tensor.dtype is not None else "",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise UsageError(f"Input '{port.name}' holds {bad} NaN or infinite value(s).", "Give finite inputs.")
        checked[port.name] = np.asarray(array, order="C")
    return checked
