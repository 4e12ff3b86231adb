"""The card's question, answered: a real photo, taps on it, the SAM 2.1 mask decoder as it was published, twice.

Written without the batch dimension, the first version is wrong on the GPU in float16 and in float32 alike. The demo
names the ops and the rule that they break, keeps the batch dimension of their constants, splits the sums that float16
spoils besides, and shows the masks of each step and of the second version beside the CPU's. What it tells is in
`harness.sam2.image_path.story`.
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
from harness.core.errors import EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, UsageError
from harness.core.job import Options
from harness.core.markup import escape
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import writing
from harness.devices.registry import check_device
from harness.localize.base.result import Localization
from harness.sam2.image_path.story.scene import StoryScene
from harness.sam2.image_path.story.second import SecondDecoder, converted_second, versions_of
from harness.sam2.image_path.workload import Workload, prepare, workload_of
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
    scene: StoryScene
    folder: Path


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
    check_device(device, lambda what: progress.stage(what, 20.0))
    workload = demo_workload(models, weights, layernorm, timeout, progress)
    versions = versions_of(workload, lambda: _second(weights, layernorm, progress))
    request = ModelRequest(
        workload.model_path,
        device,
        Options(),
        out=out,
        timeout=timeout,
        given=workload.inputs,
        provenance=workload.provenance,
    )
    scene = StoryScene(workload, versions)
    answer, folder = localize_command(request, progress, scene, explain=True)
    return Story(workload, answer, scene, folder)


def _second(weights: str | None, layernorm: LayerNormKind | None, progress: Progress) -> SecondDecoder:
    """The second version of the decoder that `demo_workload` converts. Raises `UsageError`."""
    first = DecoderVariant(layernorm or CARD.layernorm, batch="dropped")

    def say(what: str) -> None:
        progress.stage(f"second version: {what}", PREPARE_SECONDS)

    return converted_second(models_folder(), weights, 0, first, say)


def show(story: Story) -> None:
    """Tell the story on stdout."""
    say = screen.say
    for chapter in story.scene.chapters:
        say(f"\n[bold]{escape(chapter.title)}[/]")
        for sentence in chapter.sentences:
            say(escape(sentence))
        for line in chapter.commands:
            screen.out.print(f"  {escape(line)}")
        if chapter.key == "compare":
            show_masks(story.scene)
        if chapter.key == "fix":
            render.show_explanation(story.answer)
    for note in story.answer.notes:
        say(f"[dim]{escape(note)}[/]")
    render.show_cost(story.answer, story.folder)


def show_masks(scene: StoryScene) -> None:
    """The face's mask of each step, and the other taps' of each version."""
    if not scene.steps:
        return
    table = Table("the face's mask against the CPU's", box=None, header_style="dim", pad_edge=False)
    for title in ("IoU on photo", "least of 3 raw"):
        table.add_column(title, justify="right")
    table.add_column("")
    for step in scene.steps:
        word = "[green]pass[/]" if step.ok else "[red]fail[/]"
        table.add_row(escape(step.title), f"{step.iou:.4f}", f"{step.least_iou:.4f}", word)
    screen.out.print(table)
    if len(scene.rows) > 1:
        titles = list(scene.rows[0].ious)[1:]
        taps = Table("tap, IoU on photo", box=None, header_style="dim", pad_edge=False)
        for title in titles:
            taps.add_column(escape(title), justify="right")
        for row in scene.rows:
            ious = (row.ious[title] for title in titles)
            taps.add_row(escape(row.name), *("–" if iou is None else f"{iou:.4f}" for iou in ious))
        screen.out.print(taps)


def demo_command(
    device: DeviceOption = "host",
    models: ModelsOption = None,
    weights: WeightsOption = None,
    layernorm: LayerNormOption = None,
    out: OutOption = Path("results"),
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
) -> None:
    """The SAM 2.1 mask decoder as published: CPU and GPU side by side, which op, why, the fix, the second version.

    Without --models: the published files, fetched once; where they cannot be had, what is converted here.

    Exit 0 when it is right on this device, or something that was tried makes it right; 1 when nothing does, 4 when no
    op could be named.
    """
    run(
        lambda progress: tell(device, models, weights, layernorm, out, timeout, progress),
        as_json=as_json,
        document=document,
        show=show,
        code=exit_code,
    )


def document(story: Story) -> dict[str, Any]:
    """`demo --json`: that of `localize`, and the story."""
    return story.answer.to_json() | {"run": str(story.folder), "story": story.scene.to_json()}


def exit_code(story: Story) -> int:
    """What the story came to."""
    culprits = story.answer.culprits
    if story.answer.status == "pass" or any(remedy.ok for culprit in culprits for remedy in culprit.remedies):
        return EXIT_OK
    return EXIT_WRONG if culprits else EXIT_UNRESOLVED
