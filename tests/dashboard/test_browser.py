"""The pages in a real browser: they filter, sort, follow addresses and keys, hand out CSV, and ask for nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.dashboard.build import build

if TYPE_CHECKING:
    from tests.browser import Browser
    from tests.dashboard.conftest import Bench

SHOWN = "[...document.querySelectorAll('table[id] tbody tr:not([hidden])')]"
TYPE = "(f => { f.value = '%s'; f.dispatchEvent(new Event('input')); })(document.getElementById('filter'))"
CHOOSE = (
    "(f => { f.value = '%s'; f.dispatchEvent(new Event('change')); })(document.querySelector('select[data-column=%s]'))"
)
KEY = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '%s', bubbles: true}))"


def count(browser: Browser) -> Any:
    return browser.js(f"{SHOWN}.length")


def until(browser: Browser, script: str, wanted: Any) -> None:
    deadline = time.monotonic() + 20
    while browser.js(script) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert browser.js(script) == wanted


def history(site: Path, name: str) -> Path:
    (path,) = (site / "history").glob(f"{name}-*.html")
    return path


def test_words_and_choices_filter_together_and_stand_in_the_address(browser: Browser, site: Path) -> None:
    browser.open(site / "runs.html", 1200)
    assert count(browser) == 64
    browser.js(CHOOSE % ("pixel8a", "device"))
    browser.js(TYPE % "ENCODER bench")
    assert count(browser) == 13
    assert browser.js("document.getElementById('shown').textContent") == "13 of 64"
    browser.js(CHOOSE % ("invalid", "state"))
    assert count(browser) == 1
    assert browser.js("location.hash") == "#q=ENCODER+bench&device=pixel8a&state=invalid"


def test_an_address_with_a_filter_shows_what_its_sender_saw(browser: Browser, site: Path) -> None:
    browser.open(site / "runs.html", 1200, "#state=failed")
    assert count(browser) == 1
    assert "SIGSEGV" in browser.js(f"{SHOWN}[0].textContent")
    browser.open(site / "runs.html", 1200, "#state=<nonsense>&q=")
    assert count(browser) == 64


def test_the_address_of_a_run_shows_it_even_when_it_is_filtered_away(browser: Browser, site: Path) -> None:
    browser.open(site / "runs.html", 1200)
    address = browser.js(f"{SHOWN}[40].id")
    browser.js(TYPE % "unreadable")
    assert count(browser) < 64
    browser.js(f"void (location.hash = '{address}')")
    until(browser, "document.querySelector('tr.here')?.id", address)
    assert count(browser) == 64


def test_heads_sort_by_exact_values_and_what_has_none_comes_last(browser: Browser, site: Path) -> None:
    browser.open(site / "runs.html", 1200)
    press = "[...document.querySelectorAll('thead button')].find(b => b.textContent == 'p50').click()"
    values = f"{SHOWN}.map(r => r.cells[5].dataset.v === undefined ? null : Number(r.cells[5].dataset.v))"
    for order in (False, True):
        browser.js(press)
        found = browser.js(values)
        there = [value for value in found if value is not None]
        assert there == sorted(there, reverse=order) and found[len(there) :] == [None] * (len(found) - len(there))
        assert len(there) == 62


def test_the_csv_holds_the_rows_that_match_with_exact_values(browser: Browser, site: Path) -> None:
    browser.open(history(site, "decoder-host"), 1200, "#how=GPU fp16")
    browser.js(
        "void (URL.createObjectURL = blob => { blob.text().then(text => { window.taken = text; }); return '#'; })"
    )
    browser.js("document.getElementById('csv').click()")
    until(browser, "typeof window.taken", "string")
    lines = browser.js("window.taken").splitlines()
    assert lines[0] == "run,Started,Command,How,p50,p90,p99,Outputs,Error,State,Runtime"
    assert len(lines) == 1 + 13
    cells = lines[-1].split(",")
    assert cells[0].startswith("20261101T030000Z-decoder-host") and float(cells[4]) == pytest.approx(10.1, abs=1e-3)


def test_from_the_overview_to_a_run_and_its_report(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html", 1200)
    browser.js("document.querySelector('.findings a').click()")
    until(browser, "document.title", "Fast and wrong – decoder.tflite on pixel8a")
    until(browser, "document.querySelector('tr.here') !== null", True)
    browser.js("document.querySelector('tr.here td:last-child a').click()")
    until(browser, "document.title", "report")


def test_keys_search_move_open_and_change_pages(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html", 1200)
    browser.js(KEY % "/")
    assert browser.js("document.activeElement.id") == "filter"
    browser.js("document.activeElement.blur()")
    browser.js(KEY % "j")
    browser.js(KEY % "j")
    browser.js(KEY % "k")
    here = "[...document.querySelectorAll('#series tbody tr')].findIndex(r => r.classList.contains('here'))"
    assert browser.js(here) == 0
    browser.js(KEY % "?")
    assert browser.js("document.getElementById('help').open") is True
    browser.js("document.getElementById('help').close()")
    browser.js(KEY % "m")
    until(browser, "document.title", "Matrix – dashboard")
    browser.js(KEY % "o")
    until(browser, "document.querySelector('#series') !== null", True)
    browser.js(KEY % "j")
    browser.js(KEY % "Enter")
    until(browser, "document.querySelector('#run-table') !== null", True)


def test_marks_of_a_drawing_tell_their_run_and_arrows_go_along(browser: Browser, site: Path) -> None:
    browser.open(history(site, "decoder-pixel8a"), 1200)
    marks = "document.querySelectorAll('#lane-2 .drawing a')"
    assert browser.js(f"[...{marks}].filter(m => m.getAttribute('tabindex') == '0').length") == 1
    browser.js(f"[...{marks}].find(m => m.getAttribute('tabindex') == '0').focus()")
    assert not browser.js("document.querySelector('#lane-2 .tip').hidden")
    told = browser.js("document.querySelector('#lane-2 .tip').textContent")
    assert told.startswith("12 Nov 2026 03:00 · p50 4.04 ms, p90 4.07 ms · outputs fail (38.0× what is explained)")
    left = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true}))"
    for _ in range(2):  # the mark of the same run in the other part of the drawing, and the run before
        browser.js(left)
    assert browser.js("document.querySelector('#lane-2 .tip').textContent").startswith("11 Nov 2026")


def test_the_matrix_changes_what_its_cells_show(browser: Browser, site: Path) -> None:
    browser.open(site / "matrix.html", 1200)
    shown = "[...document.querySelectorAll('#cells .value')].filter(v => v.checkVisibility()).map(v => v.textContent)"
    assert "4.04 ms" in browser.js(shown)
    browser.js("document.getElementById('view-against').click()")
    assert "10.0× faster" in browser.js(shown) and "4.04 ms" not in browser.js(shown)
    browser.js("document.getElementById('view-error').click()")
    assert "38.0×" in browser.js(shown)


@pytest.mark.parametrize("width", [360, 390, 760, 1000, 1600])
def test_every_page_is_as_wide_as_its_window_and_no_wider(width: int, browser: Browser, site: Path) -> None:
    for page in (site / "index.html", site / "matrix.html", site / "runs.html", history(site, "decoder-host")):
        browser.open(page, width)
        assert browser.js("document.documentElement.scrollWidth") == width, page.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drawings_take_the_colours_of_the_scheme(scheme: str, browser: Browser, site: Path) -> None:
    browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(history(site, "decoder-pixel8a"), 1200)
    mark = "getComputedStyle(document.querySelector('#lane-2 .drawing a :is(use, path)')).fill"
    assert browser.js(mark) == {"light": "rgb(176, 30, 20)", "dark": "rgb(255, 145, 136)"}[scheme]
    browser.cdp("Emulation.setEmulatedMedia", features=[])


def test_the_browser_has_nothing_to_complain_of_and_loads_nothing(browser: Browser, site: Path) -> None:
    browser.complaints()
    for page in (site / "index.html", site / "matrix.html", site / "runs.html", history(site, "decoder-host")):
        browser.open(page, 1200)
        assert browser.complaints() == []
        assert browser.js("performance.getEntriesByType('resource').map(r => r.name)") == []


def test_hostile_names_run_nothing_and_stay_text(browser: Browser, bench: Bench, tmp_path: Path) -> None:
    names = ["</script><img src=x onerror='document.title=1'>.tflite", "\"><svg onload='document.title=1'>"]
    flaw = [{"reason": names[0], "detail": names[1]}]
    for night in range(2):
        folder = bench(tmp_path / "r", night, result={"commit": names[0], "invalid": flaw * night})
        record = json.loads((folder / "run.json").read_text())
        record["model"]["path"], record["device"] = names[0].replace("/", "\u2215"), {"name": names[1], "gpu": names[0]}
        (folder / "run.json").write_text(json.dumps(record))
        folder.rename(folder.with_name(f"{folder.name} <b>#?%41&"))
    build(tmp_path / "r", tmp_path / "site")
    browser.complaints()
    for page in (tmp_path / "site").rglob("*.html"):
        browser.open(page, 1200)
        assert browser.js("document.title") != "1" and browser.js("document.images.length") == 0
        assert names[1] in browser.js("document.body.textContent"), page.name
        assert browser.complaints() == []
    browser.open(tmp_path / "site" / "runs.html", 1200)
    browser.js("document.querySelector('#run-table td:last-child a').click()")
    until(browser, "document.title", "report")


def test_a_long_list_shows_its_first_rows_until_more_are_asked_for(
    browser: Browser, bench: Bench, tmp_path: Path
) -> None:
    folder = bench(tmp_path / "r", 0)
    for number in range(230):
        copy = tmp_path / "r" / f"20261120T0000{number:03}Z-x"
        copy.mkdir()
        (copy / "run.json").write_text((folder / "run.json").read_text())
    build(tmp_path / "r", tmp_path / "site")
    browser.open(tmp_path / "site" / "runs.html", 1200)
    assert count(browser) == 200
    browser.js("document.querySelector('.more').click()")
    assert count(browser) == 231
