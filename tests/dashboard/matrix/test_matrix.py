"""The matrix as a whole: columns in the order of releases, ops that differ, and what a release changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.dashboard.matrix.collect import collect
from harness.dashboard.matrix.matrix import build_matrix

if TYPE_CHECKING:
    from tests.dashboard.matrix.conftest import Make

WRONG, RIGHT = [("fine", 1.0), ("culprit", 335.0)], [("fine", 1.0), ("fine", 1.0)]


def test_models_are_rows_and_devices_columns_with_releases_in_their_order(make: Make, results: Path) -> None:
    for device in ("pixel8a", "host", "host@2.10.0", "host@2.2.0"):
        make(device=device, runtime="2.11.0" if device == "host" else None)
    make("encoder.tflite", "host@2.2.0")
    matrix = build_matrix(collect([], results))
    assert [device.name for device in matrix.devices] == ["host@2.2.0", "host@2.10.0", "host", "pixel8a"]
    assert [(row.name, [len(cell) for cell in row.cells]) for row in matrix.rows] == [
        ("decoder.tflite", [1, 1, 1, 1]),
        ("encoder.tflite", [1, 0, 0, 0]),
    ]
    assert (matrix.how, matrix.tally) == ("GPU fp16", {"pass": 5})
    verdict = matrix.verdict()
    assert (verdict.tone, verdict.sentence) == ("good", "2 models on 4 devices: 5 of 5 pass.")


def test_two_files_of_one_name_are_two_models(make: Make, results: Path) -> None:
    make(sha="a" * 64)
    make(sha="b" * 64, ok=False)
    assert [row.sha256[0] for row in build_matrix(collect([], results)).rows] == ["a", "b"]


def test_ops_that_differ_and_releases_that_mended_them_are_told(make: Make, results: Path) -> None:
    make(device="host@2.1.5", ok=False, ops=WRONG)
    make(device="host@2.2.0", ops=RIGHT)
    make(device="pixel8a", ok=False, ops=WRONG)
    matrix = build_matrix(collect([], results))
    assert matrix.verdict().support == (
        "decoder.tflite: ADD #1 is wrong on host@2.1.5 and pixel8a, right on host@2.2.0.",
        "decoder.tflite: host, LiteRT 2.1.5 → 2.2.0: fail → pass; mended ADD #1.",
    )
    assert matrix.verdict().tone == "bad"
    (op,) = matrix.to_json()["models"][0]["ops"][1:]
    assert (op["split"], [each["verdict"] for each in op["on"]]) == ("differs", ["culprit", "fine", "culprit"])


def test_releases_on_another_gpu_or_of_device_trouble_are_not_compared(make: Make, results: Path) -> None:
    make(device="host@2.1.5", ok=False, ops=WRONG)
    other = {"name": "host@2.2.0", "kind": "host", "runtime": "2.2.0", "gpu": "a real one"}
    folder = make(device="host@2.2.0", ops=RIGHT)
    record = (folder / "run.json").read_text().replace('"llvmpipe"', f'"{other["gpu"]}"')
    (folder / "run.json").write_text(record)
    make(device="host@2.3.0", status="failed", error="crashed", exit_code=3)
    (row,) = build_matrix(collect([], results)).rows
    assert row.releases == ()


def test_a_device_with_two_runtimes_has_two_columns_of_ops(make: Make, results: Path) -> None:
    make(device="pixel8a", runtime="2.2.0", ok=False, ops=WRONG)
    make(device="pixel8a", runtime="2.3.0", ops=RIGHT)
    matrix = build_matrix(collect([], results))
    assert matrix.read == ["pixel8a, LiteRT 2.2.0", "pixel8a, LiteRT 2.3.0"]
    assert matrix.devices[0].runtime == ""
    assert [each.sentences() for each in matrix.rows[0].releases] == [
        ["pixel8a, LiteRT 2.2.0 → 2.3.0: fail → pass; mended ADD #1."]
    ]


def test_ops_of_a_run_that_was_cut_short_are_not_read(make: Make, results: Path) -> None:
    make(device="host", ok=False, ops=WRONG)
    make(device="pixel8a", ops=WRONG, status="interrupted")
    (row,) = build_matrix(collect([], results)).rows
    assert [each.device for op in row.told for each in op.on] == ["host"]
