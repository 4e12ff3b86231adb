"""The page in a real browser: it sorts, filters and tells, fits a phone, and asks for nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.report.page import write_report
from tests.browser import Browser

if TYPE_CHECKING:
    from tests.report.conftest import Make, Samples

pytestmark = pytest.mark.slow


@pytest.fixture
def page(make: Make, samples: Samples) -> Path:
    """Forty ops: two culprits, one unread, one infinite."""
    ops = [samples.op(i, ratio=0.1 + i * 7 % 40, op="ADD" if i % 2 else "MUL") for i in range(40)]
    ops[11] = samples.op(11, "culprit", op="BATCH_MATMUL", output="scope/attention", ratio=335.0)
    ops[20] = samples.op(20, "culprit", op="PAD", ratio="inf", nonfinite=7)
    ops[30] = samples.op(30, "unread", op="GATHER")
    return write_report(make(ops=ops))


SHOWN = "[...document.querySelectorAll('#op-table tbody tr:not([hidden]) th')].map(cell => cell.textContent)"


def press(browser: Browser, head: str) -> None:
    browser.js(f"[...document.querySelectorAll('#op-table thead button')].find(b => b.textContent == '{head}').click()")


def sorted_by(browser: Browser) -> Any:
    return browser.js(
        "[...document.querySelectorAll('#op-table [aria-sort]')].map(h => [h.textContent, h.getAttribute('aria-sort')])"
    )


def test_a_click_on_a_head_sorts_and_another_turns_the_order(browser: Browser, page: Path) -> None:
    browser.open(page, 1200)
    assert sorted_by(browser) == [["#", "ascending"]]
    press(browser, "Ratio")
    assert sorted_by(browser) == [["Ratio", "descending"]]
    order = browser.js(SHOWN)
    assert order[:2] == ["20", "11"] and order[-1] == "30"
    press(browser, "Ratio")
    assert sorted_by(browser) == [["Ratio", "ascending"]]
    order = browser.js(SHOWN)
    assert order[-3:] == ["11", "20", "30"]
    press(browser, "Verdict")
    assert browser.js(SHOWN)[:3] == ["11", "20", "30"]
    press(browser, "#")
    assert browser.js(SHOWN) == [str(i) for i in range(40)]


def test_words_and_verdict_filter_together(browser: Browser, page: Path) -> None:
    browser.open(page, 1200)
    type_in = "(f => { f.value = '%s'; f.dispatchEvent(new Event('input')); })(document.getElementById('filter'))"
    browser.js(type_in % "ATTENTION matmul")
    assert browser.js(SHOWN) == ["11"]
    assert browser.js("document.getElementById('shown').textContent") == "1 of 40 shown"
    browser.js(type_in % "#20")
    assert browser.js(SHOWN) == ["20"]
    browser.js(type_in % "")
    browser.js("document.getElementById('v-culprit').click()")
    assert browser.js(SHOWN) == ["11", "20"]
    browser.js("document.getElementById('v-all').click()")
    assert len(browser.js(SHOWN)) == 40


def test_the_address_of_a_row_shows_it_even_when_it_is_filtered_away(browser: Browser, page: Path) -> None:
    browser.open(page, 1200)
    browser.js("document.getElementById('v-culprit').click()")
    browser.js("void (location.hash = 'row-35')")
    deadline = time.monotonic() + 10
    while len(browser.js(SHOWN)) != 40 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(browser.js(SHOWN)) == 40


@pytest.mark.parametrize("view", ["ratio", "error"])
def test_the_mark_under_the_pointer_tells_its_figures(view: str, browser: Browser, page: Path) -> None:
    browser.open(page, 1200)
    browser.js(f"document.getElementById('view-{view}').click()")
    browser.js(f"document.querySelector('.chart.{view}').scrollIntoView({{behavior: 'instant', block: 'center'}})")
    mark = f"document.querySelectorAll('.chart.{view} .points > *')[11].getBoundingClientRect()"
    box = browser.js(f"(b => [b.left + b.width / 2, b.top + b.height / 2])({mark})")
    browser.cdp("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + 4, y=box[1] + 3)
    told = browser.js(f"document.querySelector('.chart.{view} .tip').textContent")
    assert told.startswith("#11 BATCH_MATMUL: 335× (local error 0.00100, expected 0.00200), culprit")
    assert not browser.js(f"document.querySelector('.chart.{view} .tip').hidden")


@pytest.mark.parametrize("width", [390, 1000, 1600])
def test_the_page_is_as_wide_as_its_window_and_no_wider(width: int, browser: Browser, page: Path) -> None:
    browser.open(page, width)
    assert browser.js("document.documentElement.scrollWidth") == width


def test_the_browser_has_nothing_to_complain_of_and_loads_nothing(browser: Browser, page: Path) -> None:
    browser.complaints()
    browser.open(page, 1200)
    assert browser.complaints() == []
    assert browser.js("performance.getEntriesByType('resource').map(r => r.name)") == []


def test_a_hostile_name_runs_nothing(browser: Browser, make: Make, samples: Samples) -> None:
    names = ["</script><img src=x onerror='document.title=1'>", "\"><svg onload='document.title=1'>"]
    ops = [samples.op(i, "culprit", op=name, output=name) for i, name in enumerate(names)]
    result = samples.localization(culprits=[samples.culprit(0, op=names[0], output=names[1], signature=names[0])])
    browser.complaints()
    browser.open(write_report(make(samples.record(result=result), ops=ops)), 1200)
    assert browser.js("document.title") == "1 op at fault – decoder.tflite"
    assert browser.js("document.images.length") == 0
    assert browser.complaints() == []
