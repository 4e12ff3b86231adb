"""Chromium, started without a window in a process group of its own, with a profile that does not outlive it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.core.errors import DeviceError
from harness.core.signals import signal_name
from harness.devices.host.log_file import LogFile
from harness.devices.web.devtools import DevTools, DevToolsError
from harness.devices.web.tab import FENCE_SECONDS, Tab

BROWSER = "HARNESS_BROWSER"
"""Names the browser's program, where it is not the first of `PROGRAMS` on PATH."""
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
MEND = "Install Chromium (apt-get install chromium), or set HARNESS_BROWSER to a Chrome or Chromium from 113 on."
END_SECONDS = 5.0
LONGEST_TEMPORARY = 60
"""Bytes of the path of its temporary folder, in which it makes a socket: with a longer one it aborts."""

ARGUMENTS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers have 64 MB of it
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--password-store=basic",
    "--use-mock-keychain",
    # Nothing but the page's server is there.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    "--log-level=1",  # what the console says comes over the pipe
    # WebGPU where the browser would not offer it: on Linux, and on the software adapter.
    "--enable-unsafe-webgpu",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)


def browser_program() -> str:
    """The browser's program. Raises DeviceError where there is none."""
    named = os.environ.get(BROWSER)
    if named:
        found = shutil.which(named)
        if found is None:
            raise DeviceError(f"{BROWSER} names '{named}', which is no program.", MEND)
        return found
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    if MAC.exists():
        return str(MAC)
    raise DeviceError(f"There is no browser: {', '.join(PROGRAMS)} are not on PATH.", MEND)


class Browser:
    """One run of the browser with one page. From another thread, `ended` is called when the page or the browser has
    gone by itself, and `uncaught` with what the page threw and did not catch."""

    def __init__(
        self, program: str, folder: Path, log: LogFile, ended: Callable[[], None], uncaught: Callable[[str], None]
    ) -> None:
        self._program, self._folder, self._log = program, folder, log
        self._told_end = ended
        self._tab = Tab(log, ended, uncaught)
        self._process: subprocess.Popen[bytes] | None = None
        self._tools: DevTools | None = None
        self._made: list[Path] = []

    def start(self, address: str) -> None:
        """Start it and show the page at that address. Raises DeviceError."""
        try:
            self._launch()
            assert self._tools is not None
            self._tab.show(self._tools, address)
        except DevToolsError as error:
            death = self.death(END_SECONDS)
            self.kill()
            raise DeviceError(
                f"{self._program} did not start: {death[0] if death else error}. {self._last_line()}".strip(), MEND
            ) from None
        except OSError as error:
            self.kill()
            raise DeviceError(f"{self._program} cannot be started ({error.strerror}).", MEND) from None

    def _launch(self) -> None:
        profile, temporary = self._folder / "profile", self._folder / "tmp"
        if len(os.fsencode(temporary)) > LONGEST_TEMPORARY:
            temporary = Path(tempfile.mkdtemp(prefix="harness-web-", dir="/tmp"))
        self._made = [profile, temporary]
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        arguments = [*ARGUMENTS, f"--user-data-dir={profile}"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # root has no other way
        there_in, commands = os.pipe()
        events, there_out = os.pipe()
        environment = os.environ | {
            "TMPDIR": str(temporary),
            "XDG_CONFIG_HOME": str(profile),
            "XDG_CACHE_HOME": str(profile),
            "XDG_RUNTIME_DIR": str(temporary),
        }
        start = str(Path(__file__).with_name("start.py"))
        try:
            with self._log.open() as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", start, str(there_in), str(there_out), self._program, *arguments],
                    pass_fds=[there_in, there_out],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=self._folder,
                    start_new_session=True,
                )
        except BaseException:
            os.close(commands)
            os.close(events)
            raise
        finally:
            os.close(there_in)
            os.close(there_out)
        self._tools = DevTools(commands, events, self._tab.event, self._told_end)

    @property
    def pid(self) -> int | None:
        """Process id of the browser's first process, while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def processes(self) -> dict[int, tuple[str, float]]:
        """Kind (`renderer`, `GPU`) and processor seconds of each of its processes; empty where it does not tell."""
        try:
            told = self._tools.call("SystemInfo.getProcessInfo", FENCE_SECONDS) if self._tools is not None else {}
        except DevToolsError:
            return {}
        listed = told.get("processInfo")
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        return {
            int(entry["id"]): (str(entry.get("type")), float(entry.get("cpuTime") or 0))
            for entry in entries
            if isinstance(entry.get("id"), int)
        }

    def fence(self) -> None:
        """Wait until the log has all that the page's console said so far; in vain where the page is stuck or gone."""
        if self._process is not None:
            self._tab.fence()

    def death(self, seconds: float = 2.0) -> tuple[str, str] | None:
        """(sentence, signal name) where page or browser ended by themselves, within so many seconds; else None."""
        if self._tab.crash:
            return self._tab.crash, ""
        if self._process is None:
            return None
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        if code < 0:
            name = signal_name(-code)
            return f"the browser was ended by {name}", name
        return f"the browser ended with exit code {code}", ""

    def kill(self) -> None:
        """End all of its processes and wait for the end."""
        process, self._process = self._process, None
        tools, self._tools = self._tools, None
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if tools is not None:
            tools.close()
        self._tab.forget()
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)

    def _last_line(self) -> str:
        return " ".join(self._log.since(0).strip().splitlines()[-1:])
