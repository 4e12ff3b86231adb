"""Outputs that are lists in the order of scores, as a detector's: right wherever a row stands, within reason.

Two scores that are nearly equal come out in either order, on two devices that are right, and at the end of the list one
or the other is cut off. So a list that is not right place by place is compared row by row, each row with one whose
score it may have. Where every candidate's score is off by `e` at most, two of them change places only if their scores
are within 2e of each other. `e` is the largest error of the listed scores, or what is expected of them if that is more,
since sorting hides errors that exchange rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.core.arrays import Array
from harness.graph.ops.jumps import sorted_by
from harness.graph.ops.real import real
from harness.localize.base.case import Case
from harness.localize.base.ideals import Ideals
from harness.numerics.usefulness import LOST, size_of

# Differences between any two rows of a list that are held at once.
MOST_DIFFERENCES = 1 << 24


@dataclass(frozen=True, eq=False)
class Ranked:
    """A list's values, and an ideal device's, with their rows in the reference's places. `moved` rows stood elsewhere;
    `new` ones, at the end, are of candidates that the reference's list has not, and are taken from that."""

    values: Array
    ideal: Ideals
    moved: int
    new: int


@dataclass(frozen=True, eq=False)
class _List:
    """A reference's list and its scores, which are `near` each other where rows may have changed places."""

    exact: Array
    scores: Array
    near: float

    @property
    def fits(self) -> bool:
        """Whether there is a row for each score, all are finite, and not too many to be compared."""
        rows = self.scores.shape[-1]
        compared = self.exact.size * rows // max(self.scores.size // rows, 1)
        whole = self.exact.shape[: self.scores.ndim] == self.scores.shape
        return whole and compared <= MOST_DIFFERENCES and bool(np.isfinite(self.exact).all())

    def in_place(self, values: Array, scores: Array) -> tuple[Array, int, int]:
        """Another list with its rows where those of this one are that they resemble most, how many were `moved`, and
        how many are `new`."""
        rows = self.scores.shape[-1]
        lists = (x.reshape(-1, rows, x.size // self.scores.size).astype(np.float64) for x in (values, self.exact))
        found, moved, new = np.array(self.exact.reshape(-1, rows, self.exact.size // self.scores.size)), 0, 0
        lost = LOST * size_of(self.exact)
        each = zip(*lists, scores.reshape(-1, rows), self.scores.reshape(-1, rows), strict=True)
        for k, (actual, wanted, seen, known) in enumerate(each):
            apart = np.abs(actual[:, None] - wanted[None, :]).max(axis=2)
            # A row may stay where it is at least: its score is near enough to that of its place.
            farthest = (apart.max() + 1) * (rows + 1)
            near = np.abs(seen[:, None] - known[None, :]) <= self.near
            from scipy.optimize import linear_sum_assignment  # takes a second to load

            at, place = linear_sum_assignment(np.where(near, apart, farthest))
            other = (apart[at, place] > lost) & (known[place] <= known.min() + self.near)
            found[k, place[~other]] = actual[at[~other]]
            moved += int(np.count_nonzero((at != place) & ~other))
            new += int(np.count_nonzero(other))
        return found.reshape(self.exact.shape), moved, new


def by_row(
    case: Case, name: str, outputs: Mapping[str, Array], ideal: Mapping[str, Ideals], exact: Mapping[str, Array]
) -> Ranked | None:
    """An output of a run with its rows where the reference has them; None where it is not such a list, where its scores
    are no output or not finite, and where most of its rows may be others than the reference's."""
    tensors = {port.name: port.tensor for port in case.graph.outputs}
    sorting = sorted_by(case.graph, tensors[name])
    if sorting is None or sorting.place == sorting.scores:
        return None
    by_scores = replace(sorting, place=sorting.scores)
    scores = next((other for other, t in tensors.items() if sorted_by(case.graph, t) == by_scores), None)
    if scores is None or not exact[scores].size or not np.isfinite(outputs[name]).all():
        return None
    known, seen = (real(case.graph, tensors[scores], x[scores]).astype(np.float64) for x in (exact, outputs))
    runs, own = ideal[scores], ideal[name]
    expected = (*runs, *(known + moved for moved in (*runs.grid, *runs.jumps)))
    near = 2 * max(float(np.abs(each - known).max()) for each in (seen, *expected))
    grid = case.grid_of(name)
    wanted = real(case.graph, tensors[name], exact[name])
    listed = _List(wanted, known, near)
    if not np.isfinite(near) or not listed.fits:
        return None
    values, moved, new = listed.in_place(real(case.graph, tensors[name], outputs[name]), seen)
    if 2 * new > known.size:
        return None

    def placed(lists: Sequence[Array], by: Sequence[Array]) -> list[Array]:
        return [listed.in_place(each, score)[0] for each, score in zip(lists, by, strict=True)]

    def shifted(shifts: Sequence[Array], by: Sequence[Array]) -> list[Array]:
        return [each - wanted for each in placed([wanted + x for x in shifts], [known + x for x in by])]

    shifts = shifted(own.grid, runs.grid), shifted(own.jumps, runs.jumps)
    values = values if grid is None else grid.nearest(values)
    return Ranked(values, Ideals(placed(own, runs), *shifts, placed(own.smooth, runs.smooth)), moved, new)
