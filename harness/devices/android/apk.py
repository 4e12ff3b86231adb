"""The app on a phone: whether it is there and is this harness's, and how it gets there."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

import harness
from harness.core.errors import DeviceError
from harness.core.progress import Say
from harness.devices.android import gradle
from harness.devices.android.adb import Adb, AdbError
from harness.devices.android.apk_file import check_apk
from harness.devices.android.apk_manifest import Stated
from harness.devices.android.gradle import HOW
from harness.devices.android.released import pinned, released_apk
from harness.devices.android.users import for_user, foreground_user, has_it, raise_if_denied
from harness.devices.log_lines import first_match

PACKAGE = "dev.litertharness"
INSTRUMENTATION = f"{PACKAGE}/.WorkerInstrumentation"
PUSH_SECONDS = 120.0
# Bytes a second that a line to a phone has at least: a bad Wi-Fi.
SLOWEST_LINE = 100_000
INSTALL_SECONDS = 180.0

PLAY_PROTECT = (
    "Unlock the phone and answer what it asks about the app (Play Protect; on some makes also `Install via USB` in the "
    "developer options)."
)

_VERSION = re.compile(r"^\s*versionName=(\S+)")
_WHERE = re.compile(r"^package:(\S+)")
_FAILURE = re.compile(r"Failure \[(.*)\]")


def ensure_app(adb: Adb, chosen: Path | None, progress: Say | None = None) -> int:
    """Have this harness's app on the phone for the user in front, whose number is given back: left alone when it is
    there byte for byte, installed or replaced otherwise.

    Without an APK at hand, a release fetches its own; elsewhere an installed app of this harness's version will do,
    and else Gradle is asked to build one.

    Raises:
        UsageError: `chosen` is not this app. DeviceError: there is none to be had, it is of another harness, or the
            phone does not take it.
    """
    apk = _at_hand(chosen, progress)
    user = foreground_user(adb)
    if user and progress:
        progress(f"user {user} of {adb.serial} is in front: the app is for that one")
    if apk is None and not (gradle.PROJECT / gradle.APK).is_file():
        released = pinned()
        if released is not None:
            if _installed_digest(adb, user) == released.sha256:
                return user
            try:
                apk = released_apk(released, progress)
            except DeviceError as error:
                if installed_version(adb, user) != harness.__version__:
                    _raise_if_elsewhere(adb, user)
                    raise
                if progress:
                    progress(f"{error.message} The app of this version that is on {adb.serial} is used")
                return user
        elif installed_version(adb, user) == harness.__version__:
            return user
    apk = apk or gradle.built(adb.serial, progress=progress)
    if apk is None:
        _raise_if_elsewhere(adb, user)
        lacking = gradle.lacking(gradle.PROJECT)
        raise DeviceError(f"{adb.serial} needs the app, no APK is built, and {lacking} is not here to build one.", HOW)
    with apk.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _installed_digest(adb, user) == digest:
        return user
    if progress:
        progress(f"installing {apk.name} on {adb.serial}")
    _install(adb, apk, user, progress)
    version = installed_version(adb, user)
    if version != harness.__version__:
        raise _another(apk, version)
    return user


def installed_version(adb: Adb, user: int) -> str | None:
    """Version of the app on the phone, None when it is not installed for that user. Raises AdbError."""
    said = adb.shell("dumpsys", "package", PACKAGE)
    users = has_it(said)
    return version_name(said) if users is None or user in users else None


def installed_elsewhere(adb: Adb, user: int) -> str:
    """In words, the other users who have this harness's app where that one has not; empty where nobody has. Raises
    AdbError."""
    said = adb.shell("dumpsys", "package", PACKAGE)
    users = has_it(said) or frozenset()
    if user in users or version_name(said) != harness.__version__:
        return ""
    return " and ".join(map(str, sorted(users)))


def version_name(said: str) -> str | None:
    """The first version that `dumpsys package` names."""
    found = first_match(_VERSION, said)
    return None if found is None else found[1]


def install_failure(said: str) -> str:
    """Why `pm install` took a package not, in its words; empty where it gives none."""
    found = first_match(_FAILURE, said)
    return found[1] if found else ""


def _another(apk: Path, version: str | None) -> DeviceError:
    return DeviceError(
        f"{apk} is the app of harness {version or 'unknown'}, this is harness {harness.__version__}.", HOW
    )


def _at_hand(chosen: Path | None, progress: Say | None = None) -> Path | None:
    """The APK that somebody names; the phone's is not touched for one of another harness."""
    if chosen is None and os.environ.get("HARNESS_APK"):
        chosen = Path(os.environ["HARNESS_APK"])
    if chosen is None:
        return None
    if fitting_apk(chosen).debuggable and progress:
        progress(f"{chosen.name} is debuggable: Android runs it slower than an app as people have it")
    return chosen


