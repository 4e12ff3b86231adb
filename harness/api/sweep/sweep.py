"""Every form of every op on one device: what was asked before is kept, the rest is asked, all of it is one document.

A sweep goes on where it was cut: its journal lies in the folder it writes to, one for each device, release and
precision. A form that was changed, or is new, is asked; what is left of an older harness is not looked at.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

from harness import __version__
from harness.api.sweep.journal import Journal, Kept
from harness.api.sweep.judging import Judge
from harness.api.sweep.known import known_as
from harness.core.job import Options
from harness.core.private import make_folder
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import writing
from harness.dashboard.support import document
from harness.dashboard.support.document import Cell, FormRow, Support
from harness.devices.android.device import PhoneOptions
from harness.devices.base import Device
from harness.devices.registry import check_options, open_device
from harness.graph.forms.catalogue import forms_of, not_asked
from harness.graph.forms.contexts import Built, Context, build, contexts_of
from harness.graph.forms.form import Form
from harness.localize.explain.known import target_of_run

# Of a cell, from a two-core machine with a software GPU: what the time left is guessed by before anything was asked.
CELL_SECONDS = 0.2
# Of a digest: as many hexadecimal digits as keep thousands of models apart.
_DIGITS = 16


@dataclass(frozen=True)
class SweepRequest:
    """A sweep of one device. `ops` are the kinds of op that are asked, all without any; `minutes` is when to stop, to
    go on another time."""

    device: str
    out: Path
    options: Options = field(default_factory=Options)
    ops: tuple[str, ...] = ()
    timeout: float = 60.0
    minutes: float | None = None
    phone: PhoneOptions = field(default_factory=PhoneOptions)


@dataclass(frozen=True)
class Swept:
    """What a sweep found, the document's path, and how many cells were asked in it, how many known from before, how
    many are left."""

    support: Support
    path: Path
    asked: int
    kept: int
    left: int


@dataclass(frozen=True)
class _Answered:
    """A cell and its answer; None where it was not asked yet."""

    form: Form
    context: Context
    digest: str
    kept: Kept | None


def sweep(request: SweepRequest, progress: Progress = SILENT) -> Swept:
    """Ask what was not asked yet, and write the document.

    Raises:
        UsageError: there is no such device or op. DeviceError: the device is not there, or was lost: what it answered
            is kept. StorageError: nothing can be written there.
    """
    check_options(request.device, request.options)
    forms = forms_of(request.ops)
    with open_device(request.device, lambda what: progress.stage(what, 20.0), request.phone) as device:
        facts = device.facts()
        described = device.described(facts.runtime, facts.gpu)
        name = _stem(request, facts.runtime)
        with Journal(request.out / f"{name}.jsonl", described) as journal:
            before = len(journal.answers)
            cells = _asked(request, forms, device, journal, request.out / name, progress)
            asked = len(journal.answers) - before
            journal.says_gpu(device.facts().gpu)
            progress.stage("looking up what is known", len(cells) / 1000)
            support = _support(request, described | {"gpu": journal.gpu}, cells)
    path = request.out / f"{name}.json"
    document.write(support, path)
    left = sum(cell.kept is None for cell in cells)
    return Swept(support, path, asked, len(cells) - asked - left, left)


def _stem(request: SweepRequest, runtime: str) -> str:
    plain = request.device.partition("@")[0]
    words = [plain, runtime or "unknown"] + (
        [] if request.options.precision == "default" else [request.options.precision]
    )
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words)).strip("-")


def digest_of(built: Built) -> str:
    """A model with its inputs, in a few digits."""
    found = sha256(built.model.to_bytes())
    for name, values in sorted(built.inputs.items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:_DIGITS]


def _asked(
    request: SweepRequest, forms: Sequence[Form], device: Device, journal: Journal, folder: Path, progress: Progress
) -> list[_Answered]:
    """Every cell with its answer, as far as there was time for it."""
    plan = [(form, context) for form in forms for context in contexts_of(form)]
    progress.stage(f"{len(plan):,} cells on {device.name}", len(plan) * CELL_SECONDS)
    until = math.inf if request.minutes is None else time.monotonic() + 60 * request.minutes
    judge, found = Judge(device, request.options, request.timeout), []
    try:
        for done, (form, context) in enumerate(plan):
            built = build(form, context)
            place = (form.id, context, digest_of(built))
            start = time.monotonic()
            if place not in journal.answers and start < until:
                judged = judge.judge(built)
                if judged.outcome in ("wrong", "crash"):
                    _write_reproducer(folder / f"{form.id}-{context}", built)
                journal.add(place, Kept(judged, time.monotonic() - start))
            found.append(_Answered(form, context, place[2], journal.answers.get(place)))
            progress.fraction((done + 1) / len(plan))
    finally:
        judge.close()
    return found


def _write_reproducer(stem: Path, built: Built) -> None:
    """The model and its inputs, as `harness compare` takes them. Raises StorageError."""
    with writing(stem):
        make_folder(stem.parent)
        stem.with_suffix(".tflite").write_bytes(built.model.to_bytes())
        np.savez(stem.with_suffix(".npz"), allow_pickle=False, **built.inputs)


def _support(request: SweepRequest, device: dict[str, str], cells: Sequence[_Answered]) -> Support:
    target = target_of_run(device)
    of: dict[str, list[tuple[_Answered, Cell]]] = {}
    for cell in cells:
        if cell.kept is not None:
            judged = cell.kept.judged
            known = None
            if judged.outcome not in ("pass", "not asked"):
                model = build(cell.form, cell.context).model
                known = known_as(model, judged.outcome, target, far=cell.form.far)
            shown = Cell(cell.context, judged.outcome, judged.words, _rounded(judged.ratio), judged.unsteady, known)
            of.setdefault(cell.form.id, []).append((cell, shown))
    rows = tuple(_row(answers) for answers in of.values())
    return Support(
        device=device,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        harness=__version__,
        precision=request.options.precision,
        minutes=round(sum(cell.kept.seconds for cell in cells if cell.kept) / 60, 1),
        rows=rows,
        not_asked={} if request.ops else not_asked(),
        whole=bool(cells) and all(cell.kept for cell in cells),
    )


def _rounded(ratio: float | None) -> float | None:
    """To what a document keeps of it."""
    return None if ratio is None else float(f"{ratio:.3g}") if ratio < 1e9 else math.inf


def _row(answers: Sequence[tuple[_Answered, Cell]]) -> FormRow:
    form = answers[0][0].form
    digest = form_digest([cell.digest for cell, _ in answers])
    shown = tuple(cell for _, cell in answers)
    return FormRow(form.id, form.op, form.label, form.family, form.dtype, form.rank, digest, shown)


def form_digest(digests: Sequence[str]) -> str:
    """Of a form's models in all its contexts, in a few digits."""
    return sha256(" ".join(digests).encode()).hexdigest()[:8]
