"""Environments of other ai-edge-litert releases: made once under the cache folder, and looked over before each use.

runtimes/<release>-py<3.x>[-<digest of what is pinned>]/
    environment/    a virtual environment with that release
    files.json      every file of it as it was installed
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import sys
from pathlib import Path

from harness.core.errors import DeviceError, StorageError, UsageError
from harness.core.private import owner_only
from harness.core.progress import Say
from harness.devices.cache import cache_folder
from harness.devices.captured import MOST, captured
from harness.devices.host.kept_folder import KeptFolder
from harness.devices.host.releases import NEWEST_BUILD, PACKAGE, newest_build, package_of

INSTALL_SECONDS = 900
INSTALL_BYTES = 50 << 20
"""An environment takes over 100 MB; with less left than its own pip and numpy take, it failed for want of room."""
PINNED = Path(__file__).parent / "pinned"
"""`<release>.txt`: what to install for a release, with the SHA-256 of every wheel that the public index has of it. Made
by `make lock`."""
NEEDED = ("ml-dtypes", "numpy")
"""Beside the runtime. Its wheel of 2.1.6 imports ml_dtypes and does not ask for it."""

_RELEASE = re.compile(r"\d+\.\d+\.\d+([a-z]+\d+|\.dev\d+)?")
# pip's words for a file whose digest is not among those asked for.
_OTHER_FILE = re.compile(
    r"DO NOT MATCH THE HASHES.*?^ +(?P<package>[\w.-]+)\b.*?^ +Got +(?P<digest>[0-9a-f]{64})", re.M | re.S
)


@owner_only()
def release_environment(release: str, progress: Say | None = None) -> str:
    """The Python of a virtual environment with one ai-edge-litert release, a daily build such as 2.4.0.dev20261026, or
    the newest of those (`nightly`); this Python, where that release is the one installed.

    Several checkouts may share it: nothing in it is of one checkout. A half-made one is never used, for it gets its
    name only when complete; one whose files are not those that were installed is made again.

    Raises:
        UsageError: not a release number. DeviceError: the release cannot be installed. StorageError: the disk is full.
    """
    if release == NEWEST_BUILD:
        release = newest_build()
    if not _RELEASE.fullmatch(release):
        raise UsageError(f"'{release}' is not a release of ai-edge-litert.", "Write it as host@2.1.5 or host@nightly.")
    if release == importlib.metadata.version(PACKAGE):
        return sys.executable
    home = _home(release)
    name = f"ai-edge-litert {release}"
    known = _pinned(release) is not None
    lock = f"{home.name}.lock"
    kept = KeptFolder(home, "environment", name, "installing", "hashes", known, lock, 2 * INSTALL_SECONDS)
    try:
        return str(kept.made(lambda folder: _make(release, folder / "environment"), progress) / "bin" / "python")
    except OSError as error:
        raise _unusable(release, home, error) from None


def _pinned(release: str) -> Path | None:
    """What is known of a release's files; None where it is not listed."""
    path = PINNED / f"{release}.txt"
    return path if path.is_file() else None


def _home(release: str) -> Path:
    """By what is pinned too, for checkouts that pin other files share the cache."""
    name = f"{release}-py{sys.version_info.major}.{sys.version_info.minor}"
    if pinned := _pinned(release):
        name += f"-{hashlib.sha256(pinned.read_bytes()).hexdigest()[:12]}"
    return cache_folder() / "runtimes" / name


def _make(release: str, environment: Path) -> None:
    _install([sys.executable, "-m", "venv", str(environment)], release)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if pinned := _pinned(release):
        # No source package: to build one runs its code, and fetches what it asks for.
        _install([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(pinned)], release)
    else:
        _install([*pip, f"{package_of(release)}=={release}", *NEEDED], release)


def _unusable(release: str, home: Path, error: OSError) -> DeviceError:
    return DeviceError(
        f"The environment for ai-edge-litert {release} cannot be made in {home} ({error.strerror}).",
        "Free disk space, remove that folder, or set HARNESS_CACHE to another one.",
    )


def _install(command: list[str], release: str) -> None:
    done = captured(command, INSTALL_SECONDS)
    if done.killed == "time":
        raise DeviceError(
            f"ai-edge-litert {release} was not installed within {INSTALL_SECONDS} s.",
            "Check the connection, and try again.",
        )
    if done.killed == "size":
        raise DeviceError(
            f"ai-edge-litert {release} cannot be installed (pip said more than {MOST >> 20} MiB and was killed).",
            "Check pip's configuration, and try again.",
        )
    full = re.search("No space left on device|Disk quota exceeded", done.output)
    # A step that a step runs does not pass on why it failed.
    if done.code and (full or shutil.disk_usage(cache_folder()).free < INSTALL_BYTES):
        raise StorageError(
            f"The disk that holds {cache_folder()} is full: ai-edge-litert {release} cannot be installed there.",
            "Free space, or set HARNESS_CACHE to a folder elsewhere.",
        )
    if done.code and (other := _OTHER_FILE.search(done.output)):
        raise DeviceError(
            f"ai-edge-litert {release} is not installed: of {other['package']} the package index gives a file with "
            f"SHA-256 {other['digest']}, which is none of those known to this release of the harness.",
            "It may be of later; else ask whoever runs the index that pip is configured with, or take another one.",
        )
    if done.code:
        lines = done.output.strip().splitlines() or ["no output"]
        last = next((line for line in reversed(lines) if line.startswith("ERROR: ")), lines[-1])
        raise DeviceError(
            f"ai-edge-litert {release} cannot be installed ({last}).",
            "Check the release number and the connection to the package index.",
        )
