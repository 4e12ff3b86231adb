"""A rewrite that is not the same model, that mends nothing, or that breaks something else, is never kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from harness.api.fixing import rewriting
from harness.api.fixing.fix import fix_model
from harness.api.fixing.request import FixRequest
from harness.api.fixing.result import Fixed
from harness.api.fixing.same_values import UNSEEN
from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.lint.knowledge.target import target_of
from harness.remedies.catalogue import KEEP_BATCH, SPLIT_SUM, Rewrite, each
from tests.api.fixing.test_fix import rows, saved
from tests.arrays import normal

How = Callable[[Rebuild, Op], None]


def fixed_by(monkeypatch: pytest.MonkeyPatch, folder: Path, rewrite: Rewrite, model: Model, **words: object) -> Fixed:
    """What comes of a model where the rewrite for constants of low rank is another."""
    monkeypatch.setattr(rewriting, "BY_NAME", {KEEP_BATCH.name: rewrite})
    return fix_model(FixRequest(saved(folder, model), target_of("host"), **words))  # type: ignore[arg-type]


def written(how: How) -> Rewrite:
    return Rewrite("another way", each(how))


def in_rank_4(rebuild: Rebuild, op: Op, change: Callable[[Array], Array]) -> None:
    """The op on views of rank 4, its constant changed."""
    values = rebuild.values(op.inputs[1])
    assert values is not None
    shape = rebuild.shape(op.outputs[0])
    wide = rebuild.reshape(op.inputs[0], (1, 1, *shape))
    held = rebuild.constant(change(values).reshape(1, 1, *values.shape))
    rebuild.replace(op.outputs[0], rebuild.reshape(rebuild.like(op, [wide, held], shape=(1, 1, *shape)), shape))


def one_off(values: Array) -> Array:
    changed = values.copy()
    changed[17, 3] += np.float32(2.0**-12)
    return changed


def test_another_value_in_one_place_is_another_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    right = written(lambda rebuild, op: in_rank_4(rebuild, op, lambda values: values))
    assert fixed_by(monkeypatch, tmp_path, right, rows()).left == ()
    wrong = written(lambda rebuild, op: in_rank_4(rebuild, op, one_off))
    found = fixed_by(monkeypatch, tmp_path, wrong, rows())
    assert found.rewritten is None and len(found.left) == 2
    for left in found.left:
        assert left.why.startswith("'another way' is not kept: output 'y' would be another, off by up to ")


def test_of_ops_of_which_one_is_spoilt_the_others_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def how(rebuild: Rebuild, op: Op) -> None:
        in_rank_4(rebuild, op, one_off if op.name == "MUL" else lambda values: values)

    found = fixed_by(monkeypatch, tmp_path, written(how), rows())
    assert [[op.op_name for op in step.ops] for step in found.steps] == [["ADD"]]
    assert [left.finding.op_name for left in found.left] == ["MUL"]


def test_what_is_still_found_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    same = written(lambda rebuild, op: rebuild.keep(op))
    found = fixed_by(monkeypatch, tmp_path, same, rows())
    assert {left.why for left in found.left} == {"'another way' is not kept: what it is meant for is still found"}


def test_what_brings_another_finding_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def how(rebuild: Rebuild, op: Op) -> None:
        shape = rebuild.shape(op.outputs[0])
        deep = (1, 1, 1, *shape)  # no GPU has rank 5
        held = rebuild.reshape(op.inputs[1], deep)
        made = rebuild.like(op, [rebuild.reshape(op.inputs[0], deep), held], shape=deep)
        rebuild.replace(op.outputs[0], rebuild.reshape(made, shape))

    found = fixed_by(monkeypatch, tmp_path, written(how), rows())
    assert found.rewritten is None
    assert all("would be found" in left.why for left in found.left)


def test_inputs_and_outputs_are_declared_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def how(model: Model, ops: frozenset[int], peaks: Mapping[int, float]) -> Model:
        rebuild = Rebuild(model)
        for op in rebuild.graph.ops:
            rebuild.keep(op)
        (port,) = rebuild.graph.outputs
        rebuild.give_out(port.tensor, rebuild.reshape(port.tensor, (1, 64, 16)))
        return rebuild.finish()

    found = fixed_by(monkeypatch, tmp_path, Rewrite("another way", how), rows())
    assert {left.why for left in found.left} == {
        "'another way' is not kept: output 'y' would be declared FLOAT32 [1, 64, 16]"
    }


def test_what_makes_a_large_file_of_a_small_one_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = GraphBuilder()
    ones = graph.op("TILE", [graph.constant(np.ones((1, 1))), graph.constant(np.asarray([64, 64], np.int32))], (64, 64))
    graph.output(graph.binary("MUL", graph.input("x", (64, 64)), graph.unary("EXP", ones)), "y")
    model = graph.build()

    def left() -> set[str]:
        return {left.why for left in fix_model(FixRequest(saved(tmp_path, model), target_of("host"))).left}

    assert left() == set()
    monkeypatch.setattr(rewriting, "MOST_ADDED", 64 * 64 * 4 - 1024)
    assert left() == {"'constants computed beforehand' is not kept: the file would grow by 0 MiB"}

    def too_large(model: Model, ops: frozenset[int], peaks: Mapping[int, float]) -> Model:
        raise UsageError("A copy of the model has over 2 GB.", "Split the model.")

    found = fixed_by(monkeypatch, tmp_path, Rewrite("another way", too_large), rows())
    assert {left.why for left in found.left} == {"'another way' is not kept: A copy of the model has over 2 GB"}


def test_outputs_stay_tensors_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two that are equal as one tensor would have one name, and no runtime takes such a model."""

    def how(model: Model, ops: frozenset[int], peaks: Mapping[int, float]) -> Model:
        rebuild = Rebuild(model)
        first, second = rebuild.graph.ops
        in_rank_4(rebuild, first, lambda values: values)
        rebuild.replace(second.outputs[0], first.outputs[0])
        return rebuild.finish()

    graph = GraphBuilder()
    x, pos = graph.input("x", (64, 16)), graph.constant(normal((64, 16)), "pos")
    for name in ("a", "b"):
        graph.output(graph.binary("ADD", x, pos, name), name)
    found = fixed_by(monkeypatch, tmp_path, Rewrite("another way", how), graph.build())
    assert len(found.left) == 2
    assert {left.why for left in found.left} == {"'another way' is not kept: 'a' and 'b' would be one tensor"}


