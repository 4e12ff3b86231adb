"""`kill -9` of the command while the torch half works: its process and its files go as well."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.leftovers import Watched

SLOW = """
import sys, time
from pathlib import Path

from harness.sam2.shared.process import main


def work(request, progress):
    Path(request["begun"]).touch()
    time.sleep(request["seconds"])


sys.exit(main(sys.argv[1:], work))
"""
ASKING = """
import sys

from harness.sam2.shared.process import run_worker

run_worker({"begun": sys.argv[1], "seconds": float(sys.argv[2])}, print, module="slow_half")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process can ask for its end only there")
def test_the_torch_half_ends_with_a_killed_command_and_the_next_one_removes_its_files(tmp_path: Path) -> None:
    (tmp_path / "slow_half.py").write_text(SLOW)
    watched = Watched(tmp_path / "watched")
    environment = watched.environment()
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path), environment["PYTHONPATH"]))
    begun = tmp_path / "begun"
    command = subprocess.Popen([sys.executable, "-c", ASKING, str(begun), "60"], env=environment)
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert command.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    command.kill()
    command.wait()
    assert watched.processes_after(10) == []
    assert len(watched.files()) == 1
    subprocess.run([sys.executable, "-c", ASKING, str(begun), "0"], env=environment, check=True, timeout=60)
    assert watched.files() == []
