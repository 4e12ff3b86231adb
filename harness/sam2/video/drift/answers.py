"""What a drift has asked already, kept on disk: its loops repeat one another's runs, and one that was cut short goes on
where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core import safe_json
from harness.core.job import Residency
from harness.devices.base import Device
from harness.graph.model import Model
from harness.sam2.shared.files import make_folder, read_arrays, write_arrays
from harness.sam2.shared.in_parts import Ran
from harness.sam2.shared.unit import Unit
from harness.sam2.video.contract import REWRITTEN_PORTS, FloatArray, Rewritten
from harness.sam2.video.litert_stages import Runner

_TOLD = "told"


@dataclass
class KeptAnswers:
    """A runner whose answers lie in `folder`, by everything that they follow from: the model, its inputs, the unit, the
    number of parts, and the device with its runtime. A file that cannot be read is asked for again."""

    rest: Runner
    device: Device
    folder: Path
    found: int = 0
    """Answers that were there."""
    _facts: tuple[str, ...] = ()

    def run(self, graph: Rewritten, model: Model, inputs: dict[str, FloatArray], unit: Unit) -> Ran:
        """As `Runner.run`. Raises `StorageError` too, for an answer that cannot be written."""
        path = self.folder / f"{self._key(graph, model, inputs, unit)}.npz"
        kept = _read(path, graph)
        if kept is not None:
            self.found += 1
            return kept
        ran = self.rest.run(graph, model, inputs, unit)
        told = json.dumps({"residency": asdict(ran.residency), "adapter": ran.adapter}).encode()
        make_folder(self.folder)
        write_arrays(path, ran.outputs | {_TOLD: np.frombuffer(told, np.uint8)})
        return ran

    def parts(self, graph: Rewritten, model: Model, unit: Unit) -> int:
        """As `Runner.parts`."""
        return self.rest.parts(graph, model, unit)

    def _key(self, graph: Rewritten, model: Model, inputs: dict[str, FloatArray], unit: Unit) -> str:
        if not self._facts:
            facts = self.device.facts()
            self._facts = facts.name, facts.runtime, facts.system
        said = [graph, model.sha256, unit, self.rest.parts(graph, model, unit), *self._facts]
        found = hashlib.sha256(json.dumps(said).encode())
        for name in sorted(inputs):
            values = np.ascontiguousarray(inputs[name])
            found.update(f"{name} {values.dtype.str} {values.shape}".encode())
            found.update(values.data)
        return found.hexdigest()


def forget(folder: Path) -> None:
    """Delete the answers in `folder`, and the folder where nothing else is in it."""
    for path in folder.glob("*.npz"):
        if re.fullmatch("[0-9a-f]{64}", path.stem):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _read(path: Path, graph: Rewritten) -> Ran | None:
    names = REWRITTEN_PORTS[graph][1]
    try:
        arrays = read_arrays(path, (*names, _TOLD))
        told: dict[str, Any] = safe_json.loads(arrays[_TOLD].tobytes())
        fields = told["residency"] | {"refused": tuple(told["residency"]["refused"])}
        return Ran({name: arrays[name] for name in names}, Residency(**fields), str(told["adapter"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
