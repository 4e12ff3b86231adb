"""A run's ops in the forms that other tools take: a table for pandas, node data for Model Explorer, lists of ops
to keep in float32 for LiteRT's mixed-precision tool; or the page that shows a culprit in a browser."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.core import safe_files
from harness.core.arrays import OpIndex
from harness.core.errors import UsageError
from harness.core.run_folder import read_run
from harness.numerics.tolerance import LOCAL_FACTOR
from harness.report.record import BENCHMARKS, CulpritFacts, Run, parse_run
from harness.report.tables import OPS_COLUMNS, OpRow, read_ops, whole_lines

Format = Literal["csv", "model-explorer", "fp32-ops", "fp32-names", "html"]
MOST_PAGE = 256 << 20
"""Bytes of a reproducer's page that are read."""

CULPRIT_COLUMNS = ("cause", "signature", "certified", "isolated")
# JSON has no infinity; a ratio over this is one whose expected error is nothing.
LARGEST_RATIO = 1e9
# The report's colours for verdicts; other ops go from white to amber towards the limit of a culprit.
_COLOURS = {"culprit": "#c62828", "inherited": "#f4c7a1"}
_SHADES = ((1.0, "#ffffff"), (LOCAL_FACTOR / 8, "#fff8e1"), (LOCAL_FACTOR, "#ffe082"), (LARGEST_RATIO, "#ffb300"))


@dataclass(frozen=True)
class Export:
    """A file's text, and what must be said about it."""

    text: str
    note: str = ""


def export(folder: Path, form: Format) -> Export:
    """A run folder in another tool's form.

    Raises:
        UsageError: no run folder, no ops in it, nothing to list, or the library for the form is not installed.
    """
    record = read_run(folder)
    if record.get("command") in BENCHMARKS:
        raise UsageError(f"{folder} is a benchmark, which has no ops.", "Its samples are in samples.csv there.")
    if form == "html":
        return _page(folder)
    run, rows = parse_run(record), read_ops(folder / "ops.csv").rows
    if not rows and run.culprits:
        raise UsageError(
            f"Run {folder} has no ops: the host alone told that its culprits lose digits in float16, and none was "
            "read.",
            "Export a run of `harness dump` on the model, which reads every op.",
        )
    if not rows:
        raise UsageError(
            f"Run {folder} has no ops: `{run.command}` reads none, or they were never wrong.",
            "Export a run of `harness dump`, which reads every op, or of `harness localize` that named culprits.",
        )
    match form:
        case "csv":
            return Export(_csv(folder / "ops.csv", run))
        case "model-explorer":
            return Export(_node_data(run, rows))
        case "fp32-ops":
            return _fp32_ops(_culprits(folder, run), rows)
        case "fp32-names":
            return _fp32_names(_culprits(folder, run), rows)


def _page(folder: Path) -> Export:
    """The page that reproduces the first culprit in a browser."""
    pages = sorted((folder / "reproducers").glob("*/reproduce.html"))
    if not pages:
        raise UsageError(
            f"Run {folder} has no page that reproduces a culprit in a browser.",
            "One is written for each that `harness localize --device web` explains.",
        )
    try:
        text = safe_files.read(pages[0], MOST_PAGE).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"{pages[0]} cannot be read ({error.strerror}).", "Localize the model again.") from None
    others = ", ".join(str(path) for path in pages[1:])
    return Export(text, f"Other culprits have pages of their own: {others}." if others else "")


def _culprits(folder: Path, run: Run) -> Sequence[CulpritFacts]:
    if not run.culprits:
        raise UsageError(f"Run {folder} names no culprit, so nothing is to be kept in float32.")
    return run.culprits


