"""The ways to run models on a phone, best first, and what each lacks here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DeviceError, UsageError
from harness.devices.android import gradle
from harness.devices.android.apk import fitting_apk
from harness.devices.android.no_app.folder import tools_in
from harness.devices.android.released import pinned


@dataclass(frozen=True)
class Way:
    """A way by its name; `lacks` is what it wants here, empty where it is open. `named`: a variable says that this one
    is to be taken, so that no other is where it is shut."""

    name: str
    lacks: str = ""
    named: bool = False


def ways_in() -> Iterator[Way]:
    """In the order in which a job takes them: the app from an APK that is named, LiteRT's tools where a variable names
    them, the app of the clone or of the release, Gradle. Nothing is asked of a phone or a network."""
    apk, tools = os.environ.get("HARNESS_APK"), os.environ.get("HARNESS_TOOLS")
    if apk:
        yield Way("HARNESS_APK", _trouble(apk, fitting_apk), named=True)
    elif tools:
        yield Way("HARNESS_TOOLS", _trouble(tools, tools_in), named=True)
    if (gradle.PROJECT / gradle.APK).is_file():
        yield Way("the APK that Gradle built")
    else:
        try:
            released = pinned()
        except DeviceError as error:
            yield Way("the app of this release", error.message.removesuffix("."))
        else:
            lacking = gradle.lacking(gradle.PROJECT)
            if released is not None:
                yield Way("the app of this release")
            else:
                yield Way("Gradle", f"{lacking} is not here" if lacking else "")
    if not apk:
        yield Way("--apk FILE", "not given")
    if not tools:
        yield Way("LiteRT's run_model", "no --tools and no HARNESS_TOOLS")


def _trouble(named: str, check: Callable[[Path], object]) -> str:
    try:
        check(Path(named))
    except (UsageError, DeviceError) as error:
        return error.message.removesuffix(".")
    return ""
