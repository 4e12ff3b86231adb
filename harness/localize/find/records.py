"""What became of each op: records of what could not be read, and of suspects that did not stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.core.run_folder import RunFolder
from harness.graph.model import Graph
from harness.localize.base.op_record import STEPS_HEADER, OpRecord, OpVerdict, steps_row
from harness.localize.base.reference import label_of, output_label
from harness.localize.base.result import Culprit
from harness.localize.probe.local_error import Reading


def unread(graph: Graph, readings: Sequence[Reading]) -> list[OpRecord]:
    """Records of the ops that no reading covers."""
    judged = {op for r in readings for op in r.ops} | graph.constant_ops
    records = []
    for op in graph.ops:
        if op.index not in judged and op.outputs:
            tensor = graph.tensors[op.outputs[0]]
            shape, dtype = tensor.shape or (), tensor.type.lower()
            name = op.custom or op.name
            records.append(OpRecord(op.index, name, op.index, tensor.name, tensor.index, shape, dtype, "unread"))
    return records


def write_rows(run: RunFolder, records: Sequence[OpRecord]) -> Sequence[OpRecord]:
    """Write ops.csv anew, and quantized.csv; the records as they are."""
    run.replace_rows("ops.csv", OpRecord.HEADER, [record.row() for record in records])
    write_steps(run, records)
    return records


def write_steps(run: RunFolder, records: Sequence[OpRecord]) -> None:
    """quantized.csv: errors of quantized tensors in steps. Nothing where none of the records is of one."""
    rows = [row for record in records if (row := steps_row(record)) is not None]
    if rows:
        run.replace_rows("quantized.csv", STEPS_HEADER, rows)


def corrected(records: Sequence[OpRecord], standing: Sequence[Culprit], fallen: OpVerdict = "unread") -> list[OpRecord]:
    """Records without the suspects that did not stand, and with what else was found."""
    convicted = {culprit.record for culprit in standing}
    known = set(records)
    tensors = {record.tensor for record in convicted}
    kept = [replace(r, verdict=fallen) if r.verdict == "culprit" and r.tensor not in tensors else r for r in records]
    replaced = {(c.tensor, c.reading) for c in convicted - known}
    kept = [r for r in kept if (r.tensor, r.reading) not in replaced]
    return [*kept, *(record for record in convicted if record not in known)]


def worth_keeping(graph: Graph, culprits: Sequence[Culprit]) -> list[str]:
    """Names of the files of the model's own outputs, and of what the culprits read and made."""
    kept = [output_label(port.name) for port in graph.outputs]
    for culprit in culprits:
        tensors = (*graph.ops[culprit.record.index].inputs, culprit.record.tensor)
        kept += [label_of(graph, t) for t in tensors if t in graph.producer]
    return kept
