"""--serve: the site's pages and the runs' reports, nothing else, and a page that sees when it changed."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import pytest

from harness.core.errors import UsageError
from harness.dashboard.build import Built, build
from harness.dashboard.serve import ServedSite, application, header, open_site, with_live
from harness.report.serving import Guard, listen, serve

if TYPE_CHECKING:
    from tests.browser import Browser
    from tests.dashboard.conftest import Bench


@dataclass(frozen=True)
class Site:
    url: str
    first: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
        """What is at a path, relative to the overview's."""
        address = urlsplit(urljoin(self.first, path))
        line = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=60)
        line.request(method, address.path, headers=headers)
        answer = line.getresponse()
        text = answer.read().decode()
        line.close()
        return answer.status, text, {name.lower(): value for name, value in answer.getheaders()}


@contextmanager
def serving(results: Path, folder: Path) -> Iterator[Site]:
    """A site that is built already, served."""
    listener, address = listen()
    served = ServedSite(results, folder)
    ending = threading.Event()
    app = Guard(application(served), address)
    thread = threading.Thread(target=serve, args=(app, listener), kwargs={"ending": ending})
    thread.start()
    try:
        yield Site(address.url(), address.url(served.first))
    finally:
        ending.set()
        thread.join(30)
    assert not thread.is_alive()


def compared(results: Path, name: str = "20261101T000000Z-decoder-compare") -> Path:
    """A run that has a report."""
    folder = results / name
    folder.mkdir(parents=True)
    record = {"schema": 1, "command": "compare", "status": "done", "started": "2026-11-01T00:00:00+00:00",
              "model": {"path": "decoder.tflite"}, "result": {"status": "pass"}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "report.html").write_text("<script>what somebody put there</script>")
    return folder


@pytest.fixture
def results(bench: Bench, tmp_path: Path) -> Path:
    bench(tmp_path / "results", 0)
    compared(tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def site(results: Path) -> Iterator[Site]:
    build(results, results / "dashboard")
    (results / "dashboard" / "mine.html").write_text("not the site's")
    (results.parent / "secret.html").write_text("secret")
    with serving(results, results / "dashboard") as found:
        yield found


def test_every_page_of_the_site_is_served_and_links_between_them_hold(site: Site, results: Path) -> None:
    assert site.first == f"{site.url}dashboard/index.html"
    for page in ("index.html", "matrix.html", "runs.html"):
        status, text, headers = site.ask(page)
        assert status == 200 and headers["content-type"] == "text/html; charset=utf-8", page
        assert "</html>" in text
    (history,) = [path.name for path in (results / "dashboard" / "history").glob("*.html")]
    assert site.ask(f"history/{history}")[0] == 200
    status, text, headers = site.ask("runs.csv")
    assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert text == (results / "dashboard" / "runs.csv").read_text()
    for path in ("./", "../"):
        status, _, headers = site.ask(path)
        assert status == 303 and urljoin(site.first, headers["location"]) == site.first


def test_a_report_is_made_anew_and_not_taken_from_the_runs_folder(site: Site) -> None:
    status, text, headers = site.ask("../20261101T000000Z-decoder-compare/report.html")
    assert status == 200 and "<title>Done – decoder.tflite</title>" in text
    assert "somebody" not in text and headers["content-security-policy"] == header("report")


@pytest.mark.parametrize(
    "path",
    [
        ".cache.json", "mine.html", "../secret.html", "../../secret.html", "history/%00.html", "%ff%fe",
        "%2e%2e/%2e%2e/secret.html", "..%2f..%2fsecret.html",
        "../20261101T000000Z-decoder-compare/run.json", "../20261101T000000Z-decoder-compare/",
        "../dashboard/report.html", "../none/report.html", "history/../.cache.json",
        "../%2e/report.html", "../%2e%2e/report.html", "../%00/report.html",
    ],
)  # fmt: skip
def test_nothing_else_of_the_disk_is_reachable(path: str, site: Site) -> None:
    address = urlsplit(site.first)
    line = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=60)
    line.request("GET", f"{address.path.rpartition('/')[0]}/{path}")  # as it is: no client tidies it
    answer = line.getresponse()
    assert answer.status == 404
    assert "secret" not in answer.read().decode().replace("secret.html", "")
    line.close()


