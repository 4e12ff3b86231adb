"""What a culprit's card offers: the graph around it, its files, its command, its JSON; and what comes next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.graph.build import GraphBuilder
from harness.report.drawn.cards import address
from harness.report.drawn.graph import write_graph
from harness.report.page import render
from tests.chains import chain
from tests.pages import Node, parse

if TYPE_CHECKING:
    from tests.report.conftest import Make, Read, Samples

HOME = "/home/me/results/run"


def localized(make: Make, samples: Samples, **changed: Any) -> Path:
    path = f"{HOME}/reproducers/0002-ADD"
    remedy = {"name": "float32", "cosine": 1.0, "max_abs": 0.0, "ratio": 0.1, "iou": 1.0, "run_ms": 3.0, "ok": True,
              "path": f"{HOME}/remedies/float32.tflite", "note": ""}  # fmt: skip
    found = samples.culprit(2, op="ADD", reproducer=path, remedies=[remedy], **changed)
    return make(samples.record(result=samples.localization(culprits=[found])))


def with_files(folder: Path) -> Path:
    (folder / "reproducers/0002-ADD").mkdir(parents=True)
    (folder / "reproducers/0002-ADD/reproduce.py").write_text("")
    (folder / "remedies").mkdir()
    (folder / "remedies/float32.tflite").write_bytes(b"")
    return folder


def culprits(page: Node) -> Node:
    return page.one("section", id="culprits")


def links(node: Node) -> list[str]:
    return [link.attrs["href"] for link in node.all("a") if not link.attrs["href"].startswith("#")]


def test_files_that_the_run_made_are_links_from_the_page_beside_them(make: Make, read: Read, samples: Samples) -> None:
    folder = with_files(localized(make, samples))
    section = culprits(read(folder))
    assert links(section) == ["reproducers/0002-ADD/", "remedies/float32.tflite"]
    assert section.one("code", id="reproduce-2-2").text == "python reproducers/0002-ADD/reproduce.py"
    assert [button.attrs["data-copy"] for button in section.all("button")] == ["reproduce-2-2", "json-2-2"]


def test_a_page_that_lies_elsewhere_has_their_names_alone(make: Make, samples: Samples) -> None:
    folder = with_files(localized(make, samples))
    section = culprits(parse(render(folder)))
    assert links(section) == [] and "remedies/float32.tflite" in section.text


def test_files_that_are_gone_are_no_links(make: Make, read: Read, samples: Samples) -> None:
    section = culprits(read(localized(make, samples)))
    assert links(section) == [] and "reproducers/0002-ADD" in section.text and "reproduce.py" not in section.text


@pytest.mark.parametrize(
    "path",
    [
        "remedies/../../secret", "../remedies/x", "/etc/passwd", "javascript:alert(1)", "remedies", "remedies//x",
        "remedies/linked", "https://evil.example/remedies/x", "other/x", "remedies/\0", "remedies/" + "x" * 300,
    ],
)  # fmt: skip
def test_nothing_outside_of_the_run_folder_is_linked(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    (tmp_path / "run/other").mkdir(parents=True)
    (tmp_path / "run/other/x").write_text("")
    (tmp_path / "run/remedies").mkdir()
    (tmp_path / "run/remedies/linked").symlink_to(tmp_path / "secret")
    assert address(tmp_path / "run", path) == ""


def test_odd_names_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "remedies").mkdir()
    (tmp_path / "remedies/a b#?%.tflite").write_text("")
    assert address(tmp_path, "remedies/a b#?%.tflite") == "remedies/a%20b%23%3F%25.tflite"


def test_the_graph_stands_in_the_card_and_its_ops_lead_to_their_rows(make: Make, read: Read, samples: Samples) -> None:
    folder = localized(make, samples)
    write_graph(folder, chain("RELU", "NEG", "ADD_N", "EXP", "SIN").graph())
    drawing = culprits(read(folder)).one("div", class_="around")
    boxes = [
        node.attrs["aria-label"] for node in drawing.all() if "aria-label" in node.attrs and node.tag in ("a", "g")
    ]
    assert boxes[0].startswith("input, x") and any("culprit" in box for box in boxes)
    (here,) = drawing.all("rect", class_="here")
    assert "culprit" in here.attrs["class"]
    assert [link.attrs["href"] for link in drawing.all("a")] == [f"#row-{i}" for i in range(5)]


def test_an_old_run_has_no_graph_and_a_damaged_one_says_so(make: Make, read: Read, samples: Samples) -> None:
    folder = localized(make, samples)
    assert "This run has no graph.json" in culprits(read(folder)).text
    (folder / "graph.json").write_text("{")
    section = culprits(read(folder))
    assert "cannot be read" in section.text and section.all("div", class_="around") == []


def test_hostile_names_stay_text_in_the_drawing(make: Make, read: Read, samples: Samples) -> None:
    evil = '"><script>alert(1)</script>\u202e'
    graph = GraphBuilder()
    graph.output(
        graph.unary("RELU", graph.unary("NEG", graph.unary("ABS", graph.input(evil, (1, 8)))), name=evil), evil
    )
    folder = localized(make, samples)
    write_graph(folder, graph.build().graph())
    page = read(folder)
    assert len(page.all("script")) == 1 and "\u202e" not in page.text


def test_the_json_is_what_run_json_has_and_a_long_one_is_left_out(make: Make, read: Read, samples: Samples) -> None:
    folder = localized(make, samples, ratio="inf")
    shown = json.loads(culprits(read(folder)).one("pre", id="json-2-2").text)
    kept = json.loads((folder / "run.json").read_text())["result"]["culprits"][0]
    del kept["remedies"]  # which the page tells once
    assert shown == kept and shown["ratio"] == "inf"
    folder = localized(make, samples, note="x" * 30_000)
    assert culprits(read(folder)).all("pre", id="json-2-2") == []


def commands(page: Node) -> list[str]:
    return [node.text for node in page.all("code") if node.attrs.get("id", "").startswith("next-")]


def test_an_unresolved_run_says_what_comes_next(make: Make, read: Read, samples: Samples) -> None:
    result = samples.localization(status="unresolved", certified=False, culprits=[], explained=[])
    options = {"accelerator": "gpu", "precision": "default", "inputs": "random, seed 0", "timeout_s": 600, "runs": 2}
    found = commands(read(make(samples.record(result=result, options=options))))
    assert [" ".join(line.split()[:2]) for line in found] == [
        "harness compare", "harness localize", "harness lint", "harness bisect-runtime", "harness dump"]  # fmt: skip
    assert "--precision fp32" in found[0] and "--runs 8" in found[1]


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_came_to_no_end_is_asked_again(status: str, make: Make, read: Read, samples: Samples) -> None:
    record = samples.record(status=status, error="The disk is full.")
    del record["result"]
    found = commands(read(make(record, ops=[])))
    assert len(found) == 1 and found[0].startswith("harness localize models/decoder.tflite")


def test_a_run_with_an_answer_has_no_next_step(make: Make, read: Read, samples: Samples) -> None:
    assert commands(read(make())) == []


def test_releases_are_a_table_with_their_reports(make: Make, read: Read, samples: Samples) -> None:
    runs = f"{HOME}/releases"
    releases = [
        {"release": "2.1.5", "state": "wrong", "why": "", "outputs": [samples.output()], "run": f"{runs}/one"},
        {"release": "2.1.6", "state": "right", "why": "", "outputs": [samples.output(ok=True, ratio=2.0)], "run": None},
        {"release": "2.2.0", "state": "untestable", "why": "It does not start.", "outputs": [], "run": None},
    ]
    changes = [{"last": "2.1.5", "was": "wrong", "first": "2.1.6", "became": "right", "between": []}]
    result = {"schema": 1, "status": "pass", "releases": releases, "changes": changes, "notes": ["2.1.6 mended it."]}
    folder = make(samples.record("bisect-runtime", result=result), ops=[])
    (folder / "releases/one").mkdir(parents=True)
    (folder / "releases/one/report.html").write_text("")
    section = read(folder).one("section", id="releases")
    cells = [
        [" ".join(cell.text.split()) for cell in row.all() if cell.tag in ("th", "td")] for row in section.all("tr")
    ]
    assert cells[1:] == [
        ["2.1.5", "fail", "pred_masks", "39.9×", "0.998133", "report"],
        ["2.1.6 changed here", "pass", "pred_masks", "2.00×", "0.998133", "–"],
        ["2.2.0", "untestableIt does not start.", "–", "–", "–", "–"],
    ]
    assert links(section) == ["releases/one/report.html"]
