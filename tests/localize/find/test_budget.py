"""What the search by windows may spend is said before and kept."""

from __future__ import annotations

from pathlib import Path

from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph import surgery
from harness.graph.inputs import random_inputs
from harness.localize.base.case import Case
from harness.localize.base.reference import run_reference
from harness.localize.find.fallback_search import Budget, resolve
from harness.localize.find.windows import WindowProbe
from harness.localize.probe.search import Answer
from tests.localize.attention import ATTENTION, RESULTS
from tests.localize.planted import SHIFTED, Half, InProcess


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_no_more_is_asked_than_compiles_are_granted() -> None:
    budget = Budget(compiles=2, seconds=100)
    assert [budget.spend(lambda: "good", "unresolved") for _ in range(4)] == [
        "good",
        "good",
        "unresolved",
        "unresolved",
    ]
    assert (budget.asked, budget.refused) == (2, 2)
    assert str(budget) == "at most 2 compiles and 100 s"


def test_a_question_that_would_end_too_late_is_not_asked() -> None:
    """Three questions of 30 s fit into 100 s; a fourth would end at 120."""
    clock = Clock()
    budget = Budget(compiles=10, seconds=100, clock=clock)

    def ask() -> Answer:
        clock.now += 30
        return "bad"

    assert [budget.spend(ask, "unresolved") for _ in range(5)] == ["bad"] * 3 + ["unresolved"] * 2
    assert clock.now == 90


def searched(tmp_path: Path, budget: Budget) -> tuple[list[str], list[str], list[int], int]:
    """(what was announced, notes, ops found, device compiles) of a search for one wrong op of the attention."""
    case = Case(ATTENTION, random_inputs(ATTENTION.graph(), 0), Options(), timeout=60)
    store, host = TensorStore(tmp_path), InProcess()
    run_reference(host, case, store, surgery.tappable(case.graph))
    device = Half(ATTENTION, {RESULTS[4]: SHIFTED})
    said: list[str] = []
    probe = WindowProbe(device, host, case, store, frozenset())
    found = resolve(probe, [], {}, lambda record: False, False, said.append, budget)
    return said, found.notes, [c.record.index for c in found.culprits], device.compiles


def test_the_search_says_first_what_it_may_take_and_ends_there(tmp_path: Path) -> None:
    said, notes, _, compiles = searched(tmp_path, Budget(compiles=3))
    assert said[0].endswith("(windows: at most 3 compiles and 300 s)")
    assert not any("windows:" in what for what in said[1:2])
    assert compiles == 3
    assert "The search by windows ended with what it may take, at most 3 compiles and 300 s." in notes
    assert any("could not be resolved" in note for note in notes)


def test_within_its_budget_the_search_finds_the_op_and_says_nothing(tmp_path: Path) -> None:
    _, notes, found, compiles = searched(tmp_path, Budget())
    assert (found, notes) == ([RESULTS_AT[4]], [])
    assert compiles <= 20


RESULTS_AT = [ATTENTION.graph().producer[t] for t in RESULTS]
