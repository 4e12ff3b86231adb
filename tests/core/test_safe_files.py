"""Folders from elsewhere: nothing outside of them is read, written or deleted, and nothing is waited for."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.api.frames import load_runs
from harness.core import safe_files
from harness.core.errors import HarnessError, UsageError
from harness.core.run_folder import list_runs, read_run
from harness.dashboard.build import build
from harness.localize.probe.journal.log import FOLDER, Identity, Journal
from harness.report.export import export
from harness.report.page import write_report
from tests.fuzz.documents import FILES, write

IDENTITY = Identity("", "", "host", "host", "2.3.0", "", "gpu", "default", 0, "none")
SECRET = "root:x:0:0:not for anybody else"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that nothing may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    (folder / "page.html").write_text("a page of somebody's")
    (folder / "table.csv").write_text("a,b\n")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder among the results."""
    folder = tmp_path / "results" / "20261128T000000Z-model-host"
    write(folder, FILES)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything(run: Path, site: Path) -> list[str]:
    """What the readers of results say; a sentence is as good as an answer."""
    said = []
    tried: tuple[Callable[[], object], ...] = (
        lambda: read_run(run),
        lambda: write_report(run),
        lambda: export(run, "csv"),
        lambda: build(run.parent, site, bundle=True),
        lambda: load_runs(run.parent).runs,
        lambda: load_runs(run.parent).ops,
    )
    for attempt in tried:
        try:
            attempt()
        except HarnessError as error:
            said.append(str(error))
    return said


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["run.json", "ops.csv", "samples.csv", "log.txt", "report.html"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "link", "folder", "link to a pipe"])
def test_what_is_no_file_is_not_read_and_not_waited_for(
    run: Path, outside: Path, tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / name).unlink(missing_ok=True)
    before = contents(outside)
    if kind == "pipe":
        os.mkfifo(run / name)
    elif kind == "socket":
        monkeypatch.chdir(run)  # a socket's address is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(name)
    elif kind == "link":
        (run / name).symlink_to(outside / "secret.txt")
    elif kind == "folder":
        (run / name).mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
        (run / name).symlink_to(tmp_path / "pipe")
    everything(run, tmp_path / "site")
    assert contents(outside) == before
    for page in [*(tmp_path / "site").rglob("*"), *run.rglob("*.html")]:
        assert not (page.is_file() and not page.is_symlink() and SECRET in page.read_text(errors="replace"))


@pytest.mark.parametrize("name", ["report.html", "report.html.part", "run.json.part"])
def test_a_page_is_written_past_a_link(run: Path, outside: Path, name: str) -> None:
    (run / name).symlink_to(outside / "page.html")
    before = contents(outside)
    page = write_report(run)
    assert contents(outside) == before
    assert page.read_text().startswith("<!doctype html>") and not page.is_symlink()


def test_a_run_folder_that_is_a_link_is_refused_and_in_no_list(run: Path, outside: Path) -> None:
    moved = outside / "run"
    run.rename(moved)
    run.symlink_to(moved, target_is_directory=True)
    before = contents(outside)
    with pytest.raises(UsageError, match="is a link"):
        write_report(run)
    assert list_runs(run.parent) == []
    assert build(run.parent, run.parent.parent / "site").runs == 0
    assert contents(outside) == before


@pytest.mark.parametrize("place", ["", "history", "reports"])
def test_a_site_is_not_made_through_a_link(run: Path, outside: Path, tmp_path: Path, place: str) -> None:
    site = tmp_path / "site"
    build(run.parent, site)
    link = site / place if place else tmp_path / "linked"
    if place == "history":
        for path in link.iterdir():
            path.unlink()
        link.rmdir()
    link.symlink_to(outside, target_is_directory=True)
    before = contents(outside)
    with pytest.raises(UsageError, match="is a link"):
        build(run.parent, link if not place else site, bundle=True)
    assert contents(outside) == before


