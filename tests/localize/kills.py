"""Starting a localization, killing it at a line of its journal, and comparing what it comes to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.graph.model import Model
from tests.cli.conftest import COMMAND, environment

# Seconds until a command counts as hung: shaders may be cold, and both cores busy.
WAIT = 600
# What may differ between two searches that were asked the same: times, and what had to be compiled once more.
PASSING = frozenset({"seconds", "device_compiles", "probes", "run", "explanation", "run_ms"})


def start(
    model: Path, out: Path, *words: str, script: str = "", env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script] if script else COMMAND
    return subprocess.Popen(
        [*command, "localize", str(model), "--out", str(out), "--json", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env or environment(),
        text=True,
    )


def answer_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=WAIT)
    assert process.returncode in (0, 1, 4), out
    answer: dict[str, Any] = json.loads(out)
    return answer


def lasting(answer: dict[str, Any]) -> Any:
    """An answer without what may differ; remedies are ranked by time too, and files lie in the run's own folder."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(v) for name, v in value.items() if name not in PASSING}
        if isinstance(value, list):
            return [kept(v) for v in value]
        return value.replace(answer["run"], "RUN") if isinstance(value, str) else value

    whole = kept(answer)
    for culprit in whole["culprits"]:
        culprit["remedies"].sort(key=lambda remedy: remedy["name"])
    return whole


def saved(model: Model, folder: Path) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(model.to_bytes())
    return path


def kill_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """SIGKILL after some time; False when it had come to its end."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    process.communicate()
    return False


def the_run(out: Path) -> Path:
    (run,) = out.iterdir()
    return run


def wait_for(line: int, out: Path, process: subprocess.Popen[str]) -> None:
    """Until the journal of the run in `out` has so many lines, or the command is at its end."""
    while process.poll() is None and not any(journal_lines(run) >= line for run in out.glob("*")):
        time.sleep(0.005)


def journal_lines(run: Path) -> int:
    log = run / "journal" / "log"
    return log.read_bytes().count(b"\n") if log.exists() else 0
