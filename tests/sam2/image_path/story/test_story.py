"""The whole story, of a decoder of a few ops on a planted phone: what is told is what ran."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from harness.api.localize import localize_command
from harness.api.session import ModelRequest
from harness.cli import demo
from harness.cli.demo import Story
from harness.core.errors import EXIT_OK
from harness.core.job import Options, Rejected
from harness.core.run_folder import RunFolder
from harness.devices.base import Device
from harness.devices.host.device import HostDevice
from harness.graph.model import Model
from harness.localize.base.comparison import Workbench
from harness.numerics.metrics import mask_iou
from harness.sam2.image_path.ports import DECODER_PORTS
from harness.sam2.image_path.story.other_taps import Column, ask
from harness.sam2.image_path.story.scene import StoryScene
from harness.sam2.image_path.story.second import SecondDecoder, Versions
from tests import story_decoder
from tests.documents import validator
from tests.story_decoder import FIRST, SECOND

COLUMNS = ["CPU", "GPU, v1", "GPU, v1 mended", "GPU, v2"]


@dataclass
class Stages:
    """What the progress heard of."""

    heard: list[str]

    def stage(self, what: str, expected_seconds: float) -> None:
        self.heard.append(what)

    def fraction(self, done: float) -> None: ...

    def note(self, sentence: str) -> None: ...


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, Stages]:
    """Of both versions, in a folder of files of the published layout."""
    folder, stages = tmp_path_factory.mktemp("story"), Stages([])
    files = str(story_decoder.published(folder))
    return demo.tell("planted:low-rank-constant", files, None, None, folder / "runs", 600.0, stages), stages


@pytest.fixture(scope="module")
def story(told: tuple[Story, Stages]) -> Story:
    return told[0]


@pytest.fixture(scope="module")
def chapter(story: Story) -> dict[str, str]:
    return {each.key: " ".join(each.sentences) for each in story.scene.chapters}


@pytest.fixture(scope="module")
def record(story: Story) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((story.folder / "run.json").read_text("utf-8"))
    return found


def test_the_masks_of_every_tap_stand_side_by_side(story: Story) -> None:
    rows = story.scene.rows
    assert [row.name for row in rows] == ["face", "uniform", "cap", "flag"]
    assert all(list(row.ious) == COLUMNS for row in rows)
    for row in rows:
        assert row.ious["CPU"] == 1.0
        wrong, cured, second = (row.ious[title] for title in COLUMNS[1:])
        assert wrong is not None and wrong < 0.8 and cured is not None and cured > 0.99
        assert second is not None and second > 0.99


def test_each_tap_has_masks_of_its_own(story: Story, record: dict[str, Any]) -> None:
    """And the figure below a mask is the one of the picture."""
    pictures = set()
    for row in record["scene"]["grid"]["rows"]:
        masks = [np.asarray(Image.open(story.folder / cell["mask"])) > 127 for cell in row["masks"]]
        assert [cell["iou"] for cell in row["masks"]] == [mask_iou(m * 2.0 - 1, masks[0] * 2.0 - 1) for m in masks]
        pictures.add(masks[0].tobytes())
    assert len(pictures) == 4


def test_a_model_is_asked_all_taps_in_a_row(told: tuple[Story, Stages]) -> None:
    assert [what for what in told[1].heard if "further taps" in what] == [f"{c}: 3 further taps" for c in COLUMNS]


def test_the_second_version_is_judged_and_stands_below_the_remedies(story: Story) -> None:
    last = story.scene.steps[-1]
    assert (last.title, last.ok) == ("GPU, float16, v2", True) and last.iou > 0.99
    assert story.scene.second is not None and story.scene.second.ops == 11
    assert [step.ok for step in story.scene.steps[:3]] == [True, False, False]


def test_the_story_goes_from_the_claim_to_the_phone(story: Story, chapter: dict[str, str]) -> None:
    assert list(chapter) == ["published", "compare", "op", "why", "fix", "second", "phone"]
    assert "all 358 nodes run on the GPU" in chapter["published"] and "0.62 comes to 0.10" in chapter["published"]
    assert f"the files {FIRST} and" in chapter["published"] and "mean nothing" not in chapter["compare"]
    assert "tapped on the face at (266, 228) and on uniform, cap and flag" in chapter["compare"]
    assert "In float32 the GPU is wrong too" in chapter["compare"]
    assert "1 op, certified: ADD #1: kernel, row 0 of the constant for every row" in chapter["op"]
    assert "By itself it is as wrong, in float16 and float32; on the device's CPU it is right." in chapter["why"]
    cured = f"{story.scene.rows[0].ious['GPU, v1 mended']:.4f}"
    assert f"Constants with the batch dimension kept: IoU {cured} on the face, pass." in chapter["fix"]
    assert f"The file {SECOND}; 11 ops" in chapter["second"] and "; pass." in chapter["second"]
    assert story.scene.chapters[-1].commands == ("harness demo --models SOURCE --device pixel8a",)


def test_what_is_told_is_as_its_schemas_say(story: Story, record: dict[str, Any]) -> None:
    assert [e.message for e in validator("run-record").iter_errors(record)] == []
    document = json.loads(json.dumps(demo.document(story)))
    assert [e.message for e in validator("localize").iter_errors(document)] == []
    assert document["story"]["second"]["ok"] is True and demo.exit_code(story) == EXIT_OK


def test_the_page_tells_it_in_the_same_order_and_has_the_photo_once(story: Story) -> None:
    page = (story.folder / "report.html").read_text("utf-8")
    titles = [each.title for each in story.scene.chapters]
    places = [page.index(f"<h3>{title}</h3>") for title in titles]
    assert places == sorted(places) and page.index('id="story"') < page.index('id="masks"')
    assert page.count("data:image/jpeg") == 1
    assert re.findall('aria-label="flag, (.*?)(?:: IoU .*?)?"', page) == COLUMNS


def test_a_terminal_of_eighty_columns_breaks_no_table(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    demo.show_masks(story.scene)
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines[-4:]] == ["face", "uniform", "cap", "flag"]


def test_without_a_second_version_a_sentence_stands_there_and_no_empty_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a device that is right, so that there is no mended one either."""
    (story_decoder.published(tmp_path) / SECOND).unlink()
    story = demo.tell("planted:none", str(tmp_path), None, None, tmp_path / "runs", 600.0, Stages([]))
    assert [list(row.ious) for row in story.scene.rows] == [["CPU", "GPU, v1"]] * 4
    demo.show(story)
    said = " ".join(capsys.readouterr().out.split())
    assert f"There is no second version: {str(tmp_path)!r} holds {FIRST} alone." in said
    assert "None: the GPU's error is what rounding predicts." in said
    assert "GPU, v2" not in (story.folder / "report.html").read_text("utf-8")


