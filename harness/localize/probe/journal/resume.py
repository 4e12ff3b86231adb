"""Continuing a localization that was interrupted: which run it is, and whether it is the same question."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from harness.core.errors import UsageError
from harness.core.run_folder import RunFolder, list_runs, read_run
from harness.devices.base import Device
from harness.localize.base.case import Case
from harness.localize.probe.journal.device import inputs_digest
from harness.localize.probe.journal.log import Identity, Journal, read_identity

Resume = Literal["never", "auto"] | Path
"""`auto` continues the newest interrupted run of the same question, if there is one; a path names the run."""

# Runs looked at for an interrupted one, newest first.
MOST_RUNS = 200


def identity_of(device: Device, case: Case) -> Identity:
    """What is asked of whom; starts the device's process. Raises DeviceError."""
    facts, options = device.facts(), case.options
    return Identity(
        model=case.model.sha256,
        inputs=inputs_digest(case.inputs),
        device=facts.name,
        kind=facts.kind,
        runtime=facts.runtime,
        system=facts.system,
        accelerator=options.accelerator,
        precision=options.precision,
        threads=options.threads,
        fallback=options.fallback,
    )


def open_run(
    resume: Resume, root: Path, identity: Identity, create: Callable[[], RunFolder]
) -> tuple[RunFolder, Journal]:
    """The run folder and its journal: those of the run to be continued, else new ones.

    Raises:
        UsageError: the run that is named cannot be continued: it is at its end, has no journal, is still being
            worked on, or was another question. StorageError: the folder cannot be written.
    """
    if isinstance(resume, Path):
        _check(resume, identity)
        return _reopened(resume, Journal(resume, identity))
    for path in list_runs(root)[:MOST_RUNS] if resume == "auto" else ():
        # A process id may have a new owner since; whether somebody works on the run, the journal's lock tells.
        if read_identity(path) == identity and _resumable(path):
            with suppress(UsageError):
                return _reopened(path, Journal(path, identity))
    run = create()
    return run, Journal(run.path, identity)


def _reopened(path: Path, journal: Journal) -> tuple[RunFolder, Journal]:
    try:
        return RunFolder.reopen(path), journal
    except BaseException:
        journal.close()
        raise


def _resumable(path: Path) -> bool:
    """Whether a run ended without an answer; one that failed says itself whether its failure was one."""
    try:
        record = read_run(path)
    except UsageError:
        return False
    return record.get("status") in ("interrupted", "running") or record.get("resumable") is True


def _check(path: Path, identity: Identity) -> None:
    record = read_run(path)
    if record.get("status") == "done" and record.get("resumable") is not True:
        raise UsageError(f"Run {path} is at its end.", "Look at its report.html, or leave out --resume.")
    begun = read_identity(path)
    if begun is None:
        raise UsageError(f"Run {path} has no journal to continue from.", "Leave out --resume.")
    differences = begun.differences(identity)
    if differences:
        raise UsageError(
            f"Run {path} cannot be continued: it was begun with {'; '.join(differences)}.",
            "Give what it was begun with, or leave out --resume.",
        )
