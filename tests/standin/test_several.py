"""Two phones at once under pytest-xdist: each has one user at a time, however the tests are dealt out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from harness.devices.android.adb import Adb, Server
from tests.standin.conftest import MakePhone

TESTS = 3

# Each test notes which process used which phone, from when to when.
TEST_FILE = """
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from harness.devices.execute import completed, make_job
from harness.graph.build import GraphBuilder
from harness.core.job import Options


@pytest.mark.parametrize("number", range({tests}))
def test_a_job_runs(device, device_name, number):
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([float(number)])), "y")
    job = make_job(graph.build(), {{"x": np.ones((1, 4), np.float32)}}, Options("cpu"), timeout=60)
    done = completed(device, job, "a job")
    began = time.monotonic()
    assert done.outputs["y"].tolist() == [[1.0 + number] * 4]
    time.sleep(0.2)
    assert completed(device, job, "the same again").outputs["y"].tolist() == [[1.0 + number] * 4]
    note = {{"name": device_name, "number": number, "pid": os.getpid(), "began": began, "ended": time.monotonic()}}
    (Path(__file__).parent / f"{{device_name}}-{{number}}.json").write_text(json.dumps(note))
"""


@pytest.fixture(scope="module")
def serials(make_phone: MakePhone) -> Iterator[tuple[str, ...]]:
    """A Pixel 8a and a Pixel 9 beside the session's own phone; named by serial, since that one is a Pixel 8a too."""
    phones = [make_phone(product) for product in ("akita", "tokay")]
    yield tuple(phone.serial for phone in phones)
    for phone in phones:
        phone.stop_adbd()
        Adb(Server()).call("disconnect", phone.serial)


@pytest.mark.parametrize("dealing", ["loadgroup", pytest.param("load", marks=pytest.mark.slow)])
def test_parallel_runs_never_share_a_phone(serials: tuple[str, ...], apk: Path, tmp_path: Path, dealing: str) -> None:
    (tmp_path / "test_jobs.py").write_text(TEST_FILE.format(tests=TESTS))
    words = [str(tmp_path), "-n", "2", "--dist", dealing, "--apk", str(apk), "-p", "no:cacheprovider"]
    words += [word for serial in serials for word in ("--device", serial)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{len(serials) * TESTS} passed" in done.stdout
    for serial in serials:
        notes = [json.loads((tmp_path / f"{serial}-{number}.json").read_text()) for number in range(TESTS)]
        notes.sort(key=lambda note: note["began"])
        for first, second in pairwise(notes):
            assert first["ended"] <= second["began"]
        if dealing == "loadgroup":
            assert len({note["pid"] for note in notes}) == 1
