"""A phone's users. The app is installed, started and stopped for the one in front, by number and nobody else.

Android's commands each choose another user where none is named: `pm install` takes all, work profiles included, `pm
path` the first one, `am instrument` the one in front, `am force-stop` all (PackageManagerShellCommand,
ActivityManagerShellCommand). On a phone with several users, or whose first one is never in front, these are three
different ones. `am get-current-user` gives the one in front; a work profile never is.
"""

from __future__ import annotations

import re

from harness.core.errors import DeviceError
from harness.devices.android.adb import Adb, AdbError
from harness.devices.log_lines import first_match, lines_of

# UserHandle: ids of apps take 100,000 numbers for each user, and have to fit 31 bits.
LAST = (2**31 - 1) // 100_000 - 1
_OF_USER = re.compile(r"^\s*User ([0-9]{1,5}): .*\binstalled=(true|false)\b")
_DENIED = re.compile(r"Shell does not have permission to access user")


def foreground_user(adb: Adb) -> int:
    """The number of the user in front. Raises AdbError: the phone cannot be asked, or names none."""
    said = adb.shell("am", "get-current-user").strip()
    if not re.fullmatch("[0-9]{1,5}", said) or int(said) > LAST:
        raise AdbError("adb shell am get-current-user", adb.serial, said, None, "names no user")
    return int(said)


def for_user(user: int) -> tuple[str, str]:
    """The words that name a user to Android's commands."""
    return "--user", str(user)


def has_it(said: str) -> frozenset[int] | None:
    """The users for whom a package is installed, of what `dumpsys package` says of it; None where it does not tell."""
    found = [line for line in map(_OF_USER.match, lines_of(said)) if line]
    return frozenset(int(line[1]) for line in found if line[2] == "true") if found else None


def raise_if_denied(adb: Adb, user: int, said: str) -> None:
    """Raises DeviceError: Android's words say that adb may do nothing for this user."""
    if first_match(_DENIED, said):
        raise DeviceError(
            f"{adb.serial} lets adb do nothing for user {user}, who is in front: debugging is not allowed there.",
            f"Switch to the phone's owner (adb -s {adb.serial} shell am switch-user 0), or allow it for that user.",
        )
