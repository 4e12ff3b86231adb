"""A sample of the faults that `python -m benchmarks peers` plants all over the small decoder; all of them there."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import STRATEGIES, Peer, score
from harness.core.run_folder import RunFolder
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.find.localizer import localize
from tests.localize.campaign import Campaign, Trial
from tests.localize.planted import BEYOND, GROUP, NAN, SCALED, SHIFTED, Fault
from tests.localize.small_decoder import small_decoder

# The first test waits until the model is converted.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return Campaign(small_decoder())


def answered(campaign: Campaign, trial: Trial, out: Path) -> Localization:
    with RunFolder.create(out, "localize", "small", "half") as folder:
        return localize(Workbench(campaign.device(trial), campaign.host, folder), campaign.case(trial))


def at(campaign: Campaign, kind: str, number: int) -> int:
    return [op for op in campaign.graph.ops if op.name == kind][number].outputs[0]


def test_every_op_of_the_decoder_can_be_made_faulty_in_some_way(campaign: Campaign) -> None:
    assert len(campaign.plants) == len(campaign.graph.ops) > 300
    assert all(campaign.plants.values())


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("SOFTMAX", 2),
        ("CONV_2D", 1),
        pytest.param("TRANSPOSE", 20, marks=pytest.mark.slow),
        pytest.param("FULLY_CONNECTED", 9, marks=pytest.mark.slow),
    ],
)
def test_a_fault_is_found_exactly(campaign: Campaign, tmp_path: Path, kind: str, number: int) -> None:
    trial = Trial("single", ((at(campaign, kind, number), GROUP if kind == "CONV_2D" else SHIFTED),), seed=number)
    answer = answered(campaign, trial, tmp_path)
    assert {(c.record.first, c.record.index) for c in answer.culprits} == {(op, op) for op in trial.ops(campaign.graph)}
    assert (answer.certified, answer.device_compiles) == (True, 3)


def test_a_fault_behind_nan_is_found_too(campaign: Campaign, tmp_path: Path) -> None:
    trial = Trial("pair", ((at(campaign, "DIV", 2), NAN), (at(campaign, "GELU", 1), SCALED)), seed=1)
    answer = answered(campaign, trial, tmp_path)
    assert {c.record.index for c in answer.culprits} == trial.ops(campaign.graph)
    assert answer.device_compiles == 3


@pytest.mark.parametrize(
    ("reshape", "first", "seed"),
    [(27, ("TRANSPOSE", 2), 4), pytest.param(37, ("SUB", 7), 2, marks=pytest.mark.slow)],
)
def test_a_fault_behind_what_became_of_nan_is_found_too(
    campaign: Campaign, tmp_path: Path, reshape: int, first: tuple[str, int], seed: int
) -> None:
    # MAXIMUM makes 0.0032 of NaN; a step that overflows from 0.0655 on does no harm to that.
    trial = Trial("pair", ((at(campaign, "RESHAPE", reshape), BEYOND), (at(campaign, *first), NAN)), seed)
    answer = answered(campaign, trial, tmp_path)
    assert {c.record.index for c in answer.culprits} == trial.ops(campaign.graph)
    assert answer.device_compiles == 3


@pytest.mark.parametrize(
    ("number", "other", "seed"),
    [
        (1, None, 4),
        pytest.param(1, ("SUB", 3, BEYOND), 4, marks=pytest.mark.slow),
        pytest.param(8, ("MEAN", 19, BEYOND), 1, marks=pytest.mark.slow),
        (9, ("RESHAPE", 14, SCALED), 3),
    ],
)
def test_nan_whose_harm_is_an_overflow_later_is_found_in_three_compiles(
    campaign: Campaign, tmp_path: Path, number: int, other: tuple[str, int, Fault] | None, seed: int
) -> None:
    # In the exact model the normalization that divides by what MAXIMUM makes of it is as right as with any divisor.
    plants = [(at(campaign, "REDUCE_MAX", number), NAN)]
    if other:
        plants.append((at(campaign, *other[:2]), other[2]))
    trial = Trial("pair", tuple(plants), seed)
    answer = answered(campaign, trial, tmp_path)
    assert {c.record.index for c in answer.culprits} == trial.ops(campaign.graph)
    assert (answer.certified, answer.device_compiles) == (True, 3)
    if other is None:
        assert {impact.into for impact in answer.explained} == {"an ideal device"}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_healthy_device_passes(campaign: Campaign, tmp_path: Path, seed: int) -> None:
    answer = answered(campaign, Trial("healthy", (), seed), tmp_path)
    assert (answer.status, answer.device_compiles) == ("pass", 1)


@pytest.mark.slow
def test_the_peers_search_as_described(campaign: Campaign) -> None:
    trial = Trial("single", ((at(campaign, "BATCH_MATMUL", 3), GROUP),), seed=0)
    found = {name: score(strategy, Peer(campaign, verdict), trial) for name, strategy, verdict in STRATEGIES}
    ours, bisection, judged_bisection, _, judged_range, alone = found.values()
    assert (ours.outcome, ours.compiles) == ("exact", 3 + 1)  # and the control
    # Under a verdict that does not trip over rounding, a single fault is found by each search, at a higher price.
    assert [s.outcome for s in (bisection, judged_bisection, judged_range)] == ["exact"] * 3
    assert all(6 <= s.compiles <= 20 for s in (bisection, judged_bisection, judged_range))
    assert alone.compiles == len(campaign.graph.ops)


@pytest.mark.slow
def test_a_fault_at_every_twelfth_op_is_found_exactly(campaign: Campaign, tmp_path: Path) -> None:
    for trial in list(campaign.at_every_op())[::12]:
        if campaign.harms(trial):
            answer = answered(campaign, trial, tmp_path)
            assert {c.record.index for c in answer.culprits} == trial.ops(campaign.graph), trial.name(campaign.graph)
