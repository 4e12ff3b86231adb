"""Folders that do not outlive their owner: what a killed process leaves behind goes when the next one comes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import harness
from harness.core.errors import StorageError
from harness.devices.host.device import HostDevice, HostLauncher
from harness.devices.scratch import Scratch, alone, remove_abandoned
from tests.mounts import in_mount

PREFIX = "harness-test-"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_in_use_stays(temporary: Path) -> None:
    first, second = Scratch(PREFIX), Scratch(PREFIX)
    remove_abandoned(PREFIX)
    assert set(temporary.iterdir()) == {first.path, second.path}
    first.close()
    second.close()
    second.close()  # twice does no harm
    assert list(temporary.iterdir()) == []


def test_very_many_left_folders_do_not_delay_a_start(temporary: Path) -> None:
    """As many as go in the time are removed; the others wait for the next start."""
    for number in range(3):
        folder = temporary / f"{PREFIX}{number}"
        folder.mkdir()
        (folder / ".owner").touch()
    remove_abandoned(PREFIX, seconds=0)
    assert len(list(temporary.iterdir())) == 3
    remove_abandoned(PREFIX)
    assert list(temporary.iterdir()) == []


def test_what_a_killed_owner_left_is_removed_by_the_next(temporary: Path) -> None:
    code = f"from harness.devices.scratch import Scratch; import time; Scratch('{PREFIX}'); print('x'); time.sleep(60)"
    environment = dict(os.environ, PYTHONPATH=str(Path(harness.__file__).parent.parent))
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert owner.stdout is not None
    with owner, owner.stdout:
        owner.stdout.readline()
        (left,) = temporary.iterdir()
        (left / "models").mkdir()
        remove_abandoned(PREFIX)
        assert left.is_dir()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    mine = Scratch(PREFIX)
    assert list(temporary.iterdir()) == [mine.path]
    mine.close()


def test_a_folder_that_nobody_owns_is_removed_after_a_day_only(temporary: Path) -> None:
    young, old, other = (temporary / name for name in (f"{PREFIX}young", f"{PREFIX}old", "another-old"))
    for path in (young, old, other):
        path.mkdir()
    before = time.time() - 90_000
    for path in (old, other):
        os.utime(path, (before, before))
    remove_abandoned(PREFIX)
    assert set(temporary.iterdir()) == {young, other}


def test_a_clock_that_jumps_two_days_takes_no_folder_from_who_is_making_it(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    really = tempfile.mkdtemp

    def jumped(prefix: str) -> str:
        path = really(prefix=prefix)
        if not made:
            now = time.time()
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda: now + 2 * 86_400)
                remove_abandoned(PREFIX)  # as another process does before this one owns the folder
        made.append(Path(path))
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", jumped)
    scratch = Scratch(PREFIX)
    assert list(temporary.iterdir()) == [scratch.path]
    assert made[1:] == [scratch.path]
    scratch.close()


def test_a_sweep_that_came_and_went_before_the_lock_takes_no_folder_from_who_is_making_it(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its owner's file and the lock on it, a folder is like one that was left."""
    owned, swept = Scratch._owned, 0

    def and_swept(self: Scratch) -> int:
        nonlocal swept
        lock = owned(self)
        if not swept:
            remove_abandoned(PREFIX)
            swept = not self.path.exists()
        return lock

    monkeypatch.setattr(Scratch, "_owned", and_swept)
    made = Scratch(PREFIX)
    assert swept and made.path.is_dir()
    remove_abandoned(PREFIX)
    assert made.path.is_dir()
    made.close()


@pytest.mark.usefixtures("without_locks")
def test_without_locks_folders_are_made_and_those_of_others_stay(temporary: Path) -> None:
    first, second = Scratch(PREFIX), Scratch(PREFIX)
    assert set(temporary.iterdir()) == {first.path, second.path}
    with alone(temporary / "it.lock", 0.1):
        pass
    first.close()
    second.close()


def test_a_link_of_that_name_is_left_alone(temporary: Path) -> None:
    target = temporary / "precious"
    target.mkdir()
    (temporary / f"{PREFIX}link").symlink_to(target)
    os.utime(target, (0, 0))
    remove_abandoned(PREFIX)
    assert target.is_dir()


def test_the_worker_of_a_release_imports_the_harness_that_started_it(temporary: Path) -> None:
    """The environment of a release may serve several checkouts at a time: what names the checkout is the launcher's."""
    launcher = HostLauncher(sys.executable, ())
    try:
        launcher.start().close()
        (link,) = (launcher._folder / "src").iterdir()
        assert link.resolve() == Path(harness.__file__).parent.resolve()
    finally:
        launcher.close()
    assert list(temporary.iterdir()) == []


def test_a_device_that_was_closed_leaves_nothing(temporary: Path) -> None:
    with HostDevice() as device:
        device.facts()
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_closed_twice_closes_nothing_else(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Scratch("twice-")
    folder.close()
    closed: list[int] = []
    monkeypatch.setattr(os, "close", closed.append)
    folder.close()
    assert closed == []


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission")])
def test_a_temporary_folder_without_room_is_one_sentence(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def none(prefix: str) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    with pytest.raises(StorageError, match=f"can be made in .*{words}.*TMPDIR"):
        Scratch(PREFIX)


def test_no_temporary_folder_at_all_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(StorageError, match=r"No usable temporary directory.*TMPDIR"):
        Scratch(PREFIX)


def test_a_lock_without_an_inode_leaves_no_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def full(path: str | Path, flags: int, *mode: int, **more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StorageError, match="No space left on device"):
        Scratch(PREFIX)
    monkeypatch.undo()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("inodes", [3, 4, 5])
def test_a_folder_that_runs_out_of_inodes_is_one_sentence_and_is_left_empty(tmp_path: Path, inodes: int) -> None:
    """One inode is the folder's own; then come the worker's folder, its owner's mark, its models, its log, a model."""
    code = f"""if True:
        import numpy as np, tempfile
        from harness.devices.execute import completed, make_job
        from harness.devices.host.device import HostDevice
        from harness.core.errors import HarnessError
        from harness.graph.build import GraphBuilder
        from harness.core.job import Options
        graph = GraphBuilder()
        graph.output(graph.unary("RELU", graph.input("x", (4,))), "y")
        tempfile.tempdir = {str(tmp_path / "full")!r}
        try:
            with HostDevice() as device:
                job = make_job(graph.build(), {{"x": np.ones(4, np.float32)}}, Options("cpu"), timeout=60)
                completed(device, job, "running")
        except HarnessError as error:
            print(error.message)"""
    (tmp_path / "full").mkdir()
    done = in_mount(tmp_path / "full", f"nr_inodes={inodes}", [sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (0, "")
    assert "No space left on device" in done.stdout
    assert list((tmp_path / "full.kept").iterdir()) == []
