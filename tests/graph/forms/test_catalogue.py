"""The forms say what they are, cover the schema, and build what they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.core.errors import UsageError
from harness.graph.forms import (
    catalogue,
    elementwise,
    integers,
    joining,
    layers,
    layout,
    pairs,
    patterns,
    quantized,
    reductions,
)
from harness.graph.forms.contexts import build, contexts_of
from harness.graph.forms.form import Form, Given, Held, const, draw, ints, single
from harness.graph.model import BUILTIN_OPS

EVERY = catalogue.every_form()
MODULES = (elementwise, reductions, layout, joining, layers, integers, quantized, pairs, patterns)


def one(op: str, words: str) -> Form:
    """The form of an op whose label has these words."""
    (found,) = (form for form in EVERY if form.op == op and words in form.label)
    return found


def test_every_op_of_the_schema_has_a_form_or_a_reason_and_not_both() -> None:
    asked = {op for form in EVERY for op in form.ops}
    assert asked | set(catalogue.not_asked()) == set(BUILTIN_OPS)
    assert asked & set(catalogue.not_asked()) == set()


def test_ids_are_unique_and_forms_that_say_the_same_are_the_same() -> None:
    assert len({form.id for form in EVERY}) == len(EVERY)
    alike: dict[str, list[Form]] = {}
    for module in MODULES:
        for form in module.forms():
            alike.setdefault(form.id, []).append(form)
    for forms in alike.values():
        if len(forms) > 1:
            assert len({build(form).model.to_bytes() for form in forms}) == 1, forms[0].label


def test_an_id_is_made_from_what_the_form_says() -> None:
    made = [single("RELU", [Given(shape)], shape) for shape in ((8,), (8,), (7,))]
    assert made[0].id == made[1].id != made[2].id
    assert made[0].id.startswith("relu-")


def test_a_label_tells_operands_types_places_and_options() -> None:
    form = single("CUMSUM", [Given((3, 6)), ints(1)], (3, 6), "Cumsum", exclusive=True, reverse=False)
    assert form.label == "[3,6], int32 (1) -> [3,6]".replace("->", "exclusive=True, reverse=False ->").replace(
        ") exclusive", "), exclusive"
    )
    assert const(6, 8).words == "const [6,8]"
    assert Held(np.zeros((2, 2), np.float32), how="zeros").words == "const [2,2] zeros"


@pytest.mark.parametrize("values", ["normal", "wide", "halves", "flags", "places below 5", "start 1,2"])
def test_values_are_the_same_each_time_and_finite(values: str) -> None:
    given = Given((2,), values, "float32")
    assert (draw(given) == draw(given)).all() and np.isfinite(draw(given)).all()


def test_contexts_are_asked_of_what_a_product_can_feed_and_read() -> None:
    assert contexts_of(one("ADD", "[3,6,8], [1,6,8] ->")) == ("alone", "behind", "before", "read")
    assert contexts_of(one("LESS", "[6,8] halves, [6,8] halves")) == ("alone",)
    assert {contexts_of(form) for form in EVERY if form.family != "op"} == {("alone", "read")}


def test_the_behind_context_feeds_the_op_from_a_product_and_before_reads_it() -> None:
    form = one("ADD", "[3,6,8], [1,6,8] ->")
    kinds = {c: [op.name for op in build(form, c).model.graph().ops] for c in contexts_of(form)}
    assert kinds == {
        "alone": ["ADD"],
        "behind": ["BATCH_MATMUL", "ADD"],
        "before": ["ADD", "BATCH_MATMUL"],
        "read": ["ADD", "RELU", "MUL", "ADD"],
    }
    assert len(build(form, "read").model.graph().outputs) == 2


def test_ops_are_chosen_by_name_and_pairs_by_either() -> None:
    chosen = catalogue.forms_of(["pad"])
    assert {"PAD", "PAD, MAX_POOL_2D", "TANH, PAD"} <= {form.op for form in chosen}
    assert all("PAD" in form.ops for form in chosen)


@pytest.mark.parametrize(
    "op, words", [("NOP", "no op 'NOP'"), ("WHILE", "WHILE is not asked: it runs other subgraphs")]
)
def test_an_op_without_forms_is_told_why(op: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        catalogue.forms_of([op])


def test_every_axis_and_flag_of_the_scans_is_asked() -> None:
    asked = Counter(
        (form.rank, flags)
        for form in EVERY
        for flags in ("exclusive=False, reverse=False", "exclusive=True, reverse=True")
        if form.op == "CUMSUM" and flags in form.label and form.dtype == "float32"
    )
    assert all(asked[rank, "exclusive=True, reverse=True"] >= rank for rank in (1, 2, 3, 4))
