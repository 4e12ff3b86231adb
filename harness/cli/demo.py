"""The card's question, answered: a real photo, a tap on the face, the SAM 2.1 mask decoder as it was first published.

Written without the batch dimension, the decoder is wrong on the GPU in float16 and in float32 alike. The demo names the
ops and the rule that they break, keeps the batch dimension of their constants, splits the sums that float16 spoils
besides, and shows the mask of each step beside the CPU's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from harness.api.localize import localize_command
from harness.api.session import ModelRequest
from harness.cli import render, screen
from harness.cli.options import DeviceOption, JsonOption, OutOption, TimeoutOption
from harness.cli.sam2_options import (
    OWN,
    PUBLISHED,
    DecoderWords,
    LayerNormOption,
    ModelsOption,
    WeightsOption,
    models_folder,
    published_folder,
    published_models,
)
from harness.cli.screen import answer as run
from harness.core.arrays import Array
from harness.core.errors import EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, UsageError
from harness.core.job import Options
from harness.core.markup import escape
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import RunFolder, writing
from harness.localize.base.misreadings import ROW_0
from harness.localize.base.reference import output_label
from harness.localize.base.result import Localization, Remedy
from harness.localize.explain.remedy_trials import remedy_label
from harness.numerics.metrics import mask_iou
from harness.remedies.catalogue import KEEP_BATCH, SPLIT_SUM
from harness.remedies.options import FLOAT32
from harness.report.wording import RULES
from harness.sam2.image_path.workload import Workload, prepare, workload_of
from harness.sam2.shared import image
from harness.sam2.shared.contract import CARD, DecoderVariant, LayerNormKind, WeightKind
from harness.sam2.shared.published_files import first_version, have_published

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
class StoryStep:
    """One row of the story: where the mask comes from, and how it differs from the CPU's on the photo."""

    title: str
    iou: float
    """Of the mask on the photo."""
    least_iou: float
    """The smallest IoU of the candidate masks, as the decoder gives them."""
    ok: bool


class TapScene:
    """The photo with the mask of either side and of each remedy that tells the story, at one candidate."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.steps: list[StoryStep] = []

    def draw(self, run: RunFolder, answer: Localization) -> dict[str, Any]:
        """Write the photo and the masks under `scene/`."""
        from PIL import Image

        folder, tensors, photo = run.path / "scene", run.tensors, self._workload.photo
        names = self._workload.ports.outputs
        masks = output_label(names["pred_masks"])
        exact, actual = tensors.get(masks, "reference"), tensors.get(masks, "device")
        candidate, why = self._candidate(tensors.get(output_label(names["iou_scores"]), "reference")[0], exact)
        reference, device = self._mask(exact, candidate), self._mask(actual, candidate)
        iou = mask_iou(device, reference)
        with writing(folder):
            folder.mkdir(exist_ok=True)
            Image.fromarray(photo).save(folder / "photo.jpg", quality=90)
        right = all(output.ok for output in answer.outputs)
        self.steps = [
            StoryStep("CPU, float32", 1.0, 1.0, True),
            StoryStep("GPU, float16", iou, _least_iou(actual, exact), right),
        ]
        tried = []
        for place, (title, remedy) in enumerate(told(answer)):
            logits = tensors.get(remedy_label(remedy.name, names["pred_masks"]), "device")
            mask, name = self._mask(logits, candidate), f"scene/mask-{place}.png"
            step = StoryStep(title, mask_iou(mask, reference), _least_iou(logits, exact), remedy.ok)
            self.steps.append(step)
            tried.append({"title": title, "mask": name, "iou": step.iou, "ok": step.ok})
            _save(run.path / name, mask)
        _save(folder / "mask-reference.png", reference)
        _save(folder / "mask-device.png", device)
        return {
            "photo": "scene/photo.jpg",
            "size": [photo.shape[1], photo.shape[0]],
            "tap": list(self._workload.at),
            "candidate": candidate,
            "iou": iou,
            "masks": {"reference": "scene/mask-reference.png", "device": "scene/mask-device.png"},
            "tried": tried,
            "label": f"candidate mask {candidate + 1} of {exact.shape[1]}, {why}",
        }

    def _candidate(self, scores: Array, exact: Array) -> tuple[int, str]:
        """Which mask is shown, and why that one."""
        if not self._workload.is_random:
            return int(np.argmax(scores)), "the best by the CPU's own score"
        areas = (exact[0] > 0).mean(axis=(1, 2))
        why = "the one nearest to half of the photo: with random weights the scores mean nothing"
        return int(np.argmin(np.abs(areas - 0.5))), why

    def _mask(self, logits: Array, candidate: int) -> Array:
        mask: Array = image.upsample_mask(logits[0, candidate], self._workload.photo.shape)
        return mask


def told(answer: Localization) -> list[tuple[str, Remedy]]:
    """The remedies that tell the story, those that ran, in its order, with their titles."""
    remedies = answer.culprits[0].remedies if answer.culprits else ()
    by_parts = {frozenset(r.name.split("; ")): r for r in remedies if r.run_ms is not None}
    single = by_parts.get(frozenset({FLOAT32.name}))
    precision = "GPU, float32" if single is None or single.ok else "GPU, float32: wrong too, so not precision"
    steps = {
        precision: single,
        "GPU, float16, batch dimension kept": by_parts.get(frozenset({KEEP_BATCH.name})),
        "GPU, float16, kept and long sums split": by_parts.get(frozenset({KEEP_BATCH.name, SPLIT_SUM.name})),
    }
    return [(title, remedy) for title, remedy in steps.items() if remedy is not None]


def _least_iou(logits: Array, exact: Array) -> float:
    return min(mask_iou(logits[0, i], exact[0, i]) for i in range(exact.shape[1]))


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
        note=progress.note,
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


def demo_workload(
    models: str | None, weights: str | None, layernorm: LayerNormKind | None, timeout: float, progress: Progress
) -> Workload:
    """What the demo runs: the files of `models`; without it and without words on weights and decoder, the published
    ones, fetched if need be; where they cannot be had, what the cache has of a conversion, and only then one by torch.
    Of a folder the decoder of the oldest version is taken: it is the one that breaks. Raises HarnessError."""
    if models is None and weights is None and layernorm is None and have_published(published_folder(), progress):
        models = PUBLISHED
    words = DecoderWords(weights=weights, layernorm=layernorm)
    if models not in (None, OWN, PUBLISHED):
        words = replace(words, variant=first_version(Path(models).expanduser()))
    files = published_models(models, words, progress)
    if files is None:
        return own_workload(weights, layernorm, progress)
    return workload_of(files, timeout=timeout, progress=lambda what: progress.stage(what, PREPARE_SECONDS))


def own_workload(weights: str | None, layernorm: LayerNormKind | None, progress: Progress) -> Workload:
    """What the demo runs where no files are given: the model card's decoder without the batch dimension."""
    variant = DecoderVariant(layernorm or CARD.layernorm, batch="dropped")
    return make_workload(weights, variant, "float32", 0, models_folder(), progress)


