"""The verdict on an output: of which values, where they are kept, and what is told of a list in another order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.localize.base import outputs as judging
from harness.localize.base.case import Case
from harness.localize.base.ideals import Ideals
from harness.localize.base.outputs import judge_outputs, judge_run
from harness.localize.base.ranked import Ranked
from harness.localize.base.result import OutputVerdict
from tests.arrays import normal
from tests.chains import chain

MODEL = chain("ABS", "NEG", shape=(1, 64))
EXACT = normal((1, 64), 1)
IDEAL = {"y": Ideals([EXACT])}


def judged(folder: Path, values: Array, exact: Array = EXACT) -> tuple[OutputVerdict, TensorStore]:
    case = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60)
    store = TensorStore(folder)
    store.put("output-y", "reference", exact, "y")
    (verdict,) = judge_run(case, {"y": values}, {"y": Ideals([exact])}, store)
    return verdict, store


def test_a_run_is_judged_and_only_the_one_that_counts_is_kept(tmp_path: Path) -> None:
    verdict, store = judged(tmp_path, EXACT)
    assert (verdict.name, verdict.verdict, verdict.iou, verdict.integer) == ("y", "pass", 1.0, False)
    assert not store.has("output-y", "device")
    case = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60)
    (verdict,) = judge_outputs(case, {"y": -EXACT}, IDEAL, store)
    assert (verdict.verdict, verdict.iou) == ("wrong", 0.0)
    np.testing.assert_array_equal(store.get("output-y", "device"), -EXACT)


@pytest.mark.parametrize("kind", [np.int32, np.bool_])
def test_an_output_of_whole_numbers_says_so(kind: Any, tmp_path: Path) -> None:
    verdict, _ = judged(tmp_path, (EXACT > 0).astype(kind), (EXACT > 0).astype(kind))
    assert (verdict.integer, verdict.verdict) == (True, "pass")


def test_a_wrong_output_is_not_asked_for_what_else_makes_it_useless(tmp_path: Path) -> None:
    useless, _ = judged(tmp_path, EXACT * 0)
    assert (useless.verdict, useless.shortfalls) == ("wrong", ())


@pytest.mark.parametrize(("moved", "new", "rows"), [(0, 0, None), (3, 0, (3, 0)), (0, 1, (0, 1)), (3, 1, (3, 1))])
def test_a_list_is_judged_row_by_row_with_the_figures_as_it_came(
    moved: int, new: int, rows: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = np.roll(EXACT, 1, -1)
    monkeypatch.setattr(judging, "by_row", lambda *given: Ranked(EXACT, IDEAL["y"], moved, new))
    verdict, _ = judged(tmp_path, came)
    assert (verdict.verdict, verdict.judgement.ratio, verdict.rows) == ("pass", 0.0, rows)
    assert verdict.judgement.actual.max_abs == np.abs(came - EXACT).max()
    positive, either = int(((came > 0) & (EXACT > 0)).sum()), int(((came > 0) | (EXACT > 0)).sum())
    assert verdict.iou == positive / either
