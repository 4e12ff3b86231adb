"""Chrome on a phone: a real adb, a real adbd, a real Chromium behind Android's DevTools socket; LiteRT.js is a stand-in
that goes wrong as it is told, and once itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import DeviceError, UsageError
from harness.core.job import Completed, Crashed, Lost, Options, Rejected, TimedOut
from harness.devices.android.adb import Adb, Server
from harness.devices.android.locks import SerialLock
from harness.devices.execute import make_job
from harness.devices.registry import check_device, kind_of, open_device
from harness.devices.web.browser import browser_program
from harness.devices.web.chrome import ChromeDevice
from harness.graph.model import Model
from tests.devices.web.conftest import STUB, asking
from tests.parts import MissingPart, lacking
from tests.standin.chrome import Chrome
from tests.standin.phone import Phone


@pytest.fixture(scope="module")
def program() -> str:
    try:
        return browser_program()
    except DeviceError as error:
        lacking(MissingPart(str(error)))


@pytest.fixture
def chrome(program: str, phone: Phone) -> Iterator[Chrome]:
    running = Chrome(program, phone)
    yield running
    running.end()


@pytest.fixture
def stubbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "core/package.json": '{"version": "2.5.3"}',
        "core/dist/index.js": STUB.read_text("utf-8"),
        "wasm-utils/dist/index.js": "export {};",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr("harness.devices.web.device.package_folder", lambda *_: tmp_path)


@pytest.fixture
def device(phone: Phone, stubbed: None) -> Iterator[ChromeDevice]:
    opened = open_device(f"web:chrome-on-{phone.serial}")
    assert isinstance(opened, ChromeDevice)
    yield opened
    opened.close()


def is_well(device: ChromeDevice) -> None:
    done = device.run(asking("well"))
    assert isinstance(done, Completed), done
    assert np.array_equal(done.outputs["y"], np.asarray([[1, 2, 3, 4]], np.float32))


def left(phone: Phone) -> str:
    """What adb has reversed there."""
    return Adb(Server(), phone.serial).call("reverse", "--list").strip()


def test_a_job_runs_there_and_nothing_is_left_behind(chrome: Chrome, phone: Phone, device: ChromeDevice) -> None:
    is_well(device)
    again = device.run(asking("well", warmup=1, iterations=3))
    assert isinstance(again, Completed) and not again.compiled and len(again.samples) == 3
    facts = device.facts()
    assert (facts.kind, facts.runtime) == ("web", "2.5.3") and "Chrome" in facts.system
    assert device.serial == phone.serialno and device.described()["serial"] == phone.serialno
    assert len(chrome.tabs()) == 2 and "tcp:" in left(phone)
    device.close()
    assert chrome.tabs() == ["about:blank"]
    assert left(phone) == ""


def test_the_phone_is_locked_meanwhile_as_for_the_app(chrome: Chrome, phone: Phone, device: ChromeDevice) -> None:
    device.facts()
    key = next(key for key in SerialLock._shared if key[1].name.startswith(phone.serialno))
    device.close()
    assert key not in SerialLock._shared


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("throws", "it is not to its taste"),
        ("console", "the browser complained, so that its outputs are no result: Failed to allocate tensors"),
    ],
)
def test_what_is_no_result_is_refused(chrome: Chrome, device: ChromeDevice, word: str, reason: str) -> None:
    done = device.run(asking(word))
    assert isinstance(done, Rejected) and done.reason == reason
    is_well(device)


def test_a_page_that_hangs_is_closed_and_the_next_job_works(chrome: Chrome, phone: Phone, device: ChromeDevice) -> None:
    assert isinstance(device.run(asking("wait", timeout=2)), TimedOut)
    is_well(device)
    device.close()
    assert chrome.tabs() == ["about:blank"]
    assert left(phone) == ""


def test_a_chrome_that_ends_is_a_crash(chrome: Chrome, program: str, phone: Phone, device: ChromeDevice) -> None:
    device.facts()
    threading.Timer(1.0, chrome.end).start()
    done = device.run(asking("wait", timeout=60))
    assert isinstance(done, Crashed) and done.reason == f"Chrome ended on {phone.serial}", done
    with pytest.raises(DeviceError, match=f"Chrome does not run on {phone.serial}") as caught:
        device.run(asking("well"))
    assert "Open Chrome on the phone" in caught.value.next_step
    another = Chrome(program, phone)
    try:
        is_well(device)
        device.close()
        assert left(phone) == ""
    finally:
        another.end()


def test_a_phone_that_is_unplugged_is_lost_and_comes_back(chrome: Chrome, phone: Phone, device: ChromeDevice) -> None:
    device.facts()

    def unplug() -> None:
        phone.stop_adbd()
        time.sleep(1)
        phone.boot()

    worker = threading.Timer(1.0, unplug)
    worker.start()
    done = device.run(asking("wait", timeout=60))
    worker.join()
    assert isinstance(done, Lost) and "is attached and did not reboot" in done.reason, done
    phone.connect()
    is_well(device)


def test_what_a_harness_that_was_killed_left_behind_is_taken_away(chrome: Chrome, phone: Phone, stubbed: None) -> None:
    killed = open_device(f"web:chrome-on-{phone.serial}")
    killed.facts()
    gone = left(phone)
    try:
        with open_device(f"web:chrome-on-{phone.serial}") as device:
            assert isinstance(device, ChromeDevice)
            is_well(device)
            assert gone and left(phone) != gone
        assert chrome.tabs() == ["about:blank"]
        assert left(phone) == ""
    finally:
        killed.close()


def test_without_chrome_it_says_so(phone: Phone, device: ChromeDevice) -> None:
    phone.write("chrome", {"pid": None})
    with pytest.raises(DeviceError, match=f"^Chrome does not run on {phone.serial}"):
        device.facts()
    assert left(phone) == ""


def test_a_chrome_whose_devtools_are_closed_is_told_from_none(program: str, phone: Phone, device: ChromeDevice) -> None:
    closed = Chrome(program, phone, opened=False)
    try:
        with pytest.raises(DeviceError, match="its DevTools are not open to adb") as caught:
            device.facts()
        assert "USB debugging" in caught.value.next_step
    finally:
        closed.end()


def test_several_tabs_are_refused(chrome: Chrome, phone: Phone, device: ChromeDevice) -> None:
    chrome.open_tab()
    with pytest.raises(DeviceError, match="has 2 tabs open") as caught:
        device.facts()
    assert "Close all but one" in caught.value.next_step
    assert left(phone) == "" and len(chrome.tabs()) == 2


def test_a_profile_names_the_phone_too(chrome: Chrome, phone: Phone, stubbed: None) -> None:
    check_device("web:chrome-on-pixel8a")
    with open_device("web:chrome-on-pixel8a") as device:
        assert device.facts().name == "web:chrome-on-pixel8a"
    assert kind_of("web:chrome-on-pixel8a").releases is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("web:firefox", "'web:firefox' is no browser"),
        ("web:chrome-on-", "'web:chrome-on-' is no browser"),
        ("web:chrome-on-pixel8a@elsewhere:5037", "at another machine's adb server"),
        ("web:chrome-on-nobody", "There is no device 'nobody'"),
    ],
)
def test_what_names_no_chrome_here_is_one_sentence(phone: Phone, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_device(name)


@pytest.mark.gpu
def test_litertjs_itself_runs_there_on_its_gpu(chrome: Chrome, phone: Phone, plus_one: Model) -> None:
    x = np.asarray([[0.1, 1.0, -2.0, 3.0]], np.float32)
    with open_device(f"web:chrome-on-{phone.serial}") as device:
        done = device.run(make_job(plus_one, {"x": x}, Options(precision="fp32"), timeout=120))
    assert isinstance(done, Completed), done
    assert np.array_equal(done.outputs["y"], x + 1)
    assert "WebGPU" in done.adapter
    assert chrome.tabs() == ["about:blank"] and left(phone) == ""
