"""A real browser, told what to do over WebDriver."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


class Browser:
    """The few words of WebDriver that are needed, spoken to chromedriver."""

    def __init__(self, port: int, binary: str, profile: Path, more: Sequence[str] = ()) -> None:
        self._at = f"http://127.0.0.1:{port}"
        chrome = {"args": [*OPTIONS, *more, f"--user-data-dir={profile}"], "binary": binary}
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = f"/session/{self._call('/session', capabilities={'alwaysMatch': wanted})['sessionId']}"

    def open(self, page: Path, width: int, fragment: str = "") -> None:
        """Show a page in a window of this width."""
        self.visit(page.as_uri() + fragment, width)

    def visit(self, address: str, width: int) -> None:
        """Show what is at an address, a file's or a server's, in a window of this width."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.cdp("Emulation.setDeviceMetricsOverride", **size)
        self.cdp("Emulation.setFocusEmulationEnabled", enabled=True)  # also where another window has it
        self._call(f"{self._session}/url", url="about:blank")
        self._call(f"{self._session}/url", url=address)
        # On a busy machine chromedriver has taken the blank page's end for this one's, and a half-read page for whole.
        loaded = "location.protocol !== 'about:' && document.readyState === 'complete'"
        deadline = time.monotonic() + 30
        while not self.js(loaded):
            if time.monotonic() > deadline:
                pytest.fail(f"the browser has not read {address} to its end in 30 s", pytrace=False)
            time.sleep(0.02)

    def go(self, address: str) -> None:
        """Show what is at an address."""
        self._call(f"{self._session}/url", url=address)

    def choose(self, element: str, path: Path) -> None:
        """Give a file input, by its CSS selector, a file or a folder."""
        found = self._call(f"{self._session}/element", using="css selector", value=element)
        (name,) = found.values()
        self._call(f"{self._session}/element/{name}/value", text=str(path))

    def until(self, script: str, seconds: float = 60.0) -> Any:
        """The value of a script, once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.js(script)):
            if time.monotonic() > deadline:
                pytest.fail(f"the browser did not come to {script} in {seconds:g} s", pytrace=False)
            time.sleep(0.02)
        return value

    def tabs(self) -> list[str]:
        """The open tabs."""
        with urllib.request.urlopen(f"{self._at}{self._session}/window/handles", timeout=60) as answer:
            found: list[str] = json.load(answer)["value"]
            return found

    def new_tab(self) -> str:
        """Open another and go to it."""
        tab: str = self._call(f"{self._session}/window/new", type="tab")["handle"]
        self.go_to(tab)
        return tab

    def go_to(self, tab: str) -> None:
        """Go on in that tab."""
        self._call(f"{self._session}/window", handle=tab)

    def mouse(self, selector: str, *places: tuple[float, float], button: str = "left", shift: bool = False) -> None:
        """Press a button at the first of these places in an element, as shares of its sides, drag it to the others,
        and let it go."""
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        self.js(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        left, top, width, height = self.js(f"(({{x, y, width, height}}) => [x, y, width, height])({box})")
        for number, (across, down) in enumerate((*places, places[-1])):
            kind = "mousePressed" if number == 0 else "mouseReleased" if number == len(places) else "mouseMoved"
            at = {"x": left + across * width, "y": top + down * height, "modifiers": 8 if shift else 0}
            self.cdp("Input.dispatchMouseEvent", type=kind, button=button, buttons=1, clickCount=1, **at)

    def key(self, key: str, *, shift: bool = False) -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.cdp("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 if shift else 0)

    def js(self, script: str) -> Any:
        """The value of a script."""
        return self._call(f"{self._session}/execute/sync", script=f"return {script}", args=[])

    def cdp(self, command: str, **parameters: Any) -> None:
        """A command of the DevTools protocol."""
        self._call(f"{self._session}/goog/cdp/execute", cmd=command, params=parameters)

    def complaints(self) -> list[str]:
        """What the browser's console says. A page that was shown before may complain late, once its server has ended:
        that is left out."""
        said = [entry["message"] for entry in self._call(f"{self._session}/se/log", type="browser")]
        here = urllib.parse.urlparse(self.js("location.href"))
        before = re.compile(rf"http://127\.0\.0\.1:(?!{here.port}/)")
        return [message for message in said if not before.match(message)]

    def close(self) -> None:
        """End the session."""
        urllib.request.urlopen(urllib.request.Request(self._at + self._session, method="DELETE"), timeout=30).close()

    def _call(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self._at + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]


@contextmanager
def started(profile: Path, more: Sequence[str] = ()) -> Iterator[Browser]:
    """A browser with an empty profile folder, and `more` on its command line. Where there is none, CI fails; elsewhere
    the summary says what to install."""
    driver = shutil.which("chromedriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or binary is None:
        _lacking("chromium and chromedriver are not both on PATH: apt-get install chromium chromium-driver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        browser = Browser(port, binary, profile, more)
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.wait(timeout=30)


def _lacking(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
