"""Is a phone in a state to measure on: screen on, battery charged, cool?

Each figure is read from the service that knows it; what a phone does not say is None and hinders nothing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from harness.core.errors import DeviceError
from harness.devices.android.adb import Adb
from harness.devices.log_lines import NUMBER, first_match

LEAST_BATTERY = 10
# PowerManager.THERMAL_STATUS_*; from `severe` on the system throttles whatever it can.
THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
SEVERE = THERMAL.index("severe")
MODERATE = THERMAL.index("moderate")
COOL_POLL_SECONDS = 5.0
_WAKEFULNESS = re.compile(r"^\s*mWakefulness=(\w+)")
_POWERED = re.compile(r"^\s*(AC|USB|Wireless|Dock) powered: true")


@dataclass(frozen=True)
class Readiness:
    """How a phone stands. `battery` in percent, `celsius` of the battery, `thermal` one of `THERMAL`."""

    awake: bool | None
    battery: int | None
    charging: bool
    celsius: float | None
    thermal: str | None

    @property
    def complaints(self) -> tuple[tuple[str, str], ...]:
        """What keeps it from being measured on, each with what mends it."""
        found = []
        if self.awake is False:
            found.append(("its screen is off", "Unlock it, and keep the screen on while it charges."))
        if self.battery is not None and self.battery < LEAST_BATTERY and not self.charging:
            found.append((f"its battery is at {self.battery} %", "Charge it."))
        if self.thermal is not None and THERMAL.index(self.thermal) >= SEVERE:
            found.append((f"its thermal state is {self.thermal}", "Let it cool, or give --cool-down SECONDS."))
        return tuple(found)

    def __str__(self) -> str:
        screen = {True: "screen on", False: "screen off", None: "screen unknown"}[self.awake]
        battery = "battery unknown" if self.battery is None else f"battery {self.battery} %"
        warmth = "" if self.celsius is None else f" at {self.celsius:.1f} °C"
        thermal = f"thermal {self.thermal or 'unknown'}"
        return f"{screen}, {battery}{' (charging)' if self.charging else ''}{warmth}, {thermal}"


def readiness(adb: Adb) -> Readiness:
    """Ask a phone. Raises AdbError when it cannot be asked."""
    power = adb.shell("dumpsys", "power")
    battery = adb.shell("dumpsys", "battery")
    thermal = adb.shell("dumpsys", "thermalservice", check=False)  # Android 9 has no such service
    return readiness_from(power, battery, thermal)


def readiness_from(power: str, battery: str, thermal: str) -> Readiness:
    """What `dumpsys` says of power, battery and thermalservice; what it leaves out, or no number can be, is unknown."""
    wakefulness = first_match(_WAKEFULNESS, power)
    level, scale = _number("level", battery), _number("scale", battery) or 100
    tenths = _number("temperature", battery)
    status = _number("Thermal Status", thermal)
    return Readiness(
        awake=None if wakefulness is None else wakefulness[1] == "Awake",
        battery=None if level is None else round(100 * level / scale),
        charging=first_match(_POWERED, battery) is not None,
        celsius=None if tenths is None else tenths / 10,
        thermal=None if status is None else THERMAL[max(0, min(status, len(THERMAL) - 1))],
    )


def make_ready(adb: Adb, cool_down: float = 0.0) -> Readiness:
    """Wake the screen if it is off; with `cool_down`, wait as many seconds for a thermal state under `moderate`.

    Raises:
        DeviceError: it is not fit to be measured on, or cannot be asked.
    """
    found = readiness(adb)
    if found.awake is False:
        adb.shell("input", "keyevent", "KEYCODE_WAKEUP")
        found = readiness(adb)
    deadline = time.monotonic() + cool_down
    while cool_down and found.thermal and THERMAL.index(found.thermal) >= MODERATE:
        if time.monotonic() >= deadline:
            raise DeviceError(
                f"{adb.serial} is still in thermal state {found.thermal} after {cool_down:g} s of cooling.",
                "Take it off its charger and out of the sun, or give a longer --cool-down.",
            )
        time.sleep(COOL_POLL_SECONDS)
        found = readiness(adb)
    if found.complaints:
        said = " and ".join(what for what, _ in found.complaints)
        raise DeviceError(f"{adb.serial} is not ready: {said}.", found.complaints[0][1])
    return found


def battery_celsius(adb: Adb) -> float | None:
    """The battery's temperature now; None where the phone does not tell. Raises AdbError when it cannot be asked."""
    return readiness_from("", adb.shell("dumpsys", "battery"), "").celsius


def _number(name: str, text: str) -> int | None:
    found = first_match(re.compile(rf"^\s*{name}: (-?{NUMBER})"), text)
    return None if found is None else int(found[1])
