"""What a command writes is its user's alone, whatever the umask; what the user named or made is left as it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus import healthy_mlp, rank3_pad_9272
from harness.api.on_device import OnDevice
from harness.core.private import as_the_user, make_folder, owner_only
from harness.devices.android.locks import SerialLock
from harness.devices.cache import cache_folder
from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    """The umask that hides nothing, of this process and of those it starts."""
    before = os.umask(0)
    yield
    assert os.umask(before) == 0, "the umask was not put back"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "cache"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def modes(folder: Path) -> dict[str, int]:
    """The modes of all below a folder, and its own."""
    return {str(path.relative_to(folder.parent)): mode(path) for path in (folder, *folder.rglob("*"))}


def shown(folder: Path) -> list[str]:
    """What in a folder is not the owner's alone, of a file 0600 and of a folder 0700."""
    found = {path: mode(folder.parent / path) for path in modes(folder)}
    return [
        f"{path} {bits:o}"
        for path, bits in found.items()
        if bits != (0o700 if (folder.parent / path).is_dir() else 0o600)
    ]


@pytest.mark.gpu
def test_runs_and_the_site_are_the_owners_alone_and_a_file_that_the_user_named_is_not(tmp_path: Path, cli: Cli) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(rank3_pad_9272().to_bytes())
    assert cli("localize", model, "--explain").code == 1
    (run,) = (path.parent for path in (tmp_path / "results").glob("*/run.json"))
    assert cli("export", run, "--format", "csv", "--out", tmp_path / "ops.csv").code == 0
    assert mode(tmp_path / "ops.csv") == 0o666
    assert cli("compare", model, "--accelerator", "cpu").code == 0
    assert cli("bench", model, "--accelerator", "cpu", "--quick").code in (0, 4)
    assert cli("dashboard").code == 0
    written = list((tmp_path / "results").rglob("*"))
    assert {path.suffix for path in written} >= {".csv", ".html", ".json", ".npz", ".py", ".safetensors", ".tflite"}
    assert {path.name for path in written} >= {"dashboard", "journal", "log.txt", "samples.csv"}
    assert shown(tmp_path / "results") == []


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path, cli: Cli) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(healthy_mlp().to_bytes())
    (tmp_path / "results").mkdir()
    (tmp_path / "results").chmod(0o755)
    assert cli("compare", model, "--accelerator", "cpu").code == 0
    (run,) = (tmp_path / "results").iterdir()
    assert mode(tmp_path / "results") == 0o755
    assert shown(run) == []


def test_in_python_it_is_the_same(tmp_path: Path) -> None:
    model = healthy_mlp()
    device = OnDevice("host", tmp_path / "runs", 60.0)
    assert device.compare(model, accelerator="cpu").ok
    device.audit(model)
    assert shown(tmp_path / "runs") == []
    (tmp_path / "the user's").touch()
    assert mode(tmp_path / "the user's") == 0o666


def test_the_cache_is_the_owners_alone_and_a_lock_has_nothing_to_hide(cache: Path) -> None:
    lock = SerialLock("phone")
    lock.take()
    lock.give_back()
    assert modes(cache) == {"cache": 0o700, "cache/locks": 0o700, "cache/locks/phone.lock": 0o666}
    assert cache_folder() == cache


def test_the_umask_comes_back_when_the_last_has_left(tmp_path: Path) -> None:
    first, second = owner_only(), owner_only()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    (tmp_path / "hidden").touch()
    with as_the_user():
        with as_the_user():
            pass
        (tmp_path / "shown").touch()
    (tmp_path / "hidden again").touch()
    second.__exit__(None, None, None)
    (tmp_path / "after").touch()
    with pytest.raises(ValueError, match="of the test's"), owner_only():
        raise ValueError("of the test's")
    (tmp_path / "after an error").touch()
    make_folder(tmp_path / "a" / "b")
    np.save(tmp_path / "values.npy", np.zeros(1))
    found = {path.name: mode(path) for path in tmp_path.iterdir()}
    assert found == {
        "hidden": 0o600,
        "shown": 0o666,
        "hidden again": 0o600,
        "after": 0o666,
        "after an error": 0o666,
        "a": 0o700,
        "values.npy": 0o666,
    }
    assert mode(tmp_path / "a" / "b") == 0o700
