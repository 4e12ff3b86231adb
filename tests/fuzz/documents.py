"""Run folders that somebody edited: values of other kinds and sizes at any place, and bytes that are no text."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save

from benchmarks.synthetic import Plan, write_run
from harness.localize.base.op_record import OpRecord
from harness.report.drawn.graph import write_graph
from tests.chains import chain
from tests.fuzz.journals import FACTS, PROBE, signed
from tests.fuzz.mutants import broken_bytes
from tests.report.conftest import op, run_record

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**64, 10**400, -0.0, 1e308, float("nan"), float("-inf"), "", "x" * 100_000,
    "../../../etc/passwd", "/etc/passwd", "\x1b]8;;http://x\x07", "a\u202eb\ud800", "[/oops]", "</script>", "9" * 5_000,
    [], [[[]]], {}, {"a": {"a": {}}}, [0] * 10_000,
)  # fmt: skip


def folder_files() -> dict[str, bytes]:
    """The files of a finished localization."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(OpRecord.HEADER)
    for i in range(9):
        row = op(i, "culprit" if i in (2, 5, 7) else "fine")
        writer.writerow([row[name] for name in OpRecord.HEADER])
    samples = "phase,iteration,write_ns,run_ns,read_ns\nfirst,0,20228052,317870702,3883682630\n"
    with tempfile.TemporaryDirectory() as folder:
        write_graph(Path(folder), chain(*["RELU"] * 9).graph())
        graph = (Path(folder) / "graph.json").read_bytes()
    values = [save({"tensor_5": np.full((1, 4, 3), value, np.float32)}) for value in (1.0, 1.5)]
    return {
        "run.json": json.dumps(run_record()).encode(),
        "ops.csv": table.getvalue().encode(),
        "samples.csv": samples.encode(),
        "log.txt": b"INFO: compiled\n",
        "graph.json": graph,
        "quantized.csv": b"index,first,output,dtype,step,zero_point\n5,5,tensor_5,int8,0.5,3\n",
        "tensors/0005-ADD.device.safetensors": values[0],
        "tensors/0005-ADD.reference.safetensors": values[1],
    }


def bench_files() -> dict[str, bytes]:
    """The files of a finished benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan("decoder.tflite", "host", "llvmpipe", "gpu", "default", 0, 10.0, 0.0, None, 1.0, None)
        run = write_run(Path(folder), plan, 0, 0, datetime(2026, 11, 28, tzinfo=UTC), np.random.default_rng(0), 16)
        return {path.name: path.read_bytes() for path in run.iterdir()}


FILES = folder_files()
BENCH_FILES = bench_files()
PROBED = {"entry": "start", "probe": PROBE, "boot": "b"}
ENDED = {"entry": "end", "probe": PROBE, "ending": "completed", "outcome": FACTS, "checksums": [0]}


@st.composite
def broken_folder(draw: st.DrawFn) -> dict[str, bytes]:
    """The files of a run, up to four values of its documents and up to two files of it broken."""
    files = dict(draw(st.sampled_from((FILES, FILES, BENCH_FILES))))
    for document in sorted(files.keys() & {"run.json", "graph.json"}):
        record = json.loads(files[document])
        for _ in range(draw(st.integers(0, 4))):
            _broken(draw, record)
        files[document] = json.dumps(record).encode()
    for name in draw(st.sets(st.sampled_from(sorted(files)), max_size=2)):
        files[name] = draw(broken_bytes(files[name]))
    return files


@st.composite
def broken_journal(draw: st.DrawFn) -> list[bytes]:
    """The lines of a journal behind the first one, some of their values others, under checksums that fit."""
    lines = deepcopy([{"entry": "session", "boot": "b", "pid": 1}, PROBED, ENDED])
    for _ in range(draw(st.integers(1, 4))):
        _broken(draw, draw(st.sampled_from(lines)))
    return [signed(json.dumps(each).encode()) for each in lines]


def _broken(draw: st.DrawFn, node: Any) -> None:
    """Another value at some place of a document."""
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = draw(st.sampled_from(list(keys)))
        child = node[key]
        if isinstance(child, dict | list) and child and draw(st.booleans()):
            node = child
            continue
        node[key] = deepcopy(draw(st.sampled_from(VALUES)))
        return


def write(folder: Path, files: dict[str, bytes]) -> None:
    """A run folder with these files."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
