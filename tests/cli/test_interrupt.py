"""Ctrl-C and SIGTERM: the run is marked, the worker ends, no traceback is shown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest

from device_tests.corpus import healthy_mlp
from harness.core.run_folder import list_runs, read_run
from tests.cli.conftest import COMMAND, ROOT, environment
from tests.workers import workers_of


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_in_order(tmp_path: Path, number: signal.Signals, code: int) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(healthy_mlp().to_bytes())
    words = [*COMMAND, "run", str(model), "--accelerator", "cpu", "--iterations", "1000000"]
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        workers = _workers(process.pid)
        time.sleep(0.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "Interrupted; what was written is kept."
    (run,) = list_runs(tmp_path / "results")
    assert read_run(run)["status"] == "interrupted"
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []


def _workers(pid: int) -> list[psutil.Process]:
    """The worker processes of a command, once there is one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := workers_of(pid):
            return found
        time.sleep(0.05)
    raise AssertionError("no worker was started")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_program_is_still_loading_ends_it_without_a_traceback(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    slow = tmp_path / "typer.py"
    slow.write_text("import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(60)\n")
    words = [sys.executable, "-c", "from harness.cli import main; main()", "devices"]
    paths = os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"]))
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment() | {"PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "loading").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (code, "Interrupted.\n")


def test_the_program_that_is_installed_begins_there() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert scripts == {"harness": "harness.cli:main"}
