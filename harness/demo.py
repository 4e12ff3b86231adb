"""The whole way once: a real photo, a tap on the face, the SAM 2.1 mask decoder on CPU and GPU, the ops that break."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape

from harness import terminal
from harness.commands import Request, localize_command
from harness.devices.host import cache_folder
from harness.job import Array, Options
from harness.localize.baseline import output_label
from harness.localize.result import Localization
from harness.numerics.metrics import mask_iou
from harness.progress import Progress
from harness.results import RunFolder, Side, writing
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


class TapScene:
    """The photo with the mask of either side, at the candidate that the host's own score prefers."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.candidate = 0
        self.iou = float("nan")
        self.areas: dict[Side, float] = {}

    def draw(self, run: RunFolder) -> dict[str, Any]:
        """Write the photo and both masks under `scene/`."""
        from PIL import Image

        photo = self._workload.photo
        folder = run.path / "scene"
        scores = run.tensors.get(output_label("iou_scores"), "reference")
        self.candidate = int(np.argmax(scores[0]))
        masks: dict[Side, Array] = {}
        with writing(folder):
            folder.mkdir(exist_ok=True)
            Image.fromarray(photo).save(folder / "photo.jpg", quality=90)
            for side in ("reference", "device"):
                logits = run.tensors.get(output_label("pred_masks"), side)[0, self.candidate]
                masks[side] = image.upsample_mask(logits, photo.shape)
                self.areas[side] = float((masks[side] > 0).mean())
                Image.fromarray(np.where(masks[side] > 0, 255, 0).astype(np.uint8)).save(folder / f"mask-{side}.png")
        self.iou = mask_iou(masks["device"], masks["reference"])
        return {
            "photo": "scene/photo.jpg",
            "size": [photo.shape[1], photo.shape[0]],
            "tap": list(self._workload.at),
            "candidate": self.candidate,
            "iou": self.iou,
            "masks": {"reference": "scene/mask-reference.png", "device": "scene/mask-device.png"},
            "label": f"candidate mask {self.candidate + 1} of {scores.shape[1]}, the best by the CPU's own score",
        }


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
    workload = make_workload(weights, DecoderVariant(layernorm), "float32", 0, cache_folder() / "sam2", progress)
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
    answer, folder = localize_command(request, progress, scene)
    return Story(workload, answer, scene, folder)


def show(story: Story) -> None:
    """Tell the story on stdout."""
    answer, scene, say = story.answer, story.scene, terminal.out.print
    x, y = story.workload.at
    say(f"\n[bold]SAM 2.1 Hiera-Tiny mask decoder[/], {escape(story.workload.provenance)}")
    say(f"Photo: the sample portrait, tapped on the face at ({x:.0f}, {y:.0f}).")
    if story.workload.is_random:
        say("[yellow]Random weights: the masks mean nothing; how far CPU and GPU differ does.[/]")
    say(f"Residency: {terminal.residency_text(answer.residency)} ({escape(answer.device['gpu'])}).")
    say(
        f"Mask IoU of GPU against CPU on the photo: [bold]{scene.iou:.3f}[/] (best-scored mask: "
        f"{scene.areas['reference']:.1%} of the photo on the CPU, {scene.areas['device']:.1%} on the GPU).\n"
    )
    terminal.show_localization(answer, story.folder)
