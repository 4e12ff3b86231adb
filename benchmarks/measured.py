"""Running the command line as a user does, and measuring what it costs: wall time and the peak memory of all its
processes together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

INTERVAL_SECONDS = 0.05


@dataclass(frozen=True)
class Cost:
    """One command: its exit code, its JSON, wall seconds, and the peak of the summed resident sets, in bytes."""

    code: int
    answer: dict[str, Any]
    seconds: float
    peak_bytes: int


def harness(*words: str, cold: bool) -> Cost:
    """Run `harness … --json`. `cold` gives it an empty shader cache of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = dict(os.environ)
        if cold:
            environment["MESA_SHADER_CACHE_DIR"] = str(Path(scratch) / "shaders")
        command = [sys.executable, "-m", "harness.cli", *words, "--json", "--out", str(Path(scratch) / "runs")]
        output = Path(scratch) / "stdout"
        began = time.monotonic()
        with output.open("wb") as file:
            process = psutil.Popen(command, stdout=file, stderr=subprocess.DEVNULL, env=environment)
            peak = 0
            while process.poll() is None:
                peak = max(peak, _resident(process))
                time.sleep(INTERVAL_SECONDS)
        seconds = time.monotonic() - began
        text = output.read_text("utf-8")
        return Cost(process.returncode, json.loads(text) if text else {}, seconds, peak)


def _resident(process: psutil.Popen) -> int:
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