def test_only_what_the_site_wrote_itself_is_swept(run: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_report(run)
    build(run.parent, site, bundle=True)
    (site / "history" / "mine.html").write_text("a page of the reader's")
    mine = site / "reports" / "mine.html"
    mine.write_text("another")
    (written,) = [path for path in (site / "reports").iterdir() if path != mine]
    listed = json.loads((site / ".cache.json").read_text())
    listed["pages"]["../../outside"] = ""
    (tmp_path / "outside.html").write_text("not the site's")
    (site / ".cache.json").write_text(json.dumps(listed))
    shutil.rmtree(run)
    build(run.parent, site, bundle=True)
    assert not written.exists()
    assert {path.name for path in (site / "history").iterdir()} == {"mine.html"}
    assert mine.exists() and (tmp_path / "outside.html").exists()


def test_a_bundle_has_pages_of_its_own_making(run: Path, tmp_path: Path) -> None:
    (run / "report.html").write_text("<!doctype html><script>alert(1)</script>")
    build(run.parent, tmp_path / "site", bundle=True)
    (page,) = (tmp_path / "site" / "reports").iterdir()
    assert "alert(1)" not in page.read_text()
    assert "models/decoder.tflite" in page.read_text()


class TestReading:
    def test_no_more_is_read_than_asked(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"0123456789")
        assert safe_files.read(tmp_path / "f", 10) == b"0123456789"
        assert safe_files.tail(tmp_path / "f", 3) == (b"789", 10)
        with pytest.raises(OSError, match="it has 10 bytes, more than 9"):
            safe_files.read(tmp_path / "f", 9)

    def test_a_device_is_not_opened(self) -> None:
        with pytest.raises(OSError, match="it is no file"):
            safe_files.read(Path("/dev/zero"))

    def test_a_link_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"")
        (tmp_path / "l").symlink_to(tmp_path / "f")
        assert safe_files.is_file(tmp_path / "f")
        assert not safe_files.is_file(tmp_path / "l")
        assert not safe_files.is_file(tmp_path / "nothing")

    def test_what_has_no_size_is_bounded_too(self) -> None:
        """What lies under /proc says that it is empty, and is not."""
        with pytest.raises(OSError, match="it has more than 3 bytes"):
            safe_files.read(Path("/proc/self/status"), 3)

    def test_reading_that_takes_too_long_ends(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"x")
        with pytest.raises(OSError, match="it was not read within -1 s"):
            safe_files.read(tmp_path / "f", seconds=-1)

    def test_of_a_large_file_the_beginning_can_be_read(self, tmp_path: Path) -> None:
        with (tmp_path / "f").open("wb") as file:
            file.write(b"first\n")
            file.truncate(1 << 40)  # sparse
        assert safe_files.head(tmp_path / "f", 6) == b"first\n"


class TestReplacing:
    def test_a_failure_leaves_what_was_there_and_no_part(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("before")
        with pytest.raises(ValueError, match="half"), safe_files.replacing(tmp_path / "f") as partial:
            partial.write_text("half")
            raise ValueError("half")
        assert contents(tmp_path) == {"f": b"before"}


HOSTILE = "<!doctype html><script>alert(1)</script>"


@pytest.mark.parametrize("bundle", [False, True])
def test_pages_that_came_with_a_site_are_drawn_anew(run: Path, bundle: bool) -> None:
    """The list of a site is as foreign as its pages: neither a list that fits nor a later date vouches for a page."""
    site = run.parent / "dashboard"
    write_report(run)
    build(run.parent, site, bundle=bundle)
    there = sorted(site.rglob("*.html"))
    for page in there:
        page.write_text(HOSTILE)
        os.utime(page, (2e9, 2e9))
    built = build(run.parent, site, bundle=bundle)
    assert built.drawn == 1
    assert [page for page in there if HOSTILE in page.read_text()] == []


def test_facts_that_came_with_a_site_are_read_anew(run: Path, tmp_path: Path) -> None:
    site = run.parent / "dashboard"
    build(run.parent, site)
    about = (run / "run.json").stat()
    (run / "run.json").rename(run / "old")
    (run / "run.json").write_bytes((run / "old").read_bytes())
    os.utime(run / "run.json", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert build(run.parent, site).read == 1


def test_a_page_that_took_the_place_of_the_sites_own_is_not_swept(run: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    build(run.parent, site)
    (page,) = (site / "history").glob("*.html")
    page.unlink()
    page.write_text("mine")
    shutil.rmtree(run)
    build(run.parent, site)
    assert page.read_text() == "mine"
    assert [path.name for path in (site / "history").iterdir()] == [page.name]


def test_a_folder_that_is_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match="loop is a link"):
        read_run(tmp_path / "loop")


def test_a_journal_in_a_linked_folder_is_not_opened(run: Path, outside: Path) -> None:
    (outside / "log").write_bytes(b"")
    (outside / "0.safetensors").write_bytes(b"")
    (run / FOLDER).symlink_to(outside, target_is_directory=True)
    before = contents(outside)
    with pytest.raises(HarnessError, match="journal is a link"):
        Journal(run, IDENTITY)
    assert contents(outside) == before


def test_nothing_is_written_into_a_linked_folder(run: Path, outside: Path) -> None:
    (run / "linked").symlink_to(outside, target_is_directory=True)
    before = contents(outside)
    with pytest.raises(OSError, match="linked is a link"), safe_files.replacing(run / "linked" / "page.html"):
        pass
    assert contents(outside) == before


def test_no_page_holds_a_character_that_reorders_or_hides_text(run: Path, tmp_path: Path) -> None:
    odd = "\x1b[2J\u202e[/oops]\u2066"

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: v if k in ("status", "command", "accelerator", "precision") else named(v) for k, v in value.items()
            }
        if isinstance(value, list):
            return [named(each) for each in value]
        return odd if isinstance(value, str) else value

    (run / "run.json").write_text(json.dumps(named(json.loads(FILES["run.json"]))))
    (run / "log.txt").write_text(f"one {odd}\ntwo\n")
    report = write_report(run).read_text()
    build(run.parent, tmp_path / "site", bundle=True)
    texts = [report, *(page.read_text() for page in (tmp_path / "site").rglob("*.html"))]
    assert len(texts) == 6
    assert {c for text in texts for c in odd if not c.isprintable() and c in text} == set()
    assert "one \\x1b[2J\\u202e[/oops]\\u2066\ntwo" in report
