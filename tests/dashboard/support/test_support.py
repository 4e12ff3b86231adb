"""The document of a sweep, what two differ in, and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.dashboard.support.differences import differences, in_order
from harness.dashboard.support.document import Cell, FormRow, Outcome, Support, read, write
from harness.dashboard.support.page import op_lines, render_support, sentence


def row(id: str, op: str, *cells: Cell, family: str = "op") -> FormRow:
    return FormRow(id, op, f"[6,8] <{id}> -> [6,8]", family, "float32", 2, "0" * 8, cells)


def matrix(runtime: str, *rows: FormRow) -> Support:
    device = {"name": "host", "kind": "host", "runtime": runtime, "gpu": "llvmpipe"}
    return Support(device, "2026-11-30", "0.1.0", "default", 1.5, rows, {"WHILE": "it runs other subgraphs"})


def wrong(context: str = "alone", known: str = "", **more: object) -> Cell:
    return Cell(context, "wrong", "cosine 0.1", 300.0, known=known, **more)  # type: ignore[arg-type]


OLD = matrix(
    "2.1.3",
    row("add-1", "ADD", Cell("alone", "pass"), wrong("read")),
    row("pad-1", "PAD", wrong(known="rank-3-pad")),
    row("relu-1", "RELU", Cell("alone", "refused", "RELU (type INT8)", known="")),
)
NEW = matrix(
    "2.3.0",
    row("add-1", "ADD", Cell("alone", "pass"), Cell("read", "pass")),
    row("pad-1", "PAD", Cell("alone", "crash", "the worker ended", unsteady=True, known="")),
    row("relu-1", "RELU", Cell("alone", "pass")),
    row("tanh-1", "TANH", Cell("alone", "wrong", "8 of 48 values NaN", float("inf"), known="")),
)


def test_a_document_is_read_as_it_was_written_a_form_in_each_line(tmp_path: Path) -> None:
    write(NEW, tmp_path / "new.json")
    assert read(tmp_path / "new.json") == NEW
    lines = (tmp_path / "new.json").read_text().splitlines()
    assert sum('"id":' in line for line in lines) == 4
    assert json.loads((tmp_path / "new.json").read_text())["counts"]["pass"] == 3


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 2}', "none", '{"schema": 1, "device": {}, "forms": 3}'])
def test_what_is_no_matrix_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(UsageError, match="is no support matrix"):
        read(tmp_path / "odd.json")


def test_releases_of_a_device_are_told_from_the_oldest_however_they_were_given() -> None:
    web, odd = (
        replace(NEW, device={**NEW.device, "name": "web"}),
        replace(NEW, device={**NEW.device, "runtime": "none"}),
    )
    night = replace(NEW, device={**NEW.device, "name": "host@nightly", "runtime": "2.10.0.dev20261026"})
    assert in_order([web, night, NEW, OLD]) == [web, OLD, NEW, night]
    assert in_order([NEW, odd, web, OLD]) == [odd, OLD, NEW, web]


def test_what_a_cell_says_has_how_far_it_is_off_where_that_is_a_figure() -> None:
    assert wrong().said == "cosine 0.1, 300 times what rounding explains"
    assert NEW.rows[-1].cells[0].said == "8 of 48 values NaN"


def test_an_outcome_that_is_none_is_refused(tmp_path: Path) -> None:
    write(NEW, tmp_path / "new.json")
    text = (tmp_path / "new.json").read_text().replace('"alone":"crash"', '"alone":"splendid"')
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(UsageError, match="'splendid' is none of pass"):
        read(tmp_path / "odd.json")


def test_what_is_wrong_in_a_context_alone_is_visible() -> None:
    assert [r.in_context_only for r in OLD.rows] == [True, False, False]
    page = render_support([OLD], [])
    assert page.count("right alone, wrong beside other ops") == 1
    assert 'data-state="pass wrong find context"' in page


def test_finds_are_what_fails_and_is_not_in_the_catalogue() -> None:
    assert [(r.op, c.context) for r, c in OLD.finds()] == [("ADD", "read")]
    assert [(r.op, c.outcome) for r, c in NEW.finds()] == [("PAD", "crash"), ("TANH", "wrong")]


def test_differences_are_told_by_kind_and_what_only_one_has_does_not_count() -> None:
    found = differences(OLD, NEW)
    kinds: list[tuple[str, str, Outcome, Outcome]] = [(c.op, c.kind, c.before, c.after) for c in found.cells]
    assert kinds == [
        ("ADD", "mended", "wrong", "pass"),
        ("PAD", "other", "wrong", "crash"),
        ("RELU", "taken", "refused", "pass"),
    ]
    assert found.sentence() == (
        "host 2.1.3 to host 2.3.0: 3 of 4 cells differ: 1 wrong before, right now, "
        "1 refused before, right now, 1 otherwise."
    )
    elsewhere = differences(OLD, replace(NEW, device={**NEW.device, "name": "web"}))
    assert ": 1 wrong on the first, right on the second, 1 refused on the first, right on the" in elsewhere.sentence()


def test_a_sentence_tells_the_figures() -> None:
    assert sentence(NEW) == (
        "Of 5 cells on host 2.3.0, 3 pass, 2 are wrong or crash, 2 of which the catalogue does not know, "
        "and 0 are refused."
    )


def test_the_page_has_every_form_on_every_device_and_escapes_what_it_shows() -> None:
    page = render_support([OLD, NEW], [differences(OLD, NEW)])
    assert "&lt;add-1&gt;" in page and "<add-1>" not in page
    assert page.count('class="op"') == 4
    assert "it runs other subgraphs" in page and "rank-3-pad" in page
    assert "http" not in page.replace("http-equiv", "")


def test_an_op_is_counted_by_type_and_rank() -> None:
    (add, *_), _ = op_lines([OLD, NEW]), None
    ((words, (old, new)),) = add.by_type
    assert (words, old["wrong"], new["pass"]) == ("float32, rank 2", 1, 2)
