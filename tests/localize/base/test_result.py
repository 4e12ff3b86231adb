"""What was found, as JSON and in short: each figure under its own name."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.job import Residency
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import (
    MOST_NAMED,
    Culprit,
    Explanation,
    Impact,
    Localization,
    ModelFacts,
    OutputVerdict,
    Probes,
    Quarantined,
    Remedy,
    Trial,
    at,
    error_words,
    residency_json,
)
from harness.numerics.metrics import Comparison, figures
from harness.numerics.tolerance import Judgement
from harness.numerics.usefulness import Shortfall
from harness.remedies.cause import Cause

# No two figures are the same.
ACTUAL = Comparison(
    count=100, finite=97, nonfinite=3, nonfinite_mismatch=0, reference_nonfinite=2, max_abs=0.5, mean_abs=0.25, rms=0.3,
    flushed=4, max_abs_unflushed=0.4, rms_unflushed=0.2, reference_rms=1.5, cosine=0.75, range=(-7.0, 8.0),
    reference_range=(-5.0, 6.0), worst=(1, 9),
)  # fmt: skip
EXPECTED = replace(ACTUAL, max_abs=0.01, rms=0.005)
WRONG = Judgement(False, 48.0, ACTUAL, EXPECTED, 32.0, step=0.125)
RIGHT = replace(WRONG, ok=True)
SHORT = Shortfall("tolerance", 2.0, 1.0)


def output(judgement: Judgement = RIGHT, **more: Any) -> OutputVerdict:
    return OutputVerdict("y", judgement, 0.875, **more)


def record(op: int = 3, local: Judgement | None = WRONG, first: int | None = None) -> OpRecord:
    return OpRecord(op, "MUL", op if first is None else first, "t", 7, (2, 4), "float32", "culprit", local)


def culprit(op: int = 3, local: Judgement | None = WRONG, **more: Any) -> Culprit:
    return Culprit(record(op, local), Cause.KERNEL, "all zeros", certified=True, **more)


@pytest.mark.parametrize(
    ("judgement", "shortfalls", "verdict"),
    [
        (RIGHT, (), "pass"),
        (RIGHT, (SHORT,), "precision"),
        (WRONG, (), "wrong"),
        (WRONG, (SHORT,), "wrong"),
        (replace(RIGHT, actual=replace(ACTUAL, nonfinite_mismatch=1)), (), "wrong"),
        (replace(RIGHT, actual=replace(ACTUAL, finite=0)), (), "wrong"),
        (replace(RIGHT, actual=replace(ACTUAL, finite=1)), (), "pass"),
    ],
)
def test_an_output_passes_where_rounding_explains_it_and_it_is_of_use(
    judgement: Judgement, shortfalls: tuple[Shortfall, ...], verdict: str
) -> None:
    found = output(judgement, shortfalls=shortfalls)
    assert (found.verdict, found.ok, found.explained) == (verdict, verdict == "pass", verdict != "wrong")


def test_an_output_tells_each_figure_by_its_name() -> None:
    assert output(WRONG, shortfalls=(SHORT,)).to_json() == {
        "name": "y",
        **figures(ACTUAL),
        "expected_max_abs": 0.01,
        "ok": False,
        "verdict": "wrong",
        "shortfalls": [SHORT.to_json()],
        "reference_nonfinite": 2,
        "ratio": 48.0,
        "limit": 32.0,
        "reference_range": (-5.0, 6.0),
        "device_range": (-7.0, 8.0),
        "worst": (1, 9),
        "iou": 0.875,
        "step": 0.125,
    }


def test_how_often_it_was_wrong_and_which_rows_moved_are_told_where_they_are_known() -> None:
    plain = output().to_json()
    assert not {"runs", "rows"} & plain.keys()
    assert output(runs=(0, 8)).to_json() == plain | {"runs": {"wrong": 0, "of": 8}}
    assert output(rows=(3, 1)).to_json() == plain | {"rows": {"moved": 3, "new": 1}}


@pytest.mark.parametrize(
    ("judgement", "useless", "ok"), [(RIGHT, False, True), (RIGHT, True, False), (WRONG, False, False)]
)
def test_an_impact_is_harmless_where_the_output_stays_right_and_of_use(
    judgement: Judgement, useless: bool, ok: bool
) -> None:
    assert Impact("y", judgement, 0.875, 0.25, 0.125, held=True, useless=useless).to_json() == {
        "output": "y",
        "cosine": 0.75,
        "max_abs": 0.5,
        "relative_rms": ACTUAL.rms / 1.5,
        "nonfinite": 3,
        "iou": 0.875,
        "ok": ok,
        "unexplained": 0.25,
        "held": True,
    }


def test_what_errors_were_injected_into_is_said_in_words() -> None:
    assert Impact("y", RIGHT, 1.0).into == "the exact model"
    assert Impact("y", RIGHT, 1.0, held=True).into == "an ideal device"


TRIAL = Trial("in float32", "fine", 2.0)
REMEDY = Remedy("copies", 0.5, 0.25, 2.0, 0.75, 1.5, True, "mended.tflite", "A note.", ("x",))
EXPLANATION = Explanation(3, 5, 1.23456, 0.5)


def test_trials_remedies_and_what_explaining_took_tell_their_fields() -> None:
    assert TRIAL.to_json() == {"what": "in float32", "ending": "fine", "ratio": 2.0}
    assert Trial("in float32", "crash").ratio == 0.0
    assert REMEDY.to_json() == {
        "name": "copies",
        "cosine": 0.5,
        "max_abs": 0.25,
        "run_ms": 1.5,
        "ok": True,
        "ratio": 2.0,
        "iou": 0.75,
        "path": "mended.tflite",
        "note": "A note.",
        "declares": ["x"],
    }
    assert EXPLANATION.to_json() == {"device_compiles": 3, "device_runs": 5, "seconds": 1.235, "run_ms": 0.5}


def test_a_culprit_tells_each_figure_by_its_name() -> None:
    impact = Impact("y", WRONG, 1.0)
    found = culprit(impact=(impact,), trials=(TRIAL,), remedies=(REMEDY,), reproducer="here", note="Why.", window=(2,))
    plain = {
        "ops": [3, 3],
        "op": "MUL",
        "output": "t",
        "cause": "kernel",
        "signature": "all zeros",
        "local_error": 0.5,
        "expected_error": 0.01,
        "ratio": 48.0,
        "isolated": False,
        "reproducer": "here",
        "remedies": [REMEDY.to_json()],
        "trials": [TRIAL.to_json()],
        "certified": True,
        "nonfinite": 3,
        "shape": [2, 4],
        "note": "Why.",
        "impact": [impact.to_json()],
        "window": [2],
        "quantized": None,
        "known": None,
    }
    assert found.to_json() == plain
    assert replace(found, runs=(2, 8)).to_json() == plain | {"runs": {"wrong": 2, "of": 8}}
    told = replace(found, record=record(3, None, first=1)).to_json()
    assert told == plain | dict.fromkeys(("local_error", "expected_error", "ratio")) | {
        "ops": [1, 3], "op": "3 ops", "nonfinite": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "cause", "begins"),
    [
        (("a",), "crash", "The probe that reads a crashed the device twice and is left out: why."),
        (("a", "b", "c"), "hang", "The probe that reads a, b, c hung the device twice and is left out: why."),
        (("a", "b", "c", "d"), "hang", "The probe that reads a, b, c and 1 more hung the device twice and is left"),
        (("a", "b", "c", "d", "e"), "crash", "The probe that reads a, b, c and 2 more crashed the device twice"),
        ((), "crash", "The probe that reads nothing crashed the device twice and is left out: why."),
    ],
)
def test_a_probe_that_is_left_out_is_said_with_the_first_of_what_it_reads(
    outputs: tuple[str, ...], cause: Any, begins: str
) -> None:
    assert str(Quarantined("model", outputs, cause, "why")).startswith(begins)


def test_probes_are_counted_with_those_that_are_left_out() -> None:
    assert Probes(4).to_json() == {"asked": 4, "recorded": 0, "sessions": 1, "quarantined": []}
    out = Quarantined("model", ("a",), "crash", "why")
    assert Probes(4, 2, 3, (out,)).to_json() == {
        "asked": 4,
        "recorded": 2,
        "sessions": 3,
        "quarantined": [{"model": "model", "outputs": ["a"], "cause": "crash", "reason": "why"}],
    }


def localization(**more: Any) -> Localization:
    plain: dict[str, Any] = {
        "model": ModelFacts("m.tflite", "abc", 9),
        "device": {"name": "phone"},
        "status": "culprits",
        "certified": True,
        "outputs": (output(WRONG),),
        "culprits": (culprit(),),
        "records": (),
        "residency": Residency(True, 9, 9, 1),
        "device_compiles": 3,
        "device_runs": 4,
        "seconds": 1.23456,
    }
    return Localization(**plain | more)


def test_an_answer_tells_each_field_by_its_name() -> None:
    found = localization(notes=("A note.",), explained=(Impact("y", WRONG, 1.0),))
    plain = {
        "schema": 1,
        "model": {"path": "m.tflite", "sha256": "abc", "ops": 9},
        "device": {"name": "phone"},
        "status": "culprits",
        "certified": True,
        "device_compiles": 3,
        "device_runs": 4,
        "seconds": 1.235,
        "outputs": [output(WRONG).to_json()],
        "culprits": [culprit().to_json()],
        "residency": {"delegated": 9, "total": 9, "partitions": 1, "full": True},
        "notes": ["A note."],
        "explained": [Impact("y", WRONG, 1.0).to_json()],
        "probes": None,
        "explanation": None,
    }
    assert found.to_json() == plain
    more = replace(found, probes=Probes(4), explanation=EXPLANATION, outputs=())
    assert more.to_json() == plain | {
        "outputs": [], "residency": None, "probes": Probes(4).to_json(), "explanation": EXPLANATION.to_json()
    }  # fmt: skip
    assert (localization().half, localization().folder, localization().differs) == (True, None, "")


def test_the_ops_on_the_cpu_are_told_where_they_are_known() -> None:
    plain = {"delegated": 2, "total": 4, "partitions": 1, "full": False}
    assert residency_json(Residency(False, 2, 4, 1)) == plain
    assert residency_json(Residency(False, 2, 4, 1, on_cpu=())) == plain | {"on_cpu": []}
    assert residency_json(Residency(False, 2, 4, 1, on_cpu=(0, 3))) == plain | {"on_cpu": [0, 3]}


@pytest.mark.parametrize(
    ("outputs", "fails_so"),
    [
        ((output(),), False),
        ((output(shortfalls=(SHORT,)),), True),
        ((output(), output(shortfalls=(SHORT,))), True),
        ((output(WRONG), output(shortfalls=(SHORT,))), False),
        ((output(WRONG),), False),
        ((), False),
    ],
)
def test_it_fails_by_precision_where_rounding_explains_every_output_and_one_is_of_no_use(
    outputs: tuple[OutputVerdict, ...], fails_so: bool
) -> None:
    assert localization(outputs=outputs).by_precision is fails_so


def test_in_short_an_answer_names_its_first_culprits(tmp_path: Path) -> None:
    named = ", ".join(f"MUL #{op} (kernel)" for op in range(MOST_NAMED))
    five, seven = (tuple(culprit(op) for op in range(count)) for count in (MOST_NAMED, MOST_NAMED + 2))
    assert repr(localization(culprits=())) == "<Localization: culprits>"
    assert repr(localization(culprits=five)) == f"<Localization: culprits: {named}>"
    assert repr(localization(culprits=seven)) == f"<Localization: culprits: {named} and 2 more>"
    kept = f" (report: {tmp_path / 'report.html'})"
    assert repr(localization(culprits=(), folder=tmp_path)) == f"<Localization: culprits{kept}>"
    assert (at(tmp_path), at(None)) == (kept, "")


def test_in_a_notebook_an_answer_is_a_table_of_its_culprits() -> None:
    page = localization(culprits=(culprit(), replace(culprit(5, None), certified=False)))._repr_html_()
    for cell in ("MUL #3", "kernel", "48x what rounding explains, limit 32x", "yes", "MUL #5", "no"):
        assert f">{cell}<" in page
    assert "nothing could be read" in page


def test_an_error_is_told_against_its_limit() -> None:
    assert error_words(record()) == "48x what rounding explains, limit 32x"
    infinite = record(3, replace(WRONG, ratio=math.inf, limit=16.0))
    assert error_words(infinite) == "NaN or infinite, beyond all what rounding explains, limit 16x"
    assert error_words(record(3, None)) == "nothing could be read"
