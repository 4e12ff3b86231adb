"""The words of the story, in the order of the model card's question. The terminal and the page say the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.job import Residency
from harness.core.visible import best_at_one, counted
from harness.localize.base.misreadings import ROW_0
from harness.localize.base.result import Culprit, Localization, OutputVerdict
from harness.numerics.metrics import share_of_rms
from harness.report.wording import RULES
from harness.sam2.image_path.story.second import REPOSITORY, Versions
from harness.sam2.image_path.story.steps import IN_FLOAT32, KEPT, NOTHING, SecondJudged, StoryStep, TapRow, mended, told
from harness.sam2.image_path.workload import Workload

CARD = (
    "Its model card: on a Pixel 8a all 358 nodes run on the GPU, and the result is wrong. A face that the CPU segments "
    "at IoU 0.62 comes to 0.10, with the mask on the background. It is not the LayerNorm; which op it is, the card "
    "leaves open."
)

PHONE = (
    "harness sam2 convert decoder --batch dropped",
    "harness localize decoder/*.tflite --inputs decoder/inputs.npz --device pixel8a",
    "harness compare RUN/remedies/FILE.tflite --inputs decoder/inputs.npz --device pixel8a",
)
"""Three commands that confirm the finding on a phone."""

PHONE_FILES = ("harness demo --models SOURCE --device pixel8a",)
"""The same for files: nothing is to be converted."""


@dataclass(frozen=True)
class Chapter:
    """One step of the story: `key` names it for programs."""

    key: str
    title: str
    sentences: tuple[str, ...]
    commands: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {
            "key": self.key, "title": self.title, "sentences": list(self.sentences), "commands": list(self.commands),
        }  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What the chapters are made of."""

    workload: Workload
    versions: Versions
    answer: Localization
    steps: Sequence[StoryStep]
    rows: Sequence[TapRow]
    second: SecondJudged | None
    notes: Sequence[str]


def chapters(facts: Told) -> tuple[Chapter, ...]:
    """The story in seven steps. What was not found or did not run is said in its place."""
    return (
        Chapter("published", "What was published", _published(facts)),
        Chapter("compare", "CPU against GPU", _compared(facts)),
        Chapter("op", "Which op", _ops(facts.answer, facts.workload.ports.outputs["pred_masks"])),
        Chapter("why", "Why", _why(facts.answer)),
        Chapter("fix", "The fix", _fix(facts)),
        Chapter("second", "The second version beside it", _second(facts)),
        Chapter("phone", "On a phone (docs/phone.md)", *_phone(facts)),
    )


def residency_words(residency: Residency) -> str:
    """`330 of 330 nodes delegated`, or what is known."""
    if residency.delegated is not None and residency.total is not None:
        return f"{residency.delegated} of {residency.total} nodes delegated"
    return "fully delegated" if residency.full else "not fully delegated"


def random_words(workload: Workload) -> str:
    """What masks of random weights are good for; empty for trained ones."""
    return "Random weights: the masks mean nothing; how far CPU and GPU differ does." if workload.is_random else ""


def _published(facts: Told) -> tuple[str, ...]:
    work, answer = facts.workload, facts.answer
    where = f"{REPOSITORY}, the mask decoder of SAM 2.1 Hiera-Tiny."
    if work.file:
        this = f"Run here: {work.provenance}."
    else:
        this = f"Run here: converted as its first version was, without the batch dimension; {work.provenance}."
    gpu = f"{counted(answer.model.ops, 'op')} on {answer.device['gpu'] or answer.device['name']}"
    if answer.outputs:
        gpu += f", {residency_words(answer.residency)}"
    gpu += f"; LiteRT {answer.device['runtime']}."
    alone = facts.versions.note if facts.versions.localized != "v1" else ""
    return tuple(filter(None, (where, CARD, this, gpu, alone)))


