"""Which run a search may continue: its own question's, on its own GPU, with nobody else at work on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import StorageError, UsageError
from harness.core.job import Completed, Job, Outcome
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.localize.probe.journal.log import Identity
from harness.localize.probe.journal.resume import identity_of, open_run
from tests.localize.frail import CASE, CHAIN, FAULTS, Frail, Killed, opened, search
from tests.localize.planted import Half


def test_the_run_of_another_question_is_refused_with_what_differs(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        search(tmp_path, Frail(2))
    (run,) = tmp_path.iterdir()
    mine = identity_of(Half(CHAIN, FAULTS), CASE)
    for field in vars(mine):
        other = Identity(**(vars(mine) | {field: 3 if field == "threads" else "other"}))
        with pytest.raises(UsageError, match=f"cannot be continued: it was begun with {field} .*, not "):
            open_run(run, tmp_path, other, pytest.fail)
        fresh, journal = open_run("auto", tmp_path, other, lambda: RunFolder.create(tmp_path, "x", "y", "z"))
        journal.close()
        assert fresh.path != run


def test_another_gpu_is_noticed_as_soon_as_it_answers(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        search(tmp_path, Frail(2))

    class Other(Half):
        def run(self, job: Job, sink: Sink | None = None) -> Outcome:
            done = super().run(job, sink)
            assert isinstance(done, Completed)
            return replace(done, adapter="another")

    with pytest.raises(UsageError, match="The GPU is now 'another'; this run was begun on 'in process'"):
        search(tmp_path, Other(CHAIN, FAULTS))


def test_a_run_that_somebody_works_on_is_left_to_them(tmp_path: Path) -> None:
    with opened(tmp_path, Half(CHAIN, FAULTS)) as bench:
        with pytest.raises(UsageError, match="is still being worked on"):
            search(tmp_path, Half(CHAIN, FAULTS), bench.run.path)
        assert search(tmp_path, Half(CHAIN, FAULTS))[1] != bench.run.path
    with pytest.raises(UsageError, match="is at its end"):
        bench.run.save(status="done")
        search(tmp_path, Half(CHAIN, FAULTS), bench.run.path)


@pytest.mark.usefixtures("without_locks")
def test_a_journal_that_cannot_be_locked_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is on a file system without locks, where two commands could write"):
        search(tmp_path, Half(CHAIN, FAULTS))


def test_a_run_without_a_journal_is_refused(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "compare", "chain", "half")
    with pytest.raises(UsageError, match="has no journal to continue from"):
        search(tmp_path, Half(CHAIN, FAULTS), run.path)
