"""Which ops break a decoder on a back end: asked by a button, or known from an earlier run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.core.errors import UsageError
from harness.core.job import Options
from harness.core.progress import Progress
from harness.core.run_folder import list_runs, read_run
from harness.remedies.cause import Cause
from harness.report.figures import name, times
from harness.report.record import CulpritFacts, Run, parse_run
from harness.report.verdict import verdict_of
from harness.sam2.image_path.pipeline import Features
from harness.sam2.image_path.tap_page.choices import BackEnd

MOST_RUNS = 200
"""Of a results folder, the newest are looked at."""
MOST_CULPRITS = 20


@dataclass(frozen=True)
class OpsQuestion:
    """A decoder's file, its inputs for one tap, and where they are run."""

    model: Path
    inputs: Features
    device: str
    options: Options
    timeout: float
    provenance: str
    out: Path


class Localizer(Protocol):
    """What localizes, in a process of its own."""

    def localize(self, question: OpsQuestion, progress: Progress) -> Path:
        """The run folder. Raises `HarnessError`."""

    def close(self) -> None:
        """End what is going on."""


def found_in(folder: Path) -> dict[str, Any]:
    """What a finished run folder says, in short. Raises `UsageError` where it cannot be read."""
    run = parse_run(read_run(folder))
    return {
        "run": folder.name,
        "report": f"run/{folder.name}/report.html",
        "status": run.answer,
        "sentence": verdict_of(run).sentence,
        "inputs": run.inputs,
        "culprits": [_culprit(culprit) for culprit in run.culprits[:MOST_CULPRITS]],
        "left_out": len(run.culprits[MOST_CULPRITS:]),
    }


def _culprit(facts: CulpritFacts) -> dict[str, str]:
    cause = Cause.of(facts.cause)
    signature = f" ({name(facts.signature, 120)})" if facts.signature else ""
    return {
        "op": f"{name(facts.kind, 60)} {facts.number}",
        "cause": (name(facts.cause, 60) if cause is None else cause.value) + signature,
        "error": "NaN or infinite" if facts.nonfinite else f"{times(facts.ratio)} what rounding explains",
    }


def known_run(results: Path, model: Path, sha256: str, back_end: BackEnd) -> Path | None:
    """The newest finished localization of that model on that back end, with its report; None where there is none."""
    for folder, run in _localizations(results):
        same = run.model_sha256 == sha256 or _is_file(run, model, folder)
        where = (run.device, run.accelerator, run.precision, run.fallback)
        if same and where == (back_end.device, back_end.accelerator, back_end.precision, back_end.options.fallback):
            return folder
    return None


def _localizations(results: Path) -> Iterator[tuple[Path, Run]]:
    for folder in list_runs(results)[:MOST_RUNS]:
        try:
            run = parse_run(read_run(folder))
        except UsageError:
            continue
        if run.command == "localize" and run.state == "done" and (folder / "report.html").is_file():
            yield folder, run


def _is_file(run: Run, model: Path, folder: Path) -> bool:
    """Whether the run was of this very file, which was not written since: a run of a model whose constants are folded
    has another digest."""
    try:
        written = model.stat().st_mtime
        return Path(run.model_path).absolute() == model.absolute() and written < (folder / "run.json").stat().st_mtime
    except OSError:
        return False
