"""Puts the app on a phone before anything else is asked of it, as a job would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError
from harness.core.progress import Progress
from harness.devices.android.apk import PACKAGE, ensure_app, installed_version
from harness.devices.android.apk_file import check_apk
from harness.devices.android.gradle import HOW
from harness.devices.android.locks import SerialLock
from harness.devices.android.recovery import bring_back
from harness.devices.android.users import foreground_user
from harness.devices.registry import find_phone, kind_of


@dataclass(frozen=True)
class InstalledApp:
    """The app as it is on the phone now, for the user in front; `was` is its version before, None where it was not."""

    device: str
    serial: str
    version: str
    was: str | None
    user: int = 0

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {
            "schema": 1,
            "device": self.device,
            "serial": self.serial,
            "user": self.user,
            "version": self.version,
            "was": self.was,
        }


def install_app(name: str, apk: Path | None, progress: Progress) -> InstalledApp:
    """Have this harness's app on the phone of that name: `apk`, or the one that a job would take.

    Raises:
        UsageError: the name is no phone's, or `apk` is not the app. DeviceError: the phone is not there or does not
            take it, or no APK can be had.
    """
    if kind_of(name).name != "android":
        raise UsageError(f"'{name}' is no phone: nothing is installed there.", "Name one that `harness devices` lists.")
    if apk is not None:
        check_apk(apk, PACKAGE, HOW)
    adb = find_phone(name)
    progress.stage(f"the app on {adb.serial}", 20)
    bring_back(adb, progress=progress.note)
    lock = SerialLock(adb.serialno())
    lock.take()
    try:
        was = installed_version(adb, foreground_user(adb))
        user = ensure_app(adb, apk, progress.note)
        return InstalledApp(name, adb.serial, installed_version(adb, user) or "", was, user)
    finally:
        lock.give_back()
