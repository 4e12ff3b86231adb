"""Getting a phone back, in steps from cheap to patient: ask, reconnect, wait for its boot."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from harness.core.errors import DeviceError
from harness.devices.android.adb import ADB_SECONDS, TCP, Adb, AdbError, AdbMissing

# A Pixel is back within 40 s of a kernel panic; older phones take over a minute.
RETURN_SECONDS = 120.0
POLL_SECONDS = 0.25
SILENT = "nothing in time"

UNAUTHORIZED = "Allow USB debugging on its screen (tick `Always allow`), and look at `harness devices`."
ABSENT = "Look at its cable and at `harness devices`; over Wi-Fi, run `adb connect` again."


def bring_back(adb: Adb, seconds: float | None = None, progress: Callable[[str], None] | None = None) -> str:
    """Wait until a phone is attached and has booted; returns its boot id.

    An adb server that is gone starts with the first question; a phone on TCP is connected again, one that is offline
    or attached without an answer reconnected, one that is absent or still booting waited for.

    Raises:
        DeviceError: it is not there within `seconds` (default `RETURN_SECONDS`), or does not trust this machine; or
            there is no adb to start.
    """
    deadline = time.monotonic() + (RETURN_SECONDS if seconds is None else seconds)
    told = False
    while True:
        state, boot_id = _ask(adb)
        if boot_id:
            return boot_id
        if state in ("unauthorized", "no permissions"):
            raise DeviceError(f"{adb.serial} is {state} for adb.", UNAUTHORIZED)
        if time.monotonic() >= deadline:
            raise DeviceError(f"{adb.serial} is not there: adb says {state}.", ABSENT)
        if progress and not told:
            progress(f"waiting for {adb.serial} ({state})")
            told = True
        if state != "device":
            _reconnect(adb, state)
        time.sleep(POLL_SECONDS)


def _ask(adb: Adb) -> tuple[str, str]:
    """(state, boot id); the boot id is empty until the phone has booted."""
    try:
        state = adb.state()
        if state == "device":
            return (state, adb.boot_id()) if adb.getprop("sys.boot_completed") == "1" else ("booting", "")
    except AdbMissing:
        raise
    except AdbError as error:
        said = error.output.strip().splitlines()
        return said[-1] if said else SILENT if error.code is None else "nothing", ""
    return state, ""


def _reconnect(adb: Adb, state: str) -> None:
    with suppress(AdbError):
        if state == SILENT:
            # On a slow line all questions queue behind what a lost job left on its way; a new connection has none.
            adb.call("reconnect")
        if state == "offline":
            Adb(adb.server).call("reconnect", "offline")
        if TCP.fullmatch(adb.serial):
            Adb(adb.server).call("connect", adb.serial, seconds=ADB_SECONDS / 2)
