"""The page in a real browser: it sorts, filters and tells, fits a phone, and asks for nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.report.drawn.graph import write_graph
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


@pytest.fixture
def drawn(make: Make, samples: Samples) -> Path:
    """A culprit with the graph around it, values and files, and a command to go on with."""
    ops = [samples.op(i, "culprit" if i == 4 else "fine", op="ADD", output=f"t{i}") for i in range(9)]
    culprit = samples.culprit(4, op="ADD", output="t4", reproducer="/x/reproducers/0004-ADD")
    folder = make(samples.record(result=samples.localization(culprits=[culprit])), ops=ops)
    graph = GraphBuilder()
    one, other = (graph.unary("RELU", graph.input(f"x{i}", (1, 64, 64, 32))) for i in range(2))
    joined = graph.binary("ADD", one, other)
    joined = graph.binary("ADD", joined, graph.constant(np.ones((1, 64, 64, 32), np.float32)))
    joined = graph.binary("ADD", joined, graph.input("x2", (1, 64, 64, 32)))
    for number in range(4):
        graph.output(graph.unary("NEG", joined), f"y{number}")
    write_graph(folder, graph.build().graph())
    rng = np.random.default_rng(0)
    for label, name in (("0004-ADD", "t4"), ("0005-NEG", "t5"), ("output-pred_masks", "pred_masks")):
        values = rng.normal(size=(1, 48, 64, 32)).astype(np.float32)
        noise = values + 1e-3 * rng.normal(size=values.shape).astype(np.float32)
        noise[0, 3, 4, 5] = np.nan
        TensorStore(folder / "tensors").put(label, "reference", values, name)
        TensorStore(folder / "tensors").put(label, "device", noise, name)
    (folder / "reproducers/0004-ADD").mkdir(parents=True)
    (folder / "reproducers/0004-ADD/reproduce.py").write_text("")
    return write_report(folder)


# Whatever is wider than the window lies in a frame of its own that scrolls.
CUT = """[...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !e.closest('.scroll, pre, .defs, svg.map');
}).map(e => e.tagName + '.' + (e.getAttribute('class') ?? ''))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
def test_drawings_and_tables_fit_the_window(width: int, scheme: str, browser: Browser, drawn: Path) -> None:
    browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.complaints()
    browser.open(drawn, width)
    browser.cdp("Emulation.setEmulatedMedia", features=[])
    assert browser.js("document.documentElement.scrollWidth") == width
    assert browser.js(CUT) == []
    assert browser.complaints() == []
    # On a phone only the drawing of the graph and the table of ops are wider than it, and a chart of many ops.
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.className)"
    allowed = {"scroll around", "scroll tall"} if width < 500 else set()
    assert set(browser.js(wide)) <= allowed
    tables = "[...document.querySelectorAll('table.stack')].every(t => t.scrollWidth <= t.parentElement.clientWidth)"
    assert browser.js(tables)


def test_a_drawing_wider_than_a_phone_begins_at_its_op(browser: Browser, drawn: Path) -> None:
    browser.open(drawn, 390)
    middle = "(e => { const b = document.querySelector(e).getBoundingClientRect(); return b.left + b.width / 2; })"
    assert 60 < browser.js(f"{middle}('.around .here')") < 330


def test_a_button_copies_what_stands_beside_it(browser: Browser, drawn: Path) -> None:
    browser.open(drawn, 1200)
    buttons = "[...document.querySelectorAll('.copy')]"
    assert browser.js(f"{buttons}.length") >= 3 and browser.js(f"{buttons}.every(b => !b.hidden)")
    browser.js("void Object.defineProperty(navigator, 'clipboard', {value: {writeText: t => { window.taken = t; }}})")
    browser.js(f"{buttons}.find(b => b.dataset.copy === 'reproduce-4-4').click()")
    assert browser.js("window.taken") == "python reproducers/0004-ADD/reproduce.py"
    browser.js(f"{buttons}.find(b => b.dataset.copy === 'json-4-4').click()")
    assert browser.js("JSON.parse(window.taken).ops") == [4, 4]


def test_an_address_opens_the_values_that_it_names(browser: Browser, drawn: Path) -> None:
    browser.open(drawn, 1200)
    assert browser.js("[...document.querySelectorAll('details.values')].map(d => d.open)") == [True, False, False]
    browser.js("void (location.hash = 'values-2')")
    deadline = time.monotonic() + 10
    opened = "document.getElementById('values-2').open"
    while not browser.js(opened) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert browser.js(opened)


def test_a_hostile_name_runs_nothing(browser: Browser, make: Make, samples: Samples) -> None:
    names = ["</script><img src=x onerror='document.title=1'>", "\"><svg onload='document.title=1'>"]
    ops = [samples.op(i, "culprit", op=name, output=name) for i, name in enumerate(names)]
    result = samples.localization(culprits=[samples.culprit(0, op=names[0], output=names[1], signature=names[0])])
    browser.complaints()
    browser.open(write_report(make(samples.record(result=result), ops=ops)), 1200)
    assert browser.js("document.title") == "1 op at fault – decoder.tflite"
    assert browser.js("document.images.length") == 0
    assert browser.complaints() == []
