"""Devices that change their mind, and taps that lie: no op is blamed for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core.job import Job
from harness.graph.model import Model
from tests.localize.attention import ATTENTION, LAST, LOUD, RESULTS, Localize, exactly, named
from tests.localize.planted import (
    NAN,
    SCALED,
    SHIFTED,
    Fault,
    Half,
    TapLiar,
    is_tapped,
    is_untouched,
)


class Restless(Half):
    """Gives different outputs each time, by a share of themselves."""

    def __init__(self, original: Model, faults: dict[int, Fault], amount: float) -> None:
        super().__init__(original, faults)
        self.amount = amount

    def finished(self, outputs: dict[str, Any], job: Job) -> dict[str, Any]:
        rng = np.random.default_rng(len(self.jobs))
        return {n: v * (1 + self.amount * rng.uniform(-1, 1, v.shape).astype(np.float32)) for n, v in outputs.items()}


class TestDoubtfulDevices:
    def test_a_device_that_changes_its_mind_is_unresolved(self, find: Localize) -> None:
        for faults in ({}, {RESULTS[4]: SHIFTED}):
            answer = find(Restless(ATTENTION, faults, 0.3), ATTENTION)
            assert (answer.status, answer.culprits, answer.certified) == ("unresolved", (), False)
            assert any("nondeterministic" in note for note in answer.notes)

    def test_a_device_that_rounds_differently_each_time_is_judged_all_the_same(self, find: Localize) -> None:
        assert find(Restless(ATTENTION, {}, 2.0**-11), ATTENTION).status == "pass"
        answer = find(Restless(ATTENTION, {RESULTS[4]: SHIFTED}, 2.0**-11), ATTENTION)
        assert named(answer) == exactly([4])

    @pytest.mark.parametrize("culprit", [0, 3, 6, 9, 16, LAST])
    def test_a_fault_that_hides_from_everything_but_the_model_itself_names_no_op(
        self, find: Localize, culprit: int
    ) -> None:
        device = Half(ATTENTION, {RESULTS[culprit]: SHIFTED}, sees=is_untouched(ATTENTION))
        answer = find(device, ATTENTION)
        assert (answer.status, answer.culprits, answer.certified) == ("unresolved", (), False)

    @pytest.mark.parametrize("culprit", [0, 1, 3, 6, 8, 10, 12, 14, 16])
    def test_a_fault_that_hides_from_taps_is_found_by_windows(self, find: Localize, culprit: int) -> None:
        tapped = is_tapped(ATTENTION)
        device = Half(ATTENTION, {RESULTS[culprit]: LOUD}, sees=lambda job: not tapped(job))
        answer = find(device, ATTENTION)
        assert not answer.certified
        assert named(answer) == exactly([culprit]), answer.notes
        assert [c.isolated for c in answer.culprits] == [True]

    @pytest.mark.parametrize("liar", [1, 4, 7, 10, 13])
    def test_a_right_tensor_that_a_tap_shows_wrong_is_not_blamed(self, find: Localize, liar: int) -> None:
        culprit = 5
        device = TapLiar(ATTENTION, {RESULTS[culprit]: SHIFTED}, {RESULTS[liar]: ("copy",)})
        answer = find(device, ATTENTION)
        assert named(answer) == exactly([culprit]), answer.notes

    @pytest.mark.parametrize("liar", [1, 4, 7, 10, 13])
    def test_a_direct_tap_that_lies_costs_the_certificate_at_most(self, find: Localize, liar: int) -> None:
        culprit = 5
        device = TapLiar(ATTENTION, {RESULTS[culprit]: SHIFTED}, {RESULTS[liar]: ("direct",)})
        answer = find(device, ATTENTION)
        assert named(answer) == exactly([culprit]), answer.notes
        assert answer.certified == (liar != 4)  # 4 feeds 5, so that the verdict on 5 rests on it

    @pytest.mark.parametrize("culprit", [5, 16])
    @pytest.mark.parametrize("liar", [1, 4, 7, 10, 13])
    def test_two_kinds_of_tap_that_lie_alike_do_not_convict_a_right_op(
        self, find: Localize, liar: int, culprit: int
    ) -> None:
        device = TapLiar(ATTENTION, {RESULTS[culprit]: LOUD}, {RESULTS[liar]: ("copy", "direct")})
        answer = find(device, ATTENTION)
        assert named(answer) == exactly([culprit]), answer.notes
        assert any("not believed" in note or "right alone" in note for note in answer.notes) or not answer.certified

    def test_two_neighbours_whose_taps_lie_alike_do_not_convict(self, find: Localize) -> None:
        lies: dict[int, tuple[str, ...]] = {RESULTS[7]: ("copy", "direct"), RESULTS[8]: ("copy", "direct")}
        answer = find(TapLiar(ATTENTION, {RESULTS[15]: LOUD}, lies), ATTENTION)
        assert named(answer) == exactly([15]), answer.notes

    @pytest.mark.parametrize("culprit", [3, 7, 12])
    def test_a_fault_that_appears_only_under_taps_names_no_op(self, find: Localize, culprit: int) -> None:
        """The model itself is wrong because of another op."""
        tapped = is_tapped(ATTENTION)

        class Induced(Half):
            def prepared(self, job: Job) -> bytes:
                self.faults = {RESULTS[5]: LOUD} | ({RESULTS[culprit]: SCALED} if tapped(job) else {})
                return super().prepared(job)

        answer = find(Induced(ATTENTION, {}), ATTENTION)
        assert named(answer) == exactly([5]), answer.notes
        assert not answer.certified or all(c.isolated for c in answer.culprits)

    @pytest.mark.parametrize("culprit", [3, 12])
    def test_a_right_model_stays_right_whatever_taps_would_do(self, find: Localize, culprit: int) -> None:
        answer = find(Half(ATTENTION, {RESULTS[culprit]: SCALED}, sees=is_tapped(ATTENTION)), ATTENTION)
        assert (answer.status, answer.device_compiles) == ("pass", 1)

    def test_right_only_the_first_time_is_not_right(self, find: Localize) -> None:
        class FirstTime(Half):
            def finished(self, outputs: dict[str, Any], job: Job) -> dict[str, Any]:
                return outputs if len(self.jobs) == 1 else {n: v * 0 for n, v in outputs.items()}

        answer = find(FirstTime(ATTENTION, {}), ATTENTION)
        assert (answer.status, answer.culprits, answer.certified) == ("unresolved", (), False)
        assert any("right only the first time" in note for note in answer.notes)
        assert any("for a model of one RELU as well" in note for note in answer.notes)

    @pytest.mark.parametrize("liar", [1, 4, 13])
    def test_a_fault_that_hides_while_a_tap_lies_about_another_op(self, find: Localize, liar: int) -> None:
        device = TapLiar(ATTENTION, {RESULTS[5]: LOUD}, {RESULTS[liar]: ("copy",)})
        tapped = is_tapped(ATTENTION)
        device.sees = lambda job: not tapped(job)
        answer = find(device, ATTENTION)
        assert named(answer) == exactly([5]), answer.notes
        assert not answer.certified

    @pytest.mark.parametrize("liar", [1, 4, 13])
    def test_a_fault_that_hides_while_both_taps_of_another_op_read_nan(self, find: Localize, liar: int) -> None:
        lies: dict[int, tuple[str, ...]] = {RESULTS[liar]: ("copy", "direct")}
        device = TapLiar(ATTENTION, {RESULTS[5]: LOUD}, lies, nan=True)
        tapped = is_tapped(ATTENTION)
        device.sees = lambda job: not tapped(job)
        answer = find(device, ATTENTION)
        assert named(answer) == exactly([5]), answer.notes
        assert not answer.certified


class TestBehindNan:
    @pytest.mark.parametrize(("first", "second"), [(1, 9), (9, 17), (3, 4)])
    def test_a_fault_behind_nan_is_found_by_itself(self, find: Localize, first: int, second: int) -> None:
        answer = find(Half(ATTENTION, {RESULTS[first]: NAN, RESULTS[second]: NAN}), ATTENTION)
        assert named(answer) == exactly([first, second]), answer.notes
        assert [c.certified for c in answer.culprits] == [True, False]
        assert not answer.certified  # as a whole: of the second nothing was read
        assert answer.culprits[1].isolated
        assert answer.device_compiles <= 4
