"""The page: what a cell says and where it leads, whatever the names in it are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from harness.dashboard.matrix.cells import MARKS, STATES, TONES
from harness.dashboard.matrix.collect import collect
from harness.dashboard.matrix.matrix import build_matrix
from harness.dashboard.matrix.page import WORDS, write_matrix
from tests.pages import Node, parse
from tests.report.test_hostile import NAMES

if TYPE_CHECKING:
    from tests.browser import Browser
    from tests.dashboard.matrix.conftest import Make

WRONG, RIGHT = [("fine", 1.0), ("culprit", 335.0)], [("fine", 1.0), ("fine", 1.0)]


def page_of(results: Path, out: Path | None = None) -> Node:
    path = write_matrix(build_matrix(collect([], results)), out or results / "matrix.html", "a lab")
    return parse(path.read_text(encoding="utf-8"))


def squeezed(node: Node) -> str:
    return " ".join(node.text.split())


def test_every_state_has_a_word_a_mark_and_a_colour() -> None:
    assert set(WORDS) == set(MARKS) == set(TONES) == set(STATES)
    assert TONES["pass"] == "good" and [state for state in STATES if TONES[state] == "good"] == ["pass"]


def test_a_cell_says_what_became_of_the_model_and_leads_to_its_report(
    make: Make, results: Path, tmp_path: Path
) -> None:
    right, wrong = make(), make(device="pixel8a", ok=False, ops=WRONG)
    page = page_of(results, tmp_path / "elsewhere.html")
    cells = page.one("table", id="cells").all("a", class_="line")
    assert [squeezed(cell) for cell in cells] == ["✓ pass 1.20×", "◆ fail 335× ADD #1"]
    targets = [(tmp_path / unquote(cell.attrs["href"])).resolve() for cell in cells]
    assert targets == [run / "report.html" for run in (right, wrong)]


def test_a_job_that_never_ran_leads_nowhere_and_says_why(make: Make, results: Path) -> None:
    make()
    job = {"model": "decoder.tflite", "device": "s24", "state": "cancelled", "reason": "nobody has an s24"}
    (results / "matrix.json").write_text(json.dumps({"schema": 1, "jobs": [job]}))
    (cell,) = page_of(results).one("table", id="cells").all("span", class_="line")
    assert squeezed(cell) == "– cancelled nobody has an s24"


def test_ops_stand_by_device_and_what_was_left_out_is_told(make: Make, results: Path) -> None:
    make(device="host@2.1.5", ok=False, ops=WRONG)
    make(device="host@2.2.0", ops=RIGHT)
    (make() / "run.json").write_text("{")
    page = page_of(results)
    ops = page.one("section", id="ops")
    assert [squeezed(cell) for cell in ops.one("tbody").all("td")] == [
        "4×8", "◆ culprit 335×", "● fine 1.00×", "differ",
    ]  # fmt: skip
    assert "LiteRT 2.1.5 → 2.2.0: fail → pass; mended ADD #1." in page.one("section", id="releases").text
    assert "run.json cannot be read" in page.one("section", id="left-out").text


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_text_wherever_they_are(make: Make, results: Path, name: str) -> None:
    plain = "model.tflite" if not name.strip() else name
    run = make(plain, plain, ok=False, ops=WRONG, runtime=name)
    table = (run / "ops.csv").read_text(encoding="utf-8")
    quoted = name.replace('"', '""').replace("\ud800", "?").replace("\x00", "")
    (run / "ops.csv").write_text(table.replace(",ADD,", f',"{quoted}",'), encoding="utf-8")
    make(plain, "other", status="failed", error=name, exit_code=3)
    job = {"model": plain, "device": "s24", "state": name, "reason": name}
    (results / "matrix.json").write_text(json.dumps({"schema": 1, "jobs": [job]}))
    write_matrix(build_matrix(collect([], results)), results / "matrix.html", name)
    text = (results / "matrix.html").read_text(encoding="utf-8")
    page = parse(text)
    assert len(page.all("script")) == 1 and not page.all("img") and not page.all("iframe")
    assert len(text) < 400_000
    known = {"class", "id", "href", "scope", "data-state", "role", "tabindex", "aria-label", "rowspan"}
    for cell in page.one("main").walk():
        assert not [key for key in cell.attrs if key.startswith("on")]
        if cell.tag in ("td", "th", "a", "bdi", "tr"):
            assert set(cell.attrs) <= known
    assert all(re.fullmatch(r"[\w./%~+-]+|#[a-z-]+", link.attrs["href"]) for link in page.all("a"))
    assert "\u202e" not in text and "\u2066" not in text and "\x1b" not in text


@pytest.mark.parametrize("width", [1400, 390])
def test_in_a_browser_it_fits_filters_and_asks_for_nothing(
    make: Make, results: Path, browser: Browser, width: int
) -> None:
    for model in ("decoder.tflite", "encoder.tflite", "a-rather-long-name-of-a-model-without-a-gap.tflite"):
        for device in ("host@2.1.5", "host", "pixel8a", "s24"):
            make(model, device, ok=device != "s24", ops=WRONG if device == "s24" else RIGHT)
    make("encoder.tflite", "pixel7", status="failed", error="It was lost. " * 40, exit_code=3)
    write_matrix(build_matrix(collect([], results)), results / "matrix.html", "a lab")
    browser.open(results / "matrix.html", width)
    assert browser.js("document.documentElement.scrollWidth") <= width
    shown = "[...document.querySelectorAll('#cells tbody tr:not([hidden])')].length"
    assert browser.js(shown) == 3
    browser.js(
        "(f => { f.value = 'trouble'; f.dispatchEvent(new Event('change')); })"
        "(document.querySelector('select[data-column=state]'))"
    )
    assert browser.js(shown) == 1
    assert browser.complaints() == []
