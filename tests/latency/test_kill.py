"""`kill -9` of a benchmark: what it wrote is whole and says that it was interrupted; nothing else is left behind."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus import rank3_pad_9272
from harness.core.errors import EXIT_MISUSE
from harness.core.run_folder import list_runs, read_run
from harness.latency.record import SAMPLES_COLUMNS
from tests.cli.conftest import COMMAND
from tests.leftovers import Watched

pytestmark = pytest.mark.gpu

WAIT = 300
WORDS = ["--accelerator", "cpu", "--accelerator", "gpu", "--samples", "40", "--seconds", "1", "--replications", "2"]


def started(model: Path, out: Path, watched: Watched, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "bench", str(model), *WORDS, *words, "--out", str(out), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=watched.environment(),
        text=True,
    )


def said(watched: Watched, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        env=watched.environment(),
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


def killed_once(folder: Path, pause: float, *words: str) -> list[str]:
    """Kill a benchmark so long after its folders are there; what its runs say then. Starts another one after it."""
    folder.mkdir()
    model, out, watched = folder / "model.tflite", folder / "out", Watched(folder / "watched")
    model.write_bytes(rank3_pad_9272().to_bytes())
    process = started(model, out, watched, *words)
    while process.poll() is None and len(list(out.glob("*/run.json"))) < 2:
        time.sleep(0.005)
    time.sleep(pause)
    process.kill()
    process.communicate()
    where = f"killed {pause:.3f} s after its folders were made"
    assert watched.processes_after(10) == [], where
    runs = list_runs(out)
    assert len(runs) == 2, where
    states = [str(read_run(run)["status"]) for run in runs]
    assert set(states) <= {"interrupted", "done"}, where
    for run in runs:
        assert not list(run.glob("*.part")), where
        if (run / "samples.csv").exists():
            header, *rows = csv.reader((run / "samples.csv").read_text("utf-8").splitlines())
            assert tuple(header) == tuple(SAMPLES_COLUMNS)
            assert all(len(row) == len(header) for row in rows), where
    if states[0] == "interrupted":
        refused = said(watched, "bench", model, "--quick", "--against", runs[0], "--out", out)
        assert (refused.returncode, refused.stdout) == (EXIT_MISUSE, ""), where
        assert f"{runs[0]} is a run of `bench`, and interrupted." in refused.stderr, where
    shown = said(watched, "dashboard", "--out", out, "--site", folder / "site")
    assert (shown.returncode, "Traceback" in shown.stderr) == (0, False), shown.stderr
    again = started(model, out, watched, *words)
    text, errors = again.communicate(timeout=WAIT)
    assert again.returncode in (0, 1, 4), errors
    assert [[output["ok"] for output in cell["accuracy"]] for cell in json.loads(text)["cells"]] == [[True], [False]], (
        where
    )
    assert watched.files() == [], where
    assert watched.processes_after(10) == [], where
    return states


def test_a_killed_benchmark_is_a_readable_run_and_leaves_nothing(tmp_path: Path) -> None:
    assert killed_once(tmp_path / "once", float(np.random.default_rng().uniform(0, 1))) == ["interrupted"] * 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_of_a_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng()
    states = [killed_once(tmp_path / str(i), float(rng.uniform(0, 10)), "--per-op") for i in range(20)]
    with capsys.disabled():
        print(f"\n{sum('interrupted' in s for s in states)} of 20 before their end")  # noqa: T201
    assert any("interrupted" in one for one in states)
