"""The values that a run kept, of ops and outputs, from the device and from the CPU's run of the whole model.

A run folder may come from elsewhere: files are read within bounds, links are not followed, and what is no tensor of
numbers is left out with a sentence.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load

from harness.core import safe_files
from harness.core.arrays import Array, OpIndex
from harness.report.record import Figures
from harness.report.tables import OpRow

MOST_BYTES = 32 << 20
"""Of one tensor: what takes longer to read and reduce than anybody waits for a page."""
MOST_ELEMENTS = MOST_BYTES // 4
"""Likewise: bytes are drawn as float64."""
MOST_BYTES_IN_ALL = 192 << 20
MOST_SHOWN = 12
_MOST_FILES = 50_000
_MOST_STEPS = 8 << 20
_OP_FILE = re.compile(r"(\d{1,9})-(.{1,200}?)(?:\.(\d{1,4}))?\.(device|reference)\.safetensors", re.DOTALL)
_OUTPUT_FILE = re.compile(r"(output-.{1,200}?)\.(device|reference)\.safetensors", re.DOTALL)

Step = tuple[float, float]
"""What an integer q stands for, step·(q − zero point): the step and the zero point."""


@dataclass(frozen=True)
class Kept:
    """A tensor that was kept from both sides: of an op, or an output where `op` is None. `place` says which of the
    op's results it is."""

    label: str
    op: OpIndex | None
    place: int
    device: Path
    reference: Path


@dataclass(frozen=True)
class Pair:
    """Both sides' values, as real numbers, and their name."""

    name: str
    device: Array
    reference: Array


class Unusable(Exception):
    """A sentence on why values are not shown."""


def kept_values(folder: Path) -> tuple[Kept, ...]:
    """The tensors of a run folder that are there from both sides, in the graph's order, outputs last."""
    store = folder / "tensors"
    found: dict[tuple[bool, int, int, str], dict[str, Path]] = {}
    if store.is_symlink() or not store.is_dir():
        return ()
    with os.scandir(store) as entries:
        for entry in islice(entries, _MOST_FILES):
            op, output = _OP_FILE.fullmatch(entry.name), _OUTPUT_FILE.fullmatch(entry.name)
            if not (op or output) or not entry.is_file(follow_symlinks=False):
                continue
            if op:
                key = False, int(op[1]), int(op[3] or 0), f"{op[1]}-{op[2]}"
            else:
                assert output is not None
                key = True, 0, 0, output[1]
            side = op[4] if op else entry.name.rsplit(".", 2)[1]
            found.setdefault(key, {})[side] = Path(entry.path)
    return tuple(
        Kept(label, None if is_output else op, place, sides["device"], sides["reference"])
        for (is_output, op, place, label), sides in sorted(found.items())
        if len(sides) == 2
    )


def chosen(
    kept: Sequence[Kept], culprits: Iterable[OpIndex], outputs: Iterable[Figures], rows: Sequence[OpRow]
) -> tuple[Kept, ...]:
    """What a page shows of them: culprits first, then outputs, those that fail first, then the ops that are furthest
    off; so many as are read in a moment."""
    blamed = list(dict.fromkeys(culprits))
    failed = [f"output-{output.name}" for output in outputs if output.ok is False]
    worst = {row.index: _off(row) for row in rows}

    def urgency(each: Kept) -> tuple[float, ...]:
        if each.op in blamed:
            return 0, blamed.index(each.op)
        if each.op is None:
            return 1, each.label not in failed
        return 2, -worst.get(each.op, -1.0), each.op

    taken: list[Kept] = []
    size = 0
    for each in sorted(kept, key=urgency):
        size += safe_files.size_of(each.device) + safe_files.size_of(each.reference)
        if len(taken) == MOST_SHOWN or size > MOST_BYTES_IN_ALL:
            break
        taken.append(each)
    return tuple(taken)


def _off(row: OpRow) -> float:
    if row.nonfinite or (row.ratio is not None and np.isnan(row.ratio)):
        return float("inf")
    return row.ratio or 0.0


def read_pair(kept: Kept, steps: Mapping[tuple[OpIndex, str], Step]) -> Pair:
    """Both sides' values. `steps` has those of quantized tensors, by op and name. Raises Unusable."""
    sides = [_read(path) for path in (kept.device, kept.reference)]
    (name, device), (_, reference) = sides
    if device.shape != reference.shape:
        raise Unusable(f"{kept.device.name} and {kept.reference.name} differ in shape.")
    step = steps.get((kept.op, name)) if kept.op is not None else None
    return Pair(name, *(_real(values, step) for values in (device, reference)))


def _read(path: Path) -> tuple[str, Array]:
    if safe_files.size_of(path) > MOST_BYTES:
        raise Unusable(f"{path.name} has more than {MOST_BYTES >> 20} MB, too much to be drawn.")
    try:
        found = load(safe_files.read(path, MOST_BYTES))
        ((name, values),) = found.items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise Unusable(f"{path.name} cannot be read ({str(error)[:120] or type(error).__name__}).") from None
    if values.dtype.kind not in "fiub":
        raise Unusable(f"{path.name} holds no real numbers.")
    if values.size > MOST_ELEMENTS:
        raise Unusable(f"{path.name} has {values.size:,} elements, too many to be drawn.")
    return name, values


def _real(values: Array, step: Step | None) -> Array:
    """As real numbers, in float32 where that holds them."""
    if values.dtype.kind == "f" and values.dtype.itemsize <= 4:
        return values.astype(np.float32)
    wide = values.astype(np.float64)
    real: Array = wide if step is None else step[0] * (wide - step[1])
    return real


def read_steps(path: Path) -> dict[tuple[OpIndex, str], Step]:
    """quantized.csv: what the integers of quantized tensors stand for; nothing where there is none that can be read."""
    found: dict[tuple[OpIndex, str], Step] = {}
    try:
        text = safe_files.read(path, _MOST_STEPS).decode("utf-8", "replace")
        for cells in csv.DictReader(io.StringIO(text, newline="")):
            found[int(cells["index"]), cells["output"]] = float(cells["step"]), float(cells["zero_point"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return found
    return found
