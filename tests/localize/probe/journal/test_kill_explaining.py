"""`kill -9` while a localization explains what it found: the same answer afterwards, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_tests.corpus import rank3_pad_beside_loud_channels
from harness.core.run_folder import read_run
from harness.localize.probe.journal.log import starts_after_finish
from tests.leftovers import Watched
from tests.localize.kills import answer_of, journal_lines, kill_after, lasting, saved, start, the_run, wait_for

pytestmark = pytest.mark.gpu

# Of these, so many are to hit before the last line of the journal.
TRIES, ENOUGH = 60, 40


class Killed:
    """A model with one culprit, explained whole once, and killed while it is explained as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.model = saved(rank3_pad_beside_loud_channels(), folder)
        self.whole = answer_of(start(self.model, folder / "whole"))
        found = answer_of(start(self.model, folder / "found", "--no-explain"))
        self.first = journal_lines(Path(found["run"])) + 1
        self.last = journal_lines(Path(self.whole["run"])) - 1

    def once(self, name: str, line: int, pause: float) -> int | None:
        """Kill so long after that line of the journal, and start it again. The probes that the journal answered; None
        when it was at its end before the kill."""
        where = f"killed {pause:.3f} s after line {line}"
        out, watched = self.folder / name, Watched(self.folder / f"{name}.watched")
        process = start(self.model, out, env=watched.environment())
        wait_for(line, out, process)
        if not kill_after(process, pause):
            return None
        assert watched.processes_after(10) == [], where
        begun = the_run(out)
        record = read_run(begun)
        if record["status"] == "done" and not record["resumable"]:
            return None
        finished, repeated = starts_after_finish(begun)
        again: dict[str, Any] = answer_of(start(self.model, out, env=watched.environment()))
        assert lasting(again) == lasting(self.whole), where
        assert again["run"] == str(begun), where
        assert again["probes"]["quarantined"] == [], where
        assert again["probes"]["recorded"] == finished, where
        assert (repeated, starts_after_finish(begun)[1]) == (0, 0), where
        assert watched.files() == [], where
        assert watched.processes_after(10) == [], where
        assert sorted(p.name for p in begun.rglob("*") if p.name.endswith((".part", ".tmp"))) == [], where
        assert sorted(p.name for p in begun.iterdir()) == sorted(p.name for p in Path(self.whole["run"]).iterdir())
        return finished


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return Killed(tmp_path_factory.mktemp("explaining"))


@pytest.mark.slow
def test_killed_while_it_explains_it_asks_nothing_twice_and_leaves_nothing(killed: Killed) -> None:
    line = int(np.random.default_rng().integers(killed.first, killed.last - 8))
    finished = killed.once("once", line, 0.0)
    assert finished is not None and finished > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_forty_kills_while_it_explains(killed: Killed, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng()
    recorded: list[int] = []
    for i in range(TRIES):
        found = killed.once(f"killed-{i}", int(rng.integers(killed.first, killed.last)), float(rng.uniform(0, 0.2)))
        if found is not None:
            recorded.append(found)
        if len(recorded) == ENOUGH:
            break
    assert len(recorded) == ENOUGH
    with capsys.disabled():
        print(f"\nprobes answered by the journal: {sorted(recorded)}")  # noqa: T201
    assert len(set(recorded)) >= 10
