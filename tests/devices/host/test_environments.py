"""What `host@RELEASE` installs is what was published, and is looked over before it is used again."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from harness.core.errors import DeviceError, StorageError, UsageError
from harness.devices.captured import MOST, Captured, captured
from harness.devices.host import environments, installed
from harness.devices.host.environments import NEEDED, PINNED, release_environment
from harness.devices.host.releases import OLDEST, version_of

RELEASE = "99.0.1"
LIBRARY = f"lib/python3.{sys.version_info.minor}/site-packages/ai_edge_litert/libLiteRt.so"


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> str:
    """Put a wheel with these files into a folder; its SHA-256."""
    info = f"{name}-{version}.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}"
        for path, content in files.items()
    ]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in files.items():
            archive.writestr(zipfile.ZipInfo(inside), content)
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "\n".join([*rows, f"{info}/RECORD,,", ""]))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def offer(index: Path, library: bytes = b"\x7fELF" + bytes(1 << 16)) -> str:
    """Fill an index with a runtime and what it needs; a list of them with their hashes."""
    index.mkdir(exist_ok=True)
    files = {"ai_edge_litert/__init__.py": b"", "ai_edge_litert/libLiteRt.so": library}
    lines = [f"ai-edge-litert=={RELEASE} --hash=sha256:{wheel(index, 'ai_edge_litert', RELEASE, files)}"]
    for name in NEEDED:
        module = name.replace("-", "_")
        digest = wheel(index, module, "1.0", {f"{module}/__init__.py": b""})
        lines.append(f"{name}==1.0 --hash=sha256:{digest}")
    return "\n".join(lines) + "\n"


def only(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip know this index and no other."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))


@pytest.fixture(scope="module", autouse=True)
def copied_venv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`python -m venv` is a copy of one that was made: it takes ten times as long as the rest."""
    bare = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(bare)], check=True)

    def run(command: Sequence[str], seconds: float) -> Captured:
        if command[:3] != [sys.executable, "-m", "venv"] or sys.executable != here:
            return captured(command, seconds)
        shutil.copytree(bare, command[3], symlinks=True)
        return Captured("", 0)

    here = sys.executable
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(environments, "captured", run)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index, a list of hashes and a cache, in which the release is installed."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "pinned").mkdir()
    (folder / "pinned" / f"{RELEASE}.txt").write_text(offer(folder / "index"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        only(folder / "index", monkeypatch)
        monkeypatch.setenv("HARNESS_CACHE", str(folder / "cache"))
        monkeypatch.setattr(environments, "PINNED", folder / "pinned")
        said: list[str] = []
        release_environment(RELEASE, said.append)
        assert said == [f"installing ai-edge-litert {RELEASE} (once)"]
    return folder


@pytest.fixture
def cache(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own in which the release is installed."""
    shutil.copytree(made / "cache", tmp_path / "cache", symlinks=True)
    only(made / "index", monkeypatch)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "PINNED", made / "pinned")
    return tmp_path / "cache"


def imports(python: str) -> bool:
    """Whether a Python has the runtime of the index, whole."""
    code = "import ai_edge_litert, os; print(os.path.getsize(ai_edge_litert.__path__[0] + '/libLiteRt.so'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout == f"{4 + (1 << 16)}\n"


def test_what_was_installed_is_used_again_without_a_word(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "captured", None)
    said: list[str] = []
    python = release_environment(RELEASE, said.append)
    assert said == []
    assert imports(python)
    assert release_environment(RELEASE) == python


def test_a_library_cut_short_is_installed_again_and_this_is_said(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    python = release_environment(RELEASE)
    library = Path(python).parents[1] / LIBRARY
    os.truncate(library, 1000)
    said: list[str] = []
    assert release_environment(RELEASE, said.append) == python
    assert said == ["libLiteRt.so is not as it was installed", f"installing ai-edge-litert {RELEASE} (again)"]
    assert imports(python)
    os.truncate(library, 1000)
    with caplog.at_level(logging.WARNING):
        assert release_environment(RELEASE) == python
    assert caplog.messages == [
        f"ai-edge-litert {RELEASE} is not used as it is, and made again: {LIBRARY} is not as it was installed."
    ]
    assert imports(python)
    assert len(list((cache / "runtimes").iterdir())) == 1


def test_a_damaged_environment_is_not_used_where_it_cannot_be_made_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Path(release_environment(RELEASE)).parents[1] / LIBRARY
    os.truncate(library, 1000)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(DeviceError) as caught:
        release_environment(RELEASE)
    assert caught.value.message == (
        f"ai-edge-litert {RELEASE} cannot be installed (ERROR: No matching distribution found for "
        f"ai-edge-litert=={RELEASE}), and the one that was there is not used: "
        f"{LIBRARY} is not as it was installed."
    )
    assert len(list((cache / "runtimes").iterdir())) == 1


def test_an_environment_of_other_pinned_files_is_another_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkouts that share a cache do not make each other's environments again, in turns."""
    first = release_environment(RELEASE)
    (tmp_path / "pinned").mkdir()
    (tmp_path / "pinned" / f"{RELEASE}.txt").write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(environments, "PINNED", tmp_path / "pinned")
    said: list[str] = []
    with pytest.raises(DeviceError):  # the list holds nothing that can be installed
        release_environment(RELEASE, said.append)
    assert said == [f"installing ai-edge-litert {RELEASE} (once)"]
    monkeypatch.undo()
    assert imports(first)


def test_a_file_that_is_not_the_published_one_is_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path / "index", b"\x7fELF, but another one")
    only(tmp_path / "index", monkeypatch)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "PINNED", made / "pinned")
    with pytest.raises(DeviceError) as caught:
        release_environment(RELEASE)
    digest = hashlib.sha256(next((tmp_path / "index").glob("ai_edge_litert-*")).read_bytes()).hexdigest()
    assert caught.value.message == (
        f"ai-edge-litert {RELEASE} is not installed: of ai-edge-litert the package index gives a file with SHA-256 "
        f"{digest}, which is none of those known to this release of the harness."
    )
    assert list((tmp_path / "cache" / "runtimes").iterdir()) == []


def test_a_release_without_known_hashes_is_installed_and_this_is_said(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    only(made / "index", monkeypatch)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "PINNED", tmp_path)
    with caplog.at_level(logging.WARNING):
        assert imports(release_environment(RELEASE))
    assert caplog.messages == [
        f"The files of ai-edge-litert {RELEASE} are not verified: no hashes of it are known here."
    ]


def test_pip_that_says_no_end_of_things_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec yes installing\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DeviceError) as caught:
        release_environment("99.0.2")
    assert caught.value.message == (
        f"ai-edge-litert 99.0.2 cannot be installed (pip said more than {MOST >> 20} MiB and was killed)."
    )
    assert list((tmp_path / "cache" / "runtimes").iterdir()) == []


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (Captured("Collecting", None, "time"), "was not installed within 900 s."),
        (Captured("", None, "size"), "cannot be installed (pip said more than 4 MiB and was killed)."),
        (Captured("ERROR: first\nERROR: last\n[notice] of pip\n", 1), "cannot be installed (ERROR: last)."),
        (Captured("Collecting\nno route to the index\n\n", 2), "cannot be installed (no route to the index)."),
        (Captured(" \n", 1), "cannot be installed (no output)."),
    ],
)
def test_an_installation_that_fails_says_why(
    done: Captured, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "captured", lambda command, seconds: done)
    with pytest.raises(DeviceError) as caught:
        release_environment("99.0.3")
    assert caught.value.message == f"ai-edge-litert 99.0.3 {why}"
    assert list((tmp_path / "runtimes").iterdir()) == []


