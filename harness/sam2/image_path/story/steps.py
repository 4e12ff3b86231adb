"""The steps of the story: which remedies tell it, and what the mask of each came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.arrays import Array
from harness.core.job import Residency
from harness.localize.base.result import Localization, OutputVerdict, Remedy
from harness.numerics.metrics import mask_iou
from harness.remedies.catalogue import KEEP_BATCH, SPLIT_SUM
from harness.remedies.options import FLOAT32

KEPT = "GPU, float16, batch dimension kept"
KEPT_AND_SPLIT = "GPU, float16, kept and long sums split"
IN_FLOAT32 = "GPU, float32"
WRONG_TOO = f"{IN_FLOAT32}: wrong too, so not precision"
NOTHING = f"{IN_FLOAT32}: zeros, or no numbers"
"""Where a shader does not compile, nothing is computed; that tells nothing of precision."""


@dataclass(frozen=True)
class StoryStep:
    """Where the face's mask comes from, and how it differs from the CPU's."""

    title: str
    iou: float
    """Of the mask on the photo."""
    least_iou: float
    """The smallest IoU of the candidate masks, as the decoder gives them."""
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"title": self.title, "iou": self.iou, "least_iou": self.least_iou, "ok": self.ok}


@dataclass(frozen=True)
class TapRow:
    """One tap on the photo: the IoU of each column's mask with the CPU's, None where it did not run."""

    name: str
    at: tuple[float, float]
    candidate: int
    """Which of the masks is compared, from 0."""
    ious: Mapping[str, float | None]
    """By the titles of the columns."""

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        ious = [{"title": title, "iou": iou} for title, iou in self.ious.items()]
        return {"name": self.name, "tap": list(self.at), "candidate": self.candidate, "masks": ious}


@dataclass(frozen=True)
class SecondJudged:
    """The second version on the device, on the face: judged as the first is, against its own exact run."""

    model: Path
    ops: int
    outputs: tuple[OutputVerdict, ...]
    residency: Residency
    logits: Array
    """Of its masks on the device, [1, 3, h, w]."""

    @property
    def ok(self) -> bool:
        """Whether every output passes."""
        return all(output.ok for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {
            "path": str(self.model),
            "ops": self.ops,
            "ok": self.ok,
            "fully_delegated": self.residency.full,
            "outputs": [output.to_json() for output in self.outputs],
        }


def told(answer: Localization) -> list[tuple[str, Remedy]]:
    """The remedies that tell the story, those that ran, in its order, with their titles."""
    remedies = answer.culprits[0].remedies if answer.culprits else ()
    by_parts = {frozenset(r.name.split("; ")): r for r in remedies if r.run_ms is not None}
    single = by_parts.get(frozenset({FLOAT32.name}))
    steps = {
        _in_float32(single): single,
        KEPT: by_parts.get(frozenset({KEEP_BATCH.name})),
        KEPT_AND_SPLIT: by_parts.get(frozenset({KEEP_BATCH.name, SPLIT_SUM.name})),
    }
    return [(title, remedy) for title, remedy in steps.items() if remedy is not None]


def _in_float32(remedy: Remedy | None) -> str:
    if remedy is None or remedy.ok:
        return IN_FLOAT32
    return WRONG_TOO if remedy.cosine else NOTHING  # of values that are all 0, and of NaN, the cosine is 0


def mended(answer: Localization) -> Remedy | None:
    """The remedy whose model takes the first one's place: right, and one file. Of several the story's own, else the
    best."""
    tried = [remedy for _, remedy in told(answer)]
    tried += [remedy for culprit in answer.culprits for remedy in culprit.remedies]
    return next((remedy for remedy in tried if remedy.ok and (remedy.path or "").endswith(".tflite")), None)


def least_iou(logits: Array, exact: Array) -> float:
    """The smallest IoU of the candidate masks, both [1, n, h, w]."""
    return min(mask_iou(logits[0, i], exact[0, i]) for i in range(exact.shape[1]))