def _compared(facts: Told) -> tuple[str, ...]:
    x, y = facts.workload.at
    others = [row.name for row in facts.rows[1:]]
    photo = f"The sample portrait, tapped on the face at ({x:.0f}, {y:.0f})"
    photo += f" and on {_and(others)}." if others else "."
    masks = _named(facts.answer.outputs, facts.workload.ports.outputs["pred_masks"])
    said = [photo, f"On the face: {_figures(masks)}." if masks else "The model did not run to its end."]
    single = next((step for step in facts.steps if step.title.startswith(IN_FLOAT32)), None)
    if single is not None and single.title == NOTHING:
        said.append("In float32 the GPU gives zeros or no numbers, which tells nothing of precision.")
    elif single is not None and not single.ok:
        said.append(f"In float32 the GPU is wrong too (IoU {single.iou:.4f}), so it is not precision.")
    elif single is not None:
        said.append(f"In float32 the GPU is right (IoU {single.iou:.4f}).")
    return tuple(filter(None, (*said, random_words(facts.workload))))


def _named(outputs: Sequence[OutputVerdict], name: str) -> OutputVerdict | None:
    return next((output for output in outputs if output.name == name), None)


def _figures(output: OutputVerdict) -> str:
    seen, expected = output.judgement.actual, output.judgement.expected
    low, high = seen.reference_range
    ratio = output.judgement.ratio
    factor = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
    times = f", {factor}x what rounding explains" if math.isfinite(ratio) and expected.max_abs else ""
    return (
        f"cosine {best_at_one(seen.cosine)} of the mask logits with the CPU's; largest error {seen.max_abs:.3g}, on "
        f"logits of {low:.3g} to {high:.3g}{times}"
    )


def _alike(culprits: Sequence[Culprit]) -> list[list[Culprit]]:
    """Culprits of one op, cause and signature together."""
    groups: dict[tuple[str, str, str | None], list[Culprit]] = {}
    for culprit in culprits:
        groups.setdefault((culprit.record.title, culprit.cause, culprit.signature), []).append(culprit)
    return list(groups.values())


def _ops(answer: Localization, masks: str) -> tuple[str, ...]:
    if answer.status == "pass":
        return ("None: the GPU's error is what rounding predicts.",)
    if not answer.culprits:
        return ("No op could be named.",)
    sure = "certified" if answer.certified else "not certified"
    said = [f"{counted(len(answer.culprits), 'op')}, {sure}:"]
    for alike in _alike(answer.culprits):
        names = ", ".join(culprit.record.number for culprit in alike)
        local = [c.record.local.ratio for c in alike if c.record.local is not None]
        worst = max(local, default=math.nan)
        times = f"; up to {worst:.0f}x what its arithmetic explains" if math.isfinite(worst) else ""
        what = f"{alike[0].cause}{f', {alike[0].signature}' if alike[0].signature else ''}"
        said.append(f"{alike[0].record.title} {names}: {what}{times}.")
    seen = _named(answer.outputs, masks)
    for impact in answer.explained:
        if seen is not None and impact.output == masks:
            added, device = impact.judgement.actual.relative_rms, seen.judgement.actual.relative_rms
            said.append(
                f"With only these errors added to {impact.into}, {masks} is off by {share_of_rms(added)}; on the GPU "
                f"by {share_of_rms(device)}."
            )
    return tuple(said)


def _why(answer: Localization) -> tuple[str, ...]:
    said: dict[str, None] = {}
    for alike in _alike(answer.culprits):
        signature = alike[0].signature or ""
        said[RULES.get(signature) or f"{alike[0].record.title}: {alike[0].cause.explanation}"] = None
        if signature == ROW_0:
            said[_evidence(alike)] = None
            said[
                "The positional encoding has a row for each place: a decoder that reads row 0 everywhere has lost "
                "where things are."
            ] = None
    if not said:
        return ("There is nothing to explain.",)
    return tuple(filter(None, said))


