"""The reproducer for a browser, opened in a real one: from a file and from a server, with a stand-in for LiteRT.js that
goes wrong as it is told, and with LiteRT.js itself on known faults."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_tests.corpus.reported import layernorm_overflow
from harness.core.arrays import Array
from harness.core.errors import DeviceError
from harness.core.job import Options
from harness.devices.web.package import DEFAULT, package_folder
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.explain.reproducer_page import PAGE, Showing, reproducer_page
from tests.arrays import Evaluate, f32
from tests.browser import Browser, started
from tests.parts import MissingPart, lacking

STUB = Path(__file__).parents[2] / "devices" / "web" / "litert_stub.js"
LOADER = "self.ModuleFactory = async (given) => given;"
SECONDS = 60.0
WEBGPU = ("--enable-unsafe-webgpu", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
TITLE = "PAD </script><b>gives</b> wrong results"


class Word(Model):
    """What the stand-in takes for a model: a word that says how it goes wrong."""

    def __init__(self, word: str) -> None:
        self.word = word

    def to_bytes(self) -> bytes:
        return self.word.encode()


def showing(outputs: dict[str, Array], **more: Any) -> Showing:
    limits = dict.fromkeys(outputs, (0.01, 0.01))
    return Showing(
        TITLE, "A summary.", DEFAULT, ["some GPU"], ["y = PAD(x)"], limits, "so much", **{"options": Options()} | more
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("profile"), WEBGPU) as browser:
        yield browser


class Site:
    """A folder with a page, also behind a server."""

    def __init__(self, folder: Path, browser: Browser) -> None:
        self.folder, self.browser = folder, browser

        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}/{PAGE}"
        threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def page(self, model: Model, inputs: dict[str, Array], expected: dict[str, Array], **more: Any) -> None:
        text = reproducer_page(model, inputs, expected, showing(expected, **more))
        (self.folder / PAGE).write_text(text, encoding="utf-8")

    def says(self, *states: str) -> str:
        """The verdict, once the page is in one of these states."""
        deadline = time.monotonic() + SECONDS
        while self.browser.js("document.documentElement.dataset.state") not in states:
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)
        return str(self.browser.js("document.getElementById('verdict').textContent"))

    @property
    def text(self) -> str:
        return str(self.browser.js("document.body.innerText"))


@pytest.fixture
def site(tmp_path: Path, browser: Browser) -> Iterator[Site]:
    """With the stand-in beside the page, where npm puts packages."""
    packages = tmp_path / "node_modules" / "@litertjs"
    files = {
        "core/dist/index.js": STUB.read_text("utf-8"),
        "core/wasm/litert_wasm_internal.js": LOADER,
        "core/wasm/litert_wasm_internal.wasm": "",
        "wasm-utils/dist/index.js": "export {};",
    }
    for name, text in files.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text, encoding="utf-8")
    made = Site(tmp_path, browser)
    yield made
    made.close()


X = f32([[0, 1, 2, 3]])


def of_stub(site: Site, word: str, expected: Array = X + 1, **more: Any) -> None:
    site.page(Word(word), {"x": X}, {"y": expected}, **more)
    site.browser.go(site.address)


def test_a_fault_that_is_not_here_is_said_to_be_none(site: Site) -> None:
    of_stub(site, "fine")
    assert site.says("good", "bad").startswith("It is right on ")
    assert TITLE in site.text  # as text, and ending no script


def test_what_is_expected_to_be_infinite_is_right_where_it_is_so(site: Site) -> None:
    endless = f32([[0, np.inf, -np.inf, np.nan]])
    site.page(Word("fine"), {"x": endless}, {"y": endless + 1})
    site.browser.go(site.address)
    assert site.says("good", "bad").startswith("It is right on ")
    site.page(Word("fine"), {"x": endless}, {"y": -endless + 1})
    site.browser.go(f"{site.address}?again")
    assert "the values are wrong" in site.says("good", "bad")


def test_wrong_values_are_shown_beside_the_expected_ones(site: Site) -> None:
    of_stub(site, "fine", f32([[1, 2, 3, 9]]))
    assert "the values are wrong" in site.says("good", "bad")
    text = site.text
    assert "expected 1  2  3  9" in text and "got      1  2  3  4" in text
    assert "WRONG" in text


@pytest.mark.parametrize(
    ("word", "verdict", "words"),
    [
        ("gpuError", "the browser complained", "GPU: "),
        ("console", "the browser complained", "ERROR: Failed to allocate tensors."),
        ("throws", "the model was refused", "it is not to its taste"),
        ("empty", "the model was refused", "0 outputs came of 1"),
        ("partial", "the model was refused", "the GPU did not take the whole model"),
    ],
)
def test_what_the_browser_or_the_runtime_says_is_a_failure_with_its_words(
    site: Site, word: str, verdict: str, words: str
) -> None:
    of_stub(site, word)
    assert verdict in site.says("good", "bad")
    assert words in site.text


def test_a_fault_that_may_end_the_page_waits_to_be_asked_for(site: Site) -> None:
    of_stub(site, "fine", asks=True)
    assert site.says("open") == "LiteRT.js is here." or site.says("open")
    assert "the fault may end this page" in site.text
    site.browser.js("document.getElementById('run').click()")
    assert site.says("good", "bad").startswith("It is right")


def test_without_litertjs_the_page_says_where_to_get_it(site: Site, tmp_path: Path) -> None:
    (tmp_path / "node_modules" / "@litertjs" / "core" / "dist" / "index.js").unlink()
    of_stub(site, "fine")
    assert "LiteRT.js is not here yet" in site.says("open")
    assert f"npm install @litertjs/core@{DEFAULT}" in site.text


def test_the_reader_may_keep_it_elsewhere(site: Site, tmp_path: Path) -> None:
    (tmp_path / "node_modules").rename(tmp_path / "elsewhere")
    of_stub(site, "fine")
    site.browser.go(f"{site.address}?litert=/elsewhere/@litertjs")
    assert site.says("good", "bad").startswith("It is right")


def test_a_link_that_names_another_site_is_followed_only_where_the_reader_says_so(site: Site, tmp_path: Path) -> None:
    of_stub(site, "fine")
    there = site.address.replace("127.0.0.1", "localhost").removesuffix(PAGE) + "node_modules/@litertjs/"
    site.browser.go(f"{site.address}?litert={there}")
    assert site.says("open") == f"LiteRT.js would be loaded from {there}, by the link to this page."
    site.browser.js("document.getElementById('run').click()")
    # It was asked for, and is not given to other sites by this server.
    site.browser.until("document.getElementById('verdict').textContent.includes('not here yet')")


def test_opened_as_a_file_it_takes_the_folder_that_is_chosen(site: Site, tmp_path: Path) -> None:
    site.page(Word("fine"), {"x": X}, {"y": X})
    site.browser.go((tmp_path / PAGE).as_uri())
    assert "choose its folder" in site.says("open")
    site.browser.choose("#folder", tmp_path / "node_modules" / "@litertjs")
    assert "the values are wrong" in site.says("good", "bad")


def test_a_folder_that_lacks_it_is_told_by_what_it_lacks(site: Site, tmp_path: Path) -> None:
    site.page(Word("fine"), {"x": X}, {"y": X})
    site.browser.go((tmp_path / PAGE).as_uri())
    assert site.says("open")
    site.browser.choose("#folder", tmp_path / "node_modules" / "@litertjs" / "core")
    deadline = time.monotonic() + SECONDS
    while "there is no wasm-utils/dist/index.js in that folder" not in site.text:
        assert time.monotonic() < deadline, site.text
        time.sleep(0.05)


def padded() -> Model:
    """#9272: a PAD of rank 3 on an axis that is not the innermost."""
    graph = GraphBuilder()
    graph.output(graph.pad(graph.input("x", (4, 50, 64)), [(0, 0), (3, 5), (0, 0)]), "y")
    return graph.build()


