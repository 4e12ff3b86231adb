"""What weakens a verdict, in a sentence each: inputs that stand for nothing, steps that are coarse, a near miss."""

from __future__ import annotations

from collections.abc import Sequence

from harness.counted import counted
from harness.graph.jumps import sorted_by
from harness.graph.model import Graph
from harness.job import Array
from harness.localize.baseline import Case, output_label
from harness.localize.ideals import Ideals
from harness.localize.result import OutputVerdict
from harness.numerics.usefulness import LOST, size_of, storing
from harness.results import TensorStore

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
