"""The site, served: its pages as they lie on the disk, and the runs' reports, each made when it is asked for.

Nothing else of the disk is reachable: a path names a page of the site or a run, and never a file. A report is made anew
and not taken from the run's folder, where anything may lie under that name. A page on the disk asks for nothing; one
that is served has a script more, which looks every two seconds whether the page changed, and a policy that lets it.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote_to_bytes

from harness.core import safe_files
from harness.core.errors import UsageError
from harness.core.progress import SILENT, Progress
from harness.core.visible import visible
from harness.dashboard import pages
from harness.dashboard.build import Built
from harness.dashboard.index import code_digest
from harness.dashboard.watch import watch
from harness.report import page as report_page
from harness.report.serving import Guard, listen, require, serve
from harness.report.templating import policy

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_SITE_PAGE = re.compile(r"(?:index|matrix|runs)\.html|runs\.csv|history/[A-Za-z0-9_][A-Za-z0-9_.-]*\.(?:html|csv)")
_REPORT_PAGE = re.compile(r"reports/[A-Za-z0-9_][A-Za-z0-9_.-]*\.html")
_RUN_FILE = ("report.html", "samples.csv")
# What a report is made from.
_SOURCES = ("run.json", "ops.csv", "samples.csv", "log.txt")
_LARGEST_PAGE = 256 << 20
_KEPT_REPORTS = 8

Look = Literal["site", "report"]
_STYLE: dict[Look, str] = {"site": "dashboard", "report": "style"}
_SCRIPT: dict[Look, str] = {"site": "dashboard", "report": "script"}


@dataclass(frozen=True)
class ServedSite:
    """What is there to serve, and where. Both folders keep their places to each other, so that links between them hold:
    an address is `site_at` or `runs_at` below the token, and what is below that."""

    results: Path
    site: Path
    _reports: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict, repr=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def _common(self) -> str:
        return os.path.commonpath([self.results.resolve(), self.site.resolve()])

    @property
    def site_at(self) -> str:
        """As `results/dashboard/`; empty where the runs are inside the site."""
        return self._below(self.site)

    @property
    def runs_at(self) -> str:
        """As `results/`."""
        return self._below(self.results)

    def _below(self, folder: Path) -> str:
        relative = os.path.relpath(folder.resolve(), self._common)
        return "" if relative == "." else f"{relative}/"

    @property
    def first(self) -> str:
        """The overview's place below the token."""
        return quoted(f"{self.site_at}index.html")

    def find(self, path: str) -> Page | None:
        """What a path below the token names; None for nothing."""
        if path.startswith(self.site_at):
            name = path[len(self.site_at) :]
            if _SITE_PAGE.fullmatch(name):
                return self._on_disk(name, "site")
            if _REPORT_PAGE.fullmatch(name):
                return self._on_disk(name, "report")
        if path.startswith(self.runs_at):
            run, _, file = path[len(self.runs_at) :].partition("/")
            if file in _RUN_FILE and run not in ("", ".", "..") and "\0" not in run:
                return self._of_run(run, file)
        return None

    def _on_disk(self, name: str, look: Look) -> Page | None:
        file = self.site / name
        stamp = safe_files.stamp_of(file)
        linked = (self.site / name).parent.is_symlink()
        return Page(look, stamp, lambda: self._read(file), csv=name.endswith(".csv")) if stamp and not linked else None

    @staticmethod
    def _read(file: Path) -> str:
        return safe_files.read(file, _LARGEST_PAGE).decode("utf-8", "replace")

    def _of_run(self, run: str, file: str) -> Page | None:
        folder = self.results / run
        if folder.is_symlink() or not safe_files.is_file(folder / "run.json"):
            return None
        stamp = " ".join(safe_files.stamp_of(folder / name) or "-" for name in _SOURCES)
        return Page("report", stamp, lambda: self._report(folder, stamp), elsewhere=file != "report.html")

    def _report(self, folder: Path, stamp: str) -> str:
        """A run's page, made once for each state of its files; one at a time. Raises UsageError."""
        with self._turn:
            kept = self._reports.get(folder.name)
            if kept is None or kept[0] != stamp:
                kept = stamp, report_page.render(folder)
                self._reports[folder.name] = kept
            self._reports.move_to_end(folder.name)
            while len(self._reports) > _KEPT_REPORTS:
                self._reports.popitem(last=False)
            return kept[1]


