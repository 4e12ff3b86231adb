"""Is a drift the format's, or an op's: the graph that starts it, asked op by op on what it was given there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.core.arrays import Array
from harness.devices.base import Device
from harness.graph.model import Model
from harness.localize.base.result import Localization
from harness.sam2.shared.files import make_folder, write_bytes
from harness.sam2.shared.in_parts import Part, run
from harness.sam2.video.contract import FloatArray
from harness.sam2.video.drift.measure import GraphDrift

Origin = Literal["float16", "op", "undecided"]

DRIFT_IS: dict[Origin, str] = {
    "float16": "The drift is the format's: what the graph gives is as right as float16 explains, on the same inputs.",
    "op": "The drift is an op's: float16 does not explain what the named ops give.",
    "undecided": "Whether the drift is the format's or an op's is undecided: the answer above says what was missing.",
}


def drift_is(found: Sequence[Localization]) -> Origin:
    """What the answers for the graph, or for all its parts, come to: one accused op makes the drift an op's, and only
    where all passed is it the format's."""
    if any(answer.culprits for answer in found):
        return "op"
    return "float16" if found and all(answer.status == "pass" for answer in found) else "undecided"


def worst_ratio(answer: Localization) -> float | None:
    """The largest error of an output over what float16 explains; None without any, and where it is not finite."""
    found = max((output.judgement.ratio for output in answer.outputs), default=math.nan)
    return found if math.isfinite(found) else None


def localized_json(found: Sequence[tuple[Localization, Path]]) -> dict[str, Any]:
    """What drift.json says of the answers: of a graph in parts, the first with a culprit stands for all."""
    if not found:
        return {"drift_is": None, "localized": None, "localized_parts": []}
    chosen, folder = next((one for one in found if one[0].culprits), found[0])
    parts = [
        {
            "model": answer.model.path,
            "status": answer.status,
            "ratio": worst_ratio(answer),
            "culprits": len(answer.culprits),
            "run": str(run),
        }
        for answer, run in found
    ]
    return {
        "drift_is": drift_is([answer for answer, _ in found]),
        "localized": chosen.to_json() | {"run": str(folder)},
        "localized_parts": parts if len(parts) > 1 else [],
    }


def most_rounded(found: Sequence[Localization]) -> tuple[int, float] | None:
    """Which of the answers that passed is of the least cosine, and the cosine that its outputs would have at half of
    their error: 1 - (1 - cosine) / 4, as 1 - cosine goes with the square of a small error. None where all are exact."""
    least = [min((output.judgement.actual.cosine for output in answer.outputs), default=1.0) for answer in found]
    place = int(np.argmin(least)) if least else 0
    return (place, 1 - (1 - least[place]) / 4) if least and least[place] < 1 else None


def lost_digits_json(found: tuple[Localization, Path] | None, min_cosine: float) -> dict[str, Any] | None:
    """What drift.json says of the ops whose rounding makes half of the error, or more."""
    if found is None:
        return None
    answer, folder = found
    ops = [{"index": one.record.index, "op": one.record.op, "signature": one.signature} for one in answer.culprits]
    return {
        "model": answer.model.path,
        "min_cosine": min_cosine,
        "ops": ops,
        "notes": list(answer.notes),
        "run": str(folder),
    }


def pieces_of(
    starter: GraphDrift, host: Device, folder: Path, *, timeout: float
) -> list[tuple[Path, dict[str, FloatArray]]]:
    """What is to be localized: the graph with what it was given where the drift starts; of one that ran in parts each
    part, its file in `folder`, with what the parts before it give on the CPU of `host`. Empty where nothing was kept.

    Raises:
        DeviceError: a part that the CPU does not complete.
        StorageError: a part that cannot be written.
    """
    if starter.model is None:
        return []
    if starter.parts < 2:
        return [(starter.model, starter.inputs)]
    found: list[tuple[Path, dict[str, FloatArray]]] = []
    make_folder(folder)

    def keep(part: Part, feeds: dict[str, Array]) -> None:
        first, last = part.cut.ops[0], part.cut.ops[-1]
        path = folder / f"{starter.graph}-ops-{first}-to-{last}.tflite"
        write_bytes(path, part.model.to_bytes())
        found.append((path, dict(feeds)))

    model = Model.load(starter.model)
    run(host, model, starter.inputs, "cpu", starter.parts, timeout=timeout, doing="feeding the parts", seen=keep)
    return found
