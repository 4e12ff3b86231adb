"""The process that does the torch work, seen from its caller; stand-ins take the place of the real one."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import HarnessError, StorageError, UsageError
from harness.sam2.image_path.convert import in_torch
from harness.sam2.image_path.worker import perform
from harness.sam2.shared import process
from harness.sam2.shared.files import make_folder, write_arrays, write_bytes


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the worker process run a shell script instead of Python."""

    def use(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return use


def silent(_: str) -> None:
    pass


def test_progress_is_passed_on_as_it_comes(stand_in: Any) -> None:
    stand_in("""echo '{"progress": "one"}'; echo '{"progress": "two"}'; echo '{"done": true}'""")
    told: list[str] = []
    in_torch({}, told.append)
    assert told == ["one", "two"]


@pytest.mark.parametrize(("kind", "error"), [("usage", UsageError), ("storage", StorageError)])
def test_a_users_mistake_arrives_as_such(stand_in: Any, kind: str, error: type[HarnessError]) -> None:
    stand_in(f"""echo '{{"{kind}": ["It is wrong.", "Mend it."]}}'""")
    with pytest.raises(error) as caught:
        in_torch({}, silent)
    assert type(caught.value) is error
    assert (caught.value.message, caught.value.next_step) == ("It is wrong.", "Mend it.")


def test_a_failure_shows_the_exit_code_and_the_end_of_the_log(stand_in: Any) -> None:
    stand_in("echo early >&2; echo 'the converter broke' >&2; exit 3")
    with pytest.raises(RuntimeError, match=r"exit code 3(.|\n)*the converter broke"):
        in_torch({}, silent)


def test_an_end_without_a_word_is_a_failure(stand_in: Any) -> None:
    stand_in("exit 0")
    with pytest.raises(RuntimeError, match="exit code 0"):
        in_torch({}, silent)


def test_a_worker_that_is_killed_is_put_down_to_memory(stand_in: Any) -> None:
    stand_in("kill -9 $$")
    with pytest.raises(HarnessError, match="most likely for want of memory"):
        in_torch({}, silent)


def test_a_worker_that_hangs_is_ended_in_time(stand_in: Any) -> None:
    stand_in("""echo '{"progress": "start"}'; exec sleep 60""")
    start = time.monotonic()
    with pytest.raises(HarnessError, match=r"did not end within 0\.5 s"):
        in_torch({}, silent, timeout=0.5)
    assert time.monotonic() - start < 30


def test_the_real_process_reports_broken_weights_and_keeps_the_noise_to_itself(
    small_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text((small_folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    source = {"folder": str(tmp_path), "seed": 0, "provenance": "folder", "key": "x"}
    with pytest.raises(UsageError, match="cannot be loaded"):
        in_torch({"source": source}, silent)
    assert capfd.readouterr() == ("", "")


def test_features_and_constants_are_made_on_request(small_folder: Path, photo: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "photo.npy", photo)
    told: list[str] = []
    perform(
        {
            "source": {"folder": str(small_folder), "seed": 0, "provenance": "folder", "key": "x"},
            "features": {"photo": str(tmp_path / "photo.npy"), "path": str(tmp_path / "features.npz")},
            "constants": str(tmp_path / "constants.npz"),
        },
        told.append,
    )
    assert told == ["loading the weights", "running the image encoder on the photo"]
    with np.load(tmp_path / "features.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            "image_embeddings": (1, 64, 8, 8),
            "feat_s1": (1, 16, 16, 16),
            "feat_s0": (1, 8, 32, 32),
        }
    with np.load(tmp_path / "constants.npz") as arrays:
        assert arrays["posmat"].shape == (2, 32)


def test_a_file_is_replaced_whole_with_ordinary_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_bytes(tmp_path / "file", b"old")
        write_bytes(tmp_path / "file", b"new")
    finally:
        os.umask(mask)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\)"):
        write_bytes(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        StorageError, match=r"cannot be made \(Not a directory\)\. Choose a folder that you may write to"
    ):
        make_folder(tmp_path / "file" / "cache")


def test_objects_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be kept: \['a'\]"):
        write_arrays(tmp_path / "file.npz", {"a": np.array([{}], dtype=object)})


def test_the_workers_time_is_bounded() -> None:
    assert 60 < process.TIMEOUT_SECONDS <= 1800
