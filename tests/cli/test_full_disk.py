"""A disk without room or without inodes, at another moment of each command: one sentence, exit code 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device_tests.corpus import rank3_pad_beside_loud_channels
from harness.core.errors import EXIT_MISUSE
from harness.core.run_folder import RunFolder, list_runs, read_run
from tests.cli.conftest import COMMAND, environment
from tests.mounts import in_mount

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

FULL = [
    ("run MODEL --out DIR", "size=4k"),  # for the first record
    ("run MODEL --out DIR", "size=16k"),  # for an output
    ("dump MODEL --out DIR", "size=300k"),
    ("bench MODEL --quick --out DIR", "size=4k"),
    ("bench MODEL --quick --out DIR", "size=16k"),  # for the samples
    ("localize MODEL --out DIR", "size=64k"),  # for the reference
    ("localize MODEL --out DIR", "size=1500k"),  # for a tap
    ("localize MODEL --out DIR", "size=2600k"),  # while it is explained
    ("localize MODEL --out DIR", "nr_inodes=3"),  # for the journal
    ("localize MODEL --out DIR", "nr_inodes=20"),
    ("dashboard --out RUNS --site DIR", "size=16k"),
]


@pytest.mark.parametrize(("words", "options"), FULL)
def test_a_full_disk_is_one_sentence_and_what_was_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, options: str
) -> None:
    for name, value in environment().items():
        monkeypatch.setitem(os.environ, name, value)
    (tmp_path / "model.tflite").write_bytes(rank3_pad_beside_loud_channels().to_bytes())
    RunFolder.create(tmp_path / "runs", "localize", "model", "host").save(status="done")
    out = tmp_path / "out"
    out.mkdir()
    places = {"MODEL": str(tmp_path / "model.tflite"), "DIR": str(out), "RUNS": str(tmp_path / "runs")}
    done = in_mount(out, options, [*COMMAND, *(places.get(word, word) for word in words.split())], 600)
    assert done.returncode == EXIT_MISUSE, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"The disk that holds {out}")
    assert "is full; what was written before is kept. Free space" in last
    # A record may itself have had no room: what is there is whole.
    for run in list_runs(tmp_path / "out.kept"):
        assert read_run(run)["status"] in ("failed", "interrupted")
