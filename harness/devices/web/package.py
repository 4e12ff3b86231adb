"""Releases of LiteRT.js: fetched once by npm, known by npm's own digests, kept under the cache folder, and looked over
before each use.

litertjs/<release>[-<digest of what is pinned>]/
    files/core/, files/wasm-utils/    the two packages
    files.json                        every file of them as it was unpacked
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tarfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.version import Version

from harness.core import safe_json
from harness.core.errors import DeviceError, StorageError, UsageError
from harness.core.job import Options
from harness.core.private import make_folder, owner_only
from harness.core.progress import Say
from harness.devices.cache import cache_folder
from harness.devices.captured import Captured, captured
from harness.devices.host.kept_folder import KeptFolder

CORE, UTILS = "@litertjs/core", "@litertjs/wasm-utils"
DEFAULT = "2.5.3"
"""What `web` alone means."""
CHOOSES = "2.5.0"
"""The first that has a choice of precision, and CPU and GPU together."""
OLDEST = "2.0.0"
"""Earlier ones have another JavaScript API."""
FETCH_SECONDS = 300
MOST_BYTES = 256 << 20
"""Of a package's files together; 2.5.3 has 39 MB."""
MOST_FILES = 2000
MEND = "Install npm (apt-get install npm); a release that was fetched once is used without it."

_RELEASE = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}(-[a-z0-9.]{1,20})?")
# Lines of npm's that name a kind of error, and none of its circumstances.
_CODE = re.compile(r"npm error (?:code|errno|syscall|\w+)(?: [\w-]+)?$")


@cache
def pinned() -> dict[str, Any]:
    """For each known release, version and integrity of its two packages."""
    known: dict[str, Any] = json.loads(files("harness.devices.web").joinpath("pinned.json").read_text("utf-8"))
    return known


def release_of(name: str) -> str:
    """The release that `web` or `web@RELEASE` names. Raises UsageError for what is none."""
    release = name.partition("@")[2] if "@" in name else DEFAULT
    if not _RELEASE.fullmatch(release):
        raise UsageError(f"'{release}' is not a release of {CORE}.", f"Write it as web@{DEFAULT}.")
    if Version(release) < Version(OLDEST):
        raise UsageError(
            f"{CORE} {release} has another API than those from {OLDEST} on.", f"Use web@{OLDEST} or a later one."
        )
    return release


def lacking(release: str, options: Options) -> tuple[str, str] | None:
    """What a release of LiteRT.js has none of, of the options of a job: (sentence, next step)."""
    chosen = [f"--{name}" for name in ("backend", "storage", "priority") if getattr(options, name) != "default"]
    early = Version(release) < Version(CHOOSES)
    on_gpu = options.accelerator == "gpu"
    if options.accelerator == "npu":
        return "LiteRT.js computes on a browser's GPU or CPU, not on an NPU.", "Use --accelerator gpu or cpu."
    if chosen:
        return f"LiteRT.js has no choice of {', '.join(chosen)}.", "Leave that out."
    if on_gpu and options.precision == "fp16-fp32acc":
        return "LiteRT.js has no fp16 with float32 sums.", "Use --precision fp16 or fp32."
    if on_gpu and early and options.precision != "default":
        return f"LiteRT.js {release} has no choice of precision.", f"Use web@{CHOOSES} or a later one."
    if on_gpu and early and options.fallback == "cpu":
        return f"LiteRT.js {release} has no build for CPU and GPU together.", f"Use web@{CHOOSES} or a later one."
    if options.accelerator == "cpu" and options.precision not in ("default", "fp32"):
        return f"A browser's CPU computes in float32, not in {options.precision}.", "Leave --precision out."
    return None


@owner_only()
def package_folder(release: str, progress: Say | None = None) -> Path:
    """The folder with `core` and `wasm-utils` of a release, fetched if it is not there or is damaged.

    Raises:
        DeviceError: it cannot be fetched, or is not what is pinned. StorageError: the disk is full.
    """
    kept = _kept(release)
    try:
        return kept.made(lambda folder: _fill(folder, release), progress)
    except OSError as error:
        raise StorageError(
            f"{CORE} {release} cannot be kept in {kept.home} ({error.strerror}).",
            "Free disk space, remove that folder, or set HARNESS_CACHE to another one.",
        ) from None


def is_kept(release: str) -> bool:
    """Whether a release is in the cache, undamaged."""
    return _kept(release).damage() == ""


def _kept(release: str) -> KeptFolder:
    """By what is pinned too, for checkouts that pin other files share the cache."""
    known = pinned().get(release)
    mark = f"-{hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]}" if known else ""
    home = cache_folder() / "litertjs" / f"{release}{mark}"
    lock = f"litertjs-{home.name}.lock"
    return KeptFolder(
        home, "files", f"{CORE} {release}", "fetching", "digests", release in pinned(), lock, 2 * FETCH_SECONDS
    )


