"""The ways to run models on a phone, best first, and what each lacks here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DeviceError, UsageError
from harness.devices.android import gradle
from harness.devices.android.apk import PACKAGE
from harness.devices.android.apk_file import check_apk
from harness.devices.android.no_app.folder import tools_in
from harness.devices.android.released import pinned


@dataclass(frozen=True)
class Way:
    """A way by its name; `lacks` is what it wants here, empty where it is open."""

    name: str
    lacks: str = ""


def ways_in() -> Iterator[Way]:
    """The app from an APK, of this release, or by Gradle; LiteRT's tools. Nothing is asked of a phone or a network."""
    apk, tools = os.environ.get("HARNESS_APK"), os.environ.get("HARNESS_TOOLS")
    yield Way("an APK", _trouble(apk, "no --apk and no HARNESS_APK", lambda p: check_apk(p, PACKAGE, "")))
    if (gradle.PROJECT / gradle.APK).is_file():
        yield Way("the APK that Gradle built")
    elif released():
        yield Way("the app of this release")
    else:
        lacking = gradle.lacking(gradle.PROJECT)
        yield Way("Gradle", f"{lacking} is not here" if lacking else "")
    yield Way("LiteRT's run_model", _trouble(tools, "no --tools and no HARNESS_TOOLS", tools_in))


def released() -> bool:
    """Whether this is a release with an app of its own."""
    try:
        return pinned() is not None
    except DeviceError:  # damaged, which a job says
        return False


def _trouble(named: str | None, otherwise: str, check: Callable[[Path], object]) -> str:
    if not named:
        return otherwise
    try:
        check(Path(named))
    except UsageError as error:
        return error.message.removesuffix(".")
    return ""
