"""Every kind of run makes a page that says what the run came to."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from harness.core.errors import StorageError, UsageError
from harness.localize.base.misreadings import FIRST
from harness.report import page as page_of
from harness.report.page import write_report
from harness.report.wording import RULES

if TYPE_CHECKING:
    from tests.pages import Node
    from tests.report.conftest import Make, Read, Samples


def stamp(page: Node) -> str:
    return page.one("p", class_="stamp").text


def sentence(page: Node) -> str:
    return page.one("p", class_="sentence").text


def test_the_page_is_written_into_the_run_folder_and_leaves_nothing_else(make: Make) -> None:
    folder = make()
    before = {path.name for path in folder.iterdir()}
    assert write_report(folder) == folder / "report.html"
    assert {path.name for path in folder.iterdir()} == before | {"report.html"}


def test_the_same_run_makes_the_same_page(make: Make) -> None:
    folder = make()
    assert write_report(folder).read_bytes() == write_report(folder).read_bytes()


def test_a_localization_names_its_culprits_in_the_verdict_and_in_a_card_each(make: Make, read: Read) -> None:
    page = read(make())
    assert stamp(page) == "3 ops at fault"
    for name in ("#2", "#5", "#7"):
        assert name in sentence(page)
        assert any(name in card.one("h3").text for card in page.all("article", class_="card"))


def test_every_line_of_ops_csv_is_a_row_of_the_table_and_a_mark_in_both_charts(make: Make, read: Read) -> None:
    folder = make()
    page = read(folder)
    with (folder / "ops.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    table = page.one("table", id="op-table")
    rows = [row for row in table.all("tr") if row.attrs.get("id", "").startswith("row-")]
    assert [row.all("th")[0].text for row in rows] == [line["index"] for line in lines]
    assert [row.attrs["class"] for row in rows] == [line["verdict"] for line in lines]
    for points in page.all("g", class_="points"):
        assert len(points.all("title")) == len(lines)


def test_a_card_leads_to_its_row(make: Make, read: Read) -> None:
    page = read(make())
    links = [link.attrs["href"] for card in page.all("article") for link in card.all("a")]
    assert links == ["#row-2", "#row-5", "#row-7"]


REMEDY = {
    "name": "chunks of 64", "cosine": 0.99999, "max_abs": 0.24, "ratio": 3.5, "iou": 0.9984, "run_ms": 1900.0,
    "ok": True, "path": "remedies/chunks.tflite", "note": "Takes the place of the model.",
}  # fmt: skip
TRIALS = [
    {"what": "alone, on the exact inputs", "ending": "wrong", "ratio": 348.2},
    {"what": "the same in float32", "ending": "right", "ratio": 0.1},
    {"what": "with its neighbours, 2 ops", "ending": "crash", "ratio": 0.0},
]


def test_experiments_that_were_made_with_another_op_of_its_kind_say_so(
    make: Make, read: Read, samples: Samples
) -> None:
    own, other = "reproducers/0002-ADD", "/somewhere/reproducers/0005-ADD"
    culprits = [
        samples.culprit(number, trials=TRIALS, reproducer=where) for number, where in ((2, own), (5, other), (7, other))
    ]
    page = read(make(samples.record(result=samples.localization(culprits=culprits))))
    captions = [c.text for c in page.one("section", id="culprits").all("caption") if c.text.startswith("Experiments")]
    assert captions == ["Experiments", "Experiments", "Experiments with #5, the worst of this kind"]


def test_a_culprit_shows_its_experiments_its_doubt_and_its_reproducer(make: Make, read: Read, samples: Samples) -> None:
    suspect = samples.culprit(
        2, trials=TRIALS, certified=False, note="Read differently.", reproducer="repro/2", isolated=True
    )
    page = read(make(samples.record(result=samples.localization(culprits=[suspect], certified=False))))
    card = page.one("article").text
    for said in (
        "the same in float32",
        "348×",
        "crash",
        "not certified",
        "fails alone",
        "Read differently.",
        "repro/2",
    ):
        assert said in card


def test_remedies_for_all_culprits_stand_once_beside_what_the_untouched_model_takes(
    make: Make, read: Read, samples: Samples
) -> None:
    result = samples.localization(culprits=[samples.culprit(i, remedies=[REMEDY]) for i in (2, 5)])
    result["explanation"] = {"device_compiles": 26, "device_runs": 75, "seconds": 60.0, "run_ms": 1700.0}
    section = read(make(samples.record(result=result))).one("section", id="culprits").text
    assert section.count("chunks of 64") == 1
    for said in ("untouched, it takes 1.70 s a run", "1.90 s", "0.9984", "remedies/chunks.tflite"):
        assert said in section


def test_remedies_of_one_culprit_alone_stand_in_its_card(make: Make, read: Read, samples: Samples) -> None:
    culprits = [samples.culprit(2, remedies=[REMEDY]), samples.culprit(5)]
    page = read(make(samples.record(result=samples.localization(culprits=culprits))))
    first, second = page.all("article")
    assert "chunks of 64" in first.text
    assert "chunks of 64" not in second.text


def test_what_all_local_errors_do_together_stands_beside_what_the_device_showed(make: Make, read: Read) -> None:
    section = read(make()).one("section", id="culprits").text
    assert "account for the whole failure" in section
    assert "0.998166" in section and "0.998133" in section


def test_errors_that_only_an_ideal_device_feels_are_said_to_be_injected_into_one(
    make: Make, read: Read, samples: Samples
) -> None:
    held = samples.localization(explained=[samples.impact(held=True)])
    headings = [heading.text for heading in read(make(samples.record(result=held))).all("h3")]
    assert "All their local errors together, injected into an ideal device" in headings


def test_a_healthy_run_passes_without_cards_or_charts(make: Make, read: Read, samples: Samples) -> None:
    fine = samples.localization(
        status="pass", culprits=[], explained=[], outputs=[samples.output(ok=True, ratio=2.68, cosine=0.999993)]
    )
    page = read(make(samples.record(result=fine), ops=[]))
    assert stamp(page) == "Pass"
    assert not page.all("article") and not page.all(class_="charts")


def test_an_unresolved_run_says_why(make: Make, read: Read, samples: Samples) -> None:
    notes = ["Two runs of the untouched model gave different outputs: the device is nondeterministic."]
    result = samples.localization(status="unresolved", certified=False, culprits=[], explained=[], notes=notes)
    page = read(make(samples.record(result=result)))
    assert stamp(page) == "Unresolved"
    assert notes[0] in sentence(page)
    assert notes[0] in page.one("ul", class_="notes").text


@pytest.mark.parametrize("command", ["compare", "dump"])
def test_a_comparison_says_which_output_is_wrong_and_what_to_do_next(
    command: str, make: Make, read: Read, samples: Samples
) -> None:
    residency = {"delegated": 9, "total": 9, "partitions": 1, "full": True}
    result = {"schema": 1, "status": "fail", "outputs": [samples.output()], "residency": residency, "records": 9}
    page = read(make(samples.record(command, result=result, seconds=None)))
    assert stamp(page) == "Fail"
    assert "pred_masks" in sentence(page)
    assert "harness localize" in page.one("section", class_="verdict").text
    assert "9 of 9 nodes delegated in 1 partition" in page.one("section", id="run").text


def test_a_run_without_comparison_shows_shapes_ranges_and_no_judgement(
    make: Make, read: Read, samples: Samples
) -> None:
    ran = {"name": "y", "dtype": "float32", "shape": [1, 3, 256, 256], "range": [-1.5, "inf"], "nonfinite": 2}
    result = {"schema": 1, "outputs": [ran], "compile_ms": 18234.0, "residency": {"full": True}}
    page = read(make(samples.record("run", result=result, seconds=None), ops=[]))
    assert stamp(page) == "Non-finite"
    shown = page.one("section", id="outputs").text
    assert "1×3×256×256" in shown and "−1.50 … ∞" in shown
    assert "Compiling took 18.2 s" in page.one("section", id="run").text


def test_a_failed_run_is_marked_and_shows_its_error_and_its_log(make: Make, read: Read, samples: Samples) -> None:
    record = samples.record(status="failed", error="The device 'pixel8a' did not answer within 600 s.")
    del record["result"]
    page = read(make(record, ops=[], log="E/LITERT: gone\n"))
    assert stamp(page) == "Failed"
    assert "did not answer within 600 s." in sentence(page)
    log = page.one("section", id="log").one("details")
    assert "open" in log.attrs and "E/LITERT: gone" in log.text


def test_an_interrupted_run_is_marked_and_shows_what_was_written(make: Make, read: Read, samples: Samples) -> None:
    record = samples.record(status="interrupted", outputs=[samples.output()])
    del record["result"]
    page = read(make(record, ops=[samples.op(0), samples.op(1)]))
    assert stamp(page) == "Interrupted"
    assert "pred_masks" in sentence(page)
    assert len(page.one("table", id="op-table").one("tbody").all("tr")) == 2


def test_a_run_whose_process_is_gone_reads_as_interrupted(make: Make, read: Read, samples: Samples) -> None:
    record = samples.record(status="running", pid=None)
    del record["result"]
    assert stamp(read(make(record, ops=[]))) == "Interrupted"


def test_a_record_with_nothing_but_its_first_fields_makes_a_page(make: Make, read: Read) -> None:
    first = {"schema": 1, "command": "localize", "status": "interrupted", "started": "2026-11-20T11:23:04+00:00"}
    folder = make(first, ops=[], log="")
    (folder / "samples.csv").unlink()
    (folder / "log.txt").unlink()
    assert "unknown model" in read(folder).one("h1").text


def test_a_run_without_ops_csv_says_so(make: Make, read: Read) -> None:
    page = read(make(ops=[]))
    assert not page.all("table", id="op-table")
    assert "This run has no ops.csv" in page.one("section", id="run").text
    assert stamp(page) == "3 ops at fault"


def test_where_the_weights_come_from_stands_above_the_verdict(make: Make, read: Read, samples: Samples) -> None:
    header = read(make(samples.record(provenance="random weights, seed 0 (realistic scale)"))).one("header")
    banner = header.one("p", class_="banner")
    assert "random weights, seed 0 (realistic scale)" in banner.text
    order = [node for node in header.walk() if node.attrs.get("class") in ("banner", "verdict bad")]
    assert order[0] is banner


def test_the_first_run_is_told_apart_and_run_plus_read_is_given(make: Make, read: Read) -> None:
    section = read(make()).one("section", id="run").text
    assert "First run" in section and "4.20 s" in section
    assert "Second run" in section and "3.72 s" in section
    assert "shader warm-up" in section


def test_the_command_that_repeats_the_run_can_be_copied(make: Make, read: Read) -> None:
    shown = read(make()).one("section", id="reproduce").one("pre").text
    assert shown == (
        "harness localize models/decoder.tflite --device host --accelerator gpu --precision default --seed 0 "
        "--timeout 600"
    )


def test_tensors_are_not_read(make: Make) -> None:
    folder = make()
    without = write_report(folder).read_bytes()
    (folder / "tensors").mkdir()
    (folder / "tensors" / "output-pred_masks.device.safetensors").write_bytes(b"not a tensor")
    assert write_report(folder).read_bytes() == without


def test_a_page_of_three_hundred_ops_stays_below_600_kilobytes(make: Make, samples: Samples) -> None:
    module = "harness.sam2.shared.modules.decoder"
    scope = f"{module}.MaskDecoder/{module}.TwoWayBlock_0/torch.nn.modules.linear.Linear"
    ops = [samples.op(i, op="FULLY_CONNECTED", output=f"{scope}_{i};;{scope}_q;{i}") for i in range(320)]
    assert write_report(make(ops=ops)).stat().st_size < 600_000


def test_an_op_judged_together_with_others_shows_its_range(make: Make, read: Read, samples: Samples) -> None:
    page = read(make(ops=[samples.op(3, first=1)]))
    assert page.one("table", id="op-table").one("tbody").all("th")[0].text == "1–3"


def test_ops_that_only_looked_like_culprits_are_counted(make: Make, read: Read, samples: Samples) -> None:
    result = samples.localization(certified=False, culprits=[samples.culprit(2)])
    section = read(make(samples.record(result=result))).one("section", id="ops").text
    assert "2 of the ops marked as culprits here only looked so under a tap" in section
    assert "only looked so" not in read(make()).one("section", id="ops").text


def test_an_unread_op_shows_no_figures(make: Make, read: Read, samples: Samples) -> None:
    page = read(make(ops=[samples.op(0), samples.op(1, "unread", ratio="", local_max_abs="")]))
    cells = page.one("table", id="op-table").one("tr", id="row-1").all("td")
    assert [cell.text for cell in cells[4:]] == ["–"] * (len(cells) - 4)


def test_a_folder_that_is_no_run_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"result": []}, "result"),
        ({"result": {"outputs": {"a": 1}}}, "outputs"),
        ({"result": {"outputs": [3]}}, "outputs"),
        ({"result": {"status": "splendid"}}, "splendid"),
        ({"result": {"culprits": [{"ops": [1]}]}}, "ops"),
        ({"result": {"outputs": [{"name": "y", "cosine": "high"}]}}, "cosine"),
        ({"result": {"notes": [1]}}, "notes"),
        ({"command": []}, "command"),
        ({"seconds": True}, "seconds"),
        ({"status": "asleep"}, "asleep"),
        ({"scene": {"tap": ["left"]}}, "tap"),
    ],
)
def test_a_record_of_another_form_is_misuse_that_names_the_field(
    changed: dict[str, Any], where: str, make: Make, samples: Samples
) -> None:
    with pytest.raises(UsageError, match=where):
        write_report(make(samples.record(**changed)))


def test_a_page_that_cannot_be_written_is_a_storage_error(make: Make) -> None:
    folder = make()
    (folder / "report.html.part").mkdir()
    with pytest.raises(StorageError, match=r"report\.html cannot be written"):
        write_report(folder)


def test_where_a_faults_rule_is_known_the_page_states_it_in_place_of_what_the_cause_means(
    make: Make, read: Read, samples: Samples
) -> None:
    row_0 = FIRST[2]
    assert set(FIRST.values()) < RULES.keys()
    culprits = [samples.culprit(2, op="ADD", cause="kernel", signature=row_0)]
    page = read(make(samples.record(result=samples.localization(culprits=culprits))))
    assert [p.text for p in page.all("p", class_="because")] == [RULES[row_0]]


def test_what_remedies_gave_stands_beside_the_masks_of_both_sides(make: Make, read: Read, samples: Samples) -> None:
    folder = make(samples.record(scene=SCENE))
    (folder / "scene").mkdir()
    Image.new("RGB", (8, 6)).save(folder / "scene/photo.jpg")
    for name, left in (("reference", 4), ("device", 2), ("0", 3)):
        mask = Image.new("L", (8, 6))
        mask.paste(255, (0, 0, left, 6))
        mask.save(folder / f"scene/mask-{name}.png")
    captions = [figure.one("figcaption").text for figure in read(folder).one("section", id="masks").all("figure")]
    assert len(captions) == 4
    assert captions[-1] == "GPU, mended: IoU 0.7500, fail 6 px on the CPU alone0 px on the device alone"


SCENE: dict[str, Any] = {
    "photo": "scene/photo.jpg", "size": [8, 6], "tap": [2, 2], "candidate": 0, "iou": 0.5, "label": "a mask",
    "masks": {"reference": "scene/mask-reference.png", "device": "scene/mask-device.png"},
    "tried": [{"title": "GPU, mended", "mask": "scene/mask-0.png", "iou": 0.75, "ok": False}],
}  # fmt: skip


def test_of_very_many_ops_the_page_shows_the_worst_and_says_how_many_it_leaves_out(
    make: Make, read: Read, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_of, "MOST_ROWS", 4)
    rows = [samples.op(i, ratio=[0.5, 3.0, 0.1, 2.0, "nan", 0.2][i]) for i in range(6)]
    rows += [samples.op(6, "culprit", ratio=0.4), samples.op(7, "unread")]
    shown = read(make(ops=rows))
    assert [row.all("th")[0].text for row in shown.one("table", id="op-table").all("tr")[1:]] == ["1", "3", "4", "6"]
    assert "4 results are left out here and in the charts, of 8" in shown.one("section", id="ops").text


def test_every_section_is_linked_and_every_link_leads_to_a_section(make: Make, read: Read, samples: Samples) -> None:
    page = read(make(ops=[samples.op(i) for i in range(3)]))
    there = {node.attrs["id"] for node in page.all("section") if "id" in node.attrs}
    linked = {(link.attrs["href"] or "").removeprefix("#") for link in page.one("nav").all("a")}
    assert linked and there == linked
