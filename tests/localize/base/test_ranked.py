"""Lists in the order of scores: right wherever rows of nearly equal scores stand, wrong where a row is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.ideals import Ideals
from harness.localize.base.ranked import Ranked, _List, by_row
from harness.localize.base.result import Localization
from tests.arrays import f32
from tests.localize.attention import Localize
from tests.localize.planted import SCALED, SHIFTED, Fault, Half

CANDIDATES, LISTED = 48, 12
RNG = np.random.default_rng(7)
BOXES = f32(RNG.uniform(0, 1, (CANDIDATES, 4)))
NEAR = 2.0**-13  # less than a step of float16 between 1 and 2


def detector() -> Model:
    """The best candidates' scores, numbers and boxes."""
    graph = GraphBuilder()
    scores = graph.unary("ABS", graph.input("scores", (1, CANDIDATES)))
    boxes = graph.unary("ABS", graph.input("candidates", (CANDIDATES, 4)))
    count = graph.constant(np.asarray(LISTED, np.int32))
    best = graph.op("TOPK_V2", [scores, count], (1, LISTED), schema.TopKV2OptionsT())
    order = graph.tensor("order", (1, LISTED), np.int32)
    gather = schema.GatherOptionsT()
    graph.output(best, "best")
    graph.output(order, "order")
    graph.output(graph.op("GATHER", [boxes, order], (1, LISTED, 4), gather), "boxes")
    model = graph.build()
    model.root.subgraphs[0].operators[2].outputs = np.asarray([best, order], np.int32)
    return Model.from_bytes(Model(model.root).to_bytes())


def scores(*near: int) -> dict[str, Array]:
    """Candidate 5 is the best one, then 34, 15 and so on; those at the places in `near` have nearly the score of the
    one behind them, which has the smaller number, so that float16 has it first."""
    ranked = 2 - np.arange(CANDIDATES) / 64
    numbers = (5 + 29 * np.arange(CANDIDATES)) % CANDIDATES
    for place in near:
        assert numbers[place + 1] < numbers[place]
        ranked[place] = ranked[place + 1] + NEAR
    given = np.empty((1, CANDIDATES), np.float32)
    given[0, numbers] = ranked
    return {"scores": given, "candidates": BOXES}


def verdicts(found: Localization) -> dict[str, str]:
    return {output.name: output.verdict for output in found.outputs}


def test_rows_of_nearly_equal_scores_may_change_places(find: Localize) -> None:
    model = detector()
    found = find(Half(model, {}), model, inputs=scores(1, 6, LISTED - 1))
    assert verdicts(found) == {"best": "pass", "order": "pass", "boxes": "pass"}
    rows = {output.name: output.rows for output in found.outputs}
    assert rows == {"best": None, "order": (4, 1), "boxes": (4, 1)}
    assert found.outputs[2].to_json()["rows"] == {"moved": 4, "new": 1}
    assert (
        "Output 'boxes', which TOPK_V2 #2 sorts, is judged row by row: 4 rows of nearly equal scores in another place "
        "than in the reference, 1 row at the end of the list that the reference has cut off." in found.notes
    )


@pytest.mark.parametrize("fault", [SHIFTED, SCALED], ids=lambda fault: fault.name)
def test_a_wrong_row_is_wrong_wherever_it_stands(find: Localize, fault: Fault) -> None:
    model = detector()
    gathered = model.graph().ops[3].outputs[0]
    found = find(Half(model, {gathered: fault}), model, inputs=scores(1, 6))
    assert [culprit.record.op for culprit in found.culprits] == ["GATHER"]
    assert verdicts(found)["boxes"] == "wrong"


def test_wrong_scores_excuse_nothing(find: Localize) -> None:
    model = detector()
    found = find(Half(model, {model.graph().ops[0].outputs[0]: SHIFTED}), model, inputs=scores(1))
    assert [culprit.record.op for culprit in found.culprits] == ["ABS"]
    assert verdicts(found) == {"best": "pass", "order": "wrong", "boxes": "wrong"}


KNOWN = f32([[9, 8, 7, 6]])
ROWS = f32([[[1, 1], [2, 2], [3, 3], [4, 4]]])


def ranked(
    values: Array,
    seen: Array,
    known: Array = KNOWN,
    exact: Array = ROWS,
    step: float | None = None,
    ideal: Mapping[str, Ideals] | None = None,
) -> Ranked | None:
    """What is made of rows with these scores, of four; rows are int8 in steps of `step`, where that is given."""
    graph = GraphBuilder()
    count = graph.constant(np.asarray(4, np.int32))
    best = graph.op("TOPK_V2", [graph.input("x", (1, 8)), count], (1, 4), schema.TopKV2OptionsT())
    order = graph.tensor("order", (1, 4), np.int32)
    graph.output(best, "best")
    rows = graph.constant(f32(np.zeros((8, 2))))
    gathered = graph.op("GATHER", [rows, order], (1, 4, 2), schema.GatherOptionsT())
    graph.output(gathered, "rows")
    model = graph.build()
    if step is not None:
        table = model.root.subgraphs[0].tensors[gathered]
        table.type, table.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        table.quantization.scale, table.quantization.zeroPoint = np.asarray([step], np.float32), np.asarray([3])
    model.root.subgraphs[0].operators[0].outputs = np.asarray([best, order], np.int32)
    case = Case(Model(model.root), {}, Options(), timeout=60)
    in_real_numbers = exact if step is None else f32(step * (exact.astype(np.float32) - 3))
    ideal = ideal or {"best": Ideals([known]), "rows": Ideals([in_real_numbers])}
    return by_row(case, "rows", {"best": seen, "rows": values}, ideal, {"best": known, "rows": exact})


