"""A phone's lock, without a phone: who has to wait, and who shares it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from harness.core.errors import DeviceError, StorageError
from harness.devices.android import locks
from harness.devices.android.locks import SerialLock


@pytest.fixture(autouse=True)
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)


def in_a_fork(lock: SerialLock) -> str:
    """What taking the lock comes to in a forked process."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            lock.take()
            os.write(writer, b"taken")
        except DeviceError as error:
            os.write(writer, error.message.encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        return told.read()


def test_a_forked_process_waits_like_any_other() -> None:
    held = SerialLock("S1")
    held.take()
    assert in_a_fork(SerialLock("S1")) == f"S1 is in use by process {os.getpid()} for over 0.2 s."
    held.give_back()
    assert in_a_fork(SerialLock("S1")) == "taken"


@pytest.mark.usefixtures("without_locks")
def test_a_file_system_without_locks_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        SerialLock("S1").take()
    path = tmp_path / "locks" / "S1.lock"
    assert caught.value.message == f"The lock {path} cannot be taken: its file system has no locks."
    assert caught.value.next_step == "Set HARNESS_CACHE to a folder on a disk of this machine."


def test_threads_of_one_process_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slowly = SerialLock._locked_file

    def slow(lock: SerialLock, path: Path) -> object:
        time.sleep(0.05)
        return slowly(lock, path)

    monkeypatch.setattr(SerialLock, "_locked_file", slow)
    taken: list[SerialLock] = []

    def take() -> None:
        lock = SerialLock("S2")
        lock.take()
        taken.append(lock)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 4
    for lock in taken[1:]:
        lock.give_back()
    assert in_a_fork(SerialLock("S2")).startswith("S2 is in use")
    taken[0].give_back()
    assert in_a_fork(SerialLock("S2")) == "taken"


def test_a_lock_file_has_a_plain_name_and_holds_its_last_holder_alone(tmp_path: Path) -> None:
    lock = SerialLock("[::1]:55/a-b.c")
    assert lock.path == tmp_path / "locks" / "___1__55_a-b.c.lock"
    lock.path.parent.mkdir()
    lock.path.write_text("12345678901234")
    lock.take()
    assert lock.path.read_text() == str(os.getpid())
    lock.give_back()


def test_a_lock_taken_twice_is_given_back_once() -> None:
    lock = SerialLock("S3")
    lock.give_back()  # nothing to give
    lock.take()
    lock.take()
    lock.give_back()
    assert in_a_fork(SerialLock("S3")) == "taken"
    lock.take()
    assert in_a_fork(SerialLock("S3")).startswith("S3 is in use")
    lock.give_back()
