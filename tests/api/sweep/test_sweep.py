"""A sweep: what is asked, what is kept, what is known; on phones that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.api.sweep import sweep as module
from harness.api.sweep.judging import Judge, Judged
from harness.api.sweep.sweep import SweepRequest, sweep
from harness.core.errors import DeviceError, UsageError
from harness.dashboard.support import document
from harness.graph.forms.contexts import Built
from harness.graph.forms.form import Form, Given, const, single
from harness.graph.model import Model

WRONG = "planted:low-rank-constant"


def forms(width: int = 8) -> tuple[Form, ...]:
    return (
        single("ADD", [Given((6, 8)), const(6, 8)], (6, 8), "Add", base=True),
        single("RELU", [Given((1, width))], (1, width)),
    )


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "forms_of", lambda ops: forms())


def test_each_form_is_asked_in_its_contexts_and_what_is_wrong_has_a_reproducer(tmp_path: Path) -> None:
    found = sweep(SweepRequest(WRONG, tmp_path))
    assert (found.asked, found.kept, found.left) == (5, 0, 0)
    add, relu = found.support.rows
    assert {c.context: c.outcome for c in add.cells} == dict.fromkeys(("alone", "behind", "before", "read"), "wrong")
    assert [c.outcome for c in relu.cells] == ["pass"]
    assert found.support.whole and found.support.device["kind"] == "planted"
    assert document.read(found.path) == found.support
    reproducers = sorted(p.name for p in tmp_path.glob("*/*.tflite"))
    assert reproducers == sorted(f"{add.id}-{c.context}.tflite" for c in add.cells)
    model = next(tmp_path.glob("*/*-alone.tflite"))
    inputs = np.load(model.with_suffix(".npz"))
    assert [port.name for port in Model.load(model).graph().inputs] == list(inputs) == ["x"]


def test_the_catalogue_is_asked_about_what_is_wrong(tmp_path: Path) -> None:
    add, relu = sweep(SweepRequest(WRONG, tmp_path)).support.rows
    assert {cell.known for cell in add.cells} == {"low-rank-constant"}
    assert {cell.known for cell in relu.cells} == {None}


def test_nothing_is_asked_twice_and_a_changed_form_alone_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sweep(SweepRequest(WRONG, tmp_path))
    again = sweep(SweepRequest(WRONG, tmp_path))
    assert (again.asked, again.kept) == (0, 5)
    assert again.support.rows == first.support.rows
    monkeypatch.setattr(module, "forms_of", lambda ops: forms(width=4))
    changed = sweep(SweepRequest(WRONG, tmp_path))
    assert (changed.asked, changed.kept) == (1, 4)
    assert [row.label for row in changed.support.rows][1] == "[1,4] -> [1,4]"


def test_a_sweep_that_was_cut_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Judge.judge
    asked: list[Built] = []

    def cut(judge: Judge, built: Built) -> Judged:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(built)
        return ask(judge, built)

    monkeypatch.setattr(Judge, "judge", cut)
    with pytest.raises(KeyboardInterrupt):
        sweep(SweepRequest(WRONG, tmp_path))
    monkeypatch.setattr(Judge, "judge", ask)
    found = sweep(SweepRequest(WRONG, tmp_path))
    assert (found.asked, found.kept) == (3, 2)


def test_a_sweep_whose_time_is_up_says_what_is_left(tmp_path: Path) -> None:
    found = sweep(SweepRequest(WRONG, tmp_path, minutes=0.0))
    assert (found.asked, found.left, found.support.whole) == (0, 5, False)
    assert found.support.rows == ()


def test_a_device_that_is_not_there_is_trouble(tmp_path: Path) -> None:
    with pytest.raises((UsageError, DeviceError)):
        sweep(SweepRequest("planted:no-such-bug", tmp_path))
