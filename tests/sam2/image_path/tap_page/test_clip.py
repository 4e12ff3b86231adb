"""A clip's page: seeds, masks as they come, a correction, undo, downloads, and what is refused."""

from __future__ import annotations

import io
import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.core.errors import HarnessError, UsageError
from harness.core.progress import Progress
from harness.sam2.image_path.tap_page.clip import ClipDesk, Prompts
from harness.sam2.image_path.tap_page.clip_app import make_clip_app
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo
from harness.sam2.video.page.tracking import ClipTracking
from tests.browser import Browser
from tests.sam2.image_path.tap_page.conftest import Served, running
from tests.sam2.image_path.tap_page.test_page import text

FRAMES = 6


class Fake:
    """Six grey frames; each object is the left half of all from its first prompt on."""

    name, rate = "walk.mp4", 12.0

    def __init__(self) -> None:
        self.asked: list[tuple[int, Mapping[int, Tap], Prompts]] = []
        self.go, self.failing, self.closed = threading.Event(), "", False
        self.go.set()

    def frames(self) -> Iterator[Photo]:
        for number in range(FRAMES):
            yield np.full((60, 80, 3), 40 * number, np.uint8)

    def track(self, start: int, prompts: Mapping[int, Tap], later: Prompts, out: Path, progress: Progress) -> str:
        self.asked.append((start, prompts, later))
        progress.stage("tracking", 1.0)
        if self.failing:
            raise HarnessError(self.failing)
        inside = np.zeros((60, 80), np.uint8)
        inside[:, :40] = 255
        for number in range(start, FRAMES):
            for identity in prompts:
                folder = out / "masks" / str(identity)
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(inside).save(folder / f"{number:05d}.png")
            progress.fraction(number / FRAMES)
            if number == start:
                assert self.go.wait(60)
        (out / "overlay.mp4").write_bytes(b"a film")
        (out / "track.json").write_text("{}")
        return "random weights, seed 0"

    def close(self) -> None:
        self.closed = True
        self.go.set()


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def film(fake: Fake) -> Iterator[Served]:
    """Its page, served."""
    desk = ClipDesk(fake)
    with running(make_clip_app(desk), desk.close, desk) as page:
        yield page
    assert fake.closed and not desk._scratch.path.exists()


def tap(*point: float) -> dict[str, Any]:
    return {"positive": [list(point)], "negative": [], "box": None}


def opened(film: Served) -> None:
    assert film.finished(film.json("open", {})) == {"frames": FRAMES, "width": 80, "height": 60}


def test_seeds_are_followed_and_what_came_is_downloaded(film: Served, fake: Fake) -> None:
    opened(film)
    prompts = {"2": {"1": tap(10, 20), "3": tap(5, 5)}, "4": {"1": tap(30, 30)}}
    found = film.finished(film.json("track", {"prompts": prompts, "tab": "a"}))
    assert (found["start"], found["random_weights"]) == (2, True)
    ((start, seeds, later),) = fake.asked
    assert (start, set(seeds), later) == (2, {1, 3}, {4: {1: Tap.at(30, 30)}})
    run = found["run"]
    mask = Image.open(io.BytesIO(film.ask(f"tracked/{run}/mask/3/2.png")[1]))
    assert np.asarray(mask)[0, 39:41].tolist() == [255, 0]
    assert film.ask(f"tracked/{run}/mask/1/1.png") == film.ask(f"tracked/{run}/mask/2/3.png") == (204, b"")
    assert film.ask(f"tracked/{run}/overlay.mp4") == (200, b"a film")
    names = zipfile.ZipFile(io.BytesIO(film.ask(f"tracked/{run}/masks.zip")[1])).namelist()
    assert names[:2] == ["weights.txt", "masks/1/00002.png"] and len(names) == 9
    assert film.ask("frame/5.jpg")[1].startswith(b"\xff\xd8") and film.ask("frame/6.jpg")[0] == 400


def test_two_pages_track_at_once_and_do_not_mix(film: Served, fake: Fake) -> None:
    opened(film)
    fake.go.clear()
    first = film.json("track", {"prompts": {"0": {"1": tap(1, 1)}}, "tab": "a"})
    second = film.json("track", {"prompts": {"0": {"2": tap(1, 1)}}, "tab": "b"})
    assert first["id"] != second["id"]
    again = film.json("track", {"prompts": {"0": {"2": tap(1, 1)}}, "tab": "b"})
    assert again["id"] == second["id"]  # one tracking of a page at a time
    fake.go.set()
    runs = [film.finished(work)["run"] for work in (first, second)]
    assert [film.ask(f"tracked/{run}/mask/1/0.png")[0] for run in runs] == [200, 204]


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ({}, "nothing to track"),
        ({"0": {}}, "nothing to track"),
        ({"9": {"1": tap(1, 1)}}, "There is no frame 9: the clip has 6."),
        ({"0": {"1": tap(99, 1)}}, "outside the photo"),
        ({"0": {"0": tap(1, 1)}}, "'0' is no number from 1 to 12"),
        ({"0": {"13": tap(1, 1)}}, "'13' is no number from 1 to 12"),
        ({"x": {"1": tap(1, 1)}}, "'x' is no number"),
        ({"0": 7}, "are no object"),
        (7, "has no prompts"),
    ],
)
def test_prompts_that_cannot_be_are_a_sentence(film: Served, prompts: Any, sentence: str) -> None:
    opened(film)
    status, said = film.ask("track", {"prompts": prompts, "tab": "a"})
    assert status == 400 and sentence in said.decode()