def test_links_that_lie_in_the_folders_are_not_followed(results: Path) -> None:
    build(results, results / "dashboard")
    outside = results.parent / "outside"
    shutil.copytree(results / "20261101T000000Z-decoder-compare", outside)
    (results / "linked").symlink_to(outside)
    (results / "dashboard" / "matrix.html").unlink()
    (results / "dashboard" / "matrix.html").symlink_to(outside / "report.html")
    with serving(results, results / "dashboard") as site:
        assert site.ask("matrix.html")[0] == 404
        assert site.ask("../linked/report.html")[0] == 404
    served = ServedSite(results, results / "dashboard")
    assert served.find("linked/report.html") is None
    moved = (results / "dashboard" / "history").rename(results.parent / "history")
    (results / "dashboard" / "history").symlink_to(moved)
    (page,) = [path.name for path in moved.glob("*.html")]
    assert served.find(f"dashboard/history/{page}") is None


def test_a_site_that_lies_elsewhere_finds_its_runs_too(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a site" / "here"
    build(results, folder)
    with serving(results, folder) as site:
        assert site.first == f"{site.url}a%20site/here/index.html"
        page = site.ask("runs.html")[1]
        (link,) = [part.split('"')[0] for part in page.split('href="') if "decoder-compare" in part.split('"')[0]]
        assert "Done – decoder.tflite" in site.ask(link)[1]


def test_a_run_by_any_name_has_its_report(results: Path) -> None:
    odd = os.fsdecode(b"20261101T000000Z-\xff#?%41 &")
    compared(results, odd)
    build(results, results / "dashboard")
    with serving(results, results / "dashboard") as site:
        page = site.ask("runs.html")[1]
        links = [part.split('"')[0] for part in page.split('href="') if "report.html" in part.split('"')[0]]
        assert len(links) == 3 and any("%FF" in link for link in links)
        assert all(site.ask(link)[0] == 200 for link in links if "host" not in link)


def test_a_bundle_has_its_reports_in_the_site(results: Path) -> None:
    build(results, results / "dashboard", bundle=True)
    name = next(p.name for p in (results / "dashboard" / "reports").iterdir() if "Done – decoder" in p.read_text())
    with serving(results, results / "dashboard") as site:
        status, text, headers = site.ask(f"reports/{name}")
    assert status == 200 and "Done – decoder.tflite" in text
    assert headers["content-security-policy"] == header("report")


def test_the_policy_is_as_strict_as_on_the_disk_but_for_the_look_at_itself(site: Site, results: Path) -> None:
    on_disk = (results / "dashboard" / "index.html").read_text()
    assert "connect-src" not in on_disk and "fetch(" not in on_disk and 'name="stamp"' not in on_disk
    _, text, headers = site.ask("index.html")
    policy = headers["content-security-policy"]
    parts = dict(part.partition(" ")[::2] for part in policy.split("; "))
    assert parts["default-src"] == "'none'" and parts["connect-src"] == "'self'"
    assert parts["frame-ancestors"] == parts["base-uri"] == parts["form-action"] == "'none'"
    assert parts["img-src"] == "data:" and parts["script-src"].count("sha256-") == 2 and "unsafe" not in policy
    assert policy.removesuffix("; frame-ancestors 'none'") in text
    assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"


def test_a_page_that_is_not_ours_gets_no_more_than_ours_may() -> None:
    foreign = "<title>x</title><script>evil()</script></body>"
    assert "evil()" in with_live(foreign, "site", '"tag"')  # and the header's policy has no hash of it
    assert with_live("nothing", "site", '"tag"') == "nothing"


def test_a_pages_tag_changes_when_the_page_does_and_only_then(site: Site, results: Path, bench: Bench) -> None:
    def tags() -> list[str]:
        run = "../20261101T000000Z-decoder-compare/report.html"
        return [site.ask(path, "HEAD")[2]["etag"] for path in ("index.html", "runs.html", run)]

    before = tags()
    _, text, headers = site.ask("index.html")
    assert headers["etag"] == before[0] and f'name="stamp" content={before[0]}' in text
    assert build(results, results / "dashboard").changed is False and tags() == before
    bench(results, 1)
    build(results, results / "dashboard")
    after = tags()
    assert after[0] != before[0] and after[1] != before[1] and after[2] == before[2]
    (results / "20261101T000000Z-decoder-compare" / "log.txt").write_text("more")
    assert tags()[2] != before[2]


def test_a_benchmarks_samples_lead_to_its_report(site: Site, results: Path) -> None:
    (run,) = [path.parent.name for path in results.glob("*/samples.csv")]
    status, _, headers = site.ask(f"../{run}/samples.csv")
    assert (status, headers["location"]) == (303, "report.html")


def test_a_run_that_is_damaged_is_told_of_in_a_sentence(site: Site, results: Path) -> None:
    (results / "20261101T000000Z-decoder-compare" / "run.json").write_text("{")
    status, text, _ = site.ask("../20261101T000000Z-decoder-compare/report.html")
    assert status == 404 and "run.json" in text and "Traceback" not in text


def test_opening_builds_and_serving_builds_again(results: Path, bench: Bench) -> None:
    opened = open_site(results, results / "dashboard")
    assert opened.built.runs == 2 and opened.url.endswith("/dashboard/index.html")
    assert opened.url.split("/")[3] not in repr(opened._serve)
    seen: list[Built] = []

    def told(built: Built) -> None:
        seen.append(built)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.5, bench, (results, 1)).start()
    assert opened.serve(told) == 130
    assert [built.runs for built in seen] == [3]