def own_is_kept() -> bool:
    """Whether that is in the cache, where the packages to make it are missing."""
    try:
        own_workload(None, None, SILENT)
    except UsageError:
        return False
    return True


def tell(
    device: str,
    models: str | None,
    weights: str | None,
    layernorm: LayerNormKind | None,
    out: Path,
    timeout: float,
    progress: Progress,
) -> Story:
    """Run the demo. Raises HarnessError."""
    workload = demo_workload(models, weights, layernorm, timeout, progress)
    request = ModelRequest(
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
    answer, say = story.answer, screen.say
    x, y = story.workload.at
    file = story.workload.file
    say(f"\n[bold]SAM 2.1 mask decoder {escape(file) or 'as first published: no batch dimension'}[/]")
    provenance = story.workload.provenance[:1].upper() + story.workload.provenance[1:]
    if story.workload.is_random:
        say(f"[yellow]{escape(provenance)}: the masks mean nothing; how far CPU and GPU differ does.[/]")
    else:
        say(f"{escape(provenance)}.")
    say(f"Photo: the sample portrait, tapped on the face at ({x:.0f}, {y:.0f}).")
    say(f"GPU: {escape(answer.device['gpu'])}; {render.residency_text(answer.residency)}.\n")
    table = Table("mask against the CPU's", box=None, header_style="dim", pad_edge=False)
    for title in ("IoU on photo", "least of 3 raw"):
        table.add_column(title, justify="right")
    table.add_column("")
    for step in story.scene.steps:
        word = "[green]pass[/]" if step.ok else "[red]fail[/]"
        table.add_row(escape(step.title), f"{step.iou:.4f}", f"{step.least_iou:.4f}", word)
    screen.out.print(table)
    if any(culprit.signature == ROW_0 for culprit in answer.culprits):
        say(
            f"\n[bold]The rule.[/] {escape(RULES[ROW_0])} The positional encoding has a row for each place: a decoder "
            "that reads row 0 everywhere has lost where things are.\n"
        )
    render.show_localization(answer, story.folder)
    say("\n[bold]On a phone[/] (docs/phone.md), the same in minutes:")
    for line in PHONE_FILES if file else PHONE:
        screen.out.print(f"  {line}")
    if not file:
        say(f"[dim]RUN is the folder that localize prints; here it is {escape(str(story.folder))}.[/]")


PHONE = (
    "harness sam2 convert decoder --batch dropped",
    "harness localize decoder/*.tflite --inputs decoder/inputs.npz --device pixel8a",
    "harness compare RUN/remedies/FILE.tflite --inputs decoder/inputs.npz --device pixel8a",
)
"""Three commands that confirm the finding on a phone."""

PHONE_FILES = ("harness demo --models SOURCE --device pixel8a",)
"""The same for files: nothing is to be converted."""


def demo_command(
    device: DeviceOption = "host",
    models: ModelsOption = None,
    weights: WeightsOption = None,
    layernorm: LayerNormOption = None,
    out: OutOption = Path("results"),
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
) -> None:
    """The SAM 2.1 mask decoder as first published: ops that break it, the rule, the cures, the mask of each step.

    Without --models: the published files, fetched once; where they cannot be had, what is converted here.

    Exit 0 when it is right on this device, or something that was tried makes it right; 1 when nothing does, 4 when no
    op could be named.
    """
    run(
        lambda progress: tell(device, models, weights, layernorm, out, timeout, progress),
        as_json=as_json,
        document=lambda story: story.answer.to_json() | {"run": str(story.folder)},
        show=show,
        code=exit_code,
    )


def exit_code(story: Story) -> int:
    """What the story came to."""
    culprits = story.answer.culprits
    if story.answer.status == "pass" or any(remedy.ok for culprit in culprits for remedy in culprit.remedies):
        return EXIT_OK
    return EXIT_WRONG if culprits else EXIT_UNRESOLVED