@pytest.mark.parametrize(
    "path", ["tracked/../frames/0.jpg", "tracked/x/mask/1/0.png", "tracked/0123456789abcdef/masks.zip"]
)
def test_nothing_outside_is_given(film: Served, path: str) -> None:
    assert film.ask(path)[0] in (400, 404)


def test_old_trackings_are_forgotten(film: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sam2.image_path.tap_page.clip.MOST_RUNS", 1)
    opened(film)
    asked = {"prompts": {"0": {"1": tap(1, 1)}}, "tab": "a"}
    first, second = (film.finished(film.json("track", asked))["run"] for _ in range(2))
    assert film.ask(f"tracked/{first}/overlay.mp4")[0] == 400
    assert film.ask(f"tracked/{second}/overlay.mp4")[0] == 200


def test_seed_track_scrub_correct_and_undo_in_a_browser(browser: Browser, film: Served, fake: Fake) -> None:
    browser.visit(film.address, 1300)
    browser.until("document.querySelector('#frame').textContent === '1 of 6'")
    browser.until("document.querySelector('#hint').textContent.startsWith('Click')")
    assert browser.js("document.querySelector('#track').disabled")
    bare = browser.js("document.querySelector('canvas').toDataURL()")
    browser.mouse("#canvas", (0.25, 0.5))
    fake.go.clear()
    browser.key("t")
    browser.until("document.querySelector('#stage').textContent === 'tracking'")
    fake.go.set()
    browser.until("document.querySelectorAll('#downloads a').length === 3")
    assert fake.asked[0][0] == 0 and fake.asked[0][1][1].positive == ((20.0, 30.0),)
    assert not browser.js("document.querySelector('#random').hidden")
    browser.until(f"document.querySelector('canvas').toDataURL() !== '{bare}'")

    browser.key("ArrowRight", shift=True)
    browser.until("document.querySelector('#frame').textContent === '6 of 6'")
    browser.key("o")
    browser.key("b")
    browser.mouse("#canvas", (0.5, 0.25), (0.6, 0.6), (0.75, 0.75))
    assert text(browser, "asked") == "Clicks on frame 1, 6."
    browser.key("u")
    assert text(browser, "asked") == "Clicks on frame 1."
    browser.key("[")
    browser.key("n")
    browser.mouse("#canvas", (0.75, 0.5))
    browser.until("!document.querySelector('#track').disabled")
    browser.js("document.querySelector('#track').click()")
    deadline = time.monotonic() + 60
    while len(fake.asked) < 2:
        assert time.monotonic() < deadline, text(browser, "alert")
        time.sleep(0.02)
    browser.until("!document.querySelector('#track').disabled")
    assert fake.asked[1][2] == {5: {1: Tap(negative=((60.0, 30.0),))}}
    browser.key("k")  # from the beginning, as it stands at the end
    browser.until("document.querySelector('#frame').textContent !== '6 of 6'")
    browser.until("document.querySelector('#frame').textContent === '6 of 6'")

    fake.failing = "The tracker's graphs are broken."
    browser.key("t")
    browser.until("!document.querySelector('#alert').hidden")
    assert text(browser, "alert") == fake.failing
    fake.failing = ""
    browser.key("t")
    browser.until("document.querySelectorAll('#downloads a').length === 3")
    assert browser.js("document.querySelector('#alert').hidden")
    assert browser.complaints() == []


def test_the_state_is_small(film: Served) -> None:
    assert json.loads(film.ask("state")[1]) == {"schema": 1, "name": "walk.mp4", "rate": 12.0, "most_objects": 12}
    assert b'id="slider"' in film.ask("")[1]


def test_a_clip_whose_name_is_no_text_has_one_that_can_be_shown(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"walk\xff")
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "0.png")
    assert ClipTracking(folder, lambda _: pytest.fail("no stages")).name == "walk\\udcff"


def test_a_frame_that_is_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for path in (tmp_path / "secret.png", tmp_path / "clip" / "0.png"):
        Image.new("RGB", (8, 8)).save(path)
    assert len(list(ClipTracking(tmp_path / "clip", lambda _: pytest.fail("no stages")).frames())) == 1
    (tmp_path / "clip" / "1.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UsageError, match=r"'1\.png' leads out of its folder"):
        ClipTracking(tmp_path / "clip", lambda _: pytest.fail("no stages"))
