"""What the pages say: the fast wrong answer, the step, the run that does not count."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.dashboard import pages
from harness.dashboard.build import build
from harness.dashboard.findings import findings, site_verdict, speed
from harness.dashboard.plots import percent
from harness.dashboard.series import group
from harness.report import page as report_page
from tests.colours import contrast
from tests.pages import Node, parse

if TYPE_CHECKING:
    from tests.dashboard.conftest import Bench, Facts


LANE_COLOUR = re.compile(r"--(\w+): (#[0-9a-f]{6});")


def squeezed(node: Node) -> str:
    return " ".join(node.text.split())


def history(site: Path, model: str, device: str) -> Node:
    (path,) = (site / "history").glob(f"{model}-{device}-*.html")
    return parse(path.read_text(encoding="utf-8"))


def lane(page: Node, number: int) -> Node:
    return page.one("article", id=f"lane-{number}")


def test_a_fast_wrong_answer_is_red_and_comes_first(site: Path) -> None:
    page = history(site, "decoder", "pixel8a")
    banner = page.one("div", class_="verdict")
    assert "bad" in banner.attrs["class"].split()
    assert squeezed(banner).startswith(
        "Fast and wrong GPU fp16 takes 4.04 ms against 40.4 ms on CPU, 4 threads (10.0× faster), and its outputs are "
        "wrong: pred_masks is off by 38.0× what the arithmetic explains."
    )
    overview = parse((site / "index.html").read_text())
    first = overview.one("ul", class_="findings").all("li")[0]
    assert first.attrs["class"] == "bad" and squeezed(first).startswith("Fast and wrong decoder.tflite on pixel8a")
    drawn = lane(page, 2).one("svg")
    assert sum("var(--bad)" in node.attrs.get("fill", "") for node in drawn.walk()) >= 12


def test_a_right_answer_has_no_red_mark(site: Path) -> None:
    drawn = lane(history(site, "decoder", "host"), 1).one("svg")
    assert not [node for node in drawn.walk() if "var(--bad)" in node.attrs.get("fill", "")]


def test_a_step_is_told_with_its_size_its_day_and_its_run(site: Path) -> None:
    page = history(site, "decoder", "host")
    article = lane(page, 2)
    assert "▲ +20 %" in squeezed(article.one("h3"))
    note = article.all("p", class_="fine-print")[0]
    assert squeezed(note).startswith("10.1 ms → 12.1 ms since 8 Nov 2026 03:00, commit")
    row = page.one("tr", id=note.one("a").attrs["href"][1:])
    assert "12.1 ms" in row.text
    assert [t.text for t in article.one("svg").all("text") if "▲" in t.text] == ["▲ +20 %"]


def test_an_invalid_run_is_marked_struck_out_and_in_no_figure(site: Path) -> None:
    page = history(site, "encoder", "pixel8a")
    assert "1 of 13 benchmarks does not count: 1 busy." in squeezed(page.one("div", class_="verdict"))
    row = page.one("table", id="run-table").all("tr")[1]
    assert "invalid" in row.text and "other processes took 41 %" in row.text
    assert row.all("td", class_="struck")[0].text == "100 ms"
    assert squeezed(page.one("section", id="now")).count("100 ms") == 0
    assert not lane(page, 1).all("span", class_="change")


def test_cpu_and_gpu_stand_side_by_side(site: Path) -> None:
    page = history(site, "decoder", "pixel8a")
    assert [squeezed(a.one("h3")) for a in page.all("article")] == ["CPU, 4 threads 40.4 ms", "GPU fp16 4.04 ms"]
    told = page.one("section", id="now").one("svg").attrs["aria-label"]
    assert told == "Latest valid benchmarks: CPU, 4 threads 40.4 ms; GPU fp16 4.04 ms"


def test_the_matrix_has_a_cell_for_each_model_and_device(site: Path) -> None:
    page = parse((site / "matrix.html").read_text())
    heads = [squeezed(cell) for cell in page.one("table").all("th") if cell.attrs["scope"] == "col"]
    assert heads == ["Model", "host", "pixel8a"]
    rows = page.one("table").all("tr")[1:]
    assert [squeezed(row.all("th")[0]) for row in rows] == ["decoder.tflite", "encoder.tflite"]
    assert squeezed(rows[1].all("td")[0]) == "–"
    assert "GPU fp16 4.04 ms" in squeezed(rows[0].all("td")[1]) and "◆ fail" in squeezed(rows[0].all("td")[1])
    assert "× newest is invalid" in squeezed(rows[1].all("td")[1])


def test_failed_and_unreadable_runs_are_shown_as_such(site: Path) -> None:
    page = parse((site / "runs.html").read_text())
    rows = page.one("table", id="run-table").all("tr")[1:]
    assert len(rows) == 64
    by_state = {
        state: [r for r in rows if state in r.attrs["data-state"].split()] for state in ("failed", "unreadable")
    }
    assert ["the worker crashed (SIGSEGV)." in r.text for r in by_state["failed"]] == [True]
    assert ["run.json cannot be read" in r.text for r in by_state["unreadable"]] == [True]


def test_the_sentence_over_everything_counts_what_is_below_it(facts: Facts) -> None:
    series = group([facts(0), facts(1, model="b", judgement="fail", ratio=40.0)])
    found = findings(series, ())
    assert [f.mark for f in found] == ["Fail"]
    verdict = site_verdict(found, series)
    assert (verdict.tone, verdict.mark) == ("bad", "1 failing")
    assert verdict.sentence == "Of 2 ways to run 2 models, 1 is failing."
    healthy = group([facts(0)])
    assert site_verdict(findings(healthy, ()), healthy).tone == "good"


@pytest.mark.parametrize(
    ("ratio", "told"), [(1.2, "+20 %"), (1.034, "+3.4 %"), (0.66, "−34 %"), (2.5, "2.5×"), (1.0996, "+10 %")]
)
def test_changes_are_told_in_percent_or_as_a_factor(ratio: float, told: str) -> None:
    assert percent(ratio) == told


@pytest.mark.parametrize(("ratio", "told"), [(2.0, "2.00× faster"), (0.5, "2.00× slower"), (1.02, "as fast")])
def test_speed_is_told_in_words(ratio: float, told: str) -> None:
    assert speed(ratio) == told


def test_templates_place_no_value_in_a_script_or_style_and_never_switch_escaping_off() -> None:
    for path in (*pages.TEMPLATES.iterdir(), *report_page.TEMPLATES.iterdir()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape", text), path.name
        if path.name.endswith((".css.j2", ".js.j2")):
            assert not re.search(r"\{\{|\{%(?! include \"(?:style|dashboard|across).css.j2\")", text), path.name
        if path.name == "live.js.j2":  # of served pages alone: it asks for the page's own address
            text, asks = re.subn(r"fetch\(location\.pathname, ", "", text)
            assert asks == 1
        assert not re.findall(r"https?:|url\(|@import|fetch\(|import\(|XMLHttpRequest|innerHTML", text), path.name


def test_lane_colours_stand_out_from_the_page_in_both_schemes() -> None:
    style = (pages.TEMPLATES / "dashboard.css.j2").read_text(encoding="utf-8")
    light, dark, printed = (dict(LANE_COLOUR.findall(part)) for part in re.findall(r":root \{[^}]*--cpu[^}]*\}", style))
    assert light == printed and set(light) == set(dark) == {"cpu", "gpu", "npu"}
    assert all(contrast(colour, "#ffffff") >= 4.5 for colour in light.values())
    assert all(contrast(colour, "#0f1317") >= 4.5 for colour in dark.values())


def test_a_drawing_says_no_character_that_reorders_or_hides_text(bench: Bench, tmp_path: Path) -> None:
    odd = "x\x1b[2J\x9b31m\u202e\u200b"
    run = bench(tmp_path / "r", 0)
    record = json.loads((run / "run.json").read_text())
    record["result"]["cell"]["backend"] = odd
    (run / "run.json").write_text(json.dumps(record))
    build(tmp_path / "r", tmp_path / "site")
    (page,) = (tmp_path / "site" / "history").glob("*.html")
    text = page.read_text()
    assert {c for c in odd if not c.isprintable() and c in text} == set()
    assert any(
        "x\\x1b[2J" in drawn.attrs["aria-label"] for drawn in parse(text).all("svg") if "aria-label" in drawn.attrs
    )
