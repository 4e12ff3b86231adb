"""A browser as a device: `web`, or `web@2.5.3` for a release of LiteRT.js.

The page speaks the wire itself; the server between passes frames on. What the browser says beside an answer decides
whether it counts: see `harness.devices.web.evidence`.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from harness.core.errors import DeviceError
from harness.core.job import Completed, Job, Outcome, Rejected
from harness.core.progress import Say
from harness.devices.base import Device, Launcher, Sink
from harness.devices.host.log_file import LogFile
from harness.devices.link import Link
from harness.devices.refusal import explain_refusal
from harness.devices.residency import refused_ops
from harness.devices.scratch import Scratch
from harness.devices.web.browser import Browser, browser_program
from harness.devices.web.evidence import evidence_in
from harness.devices.web.package import package_folder, release_of
from harness.devices.web.server import PageServer

MOST_MODELS = 12
"""Models that one run of the browser compiles: WebAssembly's memory never shrinks, and what the runtime leaks stays."""


NO_WEBGPU = "this browser has no WebGPU"
MEND_WEBGPU = "Use --accelerator cpu, or set HARNESS_BROWSER to a Chrome or Chromium from 113 on."
# Chromium misses a desktop.
_NOISE = re.compile(r"\[[\d:/.]+:\w+:(?:dbus|device/bluetooth|ui/base/idle|media/gpu/vaapi)/")


class WebLauncher:
    """Starts the browser with the page, and ends it."""

    def __init__(self, release: str, progress: Say | None = None) -> None:
        program = browser_program()
        self._server = page_server(release, progress)
        self._scratch = Scratch("harness-web-")
        self._log = LogFile(self._scratch.path / "log.txt")
        self._browser = Browser(program, self._scratch.path, self._log, self._server.disconnect, self._server.uncaught)

    def start(self) -> Link:
        """Start the browser, and connect to its page. Raises DeviceError."""
        here = self._server.connect()
        try:
            self._browser.start(self._server.address)
        except BaseException:
            here.close()
            raise
        return Link(here)

    @property
    def pid(self) -> int | None:
        """The browser's first process, while it runs."""
        return self._browser.pid

    def page_process(self) -> int | None:
        """The process of the page: of those for pages, the one that has computed the most."""
        pages = {pid: seconds for pid, (kind, seconds) in self._browser.processes().items() if kind == "renderer"}
        return max(pages, key=lambda pid: pages[pid], default=None)

    def processes(self) -> tuple[int, ...]:
        """All processes of the browser."""
        return tuple(self._browser.processes())

    @property
    def token(self) -> str:
        """What the page is known by."""
        return self._server.token

    def death(self) -> tuple[str, str] | None:
        """How the page or the browser ended."""
        return (self._server.gone, "") if self._server.gone else self._browser.death()

    def lost(self, reason: str) -> str:
        """Nothing more can be said: the browser is here, and its page spoke nonsense."""
        return reason

    def kill(self) -> None:
        """End all of the browser's processes, and remove its profile."""
        self._server.disconnect()
        self._browser.kill()

    def close(self) -> None:
        """End the server too, and remove what is on disk."""
        self.kill()
        self._server.close()
        self._log.close()
        self._scratch.close()

    def log_mark(self) -> int:
        """Bytes logged so far."""
        return self._log.mark()

    def log(self, mark: int) -> str:
        """What browser and page said since `mark`."""
        self._browser.fence()
        return "".join(line for line in self._log.since(mark).splitlines(True) if not _NOISE.match(line))


class PageDevice(Device):
    """LiteRT.js in a page, wherever that is."""

    mend = MEND_WEBGPU
    """What to do where the browser has no WebGPU."""

    def __init__(self, name: str, launcher: Launcher) -> None:
        self._models = 0
        super().__init__(name, "web", launcher)

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        """Run a job; as :meth:`Device.run`. What completed while the browser complained is a refusal.

        Raises:
            DeviceError: the browser cannot be started, or has no WebGPU and the job is one for the GPU.
        """
        if self._held != (job.sha256, job.options):
            if self._models >= MOST_MODELS:
                self._drop()
            self._models += 1
        if self._link is None:
            self._models = 1
        done = super().run(job, sink)
        if isinstance(done, Completed) and (against := _against(done, job)) is not None:
            done = against
            self._drop()  # what a fault left behind is no ground for the next job
        if isinstance(done, Rejected) and done.reason.startswith(NO_WEBGPU):
            raise DeviceError(f"Device '{self.name}' has no GPU: {done.reason}.", self.mend, done.log)
        return done


class WebDevice(PageDevice):
    """LiteRT.js in a browser on this machine: WebGPU, and WebAssembly as the CPU."""

    own_process = True

    def __init__(self, name: str = "web", *, progress: Say | None = None) -> None:
        self.launcher = WebLauncher(release_of(name), progress)
        self._page: tuple[int | None, int | None] = None, None  # of which browser, and its process
        super().__init__(name, self.launcher)

    @property
    def pid(self) -> int | None:
        """The process of the page, in which WebAssembly computes."""
        if self._page[0] is None or self._page[0] != self.launcher.pid:
            self._page = self.launcher.pid, self.launcher.page_process()
        return self._page[1]

    @property
    def beside(self) -> tuple[int, ...]:
        """The browser's other processes: that of the GPU computes, where the GPU is a software one."""
        return tuple(pid for pid in self.launcher.processes() if pid != self.pid)

    def close(self) -> None:
        """End the browser and remove its folder."""
        super().close()
        self.launcher.close()


def page_server(release: str, progress: Say | None = None) -> PageServer:
    """The server of the page and of a release of LiteRT.js. Raises DeviceError as `package_folder`."""
    package = package_folder(release, progress)
    page = Path(str(files("harness.devices.web").joinpath("page")))
    return PageServer(_served(page=page, **_packages(package)))


def _against(done: Completed, job: Job) -> Rejected | None:
    """The refusal that a completed job really is; None where nothing tells against it."""
    alone = job.options.accelerator == "gpu" and job.options.fallback == "none"
    if alone and refused_ops(done.log):  # up to 2.0.0 the runtime goes on
        return Rejected(*explain_refusal("the GPU delegate took only a part of the model", done.log), done.log)
    found = evidence_in(done.log)
    return Rejected(found.reason, (), done.log) if found.complaints else None


def _packages(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in ("core", "wasm-utils")}


def _served(**folders: Path) -> dict[str, Path]:
    """Every file of the folders by its path in the server's."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file()
    }
