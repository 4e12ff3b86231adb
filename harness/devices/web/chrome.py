"""Chrome on a phone as a device: `web:chrome-on-SERIAL`, `web:chrome-on-pixel8a`.

The same page as in a browser on this machine, in a tab of the phone's own Chrome. Chrome's DevTools are reached by a
stream through the adb server, as the app is; the page comes from this machine's server by `adb reverse`, under
127.0.0.1, where WebGPU is allowed. The tab and the reverse are all that is made on the phone, and both are taken back.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any

from harness.core.errors import DeviceError, UsageError
from harness.core.job import Job, Outcome
from harness.core.progress import Say
from harness.devices.android.adb import Adb, AdbError
from harness.devices.android.device import PhoneLauncher, PhoneOptions
from harness.devices.android.ready import battery_celsius
from harness.devices.base import Sink
from harness.devices.host.log_file import LogFile
from harness.devices.link import Link
from harness.devices.scratch import Scratch
from harness.devices.web.device import PageDevice, page_server
from harness.devices.web.devtools import DevToolsError
from harness.devices.web.package import DEFAULT
from harness.devices.web.server import PageServer
from harness.devices.web.tab import Tab
from harness.devices.web.websocket import SocketDevTools, browser_path, check_library, told

PREFIX = "web:chrome-on-"
CHROME = "com.android.chrome"
SOCKET = "localabstract:chrome_devtools_remote"
ANSWER_SECONDS = 10.0
DEATH_SECONDS = 1.0
POLL_SECONDS = 0.05
# The page's address, by whichever harness: the phone is locked, so none that is there is in use.
_MINE = re.compile(r"http://127\.0\.0\.1:(\d{1,5})/[\w-]{32}/page/index\.html")
OPEN_CHROME = "Open Chrome on the phone, with one tab, and leave it in front."


def phone_of(name: str) -> str:
    """The phone that `web:chrome-on-PHONE` names. Raises UsageError for what names none, or one of another machine."""
    phone = name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or not phone:
        raise UsageError(
            f"'{name}' is no browser.", "Write web, web@RELEASE, or web:chrome-on-PHONE for Chrome on a phone."
        )
    if "@" in phone:
        raise UsageError(
            f"'{name}' is at another machine's adb server, from where the page here cannot be reached.",
            "Run the harness on the machine that the phone is attached to.",
        )
    return phone


class ChromeLauncher(PhoneLauncher):
    """Opens a tab with the page in a phone's Chrome, and closes it."""

    def __init__(self, adb: Adb, server: PageServer, options: PhoneOptions, progress: Say | None = None) -> None:
        super().__init__(adb, options, progress)
        check_library()
        self._scratch = Scratch("harness-chrome-")
        self._log = LogFile(self._scratch.path / "log.txt")
        self._server = server
        self._tab = Tab(self._log, server.disconnect, server.uncaught)
        self._tools: SocketDevTools | None = None

    def start(self) -> Link:
        """Have the phone, and show the page in a tab of its Chrome. Raises DeviceError."""
        self._have_phone()
        here = self._server.connect()
        try:
            self._open()
        except DevToolsError as error:
            here.close()
            self.kill()
            raise DeviceError(f"Chrome on {self._adb.serial} cannot be driven: {error}.", OPEN_CHROME) from None
        except BaseException:
            here.close()
            self.kill()
            raise
        return Link(here)

    def death(self) -> tuple[str, str] | None:
        """How the page, or Chrome, ended by itself."""
        why = self._server.gone or self._tab.crash
        if why:
            return why, ""
        deadline = time.monotonic() + DEATH_SECONDS
        with suppress(AdbError):  # not Chrome but the phone is gone
            while self._runs():
                if time.monotonic() >= deadline:
                    return None
                time.sleep(POLL_SECONDS)
            return f"Chrome ended on {self._adb.serial}", ""
        return None

    def kill(self) -> None:
        """Close the tab and take the reverse back; Chrome stays."""
        self._server.disconnect()
        tools, self._tools = self._tools, None
        if tools is not None:
            self._tab.close()
            tools.close()
        port, self._server.outside = self._server.outside, None
        if port is not None:
            with suppress(AdbError):
                self._adb.call("reverse", "--remove", f"tcp:{port}")

    def close(self) -> None:
        """Close the tab, end the server, give the phone to others."""
        self.kill()
        self._server.close()
        self._log.close()
        self._scratch.close()
        self._give_back()

    def log_mark(self) -> int:
        """Bytes logged so far."""
        return self._log.mark()

    def log(self, mark: int) -> str:
        """What the page said since `mark`."""
        self._tab.fence()
        return self._log.since(mark)

    def _install(self) -> None:
        """Nothing: the page brings all with it."""

    def _note(self, text: str) -> None:
        self._tab.note(text)

    def _open(self) -> None:
        """Raises DeviceError: Chrome is not there to be asked. DevToolsError: it does not do as it is told."""
        path = browser_path(self._ask("/json/version"))
        connection = self._stream()
        self._tools = SocketDevTools(connection, path, ANSWER_SECONDS, self._tab.event, self._server.disconnect)
        if len(tabs := self._tabs_of_others(self._tools)) > 1:
            raise DeviceError(
                f"Chrome on {self._adb.serial} has {len(tabs)} tabs open, which share its GPU with the page.",
                "Close all but one there: a GPU that is lost is lost to all of them.",
            )
        said = self._adb.call("reverse", "tcp:0", f"tcp:{self._server.port}").strip()
        if not (said.isdecimal() and 0 < int(said) < 1 << 16):
            raise AdbError("adb reverse tcp:0", self._adb.serial, said, None, "names no port")
        self._server.outside = int(said)
        self._tab.show(self._tools, self._server.address)

    def _tabs_of_others(self, tools: SocketDevTools) -> list[str]:
        """The addresses of the tabs that are there, once those are closed that a harness left behind which was killed,
        or lost the phone; and what leads to them is taken back."""
        found = []
        listed = self._ask("/json/list")
        for tab in listed if isinstance(listed, list) else []:
            if not isinstance(tab, dict) or tab.get("type") != "page":
                continue
            address = str(tab.get("url"))
            mine = _MINE.fullmatch(address)
            if mine is None:
                found.append(address)
                continue
            tools.call("Target.closeTarget", ANSWER_SECONDS, targetId=str(tab.get("id")))
            with suppress(AdbError):  # it ended with the connection, as a rule
                self._adb.call("reverse", "--remove", f"tcp:{mine[1]}")
        return found

    def _ask(self, path: str) -> Any:
        return told(self._stream(), path, ANSWER_SECONDS)

    def _stream(self) -> Any:
        try:
            return self._adb.stream(SOCKET, time.monotonic() + ANSWER_SECONDS)
        except AdbError:
            if self._runs():
                raise DeviceError(
                    f"Chrome runs on {self._adb.serial}, and its DevTools are not open to adb.",
                    "Turn USB debugging off and on again in the phone's developer options, and start Chrome anew; "
                    "a policy of the phone's owner may forbid it (chrome://policy).",
                ) from None
            raise DeviceError(f"Chrome does not run on {self._adb.serial}.", OPEN_CHROME) from None

    def _runs(self) -> bool:
        """Whether Chrome does. Raises AdbError."""
        return bool(self._adb.shell("pidof", CHROME, check=False).strip())


class ChromeDevice(PageDevice):
    """LiteRT.js in a phone's Chrome."""

    elsewhere = True
    mend = "Use --accelerator cpu, or update Chrome on the phone: it has WebGPU from 121 on, on Android 12 and later."

    def __init__(
        self, name: str, adb: Adb, options: PhoneOptions | None = None, *, progress: Say | None = None
    ) -> None:
        self._phone = ChromeLauncher(adb, page_server(DEFAULT, progress), options or PhoneOptions(), progress)
        super().__init__(name, self._phone)

    @property
    def serial(self) -> str:
        """The phone's own serial number; empty before it was reached."""
        return self._phone.serial

    @property
    def fixed_performance(self) -> bool | None:
        """Whether Android's mode of that name is on; None where nobody asked for it."""
        return self._phone.fixed_performance

    def celsius(self) -> float | None:
        """The battery's temperature; None where the phone does not tell, or cannot be asked."""
        with suppress(DeviceError):
            return battery_celsius(self._phone.adb)
        return None

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        """As :meth:`PageDevice.run`, in the mode that was asked for."""
        self._phone.keep_fixed(job.timeout)
        return super().run(job, sink)

    def close(self) -> None:
        """Close the tab and give the phone back."""
        super().close()
        self._phone.close()
