"""The kept support matrices against the device that they are of: a sample of the cells is asked again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from harness.api.on_device import OnDevice
from harness.api.sweep.judging import Judge
from harness.core.job import Options
from harness.dashboard.support.document import Cell, Outcome, Support, read
from harness.devices.registry import open_device
from harness.graph.forms.catalogue import every_form
from harness.graph.forms.contexts import build
from harness.graph.forms.form import Form

KEPT = Path(__file__).parents[1] / "docs" / "support"
# How many cells of each outcome are asked; what crashes takes a process each.
SAMPLE: dict[Outcome, int] = {"pass": 8, "wrong": 8, "refused": 3, "crash": 1}


def kept_of(device: OnDevice) -> Support:
    """The matrix of this device and release. Skips where none is kept."""
    with open_device(device.name) as opened:
        facts = opened.facts()
    for path in KEPT.glob("*.json"):
        found = read(path)
        if (found.device["kind"], found.device["runtime"]) == (facts.kind, facts.runtime):
            return found
    pytest.skip(f"no matrix of {device.name} {facts.runtime} is kept")


def sample(support: Support) -> list[tuple[Form, Cell]]:
    """Some cells of each outcome, the same ones for each document."""
    forms = {form.id: form for form in every_form()}
    every = [(forms[row.id], cell) for row, cell in support.cells() if not cell.unsteady]
    chosen = []
    for outcome, count in SAMPLE.items():
        of_outcome = [each for each in every if each[1].outcome == outcome]
        chosen += random.Random(7).sample(of_outcome, min(count, len(of_outcome)))
    return chosen


def test_a_sample_of_the_kept_cells_is_so_on_the_device(on_device: OnDevice) -> None:
    kept = kept_of(on_device)
    cells = sample(kept)
    with open_device(on_device.name) as device:
        judge = Judge(device, Options(), on_device.timeout)
        try:
            answers = [judge.judge(build(form, cell.context)) for form, cell in cells]  # type: ignore[arg-type]
            gpu = device.facts().gpu
        finally:
            judge.close()
    if gpu.partition(" (")[0] != kept.device["gpu"].partition(" (")[0]:
        pytest.skip(f"the matrix that is kept is of {kept.device['gpu']}, and this is {gpu}")
    told = [(form.op, form.label, cell.context, cell.outcome) for form, cell in cells]
    assert [(*one[:3], answer.outcome) for one, answer in zip(told, answers, strict=True)] == told