def fitting_apk(apk: Path) -> Stated:
    """What an APK states of itself that can be installed for this harness. Raises UsageError: it is no whole APK, or of
    another app. DeviceError: it is of another harness."""
    found = check_apk(apk, PACKAGE, HOW).stated
    if found.version != harness.__version__:
        raise _another(apk, found.version)
    return found


def _raise_if_elsewhere(adb: Adb, user: int) -> None:
    others = installed_elsewhere(adb, user)
    if others:
        raise DeviceError(
            f"{adb.serial} has the app for user {others} alone, and user {user} is in front.",
            f"Run `adb -s {adb.serial} shell pm install-existing --user {user} {PACKAGE}`, or give --apk FILE.",
        )


def _installed_digest(adb: Adb, user: int) -> str:
    """SHA-256 of the APK that is installed for that user, empty when there is none or it cannot be read."""
    where = first_match(_WHERE, adb.shell("pm", "path", *for_user(user), PACKAGE, check=False))
    if where is None:
        return ""
    return adb.shell("sha256sum", where[1], check=False).split(" ")[0].strip()


def _install(adb: Adb, apk: Path, user: int, progress: Say | None) -> None:
    # Pushed and installed in two steps, each with its deadline: a streamed install hides in which of them it hangs.
    there = f"/data/local/tmp/{PACKAGE}.apk"
    try:
        adb.call("push", str(apk), there, seconds=PUSH_SECONDS + apk.stat().st_size / SLOWEST_LINE)
        try:
            adb.shell("pm", "install", *for_user(user), "-r", "-d", "-t", there, seconds=INSTALL_SECONDS)
        except AdbError as error:
            # Signed by another debug key, or newer and not to be downgraded: the app keeps nothing worth saving.
            found = re.search("INSTALL_FAILED_(UPDATE_INCOMPATIBLE|VERSION_DOWNGRADE)", error.output)
            if not found:
                raise
            why = "signed by another key" if found[1] == "UPDATE_INCOMPATIBLE" else "newer"
            if progress:
                progress(f"the app on {adb.serial} is {why}, so it is removed first: it keeps a cache of models alone")
            _replace(adb, there, user, why)
    except AdbError as error:
        raise_if_denied(adb, user, error.output)
        if re.search("No space left|INSUFFICIENT_STORAGE", error.output):
            raise DeviceError(f"{adb.serial} has no room for the app.", "Free space on the phone.") from None
        refused = install_failure(error.output)
        if refused:
            step = PLAY_PROTECT if re.search("VERIFICATION|USER_RESTRICTED|ABORTED", refused) else HOW
            raise DeviceError(f"{adb.serial} refuses {apk.name}: {refused}.", step) from None
        if error.code is None and "pm install" in error.command:  # no end: as a rule a dialog waits on the phone
            error.next_step = PLAY_PROTECT
        raise
    finally:
        with suppress(AdbError):
            adb.shell("rm", "-f", there)


def _replace(adb: Adb, there: str, user: int, why: str) -> None:
    try:
        # For all users: while one of them has it, another key's is refused to all.
        adb.shell("pm", "uninstall", PACKAGE, seconds=INSTALL_SECONDS)
    except AdbError as error:
        kept = install_failure(error.output)
        if not kept:
            raise
        raise DeviceError(
            f"The app on {adb.serial} is {why}, and the phone does not let it be removed: {kept}.",
            f"Remove {PACKAGE} in the phone's settings, for every user and work profile of it.",
        ) from None
    adb.shell("pm", "install", *for_user(user), "-t", there, seconds=INSTALL_SECONDS)
