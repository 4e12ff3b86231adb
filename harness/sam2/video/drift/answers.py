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
from harness.core.errors import UsageError
from harness.core.job import Residency
from harness.devices.base import Device
from harness.graph.model import Model
from harness.sam2.shared.card import code
from harness.sam2.shared.files import make_folder, read_arrays, write_arrays
from harness.sam2.shared.in_parts import Ran
from harness.sam2.shared.unit import Unit
from harness.sam2.video.contract import REWRITTEN_PORTS, FloatArray, Rewritten
from harness.sam2.video.litert_stages import Runner

MOST_BYTES = 4 << 30
"""Of all answers in a folder."""
_TOLD = "told"
_CODE = ("shared/in_parts.py", "../graph/ops/cuts.py", "../graph/surgery.py")


@dataclass
class KeptAnswers:
    """A runner whose answers lie in `folder`, by what they follow from: the model, its inputs, the unit, the number of
    parts and the code that cuts them, and the device with its runtime. The GPU is known with an answer only: one of
    another than those that are kept ends it. A file that cannot be read is asked for again, and what goes beyond
    `MOST_BYTES` is not kept."""

    rest: Runner
    device: Device
    folder: Path
    _adapter: str = ""
    _facts: tuple[str, ...] = ()

    def run(self, graph: Rewritten, model: Model, inputs: dict[str, FloatArray], unit: Unit) -> Ran:
        """As `Runner.run`. Raises `StorageError` too, for an answer that cannot be written, and `UsageError` for
        answers of another GPU."""
        path = self.folder / f"{self._key(graph, model, inputs, unit)}.npz"
        kept = _read(path, graph)
        if kept is not None:
            return self._of_one_gpu(kept)
        ran = self._of_one_gpu(self.rest.run(graph, model, inputs, unit))
        make_folder(self.folder)
        there = sum(other.stat().st_size for other in self.folder.glob("*.npz"))
        if there + sum(values.nbytes for values in ran.outputs.values()) <= MOST_BYTES:
            facts = {"residency": asdict(ran.residency), "adapter": ran.adapter, "parts": ran.parts}
            told = np.frombuffer(json.dumps(facts).encode(), np.uint8)
            write_arrays(path, ran.outputs | {_TOLD: told})
        return ran

    def _of_one_gpu(self, ran: Ran) -> Ran:
        if ran.adapter and self._adapter and ran.adapter != self._adapter:
            raise UsageError(
                f"{str(self.folder)!r} has answers of {self._adapter}, and this is {ran.adapter}.",
                "Delete that folder, or give another --out.",
            )
        self._adapter = ran.adapter or self._adapter
        return ran

    def parts(self, model: Model, unit: Unit) -> int:
        """As `Runner.parts`."""
        return self.rest.parts(model, unit)

    def _key(self, graph: Rewritten, model: Model, inputs: dict[str, FloatArray], unit: Unit) -> str:
        if not self._facts:
            facts = self.device.facts()
            self._facts = facts.name, facts.runtime, facts.system
        said = [graph, model.sha256, unit, self.rest.parts(model, unit), code(_CODE), *self._facts]
        found = hashlib.sha256(json.dumps(said).encode())
        for name in sorted(inputs):
            values = np.ascontiguousarray(inputs[name])
            found.update(f"{name} {values.dtype.str} {values.shape}".encode())
            found.update(values.data)
        return found.hexdigest()


def forget(folder: Path) -> None:
    """Delete the answers in `folder`, and the folder where nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if re.fullmatch(r"[0-9a-f]{64}\.npz|\.[0-9a-f]{64}\.npz\.[0-9a-f]{8}", path.name):
                path.unlink(missing_ok=True)
        folder.rmdir()


def _read(path: Path, graph: Rewritten) -> Ran | None:
    names = REWRITTEN_PORTS[graph][1]
    try:
        arrays = read_arrays(path, (*names, _TOLD))
        told: dict[str, Any] = safe_json.loads(arrays[_TOLD].tobytes())
        fields = told["residency"] | {"refused": tuple(told["residency"]["refused"])}
        return Ran(
            {name: arrays[name] for name in names}, Residency(**fields), str(told["adapter"]), int(told["parts"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
