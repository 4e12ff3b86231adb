"""The phone's Chrome: a real Chromium of this machine, whose DevTools are behind the abstract socket of Android's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from harness.devices.web.browser import ARGUMENTS
from tests.standin.phone import Phone

SOCKET = "\0chrome_devtools_remote"
START_SECONDS = 60.0


class Chrome:
    """One Chromium, with one empty tab. `opened`: whether its DevTools are open to adb."""

    def __init__(self, program: str, phone: Phone, *, opened: bool = True) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="chrome-", dir="/tmp"))
        words = [word for word in ARGUMENTS if word not in ("--remote-debugging-pipe", "--enable-logging=stderr")]
        self._process = subprocess.Popen(
            [
                program,
                *words,
                "--no-sandbox",
                "--remote-debugging-port=0",
                f"--user-data-dir={self._folder}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": str(self._folder), "XDG_RUNTIME_DIR": str(self._folder)},
            start_new_session=True,
        )
        self._phone = phone
        phone.write("chrome", {"pid": self._process.pid})
        self._port = self._port_of()
        self._listener: socket.socket | None = None
        if opened:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(SOCKET)
            self._listener.listen(16)
            threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def tabs(self) -> list[str]:
        """The addresses of its tabs."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/json/list", timeout=10) as answer:
            return [tab["url"] for tab in json.load(answer) if tab["type"] == "page"]

    def open_tab(self) -> None:
        """One tab more, as its user opens them."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()

    def end(self) -> None:
        """As when the system ends it: all of its processes, and the socket with them."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._phone.write("chrome", {"pid": None})
        shutil.rmtree(self._folder, ignore_errors=True)

    def _port_of(self) -> int:
        told = self._folder / "DevToolsActivePort"
        deadline = time.monotonic() + START_SECONDS
        while not (told.exists() and told.read_text("ascii").strip()):
            assert self._process.poll() is None and time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.05)
        return int(told.read_text("ascii").splitlines()[0])

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
