"""Every form of every op on one device: what was asked before is kept, the rest is asked, all of it is one document.

A sweep goes on where it was cut: its journal lies in the folder it writes to, one for each device, release and
precision. A form that was changed, or is new, is asked; what is left of an older harness is not looked at.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

from harness import __version__
from harness.api.sweep.journal import Journal, Kept, Place
from harness.api.sweep.judging import Judge
from harness.api.sweep.known import known_as
from harness.core.job import Options
from harness.core.private import make_folder
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import writing
from harness.core.visible import counted
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
class _Planned:
    """A cell that is to be asked."""

    form: Form
    context: Context
    digest: str

    @property
    def place(self) -> Place:
        """Where the journal has it."""
        return self.form.id, self.context, self.digest


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
        progress.stage(f"building {counted(len(forms), 'form')}", len(forms) / 300)
        plan = list(_planned(forms))
        with Journal(request.out / f"{name}.jsonl", described) as journal:
            todo = [cell for cell in plan if cell.place not in journal.answers]
            asked = _ask(request, device, journal, todo, request.out / name, progress)
            gpu = device.facts().gpu if asked else ""
            journal.says_gpu(gpu)
            gpu = gpu or journal.gpu
            progress.stage("looking up what is known", len(plan) / 2000)
            support = _support(request, described | {"gpu": gpu}, plan, journal)
    path = request.out / f"{name}.json"
    document.write(support, path)
    return Swept(support, path, asked, len(plan) - len(todo), len(todo) - asked)


def _stem(request: SweepRequest, runtime: str) -> str:
    plain = request.device.partition("@")[0]
    words = [plain, runtime or "unknown"] + (
        [] if request.options.precision == "default" else [request.options.precision]
    )
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words)).strip("-")


def _planned(forms: Sequence[Form]) -> Iterator[_Planned]:
    for form in forms:
        for context in contexts_of(form):
            yield _Planned(form, context, digest_of(build(form, context)))


def digest_of(built: Built) -> str:
    """A model with its inputs, in a few digits."""
    found = sha256(built.model.to_bytes())
    for name, values in sorted(built.inputs.items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:_DIGITS]


def _ask(
    request: SweepRequest, device: Device, journal: Journal, todo: Sequence[_Planned], folder: Path, progress: Progress
) -> int:
    """How many cells were asked before the time was up."""
    if not todo:
        return 0
    judge = Judge(device, request.options, request.timeout)
    began = time.monotonic()
    until = None if request.minutes is None else began + 60 * request.minutes
    progress.stage(f"{len(todo):,} cells on {device.name}", len(todo) * CELL_SECONDS)
    try:
        for done, cell in enumerate(todo):
            if until is not None and time.monotonic() > until:
                return done
            built, start = build(cell.form, cell.context), time.monotonic()
            judged = judge.judge(built)
            if judged.outcome in ("wrong", "crash"):
                _write_reproducer(folder, cell, built)
            journal.add(cell.place, Kept(judged, time.monotonic() - start))
            progress.fraction((done + 1) / len(todo))
    finally:
        judge.close()
    return len(todo)


def _write_reproducer(folder: Path, cell: _Planned, built: Built) -> None:
    """The model and its inputs, as `harness compare` takes them. Raises StorageError."""
    stem = folder / f"{cell.form.id}-{cell.context}"
    with writing(folder):
        make_folder(folder)
        stem.with_suffix(".tflite").write_bytes(built.model.to_bytes())
        np.savez(stem.with_suffix(".npz"), allow_pickle=False, **built.inputs)


def _support(request: SweepRequest, device: dict[str, str], plan: Sequence[_Planned], journal: Journal) -> Support:
    target = target_of_run(device)
    rows: dict[str, list[Cell]] = {}
    digests: dict[str, list[str]] = {}
    of: dict[str, Form] = {}
    seconds = 0.0
    for cell in plan:
        kept = journal.answers.get(cell.place)
        if kept is None:
            continue
        judged, seconds = kept.judged, seconds + kept.seconds
        known = None
        if judged.outcome not in ("pass", "not asked"):
            known = known_as(build(cell.form, cell.context).model, judged.outcome, target)
        of[cell.form.id] = cell.form
        rows.setdefault(cell.form.id, []).append(
            Cell(cell.context, judged.outcome, judged.words, judged.ratio, judged.unsteady, known)
        )
        digests.setdefault(cell.form.id, []).append(cell.digest)
    made = tuple(
        FormRow(id, f.op, f.label, f.family, f.dtype, f.rank, form_digest(digests[id]), tuple(rows[id]))
        for id, f in of.items()
    )
    left_out = {} if request.ops else not_asked()
    whole = len(made) > 0 and sum(len(row.cells) for row in made) == len(plan)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return Support(device, today, __version__, request.options.precision, seconds / 60, made, left_out, whole)


def form_digest(digests: Sequence[str]) -> str:
    """Of a form's models in all its contexts, in a few digits."""
    return sha256(" ".join(digests).encode()).hexdigest()[:12]
