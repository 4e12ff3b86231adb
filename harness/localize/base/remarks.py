"""What weakens a verdict, in a sentence each: inputs that stand for nothing, steps that are coarse, a near miss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from harness.core.arrays import Array
from harness.core.run_folder import TensorStore
from harness.core.visible import counted, visible
from harness.graph.model import Graph
from harness.graph.ops.jumps import sorted_by
from harness.localize.base.case import Case
from harness.localize.base.ideals import Ideals
from harness.localize.base.reference import output_label
from harness.localize.base.result import Localization, OutputVerdict, error_words
from harness.numerics.usefulness import LOST, size_of, storing

# What has this many rows and columns, and so many channels, is taken for an image.
LEAST_SIDE = 16
CHANNELS = (1, 3, 4)


def remarks(
    case: Case, outputs: Sequence[OutputVerdict], ideal: dict[str, Ideals], store: TensorStore
) -> tuple[str, ...]:
    """All that is to be said of outputs that rounding explains; `store` holds both sides of them."""
    found = list(_of_inputs(case, outputs))
    if any(output.verdict == "wrong" for output in outputs):
        found += [
            f"Output '{output.name}' fails by precision besides ({output.shortfalls[0].words()}): mend what is wrong "
            "first."
            for output in outputs
            if output.verdict == "precision"
        ]
    made = {port.name: port.tensor for port in case.graph.outputs}
    for output in outputs:
        sorting = sorted_by(case.graph, made[output.name]) if output.rows or not output.ok else None
        if sorting and output.rows:
            found.append(f"Output '{output.name}', which {sorting} sorts, is judged row by row: {_of(*output.rows)}.")
        elif sorting and output.verdict == "precision":
            found.append(
                f"Output '{output.name}' is in the order in which {sorting} sorts: where two scores are nearly equal, "
                "places change, and all that stands there counts as error. If the scores pass, hold the list to limits "
                "of your own."
            )
        exact = store.get(output_label(output.name), "reference")
        if output.explained and not output.integer and case.options.half:
            found += _of_steps(output.name, exact)
        if output.verdict == "pass":
            actual = store.get(output_label(output.name), "device")
            for yardstick in case.yardsticks(output.name, exact):
                if case.noise(yardstick, ideal[output.name]):
                    found.append(
                        f"Output '{output.name}' is not asked whether it is of use: in float32 too its values are what "
                        "rounding leaves."
                    )
                elif output.rows is None and yardstick.kind == "spread" and yardstick.loss(actual) > yardstick.limit:
                    found.append(
                        f"Output '{output.name}' is off by {_share(yardstick.loss(actual))} of its spread; storing "
                        f"results as the device does explains {_share(yardstick.loss(ideal[output.name][0]))}, and "
                        f"{_share(yardstick.on_device)} is the limit for what its arithmetic adds. Hold it to limits "
                        "of your own with --min-cosine, --atol and --rtol."
                    )
    return tuple(found)


def _of_inputs(case: Case, outputs: Sequence[OutputVerdict]) -> list[str]:
    if not case.drawn:
        return []
    images = images_of(case.graph)
    if images:
        named = ", ".join(f"'{name}' {list(shape)}" for name, shape in images)
        looks = "look like images and were" if len(images) > 1 else "looks like an image and was"
        return [
            f"Input {named} {looks} fed with noise: values, and so errors, are not those of a real one. Give one with "
            "--inputs before this verdict is relied on."
        ]
    if any(output.verdict == "precision" for output in outputs):
        return ["The inputs are random numbers, and how much precision is enough depends on them: give real ones."]
    return []


def _of(moved: int, new: int) -> str:
    said = []
    if moved:
        said.append(f"{counted(moved, 'row')} of nearly equal scores in another place than in the reference")
    if new:
        said.append(f"{counted(new, 'row')} at the end of the list that the reference has cut off")
    return ", ".join(said)


def left_open(stretches: int) -> list[str]:
    """What a search that did not settle everything says."""
    told = counted(stretches, "stretch", "stretches")
    return [f"{told} of ops could not be resolved on the device."] if stretches else []


def images_of(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    """Inputs that look like images, by their shape: four dimensions, channels last or second."""
    found = []
    for port in graph.inputs:
        shape = graph.tensors[port.tensor].shape or ()
        sides = ((shape[1:3], shape[3]), (shape[2:4], shape[1])) if len(shape) == 4 else ()
        if any(min(side) >= LEAST_SIDE and channels in CHANNELS for side, channels in sides):
            found.append((port.name, shape))
    return found


def _of_steps(name: str, exact: Array) -> list[str]:
    size = size_of(exact)
    cost = storing(exact)
    if cost <= LOST * size:
        return []
    return [
        f"Output '{name}' is stored in float16 steps that are coarse against its spread: storing the exact values "
        f"alone costs {_share(cost / size)} of it, which is not held against the model."
    ]


def _share(value: float) -> str:
    return f"{100 * value:.2g} %"


def sentence(outputs: Sequence[OutputVerdict], *, half: bool) -> str:
    """`PASS: the error is what float16 rounding predicts (2.4x, limit 16x).`, or how it fails."""
    kind = "float16" if half else "float32"
    wrong = [o for o in outputs if o.verdict == "wrong"]
    useless = [o for o in outputs if o.verdict == "precision"]
    if wrong:
        return f"FAIL: {_named(wrong)} wrong by more than {kind} rounding predicts ({ratio_and_limit(wrong)})."
    if useless:
        why = "; ".join(f"'{o.name}' is of no use: {o.shortfalls[0].words()}" for o in useless)
        return f"FAIL by precision: the error is what {kind} rounding predicts ({ratio_and_limit(useless)}), but {why}."
    return f"PASS: the error is what {kind} rounding predicts ({ratio_and_limit(outputs)})."


def ratio_and_limit(outputs: Sequence[OutputVerdict]) -> str:
    """`2.4x, limit 16x`, of the output that comes nearest to its limit or is furthest beyond."""
    worst = max((o.judgement for o in outputs), key=lambda j: j.ratio / j.limit)
    ratio = f"{worst.ratio:.1f}x" if worst.ratio < 100 else f"{worst.ratio:.3g}x"
    return f"{ratio if math.isfinite(worst.ratio) else 'NaN or infinite'}, limit {worst.limit:g}x"


def _named(outputs: Sequence[OutputVerdict]) -> str:
    names = [f"'{o.name}'" for o in outputs]
    if len(names) == 1:
        return f"output {names[0]} is"
    return f"{len(names)} outputs ({', '.join(names[:4])}{', …' if len(names) > 4 else ''}) are"


def failure_words(answer: Localization, device: str) -> str:
    """A localization that does not pass, in a few lines: the outputs, the ops and where the report lies."""
    model = Path(answer.model.path).name or "the model"
    lines = [
        f"{model} on {device}: {sentence(answer.outputs, half=answer.half)}" if answer.outputs else f"{model} fails."
    ]
    for c in answer.culprits:
        sure = "certified" if c.certified else "not certified"
        lines.append(
            f"  {c.record.title} {c.record.number} '{c.record.output}': {c.cause}, {sure}; {error_words(c.record)}"
        )
    lines += [] if answer.culprits else ["  No op could be named for it.", *(f"  {note}" for note in answer.notes)]
    lines += [f"  report: {answer.folder / 'report.html'}"] if answer.folder is not None else []
    return "\n".join(visible(line) for line in lines)
