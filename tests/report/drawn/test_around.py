"""The graph around an op: which boxes there are, in which order, and that none lies on another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.report.drawn.around import Around, Box, around
from harness.report.drawn.graph import KeptGraph, KeptOp, KeptTensor, read_graph, write_graph
from harness.report.tables import OpRow
from tests import models
from tests.chains import chain


def of(model: Model, folder: Path) -> KeptGraph:
    write_graph(folder, model.graph())
    found = read_graph(folder)
    assert found is not None
    return found


def row(index: int, verdict: str = "fine", first: int | None = None, **changed: object) -> OpRow:
    values = {
        "index": index, "first": index if first is None else first, "op": "RELU", "output": f"t{index}", "shape": "1×8",
        "dtype": "float32", "verdict": verdict, "as_output": False, "local_max": 0.5, "local_rms": 0.1,
        "expected_max": 0.25, "expected_rms": 0.1, "ratio": 2.0, "nonfinite": 0, "cosine": 1.0, "reference_max": 0.0,
        "device_range": (0.0, 1.0),
    }  # fmt: skip
    return OpRow(**(values | changed))  # type: ignore[arg-type]


def titles(drawing: Around) -> list[str]:
    return [box.title if box.kind != "op" else f"{box.title} {box.lines[0].split()[0]}" for box in drawing.boxes]


def drawn(graph: KeptGraph, first: int, last: int | None = None, rows: tuple[OpRow, ...] = ()) -> Around:
    found = around(graph, first, first if last is None else last, rows)
    assert found is not None
    return found


def test_two_ops_on_either_side_are_drawn_and_no_more(tmp_path: Path) -> None:
    graph = of(chain("RELU", "NEG", "ABS", "EXP", "SIN", "TANH", "COS"), tmp_path)
    found = drawn(graph, 3)
    assert titles(found) == ["NEG #1", "ABS #2", "EXP #3", "SIN #4", "TANH #5"]
    assert [box.title for box in found.boxes if box.here] == ["EXP"]
    assert len(found.edges) == 4 and [edge.culprit for edge in found.edges] == [False, False, True, False]


def test_inputs_outputs_and_the_culprits_constants_have_boxes_of_their_own(tmp_path: Path) -> None:
    found = drawn(of(models.wrong(), tmp_path), 0)
    assert [(box.kind, box.title) for box in found.boxes] == [
        ("constant", "constant"), ("input", "input"), ("op", "ADD"), ("output", "output")]  # fmt: skip
    constant, fed, add, _ = found.boxes
    assert constant.lines == ("4×8 float32",) and fed.lines == ("x", "4×8 float32")
    assert add.lines == ("#0 4×8 float32", "not measured")


def test_every_op_tells_the_error_that_was_measured_and_its_row(tmp_path: Path) -> None:
    graph = of(chain("RELU", "NEG", "ABS", "EXP", "SIN"), tmp_path)
    rows = (
        row(0),
        row(2, "culprit", first=1, ratio=335.0),
        row(3, "inherited", nonfinite=1200),
        row(4, "unread", ratio=None, local_max=None),
    )
    found = drawn(graph, 2, rows=rows)
    told = {box.title: (box.lines[-1], box.verdict, box.row, box.mark) for box in found.boxes if box.kind == "op"}
    assert told == {
        "RELU": ("error 0.500, 2.00×", "fine", 0, "●"),
        "NEG": ("judged with #2", "", 1, ""),
        "ABS": ("error 0.500, 335×", "culprit", 1, "◆"),
        "EXP": ("1,200 NaN or ∞", "inherited", 2, "○"),
        "SIN": ("not read", "unread", 3, "×"),
    }


def test_of_two_readings_of_an_op_the_worse_counts(tmp_path: Path) -> None:
    graph = of(chain("RELU"), tmp_path)
    assert drawn(graph, 0, rows=(row(0), row(0, "culprit", ratio=50.0), row(0))).boxes[1].verdict == "culprit"


def test_what_is_not_there_is_not_drawn(tmp_path: Path) -> None:
    graph = of(chain("RELU"), tmp_path)
    assert around(graph, 1, 1, ()) is None and around(graph, 0, 7, ()) is None


def wide(inputs: int, readers: int) -> Model:
    graph = GraphBuilder()
    x = graph.input("x", (1, 8))
    parts = [graph.unary("RELU", x) for _ in range(inputs)]
    joined = parts[0]
    for other in parts[1:]:
        joined = graph.binary("ADD", joined, other)
    for number in range(readers):
        graph.output(graph.unary("NEG", joined), f"y{number}")
    return graph.build()


def overlap(one: Box, other: Box) -> bool:
    apart = one.x + one.width <= other.x or other.x + other.width <= one.x
    return not (apart or one.y + one.height <= other.y or other.y + other.height <= one.y)


@pytest.mark.parametrize("readers", [1, 3, 40])
def test_no_box_lies_on_another_and_all_are_inside(readers: int, tmp_path: Path) -> None:
    graph = of(wide(6, readers), tmp_path)
    for op in range(len(graph.ops)):
        found = drawn(graph, op)
        boxes = found.boxes
        assert not any(overlap(a, b) for place, a in enumerate(boxes) for b in boxes[place + 1 :])
        assert all(b.x >= 0 and b.x + b.width <= found.width and b.y + b.height <= found.height for b in boxes)
        assert len(boxes) <= 40


def test_what_has_no_room_is_counted(tmp_path: Path) -> None:
    graph = of(wide(2, 40), tmp_path)
    found = drawn(graph, 2)
    assert [box.title for box in found.boxes if box.kind == "more"] == ["36 more"]
    assert sum(box.title == "NEG" for box in found.boxes) == 4


def test_a_link_past_an_op_passes_beside_it(tmp_path: Path) -> None:
    build = GraphBuilder()
    a = build.unary("RELU", build.input("x", (1, 8)))
    b = build.unary("NEG", a)
    build.output(build.binary("ADD", a, b), "y")
    found = drawn(of(build.build(), tmp_path), 2)
    neg = next(box for box in found.boxes if box.title == "NEG")
    (past,) = [edge for edge in found.edges if "V" in edge.path]
    (across,) = re.findall(r"([\d.]+) [\d.]+V", past.path)
    assert not neg.x <= float(across) <= neg.x + neg.width


def test_every_op_stands_below_what_it_reads(tmp_path: Path) -> None:
    graph = of(wide(4, 2), tmp_path)
    found = drawn(graph, 5)
    at = {int(box.lines[0].split()[0][1:]): box.y for box in found.boxes if box.kind == "op"}
    for op, y in at.items():
        for tensor in graph.ops[op].inputs:
            maker = graph.producer.get(tensor)
            assert maker is None or maker not in at or at[maker] < y


def test_a_graph_that_goes_in_a_circle_is_drawn_all_the_same() -> None:
    tensors = tuple(KeptTensor(f"t{i}", None, "FLOAT32", "computed") for i in range(3))
    graph = KeptGraph(tensors, tuple(KeptOp(f"OP{i}", (i, (i + 1) % 3), ((i + 1) % 3,)) for i in range(3)), ())
    found = drawn(graph, 1)
    assert len(found.boxes) == 3 and found.height < 20_000
    assert "shape not static" in found.boxes[0].lines[0]


def test_a_long_run_of_ops_shows_its_last_ones(tmp_path: Path) -> None:
    graph = of(chain(*["RELU"] * 12), tmp_path)
    found = drawn(graph, 0, 9)
    assert [box.lines[0].split()[0] for box in found.boxes if box.here] == ["#6", "#7", "#8", "#9"]
