"""The card's question, answered: a real photo, a tap on the face, the SAM 2.1 mask decoder as it was first published.

Written without the batch dimension, the decoder is wrong on the GPU in float16 and in float32 alike. The demo names the
ops and the rule that they break, keeps the batch dimension of their constants, splits the sums that float16 spoils
besides, and shows the mask of each step beside the CPU's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from harness import terminal
from harness.commands import Request, localize_command
from harness.devices.host import cache_folder
from harness.job import Array, Options
from harness.localize.baseline import output_label
from harness.localize.misreading import ROW_0
from harness.localize.remedy import FP32, remedy_label
from harness.localize.result import Localization, Remedy
from harness.numerics.metrics import mask_iou
from harness.progress import Progress
from harness.remedies.catalogue import KEEP_BATCH, SPLIT_SUM
from harness.results import RunFolder, writing
from harness.sam2 import image
from harness.sam2.contract import DecoderVariant, LayerNormKind, WeightKind
from harness.sam2.workload import Workload, prepare

# Seconds that the slowest stage of making the workload takes on two cores; those that are cached take none.
PREPARE_SECONDS = 20.0


@dataclass(frozen=True)
class Made:
    """A converted decoder and its inputs on disk."""

    model: Path
    inputs: Path
    provenance: str


@dataclass(frozen=True)
class Story:
    """What the demo found."""

    workload: Workload
    answer: Localization
    scene: TapScene
    folder: Path


@dataclass(frozen=True)
class Step:
    """One row of the story: where the mask comes from, and how it differs from the CPU's on the photo."""

    title: str
    iou: float
    area: float
    """Share of the photo that the mask covers."""
    ok: bool