def test_only_scores_within_twice_their_error_exchange_rows() -> None:
    exchanged = ROWS[:, [1, 0, 2, 3]]
    found = ranked(exchanged, f32([[8.6, 8, 7, 6]]))  # off by 0.4: two that are 1 apart keep their order
    assert found is not None
    assert (found.moved, found.new) == (0, 0)
    np.testing.assert_array_equal(found.values, exchanged)
    found = ranked(exchanged, f32([[8.4, 8, 7, 6]]))
    assert found is not None
    assert (found.moved, found.new) == (2, 0)
    np.testing.assert_array_equal(found.values, ROWS)


def test_rows_of_integers_stay_integers() -> None:
    exact = np.asarray(ROWS * 20, np.int8)
    found = ranked(exact[:, [1, 0, 2, 3]], f32([[8.4, 8, 7, 6]]), exact=exact, step=0.5)
    assert found is not None
    assert (found.moved, found.new, found.values.dtype) == (2, 0, np.int8)
    np.testing.assert_array_equal(found.values, exact)
    np.testing.assert_array_equal(found.ideal[0], 0.5 * (exact.astype(np.float32) - 3))


def test_an_ideal_device_s_rows_are_put_in_place_too() -> None:
    """Its scores may be anywhere within what is expected; what it makes of the order is no excuse for wrong rows."""
    exchanged = ROWS[:, [1, 0, 2, 3]]
    seen = Ideals([f32([[8.4, 8, 7, 6]])], grid=[f32([[-0.6, 0.6, 0, 0]])], jumps=[f32([[-0.6, 0.6, 0, 0]])])
    rows = Ideals([exchanged], grid=[exchanged - ROWS], jumps=[exchanged - ROWS])
    found = ranked(ROWS, KNOWN, ideal={"best": seen, "rows": rows})
    assert found is not None
    for made in (found.ideal[0] - ROWS, found.ideal.grid[0], found.ideal.jumps[0]):
        np.testing.assert_array_equal(made, np.zeros_like(ROWS))


def test_a_row_that_is_in_neither_place_stays_wrong() -> None:
    wrong = ROWS.copy()
    wrong[0, 0], wrong[0, 1] = 2.5, 1
    found = ranked(wrong, f32([[8.4, 8, 7, 6]]))
    assert found is not None
    np.testing.assert_array_equal(found.values[0], [[1, 1], [2.5, 2.5], [3, 3], [4, 4]])


def test_only_the_end_of_a_list_may_hold_other_candidates() -> None:
    other = ROWS.copy()
    other[0, 3] = 7
    found = ranked(other, f32([[9, 8, 7, 6.1]]))
    assert found is not None
    assert (found.moved, found.new) == (0, 1)
    np.testing.assert_array_equal(found.values, ROWS)
    first = ROWS.copy()
    first[0, 0] = 7
    found = ranked(first, f32([[9, 8, 7, 6.1]]))
    assert found is not None
    assert (found.moved, found.new) == (0, 0)
    np.testing.assert_array_equal(found.values, first)


def test_a_list_of_which_most_could_be_others_is_left_as_it_is() -> None:
    assert ranked(ROWS + 9, f32([[9.1, 9.1, 9.1, 9.1]]), f32([[9, 9, 9, 9]])) is None


def test_each_of_several_lists_is_put_in_place_by_its_own_scores() -> None:
    exact, known = np.concatenate([ROWS, 10 * ROWS]), np.concatenate([KNOWN, KNOWN])
    values, seen = exact.copy(), known.copy()
    values[0, :2], values[1, 2:] = exact[0, 1::-1], exact[1, :1:-1]
    found, moved, new = _List(exact, known, 1.2).in_place(values, seen)
    np.testing.assert_array_equal(found, exact)
    assert (moved, new) == (4, 0)


def test_a_row_stays_wrong_rather_than_move_to_where_its_score_is_not_however_well_it_fits() -> None:
    """Each row but the last is that of the next place, and the last that of the first one."""
    exact = 10 * np.eye(8, dtype=np.float32)[None]
    known = np.arange(8, 0, -1, dtype=np.float32)[None]
    found, _, _ = _List(exact, known, 1.2).in_place(np.roll(exact, -1, 1), known)
    assert not np.array_equal(found[0, 0], exact[0, 0])


@pytest.mark.parametrize(
    ("exact", "known", "fits"),
    [
        (ROWS, KNOWN, True),
        (ROWS[:, :3], KNOWN, False),  # a row is lacking
        (ROWS[0], KNOWN, False),
        (ROWS[..., 0], KNOWN, True),  # rows of one number
        (np.where(ROWS == 3, f32(np.nan), ROWS), KNOWN, False),
        (np.where(ROWS == 3, f32(np.inf), ROWS), KNOWN, False),
    ],
)
def test_a_list_has_a_row_for_each_score_and_all_are_finite(exact: Array, known: Array, fits: bool) -> None:
    assert _List(exact, known, 0.5).fits is fits


@pytest.mark.parametrize("lists", [1, 3])
def test_a_list_is_not_compared_that_is_too_long_for_it(lists: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows of two numbers by four; one list at a time."""
    listed = _List(np.repeat(ROWS, lists, 0), np.repeat(KNOWN, lists, 0), 0.5)
    for most, fits in ((32, True), (31, False)):
        monkeypatch.setattr("harness.localize.base.ranked.MOST_DIFFERENCES", most)
        assert listed.fits is fits


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_is_left_as_it_is(odd: float) -> None:
    exchanged = ROWS[:, [1, 0, 2, 3]]
    assert ranked(exchanged, f32([[8.4, 8, 7, odd]])) is None
    exchanged[0, 0, 0] = odd
    assert ranked(exchanged, f32([[8.4, 8, 7, 6]])) is None
