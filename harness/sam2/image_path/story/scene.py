"""The pictures of the story: the masks of both versions on the CPU and the GPU at several taps, side by side.

The face is what the localization ran; the other taps are asked here, one model after another, so that the device
compiles each once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.core.arrays import Array
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Options
from harness.core.run_folder import RunFolder, writing
from harness.devices.fold import with_folded_constants
from harness.devices.scratch import scratch_folder
from harness.graph.inputs import check_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench, compare_model
from harness.localize.base.reference import output_label
from harness.localize.base.result import Localization
from harness.localize.explain.remedy_trials import remedy_label
from harness.numerics.metrics import mask_iou
from harness.sam2.image_path.scenes import PORTRAIT_TAPS
from harness.sam2.image_path.story.chapters import Chapter, Told, chapters
from harness.sam2.image_path.story.other_taps import CPU, Asked, Column, ask
from harness.sam2.image_path.story.second import SecondDecoder, Versions
from harness.sam2.image_path.story.steps import SecondJudged, StoryStep, TapRow, least_iou, mended, told
from harness.sam2.image_path.workload import Workload
from harness.sam2.shared import image
from harness.sam2.shared.clicks import Tap


class StoryScene:
    """The photo with the mask of either side, of each remedy that tells the story and of the second version, at one
    candidate a tap. `taps` are those beside the face, by name."""

    def __init__(self, workload: Workload, versions: Versions, taps: Mapping[str, tuple[float, float]] | None = None):
        self._workload, self._versions = workload, versions
        self._taps = {n: at for n, at in PORTRAIT_TAPS.items() if at != workload.at} if taps is None else taps
        self.steps: list[StoryStep] = []
        self.rows: list[TapRow] = []
        self.second: SecondJudged | None = None
        self._second_model: Model | None = None
        self.notes: list[str] = [versions.note] if versions.note else []
        self.chapters: tuple[Chapter, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """`story` of `demo --json`."""
        return {
            "steps": [step.to_json() for step in self.steps],
            "taps": [row.to_json() for row in self.rows],
            "second": self.second.to_json() if self.second else None,
            "notes": self.notes,
            "chapters": [chapter.to_json() for chapter in self.chapters],
        }

    def draw(self, bench: Workbench, case: Case, answer: Localization) -> dict[str, Any]:
        """Run what the localization did not, and write the photo and the masks under `scene/`."""
        run, names = bench.run, self._workload.ports.outputs
        drawn: dict[str, Any] = {}
        if run.tensors.has(output_label(names["pred_masks"]), "device"):  # it ran at all
            drawn = self._draw(bench, case, answer)
        self.chapters = chapters(
            Told(self._workload, self._versions, answer, self.steps, self.rows, self.second, self.notes)
        )
        return drawn and drawn | {"story": [chapter.to_json() for chapter in self.chapters]}

    def _draw(self, bench: Workbench, case: Case, answer: Localization) -> dict[str, Any]:
        run, names = bench.run, self._workload.ports.outputs
        folder, tensors, photo = run.path / "scene", run.tensors, self._workload.photo
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
            StoryStep("GPU, float16", iou, least_iou(actual, exact), right),
        ]
        tried = []
        for place, (title, remedy) in enumerate(told(answer)):
            logits = tensors.get(remedy_label(remedy.name, names["pred_masks"]), "device")
            mask, name = self._mask(logits, candidate), f"scene/mask-{place}.png"
            step = StoryStep(title, mask_iou(mask, reference), least_iou(logits, exact), remedy.ok)
            self.steps.append(step)
            tried.append({"title": title, "mask": name, "iou": step.iou, "ok": step.ok})
            _save(run.path / name, mask)
        _save(folder / "mask-reference.png", reference)
        _save(folder / "mask-device.png", device)
        self.second = self._judge_second(bench, case.timeout)
        if self.second is not None:
            shown = mask_iou(self._mask(self.second.logits, candidate), reference)
            title = f"GPU, float16, {self._second.version}"
            self.steps.append(StoryStep(title, shown, least_iou(self.second.logits, exact), self.second.ok))
        return {
            "photo": "scene/photo.jpg",
            "size": [photo.shape[1], photo.shape[0]],
            "tap": list(self._workload.at),
            "candidate": candidate,
            "iou": iou,
            "masks": {"reference": "scene/mask-reference.png", "device": "scene/mask-device.png"},
            "tried": tried,
            "label": f"candidate mask {candidate + 1} of {exact.shape[1]}, {why}",
            "grid": self._grid(bench, case, answer),
        }

    @property
    def _second(self) -> SecondDecoder:
        assert self._versions.second is not None
        return self._versions.second

    def _judge_second(self, bench: Workbench, timeout: float) -> SecondJudged | None:
        """The second version on the face, held to its own exact run; None, and a note, where it does not run."""
        if self._versions.second is None:
            return None
        second = self._second
        bench.progress.note(f"{second.version} beside {self._versions.localized}: {second.written}")
        try:
            case = self._case_of(second, timeout)
            with (
                scratch_folder("harness-sam2-") as root,
                RunFolder.create(root, "compare", str(second.model), bench.device.name) as run,
            ):
                found = compare_model(replace(bench, run=run), case)
                logits = run.tensors.get(output_label(second.ports.outputs["pred_masks"]), "device")
        except (DeviceError, UsageError) as error:
            self.notes.append(f"{second.version} did not run on {bench.device.name}: {error.message}")
            return None
        self._second_model = case.model
        return SecondJudged(second.model, len(case.graph.ops), found.outputs, found.done.residency, logits)

    def _case_of(self, second: SecondDecoder, timeout: float) -> Case:
        """What the device is asked, as a localization asks it: what only prepares constants is computed before."""
        model, _ = with_folded_constants(Model.load(second.model))
        given: dict[str, Array] = dict(self._workload.inputs_at(Tap.at(*self._workload.at), second.ports))
        return Case(model, check_inputs(given, model.graph()), Options(), timeout)

    def _columns(self, bench: Workbench, case: Case, answer: Localization) -> list[Column]:
        """What stands side by side: the version that was localized on both sides, mended, and the second one."""
        this, ports, tensors = self._versions.localized, self._workload.ports, bench.run.tensors
        masks = ports.outputs["pred_masks"]
        label = output_label(masks)
        columns = [
            Column(CPU, case.model, ports, None, tensors.get(label, "reference"), True),
            Column(f"GPU, {this}", case.model, ports, case.options, tensors.get(label, "device"), self.steps[1].ok),
        ]
        if (cure := mended(answer)) is not None and cure.path is not None:
            face = tensors.get(remedy_label(cure.name, masks), "device")
            columns.append(
                Column(f"GPU, {this} mended", Model.load(Path(cure.path)), ports, case.options, face, cure.ok)
            )
        if self.second is not None and self._second_model is not None:
            second = self._second
            columns.append(
                Column(
                    f"GPU, {second.version}", self._second_model, second.ports, case.options, self.second.logits,
                    self.second.ok,
                )
            )  # fmt: skip
        return columns

    def _grid(self, bench: Workbench, case: Case, answer: Localization) -> dict[str, Any]:
        """The masks of each tap, a row each, and of each column."""
        columns = self._columns(bench, case, answer)
        scores = output_label(self._workload.ports.outputs["iou_scores"])
        face = Asked({c.title: c.face for c in columns}, bench.run.tensors.get(scores, "reference"))
        asked = {"face": face} | ask(bench, self._workload, self._taps, columns, case.timeout, self.notes)
        places = {"face": self._workload.at} | dict(self._taps)
        rows = []
        for line, (name, found) in enumerate(asked.items()):
            exact = found.logits[CPU]
            candidate = self._candidate(found.scores[0], exact)[0]
            reference = self._mask(exact, candidate)
            cells: list[dict[str, Any]] = []
            ious: dict[str, float | None] = {}
            for place, column in enumerate(columns):
                if column.title not in found.logits:
                    cells.append({"mask": None, "iou": None})
                    ious[column.title] = None
                    continue
                mask, path = self._mask(found.logits[column.title], candidate), f"scene/tap-{line}-{place}.png"
                iou = mask_iou(mask, reference)
                _save(bench.run.path / path, mask)
                cells.append({"mask": path, "iou": iou})
                ious[column.title] = iou
            self.rows.append(TapRow(name, places[name], candidate, ious))
            rows.append({"name": name, "tap": list(places[name]), "candidate": candidate, "masks": cells})
        return {"columns": [{"title": c.title, "ok": c.ok} for c in columns], "rows": rows}

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


def _save(path: Path, mask: Array) -> None:
    with writing(path):
        Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(path)
