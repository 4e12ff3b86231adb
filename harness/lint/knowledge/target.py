"""What a model is looked at for: a kind of runtime, a GPU's family, a release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from packaging.version import InvalidVersion, Version

from harness.core.errors import UsageError

Platform = Literal["host", "web", "android", "planted"]
Family = Literal["mali", "adreno", "xclipse", "powervr", "apple"]
PLANTED = "planted:"
HOST_PACKAGE = "ai-edge-litert"
NIGHTLY = "host@nightly"
_PACKAGES: Mapping[Platform, str] = {"host": HOST_PACKAGE, "web": "LiteRT.js", "android": "LiteRT"}
# What a driver calls GPUs of a family.
_FAMILIES: Mapping[Family, str] = {
    "mali": r"mali|immortalis",
    "adreno": r"adreno",
    "xclipse": r"xclipse",
    "powervr": r"powervr|img [bd]xt",
    "apple": r"apple",
}


@dataclass(frozen=True)
class Target:
    """`name` is what was asked for. `family` and `release` are None where they are not known; `planted` are the bugs of
    a planted phone."""

    name: str
    platform: Platform
    family: Family | None = None
    release: str | None = None
    planted: frozenset[str] = frozenset()

    @property
    def words(self) -> str:
        """`ai-edge-litert 2.3.0`, `mali`, `web, LiteRT.js 2.5.3`: for people."""
        package = _PACKAGES.get(self.platform)
        release = f"{package} {self.release}" if package and self.release else ""
        if self.platform == "host":
            return release or (f"{package} nightly" if self.name == NIGHTLY else "a release that is not known")
        return ", ".join(filter(None, (self.name.partition("@")[0], release)))


_NAMED: Mapping[str, Target] = {
    "host": Target("host", "host"),
    "web": Target("web", "web"),
    "pixel8a": Target("pixel8a", "android", "mali"),
    "mali": Target("mali", "android", "mali"),
    "adreno": Target("adreno", "android", "adreno"),
}
NAMES = tuple(_NAMED)


def target_of(name: str, *, web_release: str | None = None) -> Target:
    """The target of a name on the command line, `mali`, `host@2.1.5`; the host without a release is the installed one,
    `web` without one is `web_release`. Which release `host@nightly` is, nobody knows without the package index.

    Raises:
        UsageError: there is no such target, or the release is none.
    """
    plain, mark, release = name.partition("@")
    if plain not in _NAMED:
        raise UsageError(
            f"--for does not know '{name}'.",
            f"Use one of {', '.join(_NAMED)}, with @RELEASE behind it if you like; a phone by its GPU.",
        )
    if name == NIGHTLY:
        return replace(_NAMED[plain], name=name)
    if mark and _version(release) is None:
        raise UsageError(f"--for {name}: '{release}' is no release.", f"Write it as in {plain}@2.3.0.")
    installed = {"host": _installed(), "web": web_release}.get(plain)
    return replace(_NAMED[plain], name=name, release=release or installed)


def target_of_device(device: Mapping[str, str], planted: frozenset[str] = frozenset()) -> Target | None:
    """The target that a device is, by what a run says of it (`name`, `kind`, `runtime`, `gpu`); None for another
    kind."""
    kind, release = device.get("kind", ""), device.get("runtime", "")
    platform = next((known for known in get_args(Platform) if known == kind), None)
    if platform is None:
        return None
    found = (known for known, words in _FAMILIES.items() if re.search(words, device.get("gpu", ""), re.IGNORECASE))
    family = next(found, None) if platform == "android" else None
    known = release if _version(release) is not None else None
    return Target(device.get("name", ""), platform, family, known, planted)


def compare_releases(one: str, other: str) -> int:
    """Below 0 where one release is older than another, above 0 where it is newer, else 0."""
    a, b = Version(one), Version(other)
    return (a > b) - (a < b)


def _version(release: str) -> Version | None:
    try:
        return Version(release)
    except InvalidVersion:
        return None


def _installed() -> str | None:
    try:
        return version(HOST_PACKAGE)
    except PackageNotFoundError:
        return None