def _evidence(alike: Sequence[Culprit]) -> str:
    """What was seen of the worst of them by itself."""
    shown = [c for c in alike if c.trials] or list(alike)
    worst = max(shown, key=lambda c: c.record.local.ratio if c.record.local else 0.0)
    seen = {trial.what: trial.ending for trial in worst.trials}
    name = f"{worst.record.title} {worst.record.number}"
    text = f"Shown: let the CPU read row 0 of the constant for every row, and {name} has the GPU's values."
    wrong = [word for word, what in (("float16", "alone, on the exact inputs"), ("float32", "the same in float32"))
             if seen.get(what) == "wrong"]  # fmt: skip
    if wrong:
        text += f" By itself it is as wrong, in {_and(wrong)}"
        text += "; on the device's CPU it is right." if seen.get("on the device's CPU") == "right" else "."
    return text


def _fix(facts: Told) -> tuple[str, ...]:
    answer, steps = facts.answer, {step.title: step for step in facts.steps}
    if answer.status == "pass":
        return ("Nothing has to be mended here.",)
    said = []
    for title, remedy in told(answer):
        step = steps.get(title)
        if step is not None and not title.startswith(IN_FLOAT32):
            said.append(f"{_upper(remedy.name)}: IoU {step.iou:.4f} on the face, {'pass' if step.ok else 'fail'}.")
    cure = mended(answer)
    if cure is not None and cure.path is not None:
        file = cure.path.rpartition("/remedies/")[2]
        said.append(f"The model so mended is remedies/{file} in the run folder; it takes the first one's place.")
        others = _range([row.ious for row in facts.rows], f"GPU, {facts.versions.localized} mended")
        said.append(f"At {counted(len(facts.rows), 'tap')}: IoU {others}." if others and len(facts.rows) > 1 else "")
    elif any(remedy.ok for culprit in answer.culprits for remedy in culprit.remedies):
        said.append("What makes it right runs part of it elsewhere or in another way: see the remedies.")
    else:
        said.append("Nothing that was tried makes it right.")
    return tuple(filter(None, said))


def _second(facts: Told) -> tuple[str, ...]:
    second, judged = facts.versions.second, facts.second
    if second is None or judged is None:
        alone = facts.versions.localized != "v1"  # the note is told at the beginning then
        others = [note for note in facts.notes if not alone or note != facts.versions.note]
        return (*(["It is the one that was run, and no first one stands beside it."] if alone else []), *others)
    step = next(step for step in facts.steps if step.title.endswith(f", {second.version}"))
    said = [
        f"{_upper(second.written)}; {counted(judged.ops, 'op')}, {residency_words(judged.residency)}.",
        f"On the face, same inputs: IoU {step.iou:.4f} with the first version's mask on the CPU, the least of the "
        f"candidates {step.least_iou:.4f}; {'pass' if judged.ok else 'fail'}.",
    ]
    masks = _named(judged.outputs, second.ports.outputs["pred_masks"])
    said.append(f"Against its own CPU run: {_figures(masks)}." if masks else "")
    across = _range([row.ious for row in facts.rows], f"GPU, {second.version}")
    said.append(f"At {counted(len(facts.rows), 'tap')}: IoU {across}." if across and len(facts.rows) > 1 else "")
    kept = next((s for s in facts.steps if s.title == KEPT), None)
    if not judged.ok and kept is not None and not kept.ok:
        said.append(
            f"For comparison: with its batch dimension kept and nothing else, {facts.versions.localized} has IoU "
            f"{kept.iou:.4f}."
        )
    return tuple(filter(None, (*said, *facts.notes)))


def _phone(facts: Told) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if facts.workload.file:
        return ("The same, with the same files:",), PHONE_FILES
    folder = facts.answer.folder
    run = f" RUN is the folder that localize prints; here it is {folder}." if folder else ""
    return (f"The same in minutes.{run}",), PHONE


def _range(rows: Sequence[Any], title: str) -> str:
    """`0.9963 to 0.9991`, of what a column has."""
    known = [ious[title] for ious in rows if ious.get(title) is not None]
    if not known:
        return ""
    low, high = f"{min(known):.4f}", f"{max(known):.4f}"
    return low if low == high else f"{low} to {high}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