def test_a_results_folder_that_is_not_there_is_said_before_anything_is_served(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        open_site(tmp_path / "none", tmp_path / "site")


def test_the_command_prints_its_address_serves_and_ends_with_ctrl_c(results: Path, bench: Bench) -> None:
    command = [sys.executable, "-m", "harness.cli", "dashboard", "--out", str(results), "--serve", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        document = json.loads("".join(lines))
        assert document["runs"] == 2 and document["page"] == str(results / "dashboard" / "index.html")
        site = Site("", document["address"])
        assert site.ask("index.html")[0] == 200
        first = site.ask("runs.html")[2]["etag"]
        bench(results, 1)
        deadline = time.monotonic() + 60
        while site.ask("runs.html", "HEAD")[2]["etag"] == first and time.monotonic() < deadline:
            time.sleep(0.2)
        assert site.ask("runs.html", "HEAD")[2]["etag"] != first
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stdout.read() == "" and process.stderr.read().strip() == ""
    finally:
        process.kill()
        process.wait(timeout=30)


def test_a_port_without_serve_is_misuse() -> None:
    command = [sys.executable, "-m", "harness.cli", "dashboard", "--port", "8000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "--port 8000 is of --serve." in done.stderr


def until(browser: Browser, script: str, wanted: object) -> None:
    deadline = time.monotonic() + 30
    while browser.js(script) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    assert browser.js(script) == wanted


ROWS = "document.querySelectorAll('#run-table tbody tr').length"
TOLD = "document.querySelector('.live').textContent"


@pytest.mark.slow
def test_an_open_page_shows_a_run_that_arrives(browser: Browser, results: Path, bench: Bench) -> None:
    build(results, results / "dashboard")
    with serving(results, results / "dashboard") as site:
        browser.complaints()
        browser.visit(urljoin(site.first, "runs.html"), 1200)
        assert browser.js(ROWS) == 2 and browser.js(TOLD) == ""
        bench(results, 1)
        build(results, results / "dashboard")
        until(browser, ROWS, 3)
        browser.js("document.getElementById('filter').focus()")
        bench(results, 2)
        build(results, results / "dashboard")
        until(browser, TOLD, "This page has changed. Show")
        assert browser.js(ROWS) == 3
        browser.js("document.querySelector('.live button').click()")
        until(browser, ROWS, 4)
        browser.visit(urljoin(site.first, "../20261101T000000Z-decoder-compare/report.html"), 390)
        assert browser.js("document.title") == "Done – decoder.tflite"
        shutil.rmtree(results / "20261101T000000Z-decoder-compare")
        until(browser, TOLD, "What this page shows is gone.")
        loaded = browser.js("performance.getEntriesByType('resource').map(r => r.name)")
        assert loaded and all(name.startswith(site.url) for name in loaded)
        assert [said for said in browser.complaints() if "404" not in said] == []
    until(browser, TOLD, "The server has ended: this page stays as it was.")
