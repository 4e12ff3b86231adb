"""Files of the cache and of results: written in one step, so that a reader sees the old one or the whole new one, and
read with suspicion."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import StorageError


def make_folder(path: Path) -> Path:
    """The folder, made if it is not there. Raises `StorageError` when it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder {str(path)!r} cannot be made ({error.strerror}).", "Choose a folder that you may write to."
        ) from error
    return path


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`, replacing what is there. Raises `StorageError` when that cannot be done."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"The file {str(path)!r} cannot be written ({error.strerror}).",
            "Free some space, or choose a folder elsewhere.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write `arrays` by name to an uncompressed .npz that needs no pickle to read. Raises `ValueError` for
    objects."""
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise ValueError(f"arrays of Python objects cannot be kept: {objects}")
    stream = io.BytesIO()
    # numpy's annotation gives every keyword the type of its one named option.
    named: dict[str, Any] = dict(arrays)
    np.savez(stream, **named)
    write_bytes(path, stream.getbuffer())


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of these names from an .npz, without pickles.

    Raises `OSError` when the file cannot be read and `ValueError` when it is damaged, is something else or
    lacks a name.
    """
    with path.open("rb") as stream:
        try:
            # Not np.load: it takes other formats too, and leaves the file open when it fails.
            with np.lib.npyio.NpzFile(stream, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in names}
        except (KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} does not hold the arrays {list(names)} ({error})") from error
