"""The run folder: readable at every moment, whatever ends the run."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import SafetensorError

from harness.core.errors import EXIT_MISUSE, StorageError, UsageError
from harness.core.job import Sample
from harness.core.run_folder import RunFolder, TensorStore, list_runs, read_run, to_json, writing
from tests.arrays import f32, normal
from tests.mounts import in_mount


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "compare", "models/my model.tflite", "host@2.1.5")


def record(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return loaded


class TestStatus:
    def test_a_run_that_goes_on_says_so(self, run: RunFolder) -> None:
        assert record(run.path)["status"] == "running"
        assert read_run(run.path) == record(run.path)
        assert read_run(run.path)["pid"] == os.getpid()

    def test_a_run_that_ends_is_done(self, run: RunFolder) -> None:
        with run:
            run.save(result={"status": "pass"})
        assert record(run.path)["status"] == "done"
        assert record(run.path)["result"] == {"status": "pass"}

    def test_a_run_left_by_an_exception_has_failed_with_its_words(self, run: RunFolder) -> None:
        with pytest.raises(UsageError), run:
            raise UsageError("No such op.", "Try another.")
        assert (record(run.path)["status"], record(run.path)["error"]) == ("failed", "No such op. Try another.")

    def test_a_run_left_by_ctrl_c_was_interrupted(self, run: RunFolder) -> None:
        with pytest.raises(KeyboardInterrupt), run:
            raise KeyboardInterrupt
        assert record(run.path)["status"] == "interrupted"
        assert "error" not in record(run.path)

    def test_a_run_whose_process_is_gone_was_interrupted(self, run: RunFolder) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        run.save(pid=gone.pid)
        assert record(run.path)["status"] == "running"
        assert read_run(run.path)["status"] == "interrupted"

    @pytest.mark.parametrize("pid", [None, "12", -1, 0, 1 << 80, 1.5, []])
    def test_a_process_id_that_is_none_counts_as_gone(self, run: RunFolder, pid: Any) -> None:
        run.save(pid=pid)
        assert read_run(run.path)["status"] == "interrupted"

    def test_a_living_process_of_another_user_counts_as_living(
        self, run: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(pid: int, number: int) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "kill", refuse)
        assert read_run(run.path)["status"] == "running"

    def test_a_killed_writer_leaves_a_readable_run(self, tmp_path: Path) -> None:
        script = (
            "import os, sys; from pathlib import Path; from harness.core.run_folder import RunFolder\n"
            "run = RunFolder.create(Path(sys.argv[1]), 'run', 'm.tflite', 'host')\n"
            "with run:\n    run.log('half a line'); os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
        (path,) = list_runs(tmp_path)
        assert read_run(path)["status"] == "interrupted"
        assert (path / "log.txt").read_text() == "half a line"


class TestFolder:
    def test_the_name_tells_when_what_and_where(self, run: RunFolder) -> None:
        stamp, *rest = run.path.name.split("-", 1)
        assert (len(stamp), stamp[8], stamp[-1]) == (16, "T", "Z")
        assert rest == ["my-model-host-2.1.5"]

    @pytest.mark.parametrize(
        ("model", "stem"), [("../../../etc/passwd", "passwd"), ("模型.tflite", "model"), ("x" * 300, "x" * 48)]
    )
    def test_no_name_leads_out_of_the_folder(self, tmp_path: Path, model: str, stem: str) -> None:
        run = RunFolder.create(tmp_path, "run", model, "a/../../b")
        assert run.path.parent == tmp_path
        assert run.path.name.endswith(f"Z-{stem}-a-..-..-b")

    def test_runs_of_one_second_get_folders_of_their_own(self, tmp_path: Path) -> None:
        paths = {RunFolder.create(tmp_path, "run", "m", "host").path for _ in range(12)}
        assert len(paths) == 12
        assert set(list_runs(tmp_path)) == paths

    def test_runs_are_listed_newest_first(self, tmp_path: Path) -> None:
        for name in ("20260101T000000Z-a-host", "20260301T000000Z-b-host", "20260201T000000Z-c-host"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "run.json").write_text("{}")
        (tmp_path / "not-a-run").mkdir()
        assert [path.name[9:] for path in list_runs(tmp_path)] == [
            "000000Z-b-host",
            "000000Z-c-host",
            "000000Z-a-host",
        ]
        assert list_runs(tmp_path / "nowhere") == []

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (None, "is no run folder (no run.json)"),
            ("", "cannot be read"),
            ('{"schema": 1', "cannot be read"),
            ("[" * 100_000, "cannot be read"),
            ("[]", "has schema 'list'; this release reads 1"),
            ("{}", "has schema None; this release reads 1"),
            ('{"schema": 2}', "has schema 2; this release reads 1"),
            (b"\xff\xfe", "cannot be read"),
        ],
    )
    def test_what_is_no_run_says_why(self, tmp_path: Path, content: Any, why: str) -> None:
        if content is not None:
            (tmp_path / "run.json").write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(UsageError) as caught:
            read_run(tmp_path)
        assert why in caught.value.message

    def test_rows_samples_and_log_are_appended(self, run: RunFolder) -> None:
        run.rows("ops.csv", ("op", "error"), [("ADD", 1.5)])
        run.rows("ops.csv", ("op", "error"), [('MUL, odd "name"\n', math.nan)])
        run.samples([Sample(1, 2, 3), Sample(4, 5, 6)], "first")
        run.samples([Sample(7, 8, 9)], "second")
        run.log("one\n")
        run.log("two\n")
        with (run.path / "ops.csv").open(newline="") as file:
            assert list(csv.reader(file)) == [["op", "error"], ["ADD", "1.5"], ['MUL, odd "name"\n', "nan"]]
        assert (run.path / "samples.csv").read_text().splitlines() == [
            "phase,iteration,write_ns,run_ns,read_ns",
            "first,0,1,2,3",
            "first,1,4,5,6",
            "second,0,7,8,9",
        ]
        assert (run.path / "log.txt").read_text() == "one\ntwo\n"
        run.replace_rows("ops.csv", ("op",), [("SUB",)])
        assert (run.path / "ops.csv").read_text() == "op\nSUB\n"

    def test_json_has_no_numbers_that_json_lacks(self, run: RunFolder) -> None:
        run.save(result={"ratio": math.inf, "low": -math.inf, "cosine": math.nan, "at": (np.int64(3), np.float32(0.5))})
        assert record(run.path)["result"] == {"ratio": "inf", "low": "-inf", "cosine": "nan", "at": [3, 0.5]}
        assert to_json({1: Path("/x"), "f": np.bool_(True)}) == {"1": "/x", "f": True}


class TestTensors:
    @pytest.mark.parametrize(
        "values",
        [
            f32(2.5),
            f32([np.nan, np.inf, -0.0]),
            np.zeros((0, 3), np.float32),
            np.asarray([True, False]),
            np.asarray([[1 << 60]], np.int64),
            np.asarray([1, 2], np.uint8),
            np.asarray([1.5], np.float16),
            normal((3, 4)).T,
        ],
        ids=lambda v: f"{v.dtype}{list(v.shape)}",
    )
    def test_values_come_back_as_they_were(self, tmp_path: Path, values: NDArray[Any]) -> None:
        store = TensorStore(tmp_path / "tensors")
        store.put("0001-ADD", "device", values, "a/tensor:0")
        got = store.get("0001-ADD", "device")
        assert (got.dtype, got.shape) == (values.dtype, values.shape)
        assert got.tobytes() == np.asarray(values, order="C").tobytes()
        assert store.has("0001-ADD", "device")
        assert not store.has("0001-ADD", "reference")
        assert [p.name for p in store.folder.iterdir()] == ["0001-ADD.device.safetensors"]

    def test_keeping_some_drops_the_rest(self, tmp_path: Path) -> None:
        store = TensorStore(tmp_path)
        for label in ("a", "b", "c.1"):
            for side in ("device", "reference"):
                store.put(label, side, f32([1]), label)
        store.keep_only(["b", "c.1", "never was"])
        assert {p.name for p in tmp_path.iterdir()} == {
            f"{label}.{side}.safetensors" for label in ("b", "c.1") for side in ("device", "reference")
        }
        TensorStore(tmp_path / "nowhere").keep_only([])


class TestAtomicity:
    def test_a_write_that_fails_leaves_the_old_file_and_no_part(
        self, run: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.save(note="old")
        run.tensors.put("a", "device", f32([1]), "a")

        def fail(self: Path, target: Any) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(StorageError, match=r"run\.json cannot be written \(Input/output error\)"):
            run.save(note="new")
        with pytest.raises(StorageError):
            run.tensors.put("a", "device", f32([2]), "a")
        with pytest.raises(StorageError):
            run.replace_rows("ops.csv", ("a",), [])
        monkeypatch.undo()
        assert record(run.path)["note"] == "old"
        assert run.tensors.get("a", "device").tolist() == [1]
        assert not list(run.path.rglob("*.part"))

    def test_a_record_that_cannot_be_json_leaves_the_old_one(self, run: RunFolder) -> None:
        with pytest.raises(TypeError):
            run.save(odd=object())
        assert record(run.path)["status"] == "running"
        assert not list(run.path.rglob("*.part"))


class TestNoRoom:
    def test_a_file_where_the_folder_should_be_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("in the way")
        for root in (tmp_path / "out", tmp_path / "out" / "deeper"):
            with pytest.raises(StorageError) as caught:
                RunFolder.create(root, "run", "m", "host")
            assert caught.value.exit_code == EXIT_MISUSE
            assert str(caught.value).startswith(f"{root} cannot be written (")
            assert caught.value.next_step.endswith("a folder that you may write to.")

    def test_a_read_only_folder_is_told(self, tmp_path: Path) -> None:
        done = in_mount(_folder(tmp_path), "ro", _script(FILL, tmp_path))
        assert done.stdout == f"{tmp_path}/out cannot be written (Read-only file system). "
        assert "Traceback" not in done.stderr

    def test_a_full_disk_is_told_and_what_was_written_is_kept(self, tmp_path: Path) -> None:
        done = in_mount(_folder(tmp_path), "size=1m", _script(FILL, tmp_path))
        assert done.stderr == ""
        assert done.stdout.startswith(f"The disk that holds {tmp_path}/out/")
        assert done.stdout.endswith("is full; what was written before is kept. failed")
        (path,) = list_runs(tmp_path / "out.kept")
        assert read_run(path)["status"] == "failed"
        assert "is full" in read_run(path)["error"]
        kept = sorted(p.name for p in (path / "tensors").iterdir())
        assert kept == [f"{i:04d}.device.safetensors" for i in range(len(kept))]
        assert len(kept) >= 5
        assert all(TensorStore(path / "tensors").get(name[:4], "device").shape == (32_000,) for name in kept)

    def test_a_disk_too_full_for_a_first_word_is_told(self, tmp_path: Path) -> None:
        done = in_mount(_folder(tmp_path), "size=4k", _script(FILL, tmp_path))
        assert "is full; what was written before is kept." in done.stdout
        assert done.stderr == ""

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), "is full"),
            (OSError(errno.EDQUOT, "Disk quota exceeded"), "has no room left under your quota"),
            (SafetensorError("I/O error: No space left on device (os error 28)"), "is full"),
            (SafetensorError("I/O error: Disk quota exceeded (os error 122)"), "has no room left under your quota"),
        ],
    )
    def test_a_disk_without_room_is_told_from_a_folder_that_cannot_be_written(
        self, tmp_path: Path, error: Exception, said: str
    ) -> None:
        with pytest.raises(StorageError) as caught, writing(tmp_path):
            raise error
        assert caught.value.message == f"The disk that holds {tmp_path} {said}; what was written before is kept."

    def test_another_error_of_the_library_that_writes_tensors_is_told_in_its_words(self, tmp_path: Path) -> None:
        told = pytest.raises(StorageError, match=r"cannot be written \(.*Permission denied \(os error 13\)\)")
        with told, writing(tmp_path):
            raise SafetensorError("I/O error: Permission denied (os error 13)")


FILL = """
import sys
from pathlib import Path
import numpy as np
from harness.core.errors import StorageError
from harness.core.run_folder import RunFolder
say = sys.stdout.write
try:
    with RunFolder.create(Path(sys.argv[1]), "run", "m.tflite", "host") as run:
        for i in range(1000):
            run.tensors.put(f"{i:04d}", "device", np.zeros(32_000, np.float32), "t")
except StorageError as error:
    say(error.message + " ")
    if "run" in globals():
        say(run.record["status"])
"""


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def _script(text: str, tmp_path: Path) -> list[str]:
    return [sys.executable, "-c", text, str(tmp_path / "out")]


def test_text_that_is_no_text_is_written_as_escapes(run: RunFolder) -> None:
    run.log("no \udcff UTF-8\n")
    run.rows("a.csv", ["name"], [["\udcff"]])
    run.replace_rows("b.csv", ["name"], [["\udcff"]])
    assert (run.path / "log.txt").read_text(encoding="utf-8") == "no \\udcff UTF-8\n"
    for name in ("a.csv", "b.csv"):
        assert (run.path / name).read_text(encoding="utf-8") == "name\n\\udcff\n"


def test_a_record_larger_than_any_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(UsageError, match="has 67,108,865 bytes, more than 67,108,864"):
        read_run(tmp_path)
