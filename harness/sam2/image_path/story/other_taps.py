"""The decoders asked at further taps on the photo: only their masks are wanted, and nothing is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.arrays import Array
from harness.core.errors import DeviceError
from harness.core.job import Options
from harness.devices.execute import completed, make_job
from harness.graph.model import Model
from harness.graph.short_ports import as_declared
from harness.localize.base.case import REFERENCE
from harness.localize.base.comparison import Workbench
from harness.sam2.image_path.ports import Ports
from harness.sam2.image_path.workload import Workload
from harness.sam2.shared.clicks import Tap

# Of compiling a decoder on a software GPU, and of a run there.
COMPILE_SECONDS, RUN_SECONDS = 10.0, 2.5

CPU = "CPU"
"""The title of the column that the others are held to."""


@dataclass(frozen=True)
class Column:
    """One model, run in one way: `options` is None for the host's reference. `face` has the logits of the face's masks,
    [1, 3, h, w], which are known already, and `ok` says whether they are right."""

    title: str
    model: Model
    ports: Ports
    options: Options | None
    face: Array
    ok: bool


@dataclass(frozen=True)
class Asked:
    """What came of one tap: logits [1, 3, h, w] by column, and the reference's scores [1, 3]."""

    logits: dict[str, Array]
    scores: Array


def ask(
    bench: Workbench,
    workload: Workload,
    taps: Mapping[str, tuple[float, float]],
    columns: list[Column],
    timeout: float,
    notes: list[str],
) -> dict[str, Asked]:
    """The masks at each tap; the reference is the first of `columns`. A model runs at all taps in turn, so that the
    device compiles it once. One that does not run there is left out, and `notes` is told; without the reference there
    is nothing."""
    found: dict[str, Asked] = {}
    for column in columns:
        at = bench.host if column.options is None else bench.device
        if taps:
            runs = RUN_SECONDS * len(taps)
            what = f"{column.title}: {len(taps)} further taps"
            bench.progress.stage(what, runs if column.options is None else COMPILE_SECONDS + runs)
        for name, (x, y) in taps.items():
            given: dict[str, Array] = dict(workload.inputs_at(Tap.at(x, y), column.ports))
            inputs, options = as_declared(column.model, given), column.options or REFERENCE
            try:
                done = completed(at, make_job(column.model, inputs, options, timeout=timeout), f"tapping the {name}")
            except DeviceError as error:
                notes.append(f"{column.title} was not asked at all taps: {error.message}")
                if column.options is None:
                    return {}
                break
            outputs = column.ports.named(done.outputs)
            logits = outputs["pred_masks"].reshape(column.face.shape)
            if column.options is None:
                found[name] = Asked({}, outputs["iou_scores"].reshape(1, -1))
            found[name].logits[column.title] = logits
    return found
