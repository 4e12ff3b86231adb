"""A search that was cut short is continued: the same answer, no finished probe asked again, nobody blamed for the kill.

The device is one of this process; a kill is an exception that no code of the harness catches, at every probe in turn,
before it, within it and after it. The processes themselves are killed in test_kill.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import StorageError, UsageError
from harness.core.job import Completed, Crashed, Job, Lost, Outcome, OutputPort, Rejected, TimedOut
from harness.core.run_folder import RunFolder, read_run
from harness.devices.execute import make_job
from harness.devices.worker import NO_READING
from harness.localize.base.comparison import Workbench
from harness.localize.find.localizer import localize
from harness.localize.probe.journal import log as journal_module
from harness.localize.probe.journal import outputs
from harness.localize.probe.journal.device import Journaled, key_of
from harness.localize.probe.journal.log import Journal, starts_after_finish
from harness.localize.probe.journal.resume import identity_of, open_run
from tests.localize.frail import CASE, CHAIN, FAULTS, RESULTS, Frail, Killed, Moment, opened, search
from tests.localize.planted import Half


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Job]]:
    """The answer of a search that nothing disturbs, and its jobs."""
    device = Half(CHAIN, FAULTS)
    answer, _ = search(tmp_path_factory.mktemp("whole"), device)
    assert [c["ops"] for c in answer["culprits"]] == [[1, 1], [4, 4]]
    return answer, device.jobs


def finished(path: Path) -> Counter[str]:
    return Counter(p.stem for p in (path / "journal").glob("*.safetensors"))


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_a_kill_at_any_probe_changes_nothing_and_repeats_nothing(
    tmp_path: Path, whole: tuple[dict[str, Any], list[Job]], moment: Moment
) -> None:
    answer, jobs = whole
    for at in range(1, len(jobs) + 1):
        root = tmp_path / str(at)
        device = Frail(at, moment)
        with pytest.raises(Killed):
            search(root, device)
        (begun,) = root.iterdir()
        assert read_run(begun)["status"] == "running"
        done = finished(begun)
        assert done.total() == at - 1
        again = Half(CHAIN, FAULTS)
        assert search(root, again) == (answer, begun)
        asked = Counter(key_of(replace(job, warmup=0)) for job in again.jobs)
        expected = Counter(key_of(replace(job, inputs=job.inputs)) for job in jobs[at - 1 :])
        assert asked == expected
        assert starts_after_finish(begun) == (len(jobs), 0)


def test_a_run_that_is_killed_again_and_again_comes_to_its_end(
    tmp_path: Path, whole: tuple[dict[str, Any], list[Job]]
) -> None:
    answer, jobs = whole
    for _ in range(len(jobs) - 1):
        with pytest.raises(Killed):
            search(tmp_path, Frail(2))  # one probe each time
    last = Half(CHAIN, FAULTS)
    assert search(tmp_path, last)[0] == answer
    assert len(last.jobs) == 1
    (run,) = tmp_path.iterdir()
    assert starts_after_finish(run) == (len(jobs), 0)


def test_a_second_run_of_a_model_stays_a_second_run(tmp_path: Path) -> None:
    """A device may be right only the first time; being continued must not give it another first time."""
    with pytest.raises(Killed):
        search(tmp_path, Frail(2))
    device = Half(CHAIN, FAULTS)
    search(tmp_path, device)
    assert (device.jobs[0].sha256, device.jobs[0].warmup) == (CHAIN.sha256, 1)
    assert [job.warmup for job in device.jobs[1:]] == [0] * (len(device.jobs) - 1)


def test_a_finished_or_a_fresh_run_is_not_continued(tmp_path: Path) -> None:
    first, second, third = (search(tmp_path, Half(CHAIN, FAULTS), how)[1] for how in ("auto", "auto", "never"))
    assert len({first, second, third}) == 3
    with pytest.raises(UsageError, match="is at its end"):
        search(tmp_path, Half(CHAIN, FAULTS), first)


class TestDamage:
    @pytest.fixture
    def begun(self, tmp_path: Path) -> Path:
        """A run that was killed at its last probe."""
        with pytest.raises(Killed):
            search(tmp_path, Frail(4))
        (run,) = tmp_path.iterdir()
        return run

    def continued(self, run: Path, whole: tuple[dict[str, Any], list[Job]]) -> int:
        """The jobs that continuing took; the answer must be right."""
        device = Half(CHAIN, FAULTS)
        assert search(run.parent, device) == (whole[0], run)
        return len(device.jobs)

    def test_an_undamaged_journal_answers_all(self, begun: Path, whole: Any) -> None:
        assert self.continued(begun, whole) == len(whole[1]) - 3

    @pytest.mark.parametrize("how", ["flipped", "cut", "empty", "gone", "nonsense"])
    def test_outputs_that_do_not_match_their_checksum_are_asked_for_again(
        self, begun: Path, whole: Any, how: str
    ) -> None:
        path = max((begun / "journal").glob("*.safetensors"), key=lambda p: p.stat().st_size)
        raw = bytearray(path.read_bytes())
        raw[-5] ^= 1
        damaged = {"flipped": bytes(raw), "cut": bytes(raw[:-40]), "empty": b"", "gone": b"", "nonsense": b"\xff" * 999}
        path.write_bytes(damaged[how])
        if how == "gone":
            path.unlink()
        assert self.continued(begun, whole) == len(whole[1]) - 2

    def test_a_damaged_line_costs_its_own_probe_only(self, begun: Path, whole: Any) -> None:
        log = begun / "journal" / "log"
        lines = log.read_bytes().splitlines(keepends=True)
        place = next(i for i, line in enumerate(lines) if b'"end"' in line)
        lines[place] = lines[place].replace(b"completed", b"complEted")
        log.write_bytes(b"".join(lines))
        assert self.continued(begun, whole) == len(whole[1]) - 2

    @pytest.mark.parametrize("tail", [b"0", b'12345678 {"entry": "end"', b"\0" * 4096])
    def test_a_last_line_without_its_end_was_never_written(self, begun: Path, whole: Any, tail: bytes) -> None:
        with (begun / "journal" / "log").open("ab") as log:
            log.write(tail)
        assert self.continued(begun, whole) == len(whole[1]) - 3
        assert starts_after_finish(begun) == (len(whole[1]), 0)

    def test_a_journal_cut_anywhere_gives_the_same_answer(self, begun: Path, whole: Any) -> None:
        log = begun / "journal" / "log"
        raw = log.read_bytes()
        first = raw.index(b"\n") + 1
        for end in np.random.default_rng(5).integers(first, len(raw), 12):
            log.write_bytes(raw[:end])
            assert 0 < self.continued(begun, whole) <= len(whole[1])
            begun.joinpath("run.json").write_text(
                begun.joinpath("run.json").read_text("utf-8").replace('"done"', '"interrupted"'), "utf-8"
            )

    def test_a_journal_that_says_not_whose_it_is_is_left_alone(self, begun: Path) -> None:
        log = begun / "journal" / "log"
        log.write_bytes(b"x" + log.read_bytes())
        assert search(begun.parent, Half(CHAIN, FAULTS))[1] != begun
        with pytest.raises(UsageError, match="has no journal to continue from"):
            search(begun.parent, Half(CHAIN, FAULTS), begun)


class TestFailingProbes:
    def failing(self, root: Path, outcomes: list[Outcome | None], fatal: int = 0) -> tuple[Frail, Workbench, Outcome]:
        """Ask one probe of a device that comes to these outcomes in turn."""
        device = Frail(fatal)
        device.does = lambda job: outcomes.pop(0) if outcomes else None
        with opened(root, device) as bench:
            return device, bench, bench.device.run(job_of("y"))

    def test_a_crash_is_asked_about_once_more(self, tmp_path: Path) -> None:
        device, bench, outcome = self.failing(tmp_path, [Crashed("the worker was ended by SIGSEGV", "SIGSEGV")])
        assert isinstance(outcome, Completed)
        assert list(outcome.outputs) == ["y"]
        assert len(device.jobs) == 2
        assert probes(bench).quarantined == ()

    @pytest.mark.parametrize(
        ("failure", "cause", "said"),
        [
            (Crashed("the worker was ended by SIGSEGV", "SIGSEGV"), "crash", "crashed"),
            (TimedOut(60), "hang", "hung"),
        ],
    )
    def test_twice_is_quarantined_and_reported(self, tmp_path: Path, failure: Outcome, cause: str, said: str) -> None:
        device, bench, outcome = self.failing(tmp_path, [failure, failure])
        assert type(outcome) is type(failure)
        assert len(device.jobs) == 2
        (left_out,) = probes(bench).quarantined
        assert (left_out.cause, left_out.outputs, left_out.model) == (cause, ("y",), CHAIN.sha256)
        assert str(left_out).startswith(f"The probe that reads y {said} the device twice and is left out: ")
        with opened(tmp_path, device) as again:
            assert type(again.device.run(job_of("y"))) is type(failure)
            assert probes(again).quarantined == (left_out,)
        assert len(device.jobs) == 2

    def test_one_crash_before_the_kill_and_one_after_make_two(self, tmp_path: Path) -> None:
        crash = Crashed("the worker was ended by SIGABRT", "SIGABRT")
        with pytest.raises(Killed):
            self.failing(tmp_path, [crash], fatal=2)
        device, bench, outcome = self.failing(tmp_path, [crash])
        assert isinstance(outcome, Crashed)
        assert len(device.jobs) == 1
        assert len(probes(bench).quarantined) == 1

    @pytest.mark.parametrize("failure", [Crashed("the worker was ended by SIGKILL", "SIGKILL"), Lost("no cable")])
    def test_a_kill_of_the_worker_or_a_lost_cable_blames_nobody(self, tmp_path: Path, failure: Outcome) -> None:
        device, bench, outcome = self.failing(tmp_path, [failure] * 2)
        assert isinstance(outcome, Completed)
        assert len(device.jobs) == 3
        device, bench, outcome = self.failing(tmp_path / "other", [failure] * 3)
        assert isinstance(outcome, Lost)
        assert probes(bench).quarantined == ()
        with opened(tmp_path / "other", device) as again:
            assert isinstance(again.device.run(job_of("y")), Completed)

    def test_a_refusal_is_an_answer(self, tmp_path: Path) -> None:
        device, _, outcome = self.failing(tmp_path, [Rejected("no such op", ("FOO",), "log")])
        with opened(tmp_path, device) as again:
            assert again.device.run(job_of("y")) == outcome == Rejected("no such op", ("FOO",), "log")
        assert len(device.jobs) == 1

    def test_a_refusal_for_lack_of_room_is_not(self, tmp_path: Path) -> None:
        full = Rejected("the model cannot be stored (No space left on device)")
        device, _, outcome = self.failing(tmp_path, [full])
        assert outcome == full
        with opened(tmp_path, device) as again:
            assert isinstance(again.device.run(job_of("y")), Completed)

    def test_a_runtime_that_lost_patience_is_asked_again(self, tmp_path: Path) -> None:
        impatient = Rejected(f"{NO_READING} (code=3)")
        device, _, outcome = self.failing(tmp_path, [impatient] * 2)
        assert isinstance(outcome, Completed)
        assert len(device.jobs) == 3
        device, _, outcome = self.failing(tmp_path / "other", [impatient] * 3)
        assert outcome == impatient
        with opened(tmp_path / "other", device) as again:
            assert isinstance(again.device.run(job_of("y")), Completed)

    def test_a_machine_that_went_down_twice_in_one_probe_is_remembered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for boot in ("first", "second"):
            monkeypatch.setattr(journal_module, "boot_id", lambda boot=boot: boot)
            with pytest.raises(Killed):
                self.failing(tmp_path, [], fatal=1)
        monkeypatch.setattr(journal_module, "boot_id", lambda: "third")
        device, bench, outcome = self.failing(tmp_path, [])
        assert outcome == Crashed("the machine restarted while it ran")
        assert device.jobs == []
        assert len(probes(bench).quarantined) == 1

    def test_kills_alone_are_never_held_against_a_probe(self, tmp_path: Path) -> None:
        for _ in range(5):
            with pytest.raises(Killed):
                self.failing(tmp_path, [], fatal=1)
        assert isinstance(self.failing(tmp_path, [])[2], Completed)


@pytest.mark.parametrize(
    ("record", "continued"),
    [
        ({"status": "interrupted"}, True),
        ({"status": "running"}, True),
        ({"status": "failed"}, False),
        ({"status": "failed", "resumable": False}, False),
        ({"status": "failed", "resumable": True}, True),
        ({"status": "done"}, False),
        ({"status": "done", "resumable": False}, False),
        ({"status": "done", "resumable": True}, True),
    ],
)
def test_a_run_goes_on_if_it_was_cut_short_or_says_that_its_failure_was_no_answer(
    tmp_path: Path, record: dict[str, Any], continued: bool
) -> None:
    with opened(tmp_path, Half(CHAIN, FAULTS)) as bench:
        bench.run.save(**record)
    with opened(tmp_path, Half(CHAIN, FAULTS)) as again:
        assert (again.run.path == bench.run.path) is continued


def test_a_run_whose_failure_was_no_answer_can_be_named(tmp_path: Path) -> None:
    """As the one that is continued by itself."""
    with opened(tmp_path, Half(CHAIN, FAULTS)) as bench:
        bench.run.save(status="done", resumable=True)
    with opened(tmp_path, Half(CHAIN, FAULTS), bench.run.path) as again:
        assert again.run.path == bench.run.path


def test_a_run_that_cannot_be_opened_anew_is_not_held_back_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, Half(CHAIN, FAULTS)) as bench:
        bench.run.save(status="interrupted")

    def full(path: Path) -> RunFolder:
        raise UsageError(f"{path} cannot be written.", "Make room.")

    monkeypatch.setattr(RunFolder, "reopen", full)
    with pytest.raises(UsageError, match="cannot be written"):
        open_run(bench.run.path, tmp_path, identity_of(Half(CHAIN, FAULTS), CASE), pytest.fail)
    monkeypatch.undo()
    with opened(tmp_path, Half(CHAIN, FAULTS), bench.run.path) as again:
        assert again.run.path == bench.run.path


def test_a_rest_between_probes_reaches_the_device(tmp_path: Path) -> None:
    """A delegate keeps much of what an earlier model took; only the end of its process gives that back."""

    class Resting(Half):
        rests = 0

        def stop(self) -> None:
            self.rests += 1

    device = Resting(CHAIN, FAULTS)
    with opened(tmp_path, device) as bench:
        bench.device.stop()
        assert device.rests == 1


def test_a_first_run_behind_a_rest_is_a_first_run_again_where_the_search_goes_on(tmp_path: Path) -> None:
    """The recorded search had a fresh process there. Without it a device that is right only the first time would answer
    otherwise than it did then."""
    with opened(tmp_path, Half(CHAIN, FAULTS)) as bench:
        bench.device.run(job_of("y"))
        bench.run.save(status="interrupted")
    device = Half(CHAIN, FAULTS)
    with opened(tmp_path, device) as again:
        again.device.run(job_of("y"))
        again.device.stop()
        again.device.run(job_of("y"))
    assert [job.warmup for job in device.jobs] == [0]


def test_what_was_asked_again_after_its_answer_is_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path, identity_of(Half(CHAIN, FAULTS), CASE))
    for probe, endings in {"once": ["completed"], "crashed": ["crashed", "crashed"], "refused": ["rejected"]}.items():
        for ending in endings:
            journal.begin(probe)
            journal.finish(probe, ending, reason="", outcome={})  # type: ignore[arg-type]
    assert starts_after_finish(tmp_path) == (2, 0)
    for probe in ("once", "refused", "refused", "crashed"):
        journal.begin(probe)
    journal.close()
    assert starts_after_finish(tmp_path) == (2, 3)


def test_what_is_over_the_budget_is_asked_again(tmp_path: Path, whole: tuple[dict[str, Any], list[Job]]) -> None:
    size = CHAIN.graph().tensors[RESULTS[-1]].nbytes
    with pytest.raises(Killed):
        search(tmp_path, Frail(4), budget=2 * size + 200)
    (run,) = tmp_path.iterdir()
    assert finished(run).total() == 2  # both runs of the untouched model; the taps are larger
    device = Half(CHAIN, FAULTS)
    assert search(tmp_path, device)[0] == whole[0]
    assert len(device.jobs) == len(whole[1]) - 2


def test_an_answer_leaves_the_record_of_its_probes_but_not_their_outputs(tmp_path: Path) -> None:
    device = Half(CHAIN, FAULTS)
    with opened(tmp_path, device) as bench:
        localize(bench, CASE)
        assert isinstance(bench.device, Journaled)
        bench.device.forget()
    assert [p.name for p in (bench.run.path / "journal").iterdir()] == ["log"]
    assert starts_after_finish(bench.run.path) == (len(device.jobs), 0)


def job_of(output: str) -> Job:
    return make_job(CHAIN, CASE.inputs, CASE.options, timeout=60, wanted=(output,))


def probes(bench: Workbench) -> Any:
    assert isinstance(bench.device, Journaled)
    return bench.device.probes()


def test_a_folder_in_the_place_of_a_probe_s_file_costs_that_probe_alone(tmp_path: Path) -> None:
    port = OutputPort("y", 0, np.dtype(np.float32), (2,))
    journal = Journal(tmp_path, identity_of(Half(CHAIN, FAULTS), CASE))
    for name in ("probe.safetensors", "other.part"):
        (journal.folder / name).mkdir()
    assert not outputs.is_whole(journal.folder / "probe.safetensors", (port,), [0])
    journal.drop_outputs()
    journal.close()
    keeper = outputs.OutputWriter(journal.folder / "probe.safetensors", (port,))
    keeper.put("y", np.zeros(2, np.float32))
    with pytest.raises(StorageError, match=r"probe\.safetensors"):
        keeper.finish()
    with pytest.raises(StorageError, match=r"other\.safetensors"):
        outputs.OutputWriter(journal.folder / "other.safetensors", (port,))
