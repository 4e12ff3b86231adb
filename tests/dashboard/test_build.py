"""Building: only what changed, only in its own folder, whatever the runs hold."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from harness.core.errors import UsageError
from harness.dashboard import build as building
from harness.dashboard.build import CACHE, as_csv, build
from harness.dashboard.index import build_index, run_folders
from tests.pages import parse

if TYPE_CHECKING:
    from tests.dashboard.conftest import Bench, Facts


def written(site: Path) -> dict[str, int]:
    return {str(p.relative_to(site)): p.stat().st_mtime_ns for p in site.rglob("*") if p.is_file()}


def test_every_page_is_well_formed_and_links_to_what_is_there(results: Path, site: Path) -> None:
    for path in site.rglob("*.html"):
        page = parse(path.read_text(encoding="utf-8"))
        ids = [node.attrs["id"] for node in page.walk() if "id" in node.attrs]
        assert len(ids) == len(set(ids)), path.name
        for node in page.walk():
            address, _, fragment = node.attrs.get("href", "").partition("#")
            if address:
                target = (path.parent / unquote(address)).resolve()
                assert target.is_file(), address
                if fragment and "=" not in fragment:
                    assert f'id="{fragment}"' in target.read_text(encoding="utf-8"), f"{address}#{fragment}"
            elif fragment:
                assert fragment in ids, f"{path.name}#{fragment}"


def test_nothing_is_loaded_and_no_script_runs_but_the_pages_own(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = parse(path.read_text(encoding="utf-8"))
        (policy,) = [
            m.attrs["content"] for m in page.all("meta") if "content" in m.attrs and "default-src" in m.attrs["content"]
        ]
        assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
        assert len(page.all("script")) == 1
        for node in page.walk():
            assert "src" not in node.attrs and "style" not in node.attrs
            assert not [name for name in node.attrs if name.startswith("on")]
            assert not re.match(r"[a-z]+:|//", node.attrs.get("href", ""))


def test_a_second_build_writes_nothing(results: Path, tmp_path: Path) -> None:
    build(results, tmp_path / "site")
    before = written(tmp_path / "site")
    again = build(results, tmp_path / "site")
    assert (again.read, again.drawn, again.gone, again.changed) == (0, 0, 0, False)
    assert written(tmp_path / "site") == before


def test_one_new_run_is_read_and_its_history_alone_drawn(bench: Bench, tmp_path: Path) -> None:
    for night in range(3):
        bench(tmp_path / "r", night)
        bench(tmp_path / "r", night, model="encoder.tflite")
    build(tmp_path / "r", tmp_path / "site")
    before = written(tmp_path / "site")
    new = bench(tmp_path / "r", 3, model="encoder.tflite")
    built = build(tmp_path / "r", tmp_path / "site")
    assert (built.runs, built.series, built.read, built.drawn) == (7, 2, 1, 1)
    after = written(tmp_path / "site")
    assert {name.partition("-")[0] for name in after if before[name] != after[name]} == {
        "index.html", "runs.html", "matrix.html", "runs.csv", CACHE, "history/encoder"}  # fmt: skip
    assert new.name in (tmp_path / "site" / "runs.csv").read_text()


def test_a_run_that_goes_takes_its_page_along(bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    gone = bench(tmp_path / "r", 1, model="encoder.tflite")
    build(tmp_path / "r", tmp_path / "site")
    shutil.rmtree(gone)
    built = build(tmp_path / "r", tmp_path / "site")
    assert built.gone == 1 and built.runs == 1
    assert [p.name.partition("-")[0] for p in (tmp_path / "site" / "history").glob("*.html")] == ["decoder"]


def test_pages_whose_mode_was_changed_since_go_with_their_runs_too(bench: Bench, tmp_path: Path) -> None:
    """A site that is shared is made readable after a build."""
    gone = bench(tmp_path / "r", 0)
    build(tmp_path / "r", tmp_path / "site")
    for path in (tmp_path / "site").rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(gone)
    assert build(tmp_path / "r", tmp_path / "site").gone == 1
    assert list((tmp_path / "site" / "history").iterdir()) == []


def test_a_report_that_came_with_a_site_is_not_taken_for_one_of_ours_by_a_build_between(
    bench: Bench, tmp_path: Path
) -> None:
    run = bench(tmp_path / "r", 0)
    (run / "report.html").write_text("of the run")
    build(tmp_path / "r", tmp_path / "site", bundle=True)
    (report,) = (tmp_path / "site" / "reports").iterdir()
    ours = report.read_text()
    report.write_text("<script>alert(1)</script>")
    bench(tmp_path / "r", 1)
    build(tmp_path / "r", tmp_path / "site")
    build(tmp_path / "r", tmp_path / "site", bundle=True)
    assert report.read_text() == ours


def test_a_run_of_another_user_is_told_as_unreadable(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = bench(tmp_path / "r", 0)

    def refusing(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def refused(path: Any, **more: Any) -> os.stat_result:
            if Path(path).parent == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, **more)  # other threads ask too

        return refused

    monkeypatch.setattr(os, "lstat", refusing(os.lstat))
    monkeypatch.setattr(os, "stat", refusing(os.stat))
    assert run_folders(tmp_path / "r") == [closed]


def test_a_running_run_is_looked_at_again_although_its_folder_did_not_change(bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0, status="running", pid=os.getpid())
    build(tmp_path / "r", tmp_path / "site")
    index = build_index(tmp_path / "r", json.loads((tmp_path / "site" / CACHE).read_text()))
    assert [run.state for run in index.runs] == ["running"] and index.read == ()
    (file,) = (tmp_path / "r").glob("*/run.json")
    stat = file.stat()
    ended = 2**22 + 1  # no process has this number
    text = file.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {ended}'.ljust(len(f'"pid": {os.getpid()}')))
    file.write_text(text)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert build(tmp_path / "r", tmp_path / "site").read == 1
    assert "interrupted" in (tmp_path / "site" / "runs.html").read_text()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"code": 1}', "null", "[" * 100_000, '{"runs": {"x": {"stamp": 1}}}']
)
def test_a_damaged_cache_costs_time_and_nothing_else(damage: str, bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    build(tmp_path / "r", tmp_path / "site")
    (tmp_path / "site" / CACHE).write_text(damage)
    assert build(tmp_path / "r", tmp_path / "site").read == 1


@pytest.mark.parametrize("field", ["p50_ms", "samples", "model", "invalid", "benchmark"])
def test_a_cache_with_nonsense_in_it_is_read_anew_or_shown_as_text(field: str, bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    build(tmp_path / "r", tmp_path / "site")
    document = json.loads((tmp_path / "site" / CACHE).read_text())
    for entry in document["runs"].values():
        entry["facts"][field] = {"a": "<script>"}
    document["pages"] = {}
    (tmp_path / "site" / CACHE).write_text(json.dumps(document))
    build(tmp_path / "r", tmp_path / "site")
    assert all(len(parse(p.read_text()).all("script")) == 1 for p in (tmp_path / "site").rglob("*.html"))


def test_a_site_of_another_release_is_drawn_anew(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench(tmp_path / "r", 0)
    build(tmp_path / "r", tmp_path / "site")
    monkeypatch.setattr(building, "code_digest", lambda: "another")
    monkeypatch.setattr("harness.dashboard.index.code_digest", lambda: "another")
    assert build(tmp_path / "r", tmp_path / "site").drawn == 1


def test_a_folder_of_somebody_else_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="holds other things"):
        build(tmp_path / "r", tmp_path / "home")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_a_folder_is_misuse(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UsageError, match="is no folder"):
        build(tmp_path / "f", tmp_path / "site")
    (tmp_path / "r").mkdir()
    with pytest.raises(UsageError, match="is a file"):
        build(tmp_path / "r", tmp_path / "f")


def test_no_runs_make_a_site_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    build(tmp_path / "r", tmp_path / "site")
    page = parse((tmp_path / "site" / "index.html").read_text())
    assert "No run of a model is here yet." in page.text


def test_the_site_may_lie_among_the_runs(bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    build(tmp_path / "r", tmp_path / "r" / "dashboard")
    assert [p.name for p in run_folders(tmp_path / "r")] == [
        p.name for p in (tmp_path / "r").iterdir() if p.name[0] == "2"
    ]
    assert build(tmp_path / "r", tmp_path / "r" / "dashboard").changed is False


def test_a_bundle_holds_the_reports_and_links_to_nothing_outside(bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    build(tmp_path / "r", tmp_path / "site", bundle=True)
    moved = tmp_path / "elsewhere" / "site"
    shutil.copytree(tmp_path / "site", moved)
    shutil.rmtree(tmp_path / "r")
    links = 0
    for path in moved.rglob("*.html"):
        for node in parse(path.read_text()).all("a") if path.parent.name != "reports" else ():
            address = node.attrs.get("href", "").partition("#")[0]
            target = (path.parent / address).resolve()
            assert not address or (target.is_file() and moved in target.parents), address
            links += node.attrs.get("href", "").find("reports/") >= 0
    assert links >= 2


def test_a_csv_has_every_run_and_no_formula(facts: Facts) -> None:
    text = as_csv(
        [facts(0, model='=HYPERLINK("x")', error="a,\nb", invalid=("busy: x", "stalled: y")), facts(1, p50_ms=None)]
    )
    first, second = csv.DictReader(text.splitlines(keepends=True))
    assert first["model"] == '\'=HYPERLINK("x")'
    assert (first["error"], first["invalid"]) == ("a,\nb", "busy: x; stalled: y")
    assert (float(first["p50_ms"]) > 0, second["p50_ms"]) == (True, "")


def test_a_page_of_thousands_of_runs_shows_the_newest_and_says_so(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.dashboard import pages
    from harness.dashboard.series import group

    monkeypatch.setattr(pages, "MOST_ROWS", 3)
    monkeypatch.setattr(pages, "MOST_SERIES", 2)
    runs = tuple(facts(i, model=f"m{i}.tflite") for i in reversed(range(5)))
    site = pages.Site("r", "../", False, group(runs), runs)
    listed = parse(pages.runs(site))
    assert len(listed.one("table", id="run-table").all("tr")) == 4
    assert "The newest 3; 2 older ones are in the CSV." in listed.text
    assert "The 2 with the newest runs; 3 more are in the matrix." in parse(pages.overview(site)).text


def test_a_benchmark_without_a_report_links_to_its_samples(bench: Bench, tmp_path: Path) -> None:
    folder = bench(tmp_path / "r", 0)
    (folder / "report.html").unlink()
    build(tmp_path / "r", tmp_path / "site")
    row = parse((tmp_path / "site" / "runs.html").read_text()).one("table", id="run-table").all("tr")[1]
    assert [a.attrs["href"] for a in row.all("a")][-1] == f"../r/{folder.name}/samples.csv"
