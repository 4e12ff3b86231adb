"""Every op's tensors from the device and from the reference, kept, with their local errors in ops.csv."""

from __future__ import annotations

from harness.localize.base.case import Case
from harness.localize.base.comparison import TAP_SECONDS, ModelComparison, Workbench, compare_model
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import label_of, output_label
from harness.localize.find.records import write_steps
from harness.localize.probe.local_error import LocalError, plan
from harness.localize.probe.taps import DUMP_BUDGET, choose, outputs_under_taps, read_copies


def dump(bench: Workbench, case: Case, *, budget: int = DUMP_BUDGET) -> tuple[ModelComparison, list[OpRecord]]:
    """Compare the model, and keep each op's result from both sides in the run folder.

    Raises:
        DeviceError: the reference or the untouched model does not complete.
    """
    comparison = compare_model(bench, case, keep=True)
    return comparison, read_every_op(bench, case, comparison, budget=budget)


def read_every_op(
    bench: Workbench, case: Case, comparison: ModelComparison, *, budget: int = DUMP_BUDGET
) -> list[OpRecord]:
    """Each op's result on the device, kept and judged, of a model that was compared with its intermediates kept.

    Raises:
        DeviceError: the device does not give them.
    """
    taps = choose(case.graph, None, case.on_cpu)
    size = sum(case.graph.tensors[t].nbytes for t in taps)
    bench.progress.stage(f"{len(taps)} tensors read on {bench.device.name}", 2 + len(taps) * TAP_SECONDS + size / 40e6)
    tapped = read_copies(bench.device, case, bench.run.tensors, taps, budget=budget, advance=bench.progress.fraction)
    read = frozenset(tapped.read)
    readings = plan(case.graph, read)
    bench.progress.stage("each op re-run on the device's own inputs", 1 + len(readings) / 60)
    for port in case.graph.outputs:  # as the caller gets them; no copy was read of those that no op reads
        if port.tensor in case.graph.producer and port.tensor not in taps:
            store = bench.run.tensors
            values = store.get(output_label(port.name), "device")
            store.put(label_of(case.graph, port.tensor), "device", values, port.name)
    records = []
    own, _ = outputs_under_taps(bench, case, comparison, tapped)
    local = LocalError(bench.host, case, bench.run.tensors, comparison.beyond, own)
    for record in local.judge(readings, bench.progress.fraction):
        records.append(record)
        bench.run.rows("ops.csv", OpRecord.HEADER, [record.row()])
    write_steps(bench.run, records)
    return records
