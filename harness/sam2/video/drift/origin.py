"""Is a drift the format's, or an op's: the graph that starts it, asked op by op on what it was given there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.core.arrays import Array
from harness.devices.base import Device
from harness.graph.model import Model
from harness.localize.base.result import Localization
from harness.numerics.usefulness import Limits
from harness.sam2.shared.files import make_folder, write_bytes
from harness.sam2.shared.in_parts import Part, run
from harness.sam2.video.contract import FloatArray
from harness.sam2.video.drift.measure import GraphDrift

Origin = Literal["float16", "op", "undecided"]

Piece = tuple[Path, dict[str, FloatArray]]
"""The file of a graph or of a part of it, and what it is given."""

DRIFT_IS: dict[Origin, str] = {
    "float16": "The drift is the format's: what the graph gives is as right as float16 explains, on the same inputs.",
    "op": "The drift is an op's: float16 does not explain what the named ops give.",
    "undecided": "Whether the drift is the format's or an op's is undecided: the answer above says what was missing.",
}


def accuses(answer: Localization) -> bool:
    """Whether it names ops whose errors float16 does not explain; a failure by precision names ops that round."""
    return bool(answer.culprits) and not answer.by_precision


def drift_is(found: Sequence[Localization]) -> Origin:
    """What the answers for the graph, or for all its parts, come to: ops accused of more than float16 explains make the
    drift theirs, and only where rounding explains all outputs is it the format's."""
    if any(map(accuses, found)):
        return "op"
    explained = all(answer.status == "pass" or answer.by_precision for answer in found)
    return "float16" if found and explained else "undecided"


def worst_ratio(answer: Localization) -> float | None:
    """The largest error of an output over what float16 explains; None without any, and where it is not finite."""
    found = max((output.judgement.ratio for output in answer.outputs), default=math.nan)
    return found if math.isfinite(found) else None


def most_rounded(found: Sequence[Localization]) -> tuple[int, float] | None:
    """Which of the answers that passed is of the least cosine, and the cosine that its outputs would have at half of
    their error: 1 - (1 - cosine) / 4, as 1 - cosine goes with the square of a small error. None where all are exact."""
    least = [min((output.judgement.actual.cosine for output in answer.outputs), default=1.0) for answer in found]
    place = int(np.argmin(least)) if least else 0
    return (place, 1 - (1 - least[place]) / 4) if least and least[place] < 1 else None


Answer = tuple[Localization, Path]
"""What `localize` found, and its run folder."""


@dataclass(frozen=True)
class Traced:
    """A starter asked for the ops behind its drift: whole or part by part, and where all of it passes once more, for
    the ops whose rounding makes half of the error. `min_cosine` is what was asked then, None where an output was of no
    use as it was."""

    found: tuple[Answer, ...] = ()
    lost: Answer | None = None
    min_cosine: float | None = None

    @property
    def origin(self) -> Origin:
        """Whose the drift is."""
        return drift_is([answer for answer, _ in self.found])

    def to_json(self) -> dict[str, Any]:
        """What drift.json says of it: of a graph in parts, the first that accuses an op stands for all."""
        told: dict[str, Any] = {"drift_is": None, "localized": None, "localized_parts": [], "lost_digits": None}
        if not self.found:
            return told
        chosen, folder = next((one for one in self.found if accuses(one[0])), self.found[0])
        told |= {"drift_is": self.origin, "localized": chosen.to_json() | {"run": str(folder)}}
        if len(self.found) > 1:
            told["localized_parts"] = [_part_json(*one) for one in self.found]
        if self.lost is not None:
            answer, folder = self.lost
            told["lost_digits"] = {
                "model": answer.model.path,
                "min_cosine": self.min_cosine,
                "ops": [
                    {"index": one.record.index, "op": one.record.op, "signature": one.signature}
                    for one in answer.culprits
                ],
                "notes": list(answer.notes),
                "run": str(folder),
            }
        return told


def _part_json(answer: Localization, folder: Path) -> dict[str, Any]:
    return {
        "model": answer.model.path,
        "status": answer.status,
        "ratio": worst_ratio(answer),
        "culprits": len(answer.culprits),
        "run": str(folder),
    }


def trace(pieces: Sequence[Piece], ask: Callable[[Piece, Limits], Answer]) -> Traced:
    """Ask `localize` for each of `pieces`."""
    found = tuple(ask(piece, Limits()) for piece in pieces)
    answers = [answer for answer, _ in found]
    if drift_is(answers) != "float16":
        return Traced(found)
    useless = next((one for one in found if one[0].by_precision), None)
    if useless is not None:  # it has named them already
        return Traced(found, useless)
    rounded = most_rounded(answers)
    if rounded is None:
        return Traced(found)
    place, cosine = rounded
    return Traced(found, ask(pieces[place], Limits(min_cosine=cosine)), cosine)


def pieces_of(starter: GraphDrift, host: Device, folder: Path, count: int, *, timeout: float) -> list[Piece]:
    """What is to be localized: the graph with what it was given where the drift starts; of one that was to run in
    `count` parts each part, its file in `folder`, with what the parts before it give on the CPU of `host`. Empty where
    nothing was kept.

    Raises:
        DeviceError: a part that the CPU does not complete.
        StorageError: a part that cannot be written.
    """
    if starter.model is None:
        return []
    found: list[Piece] = []

    def keep(part: Part, feeds: dict[str, Array]) -> None:
        make_folder(folder)
        first, last = part.cut.ops[0], part.cut.ops[-1]
        path = folder / f"{starter.graph}-ops-{first}-to-{last}.tflite"
        write_bytes(path, part.model.to_bytes())
        found.append((path, dict(feeds)))

    model = Model.load(starter.model)
    if count > 1:
        run(host, model, starter.inputs, "cpu", count, timeout=timeout, doing="feeding the parts", seen=keep)
    return found or [(starter.model, starter.inputs)]
