"""What a run's record loses when the run is continued: how its last try ended."""

from __future__ import annotations

from pathlib import Path

from harness.core.run_folder import RunFolder, read_run


def test_a_continued_run_does_not_tell_how_it_failed_before(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "localize", "m.tflite", "host") as run:
        run.save(error="It was lost.", exit_code=3, resumable=True, outputs=[])
    with RunFolder.reopen(run.path):
        pass
    record = read_run(run.path)
    assert {"error", "exit_code", "resumable", "outputs"} & set(record) == set()
    assert (record["command"], record["status"]) == ("localize", "done")
