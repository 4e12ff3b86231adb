"""Histories: what is compared with what, and what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.dashboard.series import Lane, group, slug

if TYPE_CHECKING:
    from tests.dashboard.conftest import Facts


def lane(*runs: object) -> Lane:
    (series,) = group(list(runs))  # type: ignore[arg-type]
    (found,) = series.lanes
    return found


def test_cpu_stands_before_gpu_and_the_newest_series_first(facts: Facts) -> None:
    runs = [facts(1), facts(2, accelerator="cpu", precision="fp32", threads=4), facts(3, device="pixel8a")]
    found = group(runs)
    assert [s.device for s in found] == ["pixel8a", "host"]
    assert [each.key.label for each in found[1].lanes] == ["CPU, 4 threads", "GPU fp16"]


def test_an_invalid_run_is_in_no_level(facts: Facts) -> None:
    runs = [facts(i, p50_ms=10.0) for i in range(6)] + [
        facts(i, p50_ms=99.0, invalid=("busy: x",)) for i in range(6, 12)
    ]
    found = lane(*runs)
    assert [(s.runs, [level.value for level in s.levels]) for s in found.stretches] == [((0, 1, 2, 3, 4, 5), [10.0])]
    assert found.latest is runs[5] and found.newest is runs[11] and found.last_step is None


def test_another_model_file_is_not_compared_with(facts: Facts) -> None:
    runs = [facts(i, p50_ms=10.0, sha256="a") for i in range(6)] + [
        facts(i, p50_ms=20.0, sha256="b") for i in range(6, 12)
    ]
    found = lane(*runs)
    assert [s.runs for s in found.stretches] == [tuple(range(6)), tuple(range(6, 12))]
    assert found.last_step is None


def test_two_model_files_in_turns_have_a_history_each(facts: Facts) -> None:
    runs = [facts(i, p50_ms=10.0 + 10 * (i % 2), sha256="ab"[i % 2]) for i in range(12)]
    assert all(stretch.steps == () for stretch in lane(*runs).stretches)


def test_other_inputs_and_another_gpu_are_not_compared_with(facts: Facts) -> None:
    assert len(lane(facts(0), facts(1, inputs="others")).stretches) == 2
    assert len(lane(facts(0), facts(1, gpu="another")).stretches) == 2


def test_a_new_runtime_is_compared_with_the_old_one(facts: Facts) -> None:
    runs = [facts(i, p50_ms=10.0, runtime="2.2.0") for i in range(6)]
    runs += [facts(i, p50_ms=15.0, runtime="2.3.0") for i in range(6, 12)]
    found = lane(*runs)
    assert found.last_step is not None and found.last_step.ratio == 1.5
    assert found.step_run is runs[6]


def test_a_benchmark_without_a_verdict_takes_that_of_the_same_model_and_runtime(facts: Facts) -> None:
    compared = facts(0, command="compare", benchmark=False, judgement="fail", p50_ms=None)
    same = facts(1, judgement="nothing")
    newer = facts(2, judgement="nothing", runtime="9.9")
    found = lane(compared, same, newer)
    assert found.judgements == ("fail", "fail", "nothing")
    assert found.judgement == "nothing"


def test_a_run_of_no_model_belongs_to_no_series(facts: Facts) -> None:
    assert group([facts(0, model="", state="unreadable")]) == ()


def test_names_that_differ_in_signs_only_have_pages_of_their_own() -> None:
    names = ["a/b", "a b", "A-B", "../../etc", "..", "", "a\0b", "ä", "\udcff"]
    found = {slug(name, "host") for name in names}
    assert len(found) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in found)