def _fill(home: Path, release: str) -> None:
    make_folder(home / "files")
    known = pinned().get(release, {})
    core = _fetched(home, CORE, known.get(CORE, {"version": release}))
    _unpack(core, home / "files" / "core", release)
    wanted = known.get(UTILS) or {"version": _wanted_utils(home / "files" / "core" / "package.json")}
    utils = _fetched(home, UTILS, wanted)
    _unpack(utils, home / "files" / "wasm-utils", release)
    for archive in (core, utils):
        archive.unlink()


def _wanted_utils(about: Path) -> str:
    try:
        wanted = safe_json.loads(about.read_bytes())["dependencies"][UTILS]
    except (OSError, ValueError, KeyError, TypeError):
        wanted = None
    if not isinstance(wanted, str) or not re.fullmatch(r"[\^~]?[\w.-]{1,40}", wanted):
        raise DeviceError(f"{CORE} does not say which {UTILS} it needs.", f"Use web@{DEFAULT}.")
    return wanted


def _fetched(home: Path, package: str, wanted: dict[str, str]) -> Path:
    """The archive of a package, of the pinned digest where there is one."""
    what = f"{package}@{wanted['version']}"
    folder = home / package.partition("/")[2]
    make_folder(folder)
    done = _npm(["pack", "--loglevel=error", "--ignore-scripts", what, "--pack-destination", str(folder)], what, home)
    found = list(folder.glob("*.tgz"))
    if done.code and re.search("^npm error code (ETARGET|E404)", done.output, re.M):
        there = ", ".join(available_releases()) if package == CORE else ""
        raise UsageError(f"There is no {what}.", f"Its releases are {there}." if there else f"Use web@{DEFAULT}.")
    if done.code or len(found) != 1:
        raise DeviceError(f"{what} cannot be fetched ({_last_words(done)}).", "Check the release and the connection.")
    integrity = wanted.get("integrity")
    with found[0].open("rb") as file:
        digest = "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if integrity is not None and digest != integrity:
        raise DeviceError(
            f"{what} is not used: the package index gives a file of {digest[:23]}…, not {integrity[:23]}….",
            "Ask whoever runs the index that npm is configured with, or take another one.",
        )
    archive = home / f"{folder.name}.tgz"
    found[0].rename(archive)
    folder.rmdir()
    return archive


def _unpack(archive: Path, into: Path, release: str) -> None:
    """The files below `package/`, of bounded number and size; links and the like are left out."""
    left, count = MOST_BYTES, 0
    try:
        with tarfile.open(archive, "r:gz") as packed:
            for member in packed:
                name = member.name.partition("/")[2]
                if not member.isfile() or not name or ".." in Path(name).parts or Path(name).is_absolute():
                    continue
                left, count = left - member.size, count + 1
                content = packed.extractfile(member)
                if left < 0 or count > MOST_FILES or content is None:
                    raise tarfile.TarError(f"it has more than {MOST_FILES} files or {MOST_BYTES:,} bytes")
                make_folder((into / name).parent)
                with (into / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError) as error:
        raise DeviceError(f"The archive of LiteRT.js {release} is damaged ({error}).", "Try again.") from None


def available_releases() -> tuple[str, ...]:
    """Every release that this page can run, oldest first, as npm's index tells.

    Raises:
        DeviceError: it cannot be asked.
    """
    done = _npm(["view", CORE, "versions", "--json"], CORE, None)
    try:
        listed = safe_json.loads(done.output)
    except ValueError:
        listed = None
    if done.code or not isinstance(listed, list):
        raise DeviceError(
            f"The releases of {CORE} cannot be listed ({_last_words(done)}).",
            "Check the connection; a release that was used before runs without it as web@RELEASE.",
        )
    named = {word for word in listed if isinstance(word, str) and _RELEASE.fullmatch(word)}
    return tuple(sorted((word for word in named if Version(word) >= Version(OLDEST)), key=Version))


def _npm(arguments: list[str], what: str, folder: Path | None) -> Captured:
    program = shutil.which("npm")
    if program is None:
        raise DeviceError(f"{what} is not in the cache, and npm is not on PATH to fetch it.", MEND)
    # By itself npm waits for over a minute before it says that nobody is there.
    patience = ["--fetch-retry-mintimeout=2000", "--fetch-retry-maxtimeout=10000"]
    done = captured([program, *arguments, *patience], FETCH_SECONDS, cwd=folder)
    if done.killed == "time":
        raise DeviceError(f"{what} was not fetched within {FETCH_SECONDS} s.", "Check the connection, and try again.")
    return done


def _last_words(done: Captured) -> str:
    """Why npm gave up: its first error that is a sentence and no code, else whatever it said last."""
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("npm error ") and "complete log" not in line]
    telling = [line for line in errors if not _CODE.match(line)]
    said = (telling or errors or lines or ["npm said nothing"])[0 if errors else -1]
    return said.removeprefix("npm error ")[:200].rstrip(".")
