"""The page in a real browser: taps, boxes, undo, switches, downloads, two tabs, and a device that fails."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.core.job import Crashed, Job, Outcome
from harness.devices.base import Sink
from harness.devices.host.device import HostDevice
from harness.devices.registry import DeviceKind, claiming
from harness.sam2.image_path.tap_page.answers import picture
from harness.sam2.image_path.tap_page.choices import BackEnd
from harness.sam2.image_path.tap_page.desk import Setup
from tests.browser import Browser
from tests.sam2.image_path.tap_page.conftest import Served, asked, served

DEVICE, CPU, DIFFERENCE = (f"#{side}-pane canvas" for side in ("device", "cpu", "difference"))
READY = "document.querySelector('#hint').textContent.startsWith('Click')"
OBJECT = "document.querySelectorAll('#objects [aria-pressed]').length"


def text(browser: Browser, name: str) -> str:
    said: str = browser.js(f"document.getElementById('{name}').textContent")
    return said


def taps(browser: Browser) -> int:
    count: int = browser.js("performance.getEntriesByName('tap').length")
    return count


def after_a_tap(browser: Browser, *places: tuple[float, float], on: str = DEVICE, **how: Any) -> None:
    """Click or drag, and wait for both masks."""
    before = taps(browser)
    browser.mouse(on, *places, **how)
    browser.until(f"performance.getEntriesByName('tap').length > {before}", 120)


def shown(browser: Browser, address: str, width: int = 1300) -> None:
    browser.visit(address, width)
    browser.until(READY, 120)
    browser.js("document.querySelector('#hover').click()")  # previews are taps too


def drawn(browser: Browser, canvas: str) -> str:
    """What a canvas shows."""
    data: str = browser.js(f"document.querySelector('{canvas}').toDataURL()")
    return data


class Breaking(HostDevice):
    """The host, with a model that crashes when it is told to."""

    broken = False

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        if Breaking.broken:
            Breaking.broken = False
            return Crashed("the worker was ended by SIGSEGV", "SIGSEGV", "")
        return super().run(job, sink)


@pytest.fixture
def breaking(setup: Setup) -> Iterator[Served]:
    """A page whose first device is that one."""
    kind = DeviceKind(
        "breaking",
        claims=lambda name: name == "breaking",
        open=lambda name, progress, phone: Breaking(),
        check=lambda name, progress: None,
    )
    ends = (BackEnd("breaking", "cpu"), BackEnd("host", "cpu"))
    with claiming(kind), served(replace(setup, back_ends=ends)) as running:
        yield running


def test_tap_box_undo_switch_and_download(browser: Browser, breaking: Served) -> None:
    shown(browser, breaking.address)
    bare = drawn(browser, DIFFERENCE)
    assert text(browser, "iou") == "–" and browser.js("document.querySelectorAll('#downloads a').length") == 0

    after_a_tap(browser, (0.4, 0.5))
    assert text(browser, "iou") == "1.0000"  # a CPU against itself
    assert text(browser, "pixels") == "0 (0.00 %)"
    assert " ms" in text(browser, "device-said") and " ms" in text(browser, "cpu-ms")
    assert text(browser, "device-name") == "breaking: CPU" and drawn(browser, DIFFERENCE) != bare

    names = browser.js("[...document.querySelectorAll('#downloads a')].map((link) => link.getAttribute('href'))")
    pictures = [Image.open(io.BytesIO(breaking.ask(name)[1])) for name in names]
    assert [(p.size, p.mode) for p in pictures] == [((120, 90), "L"), ((120, 90), "RGBA")] * 2
    assert "decoder second" in pictures[0].info["Description"]
    assert (np.asarray(pictures[0]) == np.asarray(pictures[1])[..., 3]).all()

    browser.key("o")
    assert browser.js(OBJECT) == 2
    browser.key("b")
    after_a_tap(browser, (0.2, 0.2), (0.5, 0.6), (0.7, 0.8))
    tab = browser.js("[...document.querySelectorAll('#objects [aria-pressed=true]')].map((one) => one.textContent)")
    assert tab == ["2"]
    for left in (2, 1, 1):
        browser.key("u")
        browser.until(f"{OBJECT} === {left}")
    assert browser.js("document.querySelector('#undo').disabled")
    assert text(browser, "iou") == "–"
    before = taps(browser)
    browser.key("r")
    browser.until(f"performance.getEntriesByName('tap').length > {before}")

    for select, label in (("back-end", "host: CPU"), ("decoder", "first")):
        before = taps(browser)
        browser.js(f"""(() => {{
            const select = document.getElementById('{select}');
            select.selectedIndex = 1;
            select.dispatchEvent(new Event('change', {{bubbles: true}}));
        }})()""")
        browser.until(f"performance.getEntriesByName('tap').length > {before}", 120)  # what was tapped is asked again
        assert label in text(browser, "device-name") + text(browser, select)
    assert text(browser, "iou") == "1.0000"
    assert browser.complaints() == []


def test_a_device_that_fails_is_one_sentence_and_the_next_tap_works(browser: Browser, breaking: Served) -> None:
    shown(browser, breaking.address)
    after_a_tap(browser, (0.4, 0.5))
    browser.key("u")
    Breaking.broken = True
    browser.mouse(DEVICE, (0.5, 0.5))
    browser.until("document.querySelector('#device-said').classList.contains('wrong')")
    said = text(browser, "device-said")
    assert said.startswith("host crashed while running the mask decoder: the worker was ended by SIGSEGV.")
    assert " ms" in text(browser, "cpu-said") and text(browser, "iou") == "–"
    browser.key("u")
    after_a_tap(browser, (0.6, 0.5))
    assert text(browser, "iou") == "1.0000"
    assert not browser.js("document.querySelector('#device-said').classList.contains('wrong')")
    assert browser.complaints() == []


def test_two_tabs_keep_to_themselves(browser: Browser, page: Served) -> None:
    first = browser.tabs()[0]
    shown(browser, page.address)
    after_a_tap(browser, (0.4, 0.5))
    browser.key("o")
    after_a_tap(browser, (0.1, 0.1))
    said = text(browser, "device-said"), browser.js("document.querySelector('#downloads a').href")
    browser.new_tab()
    shown(browser, page.address)
    assert browser.js(OBJECT) == 1 and text(browser, "iou") == "–"
    for place in ((0.8, 0.3), (0.2, 0.8)):
        browser.key("u")
        after_a_tap(browser, place)
    other = browser.js("document.querySelector('#downloads a').href")
    browser.go_to(first)
    assert browser.js(OBJECT) == 2
    assert (text(browser, "device-said"), browser.js("document.querySelector('#downloads a').href")) == said
    assert other != said[1]


def test_all_of_it_by_keys(browser: Browser, page: Served) -> None:
    shown(browser, page.address)
    browser.key("?")
    assert browser.js("document.querySelector('#help').open")
    browser.key("?")
    assert not browser.js("document.querySelector('#help').open")
    browser.js(f"document.querySelector('{DEVICE}').focus()")
    browser.key("ArrowLeft")
    browser.key("ArrowUp", shift=True)
    browser.key("Enter")
    browser.until("performance.getEntriesByName('tap').length === 1")
    for key, zoom in (("+", "140 %"), ("+", "196 %"), ("-", "140 %"), ("0", "100 %")):
        browser.key(key)
        browser.until(f"document.querySelector('#zoom').textContent === '{zoom}'")
    browser.key("f")
    browser.until("document.querySelector('#name').textContent === 'wide.png'")
    browser.until(READY, 120)
    assert text(browser, "iou") == "–"
    browser.key("Delete")
    assert browser.complaints() == []


def test_zoomed_in_a_click_means_the_pixel_that_is_seen(browser: Browser, page: Served) -> None:
    shown(browser, page.address)
    asked_for = "JSON.stringify(performance.getEntriesByType('resource').length)"
    assert browser.js(asked_for)
    browser.js("window.said = []")
    browser.js("""(() => {
        const before = window.fetch;
        window.fetch = (path, options) => {
            if (path === 'tap') window.said.push(JSON.parse(options.body).tap);
            return before(path, options);
        };
    })()""")
    after_a_tap(browser, (0.25, 0.5))
    browser.key("u")
    for _ in range(2):
        browser.key("+")
    after_a_tap(browser, (0.25, 0.5))
    (first,), (second,) = (tap["positive"] for tap in browser.js("window.said"))
    assert first == pytest.approx([30, 45], abs=0.6)
    assert second == pytest.approx([60 - 30 / 1.96, 45], abs=0.6)


def test_a_preview_follows_the_mouse_only_where_answers_are_quick(browser: Browser, page: Served) -> None:
    browser.visit(page.address, 1300)
    browser.until(READY, 120)
    move = {"type": "mouseMoved", "button": "none"}
    box = browser.js(f"(({{x, y}}) => [x, y])(document.querySelector('{DEVICE}').getBoundingClientRect())")
    browser.cdp("Input.dispatchMouseEvent", x=box[0] + 100, y=box[1] + 100, **move)
    assert taps(browser) == 0  # nothing is known of how long an answer takes
    after_a_tap(browser, (0.4, 0.5))
    quick = browser.js("performance.getEntriesByName('tap')[0].duration <= 150")
    assert quick == (text(browser, "hover-why") == "")
    assert quick or re.fullmatch(r" \(off: the last took \d+ ms\)", text(browser, "hover-why"))


def test_on_a_phone_everything_is_one_column(browser: Browser, page: Served) -> None:
    shown(browser, page.address, 390)
    assert browser.js("document.documentElement.scrollWidth <= 390")
    lefts = browser.js("[...document.querySelectorAll('canvas')].map((one) => one.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1
    after_a_tap(browser, (0.4, 0.5))
    assert text(browser, "iou") == "1.0000"


def test_a_photo_that_cannot_be_read_says_why(browser: Browser, page: Served, photos: Path) -> None:
    shown(browser, page.address)
    (photos / "wide.png").write_bytes(b"no picture")
    browser.js("(document.querySelector('#photo').value = 'wide.png')")
    browser.js("document.querySelector('#photo').dispatchEvent(new Event('change', {bubbles: true}))")
    browser.until("!document.querySelector('#alert').hidden")
    assert "wide.png" in text(browser, "alert") and "is no" in text(browser, "alert")
    browser.complaints()  # of the answer with status 400


def test_a_server_that_is_gone_is_one_sentence(browser: Browser, setup: Setup) -> None:
    with served(setup) as running:
        shown(browser, running.address)
    browser.mouse(DEVICE, (0.5, 0.5))
    browser.until("!document.querySelector('#alert').hidden")
    assert text(browser, "alert").startswith("The server does not answer")
    browser.complaints()  # of the refused connection


def test_pictures_say_that_weights_are_random(setup: Setup) -> None:
    class Random:
        is_random, provenance = True, "random weights, seed 0"

    with served(setup) as page:
        page.finished(page.json("open", asked()))
        lines = page.lines(asked())
        assert [line.get("side", "comparison") for line in lines] == ["cpu", "device", "comparison"]
        said = page.desk._said.get(lines[0]["answer"])
        assert said is not None
        choice = replace(said.question.place.decoder, models=Random())
        question = replace(said.question, place=replace(said.question.place, decoder=choice))
        page.desk._said.put("random", replace(said, question=question, note="random weights, seed 0"))
        made, name = page.desk.picture("random", "cutout")
    assert name == "noise-cutout-cpu-random-weights.png"
    assert Image.open(io.BytesIO(made)).info["Description"] == "random weights, seed 0"


def test_a_cut_out_is_the_photo_where_the_mask_is() -> None:
    photo = np.full((4, 4, 3), 7, np.uint8)
    logits = np.array([[-1, 1], [-1, 1]], np.float32)
    mask, cut = (np.asarray(Image.open(io.BytesIO(picture(photo, logits, kind, "")))) for kind in ("mask", "cutout"))
    assert mask.tolist() == [[0, 0, 255, 255]] * 4
    assert cut[0].tolist() == [[0, 0, 0, 0]] * 2 + [[7, 7, 7, 255]] * 2


def test_masks_travel_as_bits_and_the_sides_are_compared(page: Served) -> None:
    lines = page.lines(asked())
    cpu, device, compared = lines
    assert cpu["mask"] == device["mask"] and (cpu["height"], cpu["width"]) == (90, 120)
    assert compared == {"comparison": compared["comparison"]} and compared["comparison"]["iou"] == 1.0
    assert page.json(f"answer/{cpu['answer']}/other.png")["error"].startswith("There is no such picture")
    assert page.json("answer/none/mask.png")["error"] == "That answer is no longer kept. Tap again."
    assert json.loads(page.ask("work/none")[1])["error"].startswith("That work is no longer known")