def _csv(path: Path, run: Run) -> str:
    """ops.csv with what the answer says of each culprit beside it; empty where an op is none."""
    by_op = {(c.last, c.output): c for c in run.culprits}
    text = io.StringIO()
    writer = csv.DictWriter(text, [*OPS_COLUMNS, *CULPRIT_COLUMNS], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in whole_lines(path):
        culprit = by_op.get((int(row["index"]), row["output"]))
        if row["verdict"] != "culprit" or culprit is None:
            facts = dict.fromkeys(CULPRIT_COLUMNS, "")
        else:
            facts = {name: str(getattr(culprit, name)) for name in CULPRIT_COLUMNS}
        writer.writerow(row | facts)
    return text.getvalue()


def _node_data(run: Run, rows: Sequence[OpRow]) -> str:
    """Local over expected error of each op, by the tensor that it makes, or by its number where that name is taken
    twice. An op that was read two ways shows the worse of both."""
    try:
        from model_explorer import node_data_builder as builder
    except ImportError as error:
        raise UsageError(
            f"Model Explorer's builder of node data is not here ({error}).", "pip install 'ai-edge-model-explorer'"
        ) from None
    makers: dict[str, set[OpIndex]] = {}
    for row in rows:
        makers.setdefault(row.output, set()).add(row.index)
    worst: dict[str, OpRow] = {}
    for row in rows:
        key = row.output if row.output and len(makers[row.output]) == 1 else str(row.index)
        if row.ratio is not None and (key not in worst or _shown(row) >= _shown(worst[key])):
            worst[key] = row
    data = builder.GraphNodeData(
        results={
            key: builder.NodeDataResult(value=_shown(row), bgColor=_COLOURS.get(row.verdict))
            for key, row in worst.items()
        },
        name=f"local error / expected error, {run.device} {run.accelerator} {run.precision}",
        thresholds=[builder.ThresholdItem(value=value, bgColor=colour) for value, colour in _SHADES],
    )
    return str(data.to_json_string(indent=1)) + "\n"


def _shown(row: OpRow) -> float:
    """A finite ratio: NaN and infinities of the device are as wrong as can be."""
    ratio = row.ratio
    if row.nonfinite or ratio is None or math.isnan(ratio):
        return LARGEST_RATIO if ratio is not None else 0.0
    return min(ratio, LARGEST_RATIO)


def _fp32_ops(culprits: Sequence[CulpritFacts], rows: Sequence[OpRow]) -> Export:
    """`--fp32_ops`: dialect-prefixed op types, comma-separated. A type keeps every op of it."""
    guilty: dict[str, set[OpIndex]] = {}
    for culprit in culprits:
        if culprit.first == culprit.last:
            guilty.setdefault(culprit.op, set()).add(culprit.last)
    for row in rows:  # of a run of ops, any may be to blame
        if any(culprit.first < culprit.last and culprit.first <= row.index <= culprit.last for culprit in culprits):
            guilty.setdefault(row.op, set()).add(row.index)
    names = sorted(guilty)
    lost = [name for name in names if name in _NO_DIALECT_OP]
    if lost:
        raise UsageError(
            f"{', '.join(lost)} is no op of the TFLite dialect, which the tool works on.", "Use --format fp32-names."
        )
    said = []
    for name in names:
        total = len({row.index for row in rows if row.op == name})
        if total > (need := len(guilty[name])):
            said.append(f"{dialect_op(name)} keeps all {total} {name} in float32, of which {need} need it")
    note = f"{'; '.join(said)}: --format fp32-names is narrower." if said else ""
    return Export(",".join(map(dialect_op, names)) + "\n", note)


def _fp32_names(culprits: Sequence[CulpritFacts], rows: Sequence[OpRow]) -> Export:
    """`--fp32_names`: parts of op locations, which are tensor names, comma-separated. A part of a longer name matches
    that too."""
    names = [culprit.output for culprit in culprits]
    if any("," in name or not name for name in names):
        raise UsageError("A culprit's tensor has no name, or one with a comma in it.", "Use --format fp32-ops.")
    too = sorted({row.output for row in rows if any(n in row.output for n in names)} - set(names))
    note = f"These names are part of others, which stay in float32 too: {', '.join(too[:5])}." if too else ""
    return Export(",".join(dict.fromkeys(names)) + "\n", note)


def dialect_op(name: str) -> str:
    """The TFLite dialect's op type for a builtin op: BATCH_MATMUL is `tfl.BatchMatMulOp`."""
    return "tfl." + _IRREGULAR.get(name, "".join(word.capitalize() for word in name.split("_")) + "Op")


# Where the dialect's type is not the builtin's name in another case (tflite/converter/ir/tfl_ops.td of LiteRT).
_IRREGULAR = {
    "AVERAGE_POOL_2D": "AveragePool2DOp",
    "BATCH_MATMUL": "BatchMatMulOp",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "BidirectionalSequenceLSTMOp",
    "CONV_2D": "Conv2DOp",
    "CONV_3D": "Conv3DOp",
    "CONV_3D_TRANSPOSE": "Conv3DTransposeOp",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOp",
    "LSTM": "LSTMOp",
    "MAX_POOL_2D": "MaxPool2DOp",
    "PADV2": "PadV2Op",
    "PRELU": "PReluOp",
    "RELU_N1_TO_1": "Relu1Op",
    "RFFT2D": "RFFT2dOp",
    "SVDF": "SVDFOp",
    "TOPK_V2": "TopKV2Op",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOp",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "UnidirectionalSequenceRNNOp",
}
_NO_DIALECT_OP = frozenset(
    {
        "BIDIRECTIONAL_SEQUENCE_RNN", "CALL", "CONCAT_EMBEDDINGS", "DELEGATE", "EMBEDDING_LOOKUP_SPARSE",
        "HASHTABLE_LOOKUP", "L2_POOL_2D", "LSH_PROJECTION", "REDUCE_WINDOW", "RNN", "SKIP_GRAM",
    }
)  # fmt: skip