@pytest.mark.parametrize(
    ("said", "free", "full"),
    [
        ("OSError: [Errno 28] No space left on device", 1 << 40, True),
        ("write failed, Disk quota exceeded", 1 << 40, True),
        ("venv ended with 1", (50 << 20) - 1, True),
        ("venv ended with 1", 50 << 20, False),
    ],
)
def test_a_disk_that_is_full_is_told_from_a_release_that_is_not_there(
    said: str, free: int, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full too where less is left on it than an installation begins with."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "captured", lambda command, seconds: Captured(said, 1))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(StorageError if full else DeviceError):
        release_environment("99.0.3")


def test_nothing_is_wrong_with_an_installation_that_succeeds_on_a_nearly_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "captured", lambda command, seconds: Captured("No space left on device", 0))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    monkeypatch.setattr(installed, "record", lambda environment, record: None)
    home = Path(release_environment("99.0.3")).parents[2]
    assert home.parent == tmp_path / "runtimes"
    assert home.is_dir()


@pytest.mark.parametrize("release", ["2.1", "latest", "2.1.5-1", "v2.1.5", "2.1.5 ", "../2.1.5"])
def test_what_is_no_number_of_a_release_is_not_looked_for(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "captured", None)
    with pytest.raises(UsageError, match="is not a release of ai-edge-litert"):
        release_environment(release)


def test_the_release_that_is_installed_needs_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "captured", None)
    assert release_environment(version("ai-edge-litert")) == sys.executable


def requirements(path: Path) -> dict[str, list[str]]:
    """The requirements of a list, each with its hashes."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.M))
    split = [line.split(" --hash=sha256:") for line in text.splitlines()]
    return {wanted: hashes for wanted, *hashes in split}


@pytest.mark.parametrize("path", sorted(PINNED.iterdir()), ids=lambda path: path.stem)
def test_a_list_holds_its_release_and_a_hash_for_all_that_it_needs(path: Path) -> None:
    assert version_of(path.stem) >= version_of(OLDEST)
    found = requirements(path)
    assert (
        f"ai-edge-litert=={path.stem}" in found
    )  # for every Python: else pip would install nothing, and say so to nobody
    for wanted, hashes in found.items():
        assert hashes
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
        (pin,) = Requirement(wanted).specifier
        assert pin.operator == "=="
    assert {Requirement(wanted).name for wanted in found} >= {"ai-edge-litert", *NEEDED}


def test_the_installed_release_and_the_oldest_are_among_the_lists() -> None:
    assert {OLDEST, "2.1.5", "2.3.0"} <= {path.stem for path in PINNED.iterdir()}