def test_a_rewrite_that_follows_values_is_kept_for_inputs_that_are_given_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rewriting, "BY_VALUES", frozenset({KEEP_BATCH}))
    found = fixed_by(monkeypatch, tmp_path, KEEP_BATCH, rows())
    assert {left.why for left in found.left} == {rewriting.BY_INPUTS}
    monkeypatch.setattr("harness.api.fixing.fix.BY_VALUES", frozenset({KEEP_BATCH}))
    found = fixed_by(monkeypatch, tmp_path, KEEP_BATCH, rows(), given={"x": normal((64, 16))})
    assert found.left == () and found.check is not None
    assert found.check.inputs[0] == "given by the caller" and len(found.check.inputs) == 4


def test_where_no_output_shows_anything_nothing_is_rewritten(tmp_path: Path) -> None:
    """A check of values that are the same whatever goes in says nothing."""
    graph = GraphBuilder()
    x = graph.binary("ADD", graph.input("x", (64, 16)), graph.constant(normal((64, 16))))
    low = graph.binary("MINIMUM", graph.unary("ABS", x), graph.constant(np.zeros(1, np.float32)))
    graph.output(low, "y")
    found = fix_model(FixRequest(saved(tmp_path, graph.build()), target_of("host")))
    assert found.rewritten is None
    assert [left.why for left in found.left] == [f"'{KEEP_BATCH.name}' is not kept: {UNSEEN}"]


def summed(terms: int) -> Model:
    """A long sum of positive terms behind what is found: the plain kernels add one term after the other."""
    graph = GraphBuilder()
    x = graph.unary("EXP", graph.binary("ADD", graph.input("x", (2, terms)), graph.constant(normal((2, terms)))))
    graph.output(graph.reduce("SUM", x, 1), "y")
    return graph.build()


@pytest.mark.parametrize(("terms", "skipped"), [(1 << 18, False), (1 << 12, True)])
def test_a_sum_in_another_order_is_the_same_and_one_without_a_term_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, terms: int, skipped: bool
) -> None:
    def how(model: Model, ops: frozenset[int], peaks: Mapping[int, float]) -> Model:
        model = KEEP_BATCH.apply(model, ops, peaks)
        sums = frozenset(op.index for op in model.graph().ops if op.name == "SUM")
        return SPLIT_SUM.apply(_without_a_term(model) if skipped else model, sums, peaks)

    found = fixed_by(monkeypatch, tmp_path, Rewrite("another way", how), summed(terms))
    assert (found.rewritten is None) == skipped
    if not skipped:
        assert found.check is not None and not found.check.identical
        assert found.check.worst.float16_steps < 1 < found.check.worst.float32_steps


def _without_a_term(model: Model) -> Model:
    rebuild = Rebuild(model)
    for op in rebuild.graph.ops:
        if op.name == "EXP":
            mask = np.ones(rebuild.shape(op.outputs[0]), np.float32)
            mask.reshape(-1)[100] = 0
            made = rebuild.binary("MUL", rebuild.unary("EXP", op.inputs[0]), rebuild.constant(mask))
            rebuild.replace(op.outputs[0], made)
        else:
            rebuild.keep(op)
    return rebuild.finish()


def test_inputs_that_do_not_fit_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the model takes"):
        fix_model(FixRequest(saved(tmp_path, rows()), target_of("host"), given={"x": normal((3, 3))}))


def test_a_model_whose_inputs_cannot_be_drawn_is_left_unless_some_are_given(tmp_path: Path) -> None:
    graph = GraphBuilder()
    rows = 1 << 17
    x = graph.binary("ADD", graph.input("x", (rows, 1024)), graph.constant(normal((rows, 1))))
    graph.output(graph.reduce("MEAN", x, 0), "y")
    found = fix_model(FixRequest(saved(tmp_path, graph.build()), target_of("host")))
    assert found.rewritten is None
    (why,) = {left.why for left in found.left}
    assert why.startswith("it cannot be checked: Input 'x' has shape [131072, 1024]") and "--inputs" in why
