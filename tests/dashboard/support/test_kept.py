"""The matrices in docs/support: they are of the forms that there are, they have the corpus, and the page shows them."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from device_tests.corpus import CORPUS
from device_tests.corpus.bug import NOW, OLDEST
from harness.api.sweep.known import known_as
from harness.api.sweep.sweep import digest_of, form_digest
from harness.dashboard.support.document import FAILING, Support
from harness.graph.forms.catalogue import every_form, not_asked
from harness.graph.forms.contexts import build, contexts_of
from harness.lint.knowledge.reading import entries
from harness.localize.explain.known import target_of_run
from scripts import support_page
from tests.documents import validator

KEPT = {support.title: support for support in support_page.kept()}
OF_DEVICE = {NOW: "host 2.3.0", OLDEST: "host 2.1.3"}
HOSTS = [KEPT[title] for title in OF_DEVICE.values()]
EACH = pytest.mark.parametrize("support", HOSTS, ids=lambda support: support.title)
EACH_KEPT = pytest.mark.parametrize("support", KEPT.values(), ids=KEPT)

# Bugs of the corpus that no form can be, and why.
BEYOND_THE_FORMS = {
    "flat_input": "a size of millions",
    "flat_input_cut_up": "a size of millions",
    "uneven_input": "a size of hundreds of thousands",
    "large_vocabulary": "a size of hundreds of thousands",
    "narrow_input": "a size of millions",
    "harmful_underflow": "values that float16 loses, and no op that is wrong",
    "channels_then_sum": "no pair has an ADD that reads an input beside the result on the way",
    "channels_of_minus_three": "no pair has an ADD that reads an input beside the result on the way",
    "layernorm_overflow": "squares that float16 loses: the form of such values becomes one kernel, which keeps them",
}


@pytest.mark.parametrize("path", sorted(support_page.KEPT.glob("*.json")), ids=lambda path: path.stem)
def test_a_kept_matrix_is_as_its_schema_says_and_small_enough_to_keep(path) -> None:  # type: ignore[no-untyped-def]
    assert path.stat().st_size < 2_000_000
    assert list(validator("support").iter_errors(json.loads(path.read_text("utf-8")))) == []


@EACH
def test_a_kept_matrix_has_every_form_in_every_context(support: Support) -> None:
    assert support.whole
    assert {r.id: tuple(c.context for c in r.cells) for r in support.rows} == {
        form.id: contexts_of(form) for form in every_form()
    }
    assert support.not_asked == not_asked()


def check_digests(support: Support, count: int | None) -> None:
    digests = {row.id: row.digest for row in support.rows}
    forms = every_form() if count is None else random.Random(3).sample(every_form(), count)
    for form in forms:
        made = form_digest([digest_of(build(form, context)) for context in contexts_of(form)])
        assert made == digests[form.id], f"{form.op} {form.label} was asked as another model"


@EACH
def test_a_sample_was_asked_as_the_forms_are(support: Support) -> None:
    check_digests(support, 60)


@pytest.mark.slow
@EACH
def test_every_cell_was_asked_as_its_form_is(support: Support) -> None:
    check_digests(support, None)


def check_known(support: Support) -> None:
    anew = support_page.looked_up(support)
    assert [  # a few words, where two documents beside each other would be megabytes
        f"{row.op} {row.label}, {was.context}: {was.known!r}, now {now.known!r}"
        for (row, was), (_, now) in zip(support.cells(), anew.cells(), strict=True)
        if was.known != now.known
    ] == []
    assert anew == support


@EACH_KEPT
def test_what_the_catalogue_knows_of_a_sample_is_what_the_matrix_says(support: Support) -> None:
    rows = random.Random(4).sample(support.rows, 200)
    check_known(replace(support, rows=tuple(rows)))


@pytest.mark.slow
@EACH_KEPT
def test_what_the_catalogue_knows_of_a_kept_matrix_is_what_it_says_of_its_cells(support: Support) -> None:
    check_known(support)


def test_a_form_that_was_asked_as_another_model_keeps_what_was_said() -> None:
    support = KEPT["host 2.3.0"]
    row = next(row for row in support.rows if row.cells[0].known == "refused-kind")
    for other in (replace(row, digest="0" * 8), replace(row, id="none-such")):
        told = replace(other, cells=tuple(replace(cell, known="once") for cell in other.cells))
        assert support_page.looked_up(replace(support, rows=(told,))).rows == (told,)
    told = replace(row, cells=tuple(replace(cell, known="once") for cell in row.cells))
    assert support_page.looked_up(replace(support, rows=(told,))).rows == (row,)


@pytest.mark.parametrize("device", OF_DEVICE)
def test_the_sweep_alone_finds_every_bug_of_the_corpus(device: str) -> None:
    """A bug is found where a cell is wrong that the entry knows of which the bug is the evidence. What is known is
    asked anew: a kept matrix may be older than the catalogue."""
    support = KEPT[OF_DEVICE[device]]
    target, forms = target_of_run(support.device), {form.id: form for form in every_form()}
    found = {
        known_as(build(form, cell.context).model, cell.outcome, target, far=form.far)  # type: ignore[arg-type]
        for row, cell in support.cells()
        if cell.outcome in FAILING
        for form in (forms[row.id],)
    }
    entry_of = {name: entry.name for entry in entries() for each in entry.evidence for name in each.corpus}
    broken = [bug.name for bug in CORPUS if device in bug.broken and bug.name not in BEYOND_THE_FORMS]
    assert len(broken) > 40
    assert [(name, entry_of.get(name)) for name in broken if entry_of.get(name) not in found] == []


def test_the_page_shows_what_is_kept() -> None:
    page = support_page.PAGE.read_text("utf-8")
    assert page == support_page.filled(page, support_page.kept())
