"""What of a model is compared, and on what: up to custom ops that the CPU lacks, and where the CPU runs a part."""

from __future__ import annotations

from dataclasses import replace

from harness.core.errors import DeviceError
from harness.core.progress import Progress
from harness.core.run_folder import RunFolder, writing
from harness.devices.base import Device
from harness.devices.execute import UNTOUCHED, completed, make_job
from harness.devices.loadable import up_to_what_the_cpu_has
from harness.localize.base.case import Case
from harness.localize.base.comparison import COMPILE_SECONDS
from harness.localize.base.placement import find_placement


def comparable(device: Device, case: Case, run: RunFolder) -> Case:
    """The case up to custom ops that the CPU has no kernels for, as far as the device takes the whole model.

    Raises:
        DeviceError: it does not, or there is nothing ahead of such an op.
    """
    part, lacking = up_to_what_the_cpu_has(case.model)
    if not lacking:
        return case
    names = ", ".join(f"'{name}'" for name in lacking)
    completed(device, make_job(case.model, {}, case.options, timeout=case.timeout, wanted=(), iterations=0), UNTOUCHED)
    if part is None:
        raise DeviceError(
            f"The CPU has no custom op {names}, and nothing comes before it, so nothing can be compared.",
            "Replace that op by builtin ones when exporting; `harness run` asks the device alone.",
        )
    path = run.path / "compared.tflite"
    with writing(path):
        path.write_bytes(part.to_bytes())
    count, whole = len(part.graph().ops), len(case.graph.ops)
    told = (
        f"The CPU has no custom op {names}: the model is compared up to it, {count} of {whole} ops, as {path} has them."
    )
    run.save(part=told)
    return replace(case, model=part)


def placed(device: Device, case: Case, run: RunFolder, progress: Progress) -> Case:
    """The case with what runs where, if the CPU may take what the GPU does not."""
    if case.options.fallback == "none":
        return case
    progress.stage(f"what {device.name}'s GPU takes", 2 + len(case.graph.ops) * COMPILE_SECONDS)
    placement = find_placement(device, case.model, case.options, case.timeout, progress, UNTOUCHED)
    run.save(placement=placement.sentence(case.graph))
    return replace(case, placement=placement)


def notes(run: RunFolder) -> tuple[str, ...]:
    """Sentences on what a run rests on: another back end than was asked for, a shader that did not compile, the part
    compared, shapes that were assumed, constants that were computed, and what ran where."""
    assumed = run.record.get("assumed")
    shapes = f"Shapes that the file leaves open: {assumed}." if assumed else ""
    backend, shader, part, folded, placement = (
        run.record.get(key, "") for key in ("other_backend", "shader", "part", "folded", "placement")
    )
    return tuple(filter(None, (backend, shader, part, shapes, folded, placement)))
