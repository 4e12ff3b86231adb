"""--watch: builds when a run changed, and only then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.dashboard.watch import watch

if TYPE_CHECKING:
    from tests.dashboard.conftest import Bench


def test_a_build_follows_each_change_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            bench(tmp_path / "r", 1)

    built = watch(tmp_path / "r", tmp_path / "site", seconds=0.5, wait=wait)
    assert next(built).runs == 1 and waited == []
    again = next(built)
    assert (again.runs, again.read, again.drawn, waited) == (2, 1, 1, [0.5, 0.5, 0.5])


def test_the_command_builds_again_until_it_is_interrupted(bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    command = [sys.executable, "-m", "harness.cli", "dashboard", "--out", str(tmp_path / "r"), "--watch"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=dict(os.environ, COLUMNS="200"))
        try:
            expect(log, "1 runs in all, 1 read anew")
            bench(tmp_path / "r", 1)
            expect(log, "2 runs in all, 1 read anew; 1 histories, 1 drawn anew")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
            process.wait(timeout=30)
    assert "Traceback" not in log.read_text()


def expect(log: Path, words: str) -> None:
    deadline = time.monotonic() + 120
    while words not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert words in log.read_text()


def test_the_command_says_where_the_page_is(bench: Bench, tmp_path: Path) -> None:
    bench(tmp_path / "r", 0)
    command = [sys.executable, "-m", "harness.cli", "dashboard", "--out", str(tmp_path / "r"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    page = tmp_path / "r" / "dashboard" / "index.html"
    assert json.loads(done.stdout) == {
        "schema": 1, "page": str(page), "runs": 1, "histories": 1, "read": 1, "drawn": 1, "gone": 0}  # fmt: skip
    assert page.is_file()
    missing = subprocess.run(
        [*command[:-2], str(tmp_path / "none")], capture_output=True, text=True, timeout=120, check=False
    )
    assert missing.returncode == 2 and "is no folder" in missing.stderr and "Traceback" not in missing.stderr