@dataclass(frozen=True)
class Page:
    """One page: how it looks, what changes when it does, and its text. `elsewhere`: it is the run's report that shows
    what the path names."""

    look: Look
    stamp: str
    text: Callable[[], str]
    csv: bool = False
    elsewhere: bool = False

    @property
    def tag(self) -> str:
        """Of its ETag: a release with other templates has others."""
        return sha256(f"{code_digest()} {self.stamp}".encode()).hexdigest()[:32]


def with_live(text: str, look: Look, tag: str) -> str:
    """A page of ours as it is served: its policy is in the header, and the script that looks for changes is in it."""
    text = text.replace(_policy(look, served=False), _policy(look, served=True), 1)
    text = text.replace("<title>", f'<meta name="stamp" content="{tag}">\n<title>', 1)
    head, end, tail = text.rpartition("</body>")
    return f"{head}<script>{pages.inlined('live.js.j2')[0]}</script>\n{end}{tail}" if end else text


def header(look: Look) -> str:
    """The policy in the header of a served page: whatever else lies in the site's folder, no script runs but ours."""
    return f"{_policy(look, served=True)}; frame-ancestors 'none'"


def _policy(look: Look, *, served: bool) -> str:
    inlined = report_page.inlined if look == "report" else pages.inlined
    live = (pages.inlined("live.js.j2")[1],) if served else ()
    return policy(inlined(f"{_STYLE[look]}.css.j2")[1], inlined(f"{_SCRIPT[look]}.js.j2")[1], *live, served=served)


def quoted(path: str) -> str:
    """A path as it stands in an address."""
    return quote(os.fsencode(path), safe="/")


def application(served: ServedSite) -> Any:
    """The site as an ASGI application; what stands before it lets only its user in."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, RedirectResponse
    from starlette.responses import Response as Answer
    from starlette.routing import Route

    def ask(request: Request) -> Response:
        below = bytes(request.scope["raw_path"]).partition(b"?")[0].split(b"/", 2)[2:]
        path = os.fsdecode(unquote_to_bytes(below[0])) if below else ""
        if path in ("", served.site_at):
            return RedirectResponse(f"{request.scope['root_path']}/{served.first}", 303)
        page = served.find(path)
        if page is None:
            return PlainTextResponse("Not found: the site's pages and the runs' reports are served, no files.", 404)
        if page.elsewhere:
            return RedirectResponse("report.html", 303)
        headers = {"ETag": f'"{page.tag}"'}
        if page.csv:
            return Answer(page.text(), headers=headers, media_type="text/csv; charset=utf-8")
        headers["Content-Security-Policy"] = header(page.look)
        if request.method == "HEAD":
            return Answer("", headers=headers, media_type="text/html")
        try:
            text = with_live(page.text(), page.look, page.tag)
        except (OSError, UsageError) as error:
            return PlainTextResponse(visible(str(error)), 404)
        return Answer(text, headers=headers, media_type="text/html")

    return Starlette(routes=[Route("/{path:path}", ask)])


@dataclass(frozen=True)
class OpenSite:
    """A site that is built and has an address, which answers once it is served."""

    url: str
    built: Built
    _serve: Callable[[Callable[[Built], object]], int] = field(repr=False)

    def serve(self, told: Callable[[Built], object] = lambda built: None) -> int:
        """Answer until a signal, building again whenever a run changes, which `told` gets; returns the exit code that a
        shell gives the signal. Raises UsageError or StorageError where a build does."""
        return self._serve(told)


def open_site(
    results: Path, site: Path, *, port: int = 0, bundle: bool = False, progress: Progress = SILENT
) -> OpenSite:
    """Build the site, and take a port for it.

    Raises:
        UsageError, StorageError: as `build`; the packages that serve are not installed; the port is taken.
    """
    require()
    listener, address = listen(port)
    ending = threading.Event()
    builds = watch(results, site, bundle=bundle, progress=progress, wait=ending.wait)
    try:
        built = next(builds)
    except BaseException:
        listener.close()
        raise
    served = ServedSite(results, site)

    def answer(told: Callable[[Built], object]) -> int:
        def rebuild(_: threading.Event) -> None:
            for again in builds:
                told(again)

        return serve(Guard(application(served), address), listener, work=rebuild, ending=ending)

    return OpenSite(address.url(served.first), built, answer)