class TapScene:
    """The photo with the mask of either side and of each remedy that tells the story, at the candidate that the host's
    own score prefers."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.steps: list[Step] = []

    def draw(self, run: RunFolder, remedies: Sequence[Remedy]) -> dict[str, Any]:
        """Write the photo and the masks under `scene/`."""
        from PIL import Image

        folder, tensors = run.path / "scene", run.tensors
        scores, masks = output_label("iou_scores"), output_label("pred_masks")
        preferred = tensors.get(scores, "reference")[0]
        candidate = int(np.argmax(preferred))
        with writing(folder):
            folder.mkdir(exist_ok=True)
            Image.fromarray(self._workload.photo).save(folder / "photo.jpg", quality=90)
        reference = self._mask(tensors.get(masks, "reference"), candidate)
        device = self._mask(tensors.get(masks, "device"), candidate)
        iou = mask_iou(device, reference)
        self.steps = [
            Step("CPU, float32", 1.0, _area(reference), True),
            Step("GPU, float16", iou, _area(device), False),
        ]
        tried = []
        for place, (title, remedy) in enumerate(told(remedies)):
            mask = self._mask(tensors.get(remedy_label(remedy.name, "pred_masks"), "device"), candidate)
            self.steps.append(Step(title, mask_iou(mask, reference), _area(mask), remedy.ok))
            tried.append(
                {"title": title, "mask": f"scene/mask-{place}.png", "iou": self.steps[-1].iou, "ok": remedy.ok}
            )
            _save(folder / f"mask-{place}.png", mask)
        _save(folder / "mask-reference.png", reference)
        _save(folder / "mask-device.png", device)
        return {
            "photo": "scene/photo.jpg",
            "size": [self._workload.photo.shape[1], self._workload.photo.shape[0]],
            "tap": list(self._workload.at),
            "candidate": candidate,
            "iou": iou,
            "masks": {"reference": "scene/mask-reference.png", "device": "scene/mask-device.png"},
            "tried": tried,
            "label": f"candidate mask {candidate + 1} of {len(preferred)}, the best by the CPU's own score",
        }

    def _mask(self, logits: Array, candidate: int) -> Array:
        mask: Array = image.upsample_mask(logits[0, candidate], self._workload.photo.shape)
        return mask


def told(remedies: Sequence[Remedy]) -> list[tuple[str, Remedy]]:
    """The remedies that tell the story, those that ran, in its order, with their titles."""
    both = f"{KEEP_BATCH.name}; {SPLIT_SUM.name}"
    titles = {
        FP32: "GPU, float32: no matter of precision",
        KEEP_BATCH.name: "GPU, float16, batch dimension kept",
        both: "GPU, float16, kept and long sums split",
    }
    ran = {remedy.name: remedy for remedy in remedies if remedy.run_ms is not None}
    return [(title, ran[name]) for name, title in titles.items() if name in ran]


def _area(mask: Array) -> float:
    return float((mask > 0).mean())


def _save(path: Path, mask: Array) -> None:
    from PIL import Image

    with writing(path):
        Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(path)


def make_workload(
    weights: str | None,
    variant: DecoderVariant,
    storage: WeightKind,
    seed: int,
    cache: Path,
    progress: Progress,
) -> Workload:
    """The decoder and its inputs, from the cache where they are there already."""
    return prepare(
        cache,
        source=weights,
        seed=seed,
        variant=variant,
        weights=storage,
        progress=lambda what: progress.stage(what, PREPARE_SECONDS),
    )


def convert(
    folder: Path,
    weights: str | None,
    variant: DecoderVariant,
    storage: WeightKind,
    seed: int,
    progress: Progress,
) -> Made:
    """`harness sam2 convert`: the model and its inputs.npz in `folder`. Raises HarnessError."""
    workload = make_workload(weights, variant, storage, seed, folder, progress)
    path = folder / "inputs.npz"
    with writing(path):
        np.savez(path, allow_pickle=False, **workload.inputs)
    return Made(workload.model_path, path, workload.provenance)


def tell(
    device: str, weights: str | None, layernorm: LayerNormKind, out: Path, timeout: float, progress: Progress
) -> Story:
    """Run the demo. Raises HarnessError."""
    variant = DecoderVariant(layernorm, batch="dropped")
    workload = make_workload(weights, variant, "float32", 0, cache_folder() / "sam2", progress)
    request = Request(
        workload.model_path,
        device,
        Options(),
        out=out,
        timeout=timeout,
        given=workload.inputs,
        provenance=workload.provenance,
    )
    scene = TapScene(workload)
    answer, folder = localize_command(request, progress, scene, explain=True)
    return Story(workload, answer, scene, folder)


def show(story: Story) -> None:
    """Tell the story on stdout."""
    answer, say = story.answer, terminal.out.print
    x, y = story.workload.at
    say("\n[bold]SAM 2.1 Hiera-Tiny mask decoder, written as first published: without the batch dimension[/]")
    say(f"{escape(story.workload.provenance[:1].upper() + story.workload.provenance[1:])}.")
    if story.workload.is_random:
        say("[yellow]Random weights: the masks mean nothing; how far CPU and GPU differ does.[/]")
    say(f"Photo: the sample portrait, tapped on the face at ({x:.0f}, {y:.0f}).")
    say(f"GPU: {escape(answer.device['gpu'])}; {terminal.residency_text(answer.residency)}.\n")
    table = Table("mask of the tap", box=None, header_style="dim", pad_edge=False)
    for title in ("IoU with CPU", "of the photo"):
        table.add_column(title, justify="right")
    table.add_column("")
    for step in story.scene.steps:
        word = "[green]right[/]" if step.ok else "[red]wrong[/]"
        table.add_row(escape(step.title), f"{step.iou:.4f}", f"{step.area:.1%}", word)
    say(table)
    if any(culprit.signature == ROW_0 for culprit in answer.culprits):
        say(
            "\n[bold]The rule.[/] The delegate lays a computed tensor \\[a, b] out with a as the batch, and a constant "
            "\\[a, b] with a as the width. It then broadcasts the constant over the batch: every row gets row 0. The "
            "positional encoding has a row for each place, so the decoder loses where things are. Rank 4 with a "
            "leading 1 lays both out alike (docs/delegate.md).\n"
        )
    terminal.show_localization(answer, story.folder)
    say("\n[bold]On a phone[/] (docs/phone.md), the same in minutes:")
    for line in PHONE:
        say(f"  {line}", soft_wrap=True)


PHONE = (
    "harness sam2 convert decoder --batch dropped",
    "harness localize decoder/*.tflite --inputs decoder/inputs.npz --device pixel8a",
    "harness compare RUN/remedies/*.tflite --inputs decoder/inputs.npz --device pixel8a",
)
"""Three commands that confirm the finding on a phone."""