@pytest.fixture
def litertjs(tmp_path: Path) -> Path:
    """LiteRT.js itself where npm would put it."""
    try:
        files = package_folder(DEFAULT)
    except DeviceError as error:
        lacking(MissingPart(str(error)))
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "@litertjs").symlink_to(files)
    return tmp_path


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["from a server", "from a file"])
@pytest.mark.parametrize(
    ("build", "precision", "fails"),
    [
        (padded, "fp32", True),
        (layernorm_overflow, "fp16", True),
        (layernorm_overflow, "fp32", False),
    ],
)
def test_known_faults_of_litertjs_are_seen(
    litertjs: Path, browser: Browser, evaluate: Evaluate, build: Any, precision: str, fails: bool, way: str
) -> None:
    model = build()
    inputs = random_inputs(model.graph(), 0)
    expected = evaluate(model, inputs)
    site = Site(litertjs, browser)
    try:
        site.page(model, inputs, expected, options=Options(precision=precision))  # type: ignore[arg-type]
        if way == "from a server":
            browser.go(site.address)
        else:
            browser.go((litertjs / PAGE).as_uri())
            assert site.says("open")
            # Itself and not the link to it, which newer browsers do not follow.
            browser.choose("#folder", (litertjs / "node_modules" / "@litertjs").resolve())
        verdict = site.says("good", "bad")
    finally:
        site.close()
    assert verdict.startswith("It fails on" if fails else "It is right on"), site.text
