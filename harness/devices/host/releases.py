"""Which releases of ai-edge-litert there are for this Python, as pip's index tells."""

from __future__ import annotations

import re
import sys
from functools import cache

from packaging.version import InvalidVersion, Version

from harness.core.errors import DeviceError, UsageError
from harness.devices.captured import MOST, captured

PACKAGE = "ai-edge-litert"
NIGHTLY = "ai-edge-litert-nightly"
"""The package of daily builds: 2.4.0.dev20261026 is of that day, and older than 2.4.0."""
NEWEST_BUILD = "nightly"
"""What stands for the newest of them, as in `host@nightly`."""
# Earlier ones have no GPU delegate in their Linux wheel.
OLDEST = "2.1.3"
LIST_SECONDS = 120.0
_AVAILABLE = re.compile(r"^Available versions: (.+)$", re.M)


def available_releases(package: str = PACKAGE) -> tuple[str, ...]:
    """Every release that pip could install here, oldest first; of the package of daily builds, every build.

    Raises:
        DeviceError: the index cannot be asked.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--disable-pip-version-check"]
    command += ["--pre"] if package == NIGHTLY else []
    try:
        done = captured(command, LIST_SECONDS)
    except OSError as error:
        raise _unlisted(package, str(error.strerror)) from None
    if done.killed:
        raise _unlisted(
            package,
            f"no answer within {LIST_SECONDS:g} s" if done.killed == "time" else f"an answer over {MOST >> 20} MiB",
        )
    found = _AVAILABLE.search(done.output)
    if done.code or found is None:
        said = [line for line in done.output.strip().splitlines() if line.startswith("ERROR: ")]
        raise _unlisted(package, said[-1].removeprefix("ERROR: ") if said else "pip said nothing of use")
    return tuple(sorted({word.strip() for word in found[1].split(",")}, key=version_of))


@cache
def newest_build() -> str:
    """The newest daily build that pip could install here; the same one for as long as this process runs.

    Raises:
        DeviceError: the index cannot be asked.
    """
    return available_releases(NIGHTLY)[-1]


def package_of(release: str) -> str:
    """The package that a release is of."""
    return NIGHTLY if ".dev" in release else PACKAGE


def with_builds(first: str | None, last: str | None) -> tuple[str, ...]:
    """Every release, oldest first; where `first` or `last` is a daily build, also the builds since it and since the
    newest release.

    Raises:
        DeviceError: the index cannot be asked. UsageError: an end is no version.
    """
    released = available_releases()
    ends = [end for end in (first, last) if end is not None and package_of(end) == NIGHTLY]
    if not ends:
        return released
    since = min(version_of(end) for end in (released[-1], *ends))
    builds = [build for build in available_releases(NIGHTLY) if version_of(build) >= since]
    return tuple(sorted({*released, *builds}, key=version_of))


def between(
    releases: tuple[str, ...], first: str, last: str | None, package: str = f"{PACKAGE} for this Python"
) -> tuple[str, ...]:
    """The releases from `first` to `last` (None: the newest), both included, of that package.

    Raises:
        UsageError: one of them is not among the releases, or they are in the wrong order.
    """
    last = releases[-1] if last is None else last
    for release in (first, last):
        if release not in releases:
            raise UsageError(f"'{release}' is not a release of {package}.", f"There are {', '.join(releases)}.")
    if version_of(first) >= version_of(last):
        raise UsageError(f"{first} is not older than {last}.", "Give the older release to --from, the newer to --to.")
    return releases[releases.index(first) : releases.index(last) + 1]


def version_of(release: str) -> Version:
    """For comparison. Raises UsageError for what is no version."""
    try:
        return Version(release)
    except InvalidVersion:
        raise UsageError(f"'{release}' is not a release of {PACKAGE}.", f"Write it as {OLDEST}.") from None


def _unlisted(package: str, why: str) -> DeviceError:
    return DeviceError(
        f"The releases of {package} cannot be listed ({why}).",
        "Check the connection to the package index; a release that was used before runs without it as host@RELEASE.",
    )
