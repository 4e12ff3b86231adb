"""Half an hour of load on a scripted phone: the staircase, gaps, and what is kept when it ends early."""

from __future__ import annotations

import csv
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import EXIT_DEVICE, DeviceError, UsageError
from harness.core.job import Crashed, Lost, Outcome, Rejected, TimedOut
from harness.core.progress import Silent
from harness.core.run_folder import list_runs, read_run
from harness.latency.measure import Measured, Subject
from harness.latency.record import SAMPLES_COLUMNS, TimedSample
from harness.latency.sustained import bench as module
from harness.latency.sustained.bench import StoppedShort, Sustained, SustainedRequest, bench_sustained
from harness.latency.sustained.record import SustainedResult
from harness.latency.sustained.run import CELSIUS_SECONDS, Load, SustainedPlan, sustain
from harness.report.export import export
from harness.report.page import render
from tests.latency.sustained.conftest import Pixel

Subjects = Callable[..., Subject]


@pytest.fixture
def asked(subject: Subjects, plan: SustainedPlan, out: Path) -> SustainedRequest:
    return SustainedRequest((subject(),), plan, out, accuracy=False)


def run(asked: SustainedRequest, pixel: Pixel) -> SustainedResult:
    return bench_sustained(asked, pixel.open).result


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "samples.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class TestAThrottle:
    def test_is_found_whatever_the_thermal_status_says(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.ms = lambda t: 196.0 if t < 400 else 400.0
        found = run(asked, pixel)
        slow = found.slowdown
        assert found.status == "slower" and slow is not None
        assert slow.at_s == pytest.approx(400, abs=36)  # three windows
        assert slow.ratio.value == pytest.approx(400 / 196, rel=0.02)
        assert (found.warmth.states, found.warmth.silent) == (("none",), True)
        assert found.warmth.first_celsius == pytest.approx(30.0, abs=(CELSIUS_SECONDS + 1800 / 160) / 60)
        assert found.warmth.last_celsius == pytest.approx(60.0, abs=(CELSIUS_SECONDS + 1800 / 160) / 60)

    def test_that_the_phone_tells_of_is_not_silent(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.ms = lambda t: 196.0 if t < 400 else 400.0
        pixel.thermal = lambda t: "none" if t < 500 else "moderate"
        assert run(asked, pixel).warmth.silent is False

    def test_a_hot_phone_that_holds_its_speed_is_steady(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.thermal = lambda t: "severe"
        found = run(asked, pixel)
        assert (found.status, found.valid, found.warmth.silent) == ("steady", True, False)

    def test_a_ramp_over_half_an_hour(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.ms = lambda t: 196 + 204 * min(t / 1800, 1)
        found = run(asked, pixel)
        assert found.status == "slower"
        assert [level.p50_ms for level in found.levels] == sorted(level.p50_ms for level in found.levels)

    def test_eight_minutes_of_ups_and_downs(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.ms = lambda t: 200 + 80 * math.sin(2 * math.pi * t / 480)
        found = run(asked, pixel)
        assert found.status == "unsteady" and found.swing is not None
        assert found.swing.ratio == pytest.approx(280 / 120, rel=0.1)
        assert found.warmth.silent


class TestTheLoad:
    def test_lasts_as_long_as_was_asked_in_as_many_processes(self, asked: SustainedRequest, pixel: Pixel) -> None:
        found = run(asked, pixel)
        assert found.complete
        assert found.measured_minutes == pytest.approx(30, abs=0.1)
        assert [p.from_s for p in found.processes] == [pytest.approx(600 * i, abs=5) for i in range(3)]
        assert (pixel.opened, pixel.starts) == (1, 3)

    def test_every_timed_sample_is_in_the_folder(self, asked: SustainedRequest, pixel: Pixel) -> None:
        found = bench_sustained(asked, pixel.open)
        kept = rows(found.folder)
        assert tuple(kept[0]) == SAMPLES_COLUMNS
        assert sum(row["phase"] == "steady" for row in kept) == found.result.samples
        assert sum(row["phase"] == "first" for row in kept) == 3
        times = [float(row["elapsed_s"]) for row in kept]
        assert times == sorted(times)
        record = read_run(found.folder)
        assert (record["command"], record["status"]) == ("bench --sustained", "done")
        assert SustainedResult.from_json(record["result"]) == found.result
        assert (found.folder / "staircase.svg").read_text("utf-8").startswith("<?xml")

    def test_its_folder_has_a_page_and_no_ops_to_export(self, asked: SustainedRequest, pixel: Pixel) -> None:
        folder = bench_sustained(asked, pixel.open).folder
        assert all(word in render(folder) for word in ("<h2>Times</h2>", "<h2>Does it count?</h2>"))
        with pytest.raises(UsageError, match="is a benchmark, which has no ops"):
            export(folder, "csv")

    def test_a_quick_model_is_timed_in_part(self, asked: SustainedRequest, pixel: Pixel) -> None:
        """128 iterations of each job of 2 s: 64 a second at most."""
        pixel.ms = lambda t: 2.0
        found = run(replace(asked, plan=SustainedPlan(3)), pixel)
        assert found.status == "steady"
        assert found.samples <= 64 * 3 * 60 * 2

    def test_the_first_samples_of_a_process_are_judged_with_those_after_them(
        self, asked: SustainedRequest, pixel: Pixel
    ) -> None:
        """Fifteen take twice as long. Of the first jobs, of 1 and 4 iterations, none tells that by itself."""
        pixel.ms, pixel.compiling = lambda t: 200.0 if t < 4.0 else 100.0, 1.0
        pixel.noise = 0.001
        kept = rows(bench_sustained(replace(asked, plan=SustainedPlan(5, processes=1)), pixel.open).folder)
        phases = [row["phase"] for row in kept]
        assert phases[:15] == ["first"] + ["warmup"] * 14
        assert set(phases[15:]) == {"steady"}

    def test_takes_less_than_64_bytes_for_a_sample(self, subject: Subjects, pixel: Pixel) -> None:
        """Three times and two figures of 8 bytes each are 40; the rest is the jobs' own."""
        pixel.ms, kept = lambda t: 15.0, 0

        def keep(rows: list[TimedSample]) -> None:
            nonlocal kept
            kept += len(rows)

        load = Load(Measured(subject()))
        tracemalloc.start()
        try:
            sustain(load, SustainedPlan(10), pixel.open, keep)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept > 30_000
        assert taken < 64 * kept

    def test_several_cells_are_misuse(self, asked: SustainedRequest, pixel: Pixel, subject: Subjects) -> None:
        with pytest.raises(UsageError, match="--sustained loads one cell, and these are 2"):
            run(replace(asked, subjects=(subject("a"), subject("b"))), pixel)
        assert list_runs(asked.out) == []


class TestAGap:
    def test_a_reboot_is_survived_and_marked(self, asked: SustainedRequest, pixel: Pixel) -> None:
        """It throttles, reboots at 700 s, is back after 40 s and as fast as at first."""
        pixel.ms = lambda t: 200.0 if t < 300 or 740 < t < 1000 else 300.0
        pixel.away = ((700.0, 740.0),)
        found = run(asked, pixel)
        (gap,) = found.gaps
        assert (gap.why, gap.detail) == ("rebooted", "the connection broke")
        assert gap.at_s == pytest.approx(700, abs=3)  # the job that was lost
        assert gap.seconds == pytest.approx(40, abs=10)
        assert found.complete and found.measured_minutes == pytest.approx(30, abs=0.1)
        assert found.seconds == pytest.approx(1800 + (gap.seconds or 0), abs=5)
        assert found.status == "slower"
        assert [change.ratio > 1 for change in found.changes] == [True, True]  # and no recovery in between
        assert {p.boot_id for p in found.processes} == {"b0", "b1"}

    def test_nothing_that_was_measured_before_is_lost(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.away = ((700.0, 740.0),)
        found = bench_sustained(asked, pixel.open)
        ends = [float(row["elapsed_s"]) for row in rows(found.folder)]
        assert max(end for end in ends if end < 720) == pytest.approx(700, abs=3)

    def test_a_phone_that_does_not_come_back_leaves_what_was_measured(
        self, asked: SustainedRequest, pixel: Pixel
    ) -> None:
        pixel.ms = lambda t: 200.0 if t < 300 else 300.0
        pixel.away = ((700.0, math.inf),)
        with pytest.raises(StoppedShort) as stopped:
            run(asked, pixel)
        found = stopped.value.sustained
        assert stopped.value.exit_code == EXIT_DEVICE
        assert stopped.value.message == (
            "here did not come back within 120 s: S0 is not there: adb says offline. "
            f"{found.result.measured_minutes:.3g} of 30 minutes are kept in {found.folder}."
        )
        assert (found.result.status, found.result.complete) == ("slower", False)
        assert [(g.why, g.seconds) for g in found.result.gaps] == [("lost", None)]
        record = read_run(found.folder)
        assert record["status"] == "failed" and record["result"]["status"] == "slower"
        assert found.result.measured_minutes == pytest.approx(700 / 60, abs=0.1)  # waiting is no measuring
        assert pixel.time <= 700 + 120 + 10

    def test_a_job_that_hung_is_asked_again_however_long_it_hung(self, asked: SustainedRequest, pixel: Pixel) -> None:
        hung = TimedOut(600.0)

        def hang(t: float) -> Outcome | None:
            if pixel.starts > 1 or t < 300:
                return None
            pixel.clock.sleep(600.0)
            pixel.starts += 1  # it hangs once
            return hung

        pixel.outcome = hang
        found = run(asked, pixel)
        assert found.complete
        assert [(g.why, g.detail) for g in found.gaps] == [("timed out", hung.reason)]
        assert found.gaps[0].seconds == pytest.approx(600, abs=5)

    def test_the_last_words_of_what_died_are_kept(self, asked: SustainedRequest, pixel: Pixel) -> None:
        once = iter([Crashed("the app was ended by SIGSEGV", "SIGSEGV", log="*** the tombstone ***")])
        pixel.outcome = lambda t: next(once, None) if t > 300 else None
        folder = bench_sustained(asked, pixel.open).folder
        assert "*** the tombstone ***" in (folder / "log.txt").read_text("utf-8")

    def test_a_process_that_ends_after_each_job_is_given_up(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.forgets = True
        with pytest.raises(DeviceError, match=r"the process ended between two jobs\. It was interrupted 1 time"):
            run(asked, pixel)
        assert pixel.time < 60

    def test_a_process_that_dies_is_one_and_two_in_a_row_are_the_end(
        self, asked: SustainedRequest, pixel: Pixel
    ) -> None:
        dead = Crashed("the app was ended by SIGKILL", "SIGKILL")
        once = iter([dead])
        pixel.outcome = lambda t: next(once, None) if t > 300 else None
        found = run(asked, pixel)
        assert [(g.why, g.detail) for g in found.gaps] == [("crashed", dead.reason)]
        assert found.complete
        pixel.outcome = lambda t: dead if t > pixel_time + 300 else None
        pixel_time = pixel.time
        with pytest.raises(StoppedShort, match="did not come back within 120 s: the app was ended by SIGKILL"):
            run(asked, pixel)

    def test_one_that_reboots_over_and_over_is_given_up(self, asked: SustainedRequest, pixel: Pixel) -> None:
        """A model that takes the phone down before a single job ends brings no minute."""
        answers = [None, None, *[Lost("the connection broke"), None] * 40]
        pixel.outcome = lambda t: answers.pop(0) if answers else None
        with pytest.raises(StoppedShort, match="It was interrupted 2 times"):
            run(asked, pixel)

    def test_a_phone_that_is_not_there_at_all_is_its_own_sentence(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.away = ((-1.0, math.inf),)
        with pytest.raises(DeviceError, match=r"^S0 is not there"):
            run(asked, pixel)

    def test_a_refused_model_is_its_own_sentence(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.outcome = lambda t: Rejected("no such op")
        with pytest.raises(DeviceError, match="rejected the model while measuring sustained latency: no such op"):
            run(asked, pixel)


class TestWhatComesAfterTheLoad:
    def test_may_fail_and_the_load_is_kept(
        self, asked: SustainedRequest, pixel: Pixel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken:
            def __init__(self, timeout: float) -> None: ...

            def errors(self, *_: Any) -> None:
                raise DeviceError("The reference does not complete.", "Look.")

        monkeypatch.setattr(module, "Judge", Broken)
        with pytest.raises(DeviceError, match="The reference does not complete"):
            run(replace(asked, accuracy=True, plan=replace(asked.plan, processes=1)), pixel)
        (folder,) = list_runs(asked.out)
        result = SustainedResult.from_json(read_run(folder)["result"])
        assert (result.status, result.complete) == ("steady", True)

    def test_a_long_compile_is_no_clock_that_stops_early(self, asked: SustainedRequest, pixel: Pixel) -> None:
        pixel.compiling = 15.0
        found = run(replace(asked, plan=SustainedPlan(1)), pixel)
        assert [flaw.reason for flaw in found.invalid] == []


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


class TestAnInterruption:
    def test_ctrl_c_keeps_what_was_measured_and_says_what_it_comes_to(
        self, asked: SustainedRequest, pixel: Pixel
    ) -> None:
        def press(t: float) -> Any:
            if t > 900:
                raise KeyboardInterrupt
            return None

        pixel.outcome, heard = press, Heard()
        with pytest.raises(KeyboardInterrupt):
            bench_sustained(asked, pixel.open, heard)
        (folder,) = list_runs(asked.out)
        record = read_run(folder)
        result = SustainedResult.from_json(record["result"])
        assert (record["status"], result.status, result.complete) == ("interrupted", "steady", False)
        assert heard.notes[-1].startswith("After 15 of 30 minutes: steady. The second half is ")
        assert (folder / "staircase.svg").exists()

    def test_in_the_first_seconds_keeps_what_was_measured(self, asked: SustainedRequest, pixel: Pixel) -> None:
        """Before it is told which samples are warm-up."""

        def press(t: float) -> Any:
            if t > 6:
                raise KeyboardInterrupt
            return None

        pixel.outcome = press
        with pytest.raises(KeyboardInterrupt):
            bench_sustained(asked, pixel.open)
        (folder,) = list_runs(asked.out)
        kept = rows(folder)
        assert len(kept) >= 1 + 4 + 16 and float(kept[-1]["elapsed_s"]) > 4
        assert SustainedResult.from_json(read_run(folder)["result"]).samples == len(kept) - 1

    def test_a_kill_finds_the_word_on_the_processes_that_ended(
        self, asked: SustainedRequest, pixel: Pixel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        saved: list[Sustained] = []
        keep = module._kept

        def remembered(*words: Any, **options: Any) -> Sustained:
            saved.append(keep(*words, **options))
            return saved[-1]

        monkeypatch.setattr(module, "_kept", remembered)
        run(asked, pixel)
        assert [round(one.result.measured_minutes) for one in saved] == [10, 20, 30]
        assert [one.result.complete for one in saved] == [False, False, True]
