"""`kill -9` of the command and of its worker, for real, on the host's GPU; a disk that fills up under the journal."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from device_tests.corpus import rank3_pad_9272, rank3_pad_beside_loud_channels
from harness.core.run_folder import read_run
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.probe.journal.log import starts_after_finish
from tests.cli.conftest import COMMAND
from tests.localize.kills import WAIT, answer_of, journal_lines, kill_after, lasting, saved, start, the_run, wait_for
from tests.mounts import in_mount
from tests.workers import workers_of

pytestmark = pytest.mark.gpu


def test_a_command_killed_at_random_moments_comes_to_the_same_answer(tmp_path: Path) -> None:
    """Killed, continued, killed and continued again, until it gets through."""
    model = saved(rank3_pad_9272(), tmp_path)
    whole = answer_of(start(model, tmp_path / "whole"))
    assert [c["ops"] for c in whole["culprits"]] == [[1, 1]]
    # Moments by lines of the journal: by the clock a warm shader cache would have it done before.
    rng, lines = np.random.default_rng(), journal_lines(Path(whole["run"]))
    moments = sorted(int(line) for line in rng.choice(np.arange(3, lines - 3), 3, replace=False))
    for moment in moments:
        process = start(model, tmp_path / "killed")
        wait_for(moment, tmp_path / "killed", process)
        assert kill_after(process, float(rng.uniform(0, 0.1))), "it came to its end first"
    again = answer_of(start(model, tmp_path / "killed"))
    assert lasting(again) == lasting(whole), moments
    assert again["probes"]["quarantined"] == []
    assert again["probes"]["asked"] == whole["probes"]["asked"]
    done, repeated = starts_after_finish(Path(again["run"]))
    assert (done, repeated) == (whole["probes"]["asked"], 0), moments


KILLED_BEFORE_ITS_REPORT = """
import os, signal
import harness.api.localize
from harness.cli import main

harness.api.localize.write_report = lambda run: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_a_kill_between_the_answer_and_its_report_asks_nothing_again(tmp_path: Path) -> None:
    model = saved(rank3_pad_9272(), tmp_path)
    process = start(model, tmp_path / "out", "--no-explain", script=KILLED_BEFORE_ITS_REPORT)
    process.communicate(timeout=WAIT)
    assert process.returncode == -signal.SIGKILL
    begun = the_run(tmp_path / "out")
    again = answer_of(start(model, tmp_path / "out", "--no-explain"))
    assert again["run"] == str(begun)
    assert again["probes"]["recorded"] == again["probes"]["asked"]
    assert (begun / "report.html").is_file()
    assert answer_of(start(model, tmp_path / "out", "--no-explain"))["run"] != str(begun)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_twenty_random_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty times: killed once, a random moment after a random line of the journal, then started again."""
    model = saved(rank3_pad_beside_loud_channels(), tmp_path)
    whole = answer_of(start(model, tmp_path / "whole"))
    lines = journal_lines(Path(whole["run"]))
    rng = np.random.default_rng()
    recorded: list[int] = []
    for i in range(40):
        out, line, pause = tmp_path / f"killed-{i}", int(rng.integers(1, lines)), float(rng.uniform(0, 0.2))
        process = start(model, out)
        wait_for(line, out, process)
        assert kill_after(process, pause), "it came to its end first"
        begun = the_run(out)
        record = read_run(begun)
        if record["status"] == "done" and not record["resumable"]:
            continue  # nothing was left to do but to print the answer
        finished, repeated = starts_after_finish(begun)
        again = answer_of(start(model, out))
        assert lasting(again) == lasting(whole), f"killed {pause:.3f} s after line {line}"
        assert again["run"] == str(begun)
        assert again["probes"]["quarantined"] == []
        assert again["probes"]["recorded"] == finished
        assert (repeated, starts_after_finish(begun)[1]) == (0, 0), f"killed {pause:.3f} s after line {line}"
        recorded.append(finished)
        if len(recorded) == 20:
            break
    assert len(recorded) == 20
    with capsys.disabled():
        print(f"\nprobes answered by the journal, of {whole['probes']['asked']}: {sorted(recorded)}")  # noqa: T201
    assert len(set(recorded)) >= 5  # early, in the midst and late


def test_a_killed_worker_is_started_again_and_no_op_is_blamed(tmp_path: Path) -> None:
    model = saved(healthy_chain(), tmp_path)
    process = start(model, tmp_path / "out")
    log = _begun(tmp_path / "out", process)
    killed = 0
    deadline = time.monotonic() + 60
    while killed < 2 and process.poll() is None and time.monotonic() < deadline:
        for worker in workers_of(process.pid):
            try:
                worker.kill()
            except psutil.NoSuchProcess:  # it has ended by itself; a zombie is one of these
                continue
            killed += 1
            time.sleep(0.5)
            break
    assert killed >= 1
    out, _ = process.communicate(timeout=WAIT)
    # The reference's worker, or one that was just starting: no probe was in it, and the command may end.
    answer = json.loads(out) if process.returncode == 0 else answer_of(start(model, tmp_path / "out"))
    assert process.returncode in (0, 3)
    assert answer["run"] == str(the_run(tmp_path / "out"))
    assert (answer["status"], answer["culprits"]) == ("pass", [])
    assert answer["probes"]["quarantined"] == []
    assert log.exists()


def healthy_chain() -> Model:
    graph = GraphBuilder()
    x = graph.input("x", (1, 64, 64))
    for _ in range(24):
        x = graph.unary("TANH", graph.binary("MUL", x, graph.constant([1.5])))
    graph.output(x, "y")
    return graph.build()


def _begun(out: Path, process: subprocess.Popen[str]) -> Path:
    """The journal, once a probe is in flight."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and process.poll() is None:
        for log in out.glob("*/journal/log"):
            if b'"start"' in log.read_bytes():
                return log
        time.sleep(0.01)
    raise AssertionError("no probe was begun")


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    model = saved(rank3_pad_beside_loud_channels(), tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    # Room for the reference and both runs of the untouched model, not for what the taps read.
    done = in_mount(out, "size=1100k", [*COMMAND, "localize", str(model), "--out", str(out), "--seed", "1"], WAIT)
    assert done.returncode == 2, done.stderr
    assert "is full; what was written before is kept." in done.stderr
    assert "Traceback" not in done.stderr
    kept = tmp_path / "out.kept"
    run = the_run(kept)
    finished, _ = starts_after_finish(run)
    assert finished >= 2
    assert f"Continue with --resume {out / run.name}." in done.stderr
    again = answer_of(start(model, kept, "--seed", "1", "--no-explain", "--resume", str(run)))
    assert again["run"] == str(run)
    assert again["probes"]["recorded"] == finished
    assert starts_after_finish(run)[1] == 0
