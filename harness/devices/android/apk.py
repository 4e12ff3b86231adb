"""The app on a phone: whether it is there and is this harness's, and how it gets there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

import harness
from harness.core.errors import DeviceError
from harness.core.private import as_the_user
from harness.core.progress import Say
from harness.devices.android.adb import Adb, AdbError
from harness.devices.android.apk_file import check_apk
from harness.devices.captured import MOST, captured
from harness.devices.log_lines import first_match

PACKAGE = "dev.litertharness"
INSTRUMENTATION = f"{PACKAGE}/.WorkerInstrumentation"
PROJECT = Path(harness.__file__).parent.parent / "android_app"
BUILT = PROJECT / "app" / "build" / "outputs" / "apk" / "debug" / "app-debug.apk"
PUSH_SECONDS = 120.0
# Bytes a second that a line to a phone has at least: a bad Wi-Fi.
SLOWEST_LINE = 100_000
INSTALL_SECONDS = 180.0
GRADLE_SECONDS = 1800.0
HOW = "Build it as docs/phone.md says, or give a prebuilt one with --apk FILE."

_VERSION = re.compile(r"^\s*versionName=(\S+)")
_WHERE = re.compile(r"^package:(\S+)")
_FAILURE = re.compile(r"Failure \[(.*)\]")


def ensure_app(adb: Adb, chosen: Path | None, progress: Say | None = None) -> None:
    """Have this harness's app on the phone: left alone when it is there byte for byte, installed or replaced otherwise.

    Without an APK at hand, an installed app of this harness's version will do; else Gradle is asked to build one.

    Raises:
        UsageError: `chosen` is not this app. DeviceError: there is none to be had, or the phone does not take it.
    """
    apk = _at_hand(chosen)
    if apk is None and installed_version(adb) == harness.__version__:
        return
    if apk is None:
        apk = _build(adb.serial, progress)
    with apk.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _installed_digest(adb) == digest:
        return
    if progress:
        progress(f"installing {apk.name} on {adb.serial}")
    _install(adb, apk)
    version = installed_version(adb)
    if version != harness.__version__:
        raise DeviceError(
            f"{apk} is the app of harness {version or 'unknown'}, this is harness {harness.__version__}.", HOW
        )


def installed_version(adb: Adb) -> str | None:
    """Version of the app on the phone, None when it is not installed. Raises AdbError."""
    return version_name(adb.shell("dumpsys", "package", PACKAGE))


def version_name(said: str) -> str | None:
    """The first version that `dumpsys package` names."""
    found = first_match(_VERSION, said)
    return None if found is None else found[1]


def install_failure(said: str) -> str:
    """Why `pm install` took a package not, in its words; empty where it gives none."""
    found = first_match(_FAILURE, said)
    return found[1] if found else ""


def _at_hand(chosen: Path | None) -> Path | None:
    if chosen is None and os.environ.get("HARNESS_APK"):
        chosen = Path(os.environ["HARNESS_APK"])
    if chosen is None:
        return BUILT if BUILT.is_file() else None
    check_apk(chosen, PACKAGE, HOW)
    return chosen


def _build(serial: str, progress: Say | None) -> Path:
    wrapper = PROJECT / "gradlew"
    gradle = str(wrapper) if wrapper.is_file() else shutil.which("gradle")
    sdk = os.environ.get("ANDROID_HOME") or (PROJECT / "local.properties").is_file()
    if gradle is None or not sdk:
        lacking = "Gradle" if gradle is None else "an Android SDK (ANDROID_HOME)"
        raise DeviceError(f"{serial} needs the app, no APK is built, and {lacking} is not here to build one.", HOW)
    if progress:
        progress("building the app with Gradle (minutes, once)")
    command = [gradle, "-p", str(PROJECT), "--quiet", ":app:assembleDebug"]
    try:
        with as_the_user():  # what Gradle writes is no result
            done = captured(command, GRADLE_SECONDS)
    except OSError as error:
        raise DeviceError(f"Gradle did not build the app ({error}).", HOW) from None
    if done.killed:
        why = f"no end within {GRADLE_SECONDS:g} s" if done.killed == "time" else f"it said more than {MOST >> 20} MiB"
        raise DeviceError(f"Gradle did not build the app ({why}).", HOW)
    if done.code or not BUILT.is_file():
        last = (done.output.strip() or "no output").splitlines()[-1]
        raise DeviceError(f"Gradle did not build the app ({last}).", HOW)
    return BUILT


def _installed_digest(adb: Adb) -> str:
    """SHA-256 of the installed APK, empty when there is none or it cannot be read."""
    where = first_match(_WHERE, adb.shell("pm", "path", PACKAGE, check=False))
    if where is None:
        return ""
    return adb.shell("sha256sum", where[1], check=False).split(" ")[0].strip()


def _install(adb: Adb, apk: Path) -> None:
    # Pushed and installed in two steps, each with its deadline: a streamed install hides in which of them it hangs.
    there = f"/data/local/tmp/{PACKAGE}.apk"
    try:
        adb.call("push", str(apk), there, seconds=PUSH_SECONDS + apk.stat().st_size / SLOWEST_LINE)
        try:
            adb.shell("pm", "install", "-r", "-d", "-t", there, seconds=INSTALL_SECONDS)
        except AdbError as error:
            # Signed by another debug key, or newer and not to be downgraded: the app keeps nothing worth saving.
            if not re.search("INSTALL_FAILED_(UPDATE_INCOMPATIBLE|VERSION_DOWNGRADE)", error.output):
                raise
            adb.shell("pm", "uninstall", PACKAGE, seconds=INSTALL_SECONDS)
            adb.shell("pm", "install", "-t", there, seconds=INSTALL_SECONDS)
    except AdbError as error:
        if re.search("No space left|INSUFFICIENT_STORAGE", error.output):
            raise DeviceError(f"{adb.serial} has no room for the app.", "Free space on the phone.") from None
        refused = install_failure(error.output)
        if refused:
            raise DeviceError(f"{adb.serial} refuses {apk.name}: {refused}.", HOW) from None
        raise
    finally:
        with suppress(AdbError):
            adb.shell("rm", "-f", there)
