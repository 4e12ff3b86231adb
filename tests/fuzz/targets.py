"""What is done with files from elsewhere before any device sees them; each gives an answer or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.api.frames import load_runs
from harness.api.opening import as_in_the_file
from harness.core.errors import HarnessError
from harness.dashboard.build import build
from harness.graph.model import Model
from harness.graph.ops.audit import audit
from harness.graph.ops.real import with_real_values
from harness.graph.surgery import isolate, tap, tappable
from harness.latency.compare import compare_across_runs, read_baseline
from harness.lint.lint import lint
from harness.numerics.fp16 import oracle
from harness.report.export import export
from harness.report.page import write_report


def read(path: Path) -> bool:
    """Whether a file is a model: read, counted, looked at by the rules, cut and written anew."""
    try:
        whole = Model.load(path)
        audit(whole)
        lint(whole)
        for signature in whole.signatures:
            isolate(whole, signature).graph()
        model = as_in_the_file(path).model
        tap(model, tappable(model.graph()))[0].to_bytes()
        oracle(with_real_values(model)).to_bytes()
    except HarnessError:
        return False
    return True


def show(folder: Path, site: Path) -> bool:
    """Whether a run folder can be shown: its page, its table of ops, its place on a dashboard and in the data frames; a
    benchmark, to be compared with."""
    shown = True
    ways: tuple[Callable[[], object], ...] = (
        lambda: write_report(folder),
        lambda: export(folder, "csv"),
        lambda: build(folder.parent, site),
        lambda: framed(folder.parent),
        lambda: compared(folder),
    )
    for way in ways:
        try:
            way()
        except HarnessError:
            shown = False
    return shown


def framed(results: Path) -> None:
    """Every frame of a results folder."""
    frames = load_runs(results)
    for frame in (frames.runs, frames.samples, frames.ops, frames.problems, frames.outputs):
        str(frame)


def compared(folder: Path) -> None:
    """A benchmark with itself; nothing else is one."""
    baseline = read_baseline(folder)
    compare_across_runs(baseline.result, baseline.rounds, baseline)