def test_a_second_version_that_does_not_run_is_told_and_the_rest_stands(tmp_path: Path) -> None:
    broken = tmp_path / "second.tflite"
    broken.write_bytes(b"no model")
    work = story_decoder.workload(tmp_path)
    second = SecondDecoder("v2", broken, DECODER_PORTS, "in rank 4")
    scene = StoryScene(work, Versions("v1", second), {})
    request = ModelRequest(work.model_path, "planted:none", out=tmp_path / "runs", given=work.inputs)
    answer, _ = localize_command(request, Stages([]), scene)
    assert answer.status == "pass" and scene.second is None
    (note,) = scene.notes
    assert note.startswith("v2 did not run on planted:none: ")
    assert note in scene.chapters[5].sentences


class Stops:
    """Pictures that someone does not wait for."""

    def draw(self, *_: object) -> dict[str, Any]:
        raise KeyboardInterrupt


def test_what_was_found_outlives_pictures_that_are_interrupted(tmp_path: Path) -> None:
    work = story_decoder.workload(tmp_path)
    request = ModelRequest(work.model_path, "planted:none", out=tmp_path / "runs", given=work.inputs)
    with pytest.raises(KeyboardInterrupt):
        localize_command(request, Stages([]), Stops())
    (folder,) = (tmp_path / "runs").iterdir()
    record = json.loads((folder / "run.json").read_text("utf-8"))
    assert (record["status"], record["result"]["status"]) == ("interrupted", "pass")


class Refusing:
    """A device, or a host, on which nothing runs."""

    name, asks_again = "broken", True

    def run(self, *_: object) -> Rejected:
        return Rejected("no memory", ())


@pytest.mark.parametrize(("which", "columns"), [("host", None), ("device", ["CPU"])])
def test_taps_that_nobody_answers_are_told(tmp_path: Path, which: str, columns: list[str] | None) -> None:
    work = story_decoder.workload(tmp_path)
    model = Model.load(work.model_path)
    face = np.zeros((1, 3, 16, 16), np.float32)
    sides = [Column("CPU", model, work.ports, None, face, True)]
    sides.append(Column("GPU, v1", model, work.ports, Options(), face, False))
    notes: list[str] = []
    with HostDevice() as host:
        refusing = cast("Device", Refusing())
        bench = Workbench(refusing, refusing if which == "host" else host, RunFolder(tmp_path, {}))
        found = ask(bench, work, {"corner": (1.0, 18.0)}, sides, 60.0, notes)
    assert (list(found["corner"].logits) if found else None) == columns
    assert len(notes) == 1 and "was not asked at all taps" in notes[0] and "no memory" in notes[0]
