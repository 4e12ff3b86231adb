"""The matrix as one page, complete in itself: it can be sent, and its links hold while it lies where it was made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.core.run_folder import write_page
from harness.dashboard.matrix.cells import MARKS, STATES, TONES, Line
from harness.dashboard.matrix.matrix import MOST_OPS, SHOWN, Matrix
from harness.dashboard.pages import environment_of_pages, inlined
from harness.report.across.ops import OpAcross, OpOnDevice

WORDS = {
    "pass": "Every output within what rounding explains; the accelerator took the whole model.",
    "fail": "An output is off by more than rounding explains.",
    "precision": "Rounding explains the error, and the output is of no use: the device is innocent.",
    "partial": "The outputs are right, and the CPU ran a part of the model.",
    "unclear": "NaN or infinite values, no answer that holds, or nobody knows whether the accelerator ran it.",
    "trouble": "The device was lost, crashed, or refused the model.",
    "unfinished": "The run goes on, or was cut short; what it wrote until then counts for nothing.",
    "waiting": "A job that never ran.",
    "unjudged": "The model ran, and nobody compared its outputs.",
    "skipped": "A job that means nothing, as a phone with a release of the host’s runtime: nobody was to run it.",
}

SPLITS = {"differs": "differ", "shared": "wrong wherever read", "unread": "read on one only", "alike": ""}


def write_matrix(matrix: Matrix, path: Path, title: str) -> Path:
    """Write the page. Raises StorageError."""
    write_page(path, render_matrix(matrix, path.parent, title))
    return path


def render_matrix(matrix: Matrix, folder: Path, title: str) -> str:
    """The page as it is seen from `folder`, from which its links to reports lead."""
    root = folder.resolve()

    def address(line: Line) -> str:
        report = line.report
        if report is None:
            return ""
        relative = os.path.relpath(report.resolve(), root)
        return quote(Path(relative).as_posix().encode("utf-8", "surrogateescape"))

    told = {device.name: bool(device.runtime) for device in matrix.devices}

    def label_of(line: Line) -> str:
        """How a line ran, as far as neither the lead nor the head of its column tells it."""
        words = [] if matrix.how else [line.key.how.label]
        words += [] if told[line.device] or not line.key.runtime else [f"LiteRT {line.key.runtime}"]
        return ", ".join(words)

    def on(op: OpAcross) -> list[OpOnDevice | None]:
        """An op's cells in the order of the table's heads; None for a device whose ops of this model were not read."""
        here = {each.device: each for each in op.on}
        return [here.get(device) for device in matrix.read]

    values: dict[str, Any] = {
        "here": "",
        "root": "",
        "results": "",
        "bundled": False,
        "ops": [row for row in matrix.rows if row.told],
        "releases": [row for row in matrix.rows if row.releases],
        "states_of": lambda row: [state for state in STATES if any(line.finding.state == state for line in row.lines)],
        "label_of": label_of,
        "on": on,
        "splits": SPLITS,
        "shown_as": SHOWN,
        "title": title,
        "matrix": matrix,
        "verdict": matrix.verdict(),
        "address": address,
        "present": [state for state in STATES if state in matrix.tally],
        "words": WORDS,
        "tones": TONES,
        "marks": MARKS,
        "most_ops": MOST_OPS,
        "style": inlined("across.css.j2"),
        "script": inlined("dashboard.js.j2"),
    }
    return environment_of_pages().get_template("across.html.j2").render(**values)
