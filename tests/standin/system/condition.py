"""Commands that tell and change the state that the phone is in."""

from __future__ import annotations

import sys

from tests.standin.system.packages import dumped
from tests.standin.system.state import PACKAGE, read, say, unknown, write


def getprop(words: list[str]) -> int:
    known = read("properties")
    if len(words) != 1 or words[0] not in known:
        unknown()
    return say(f"{known[words[0]]}\n")


def cmd(words: list[str]) -> int:
    """`cmd power` of Android 14's PowerManagerShellCommand, and of one whose power HAL knows no such mode (`hal` off)
    or that is older than the command (`hal` null)."""
    match words:
        case ["power", "set-fixed-performance-mode-enabled", ("true" | "false") as word]:
            power = read("power")
            if power["hal"] is None:
                sys.stderr.write(f"Unknown command: {words[1]}\n")
            elif not power["hal"]:
                sys.stderr.write("Failed to set FIXED_PERFORMANCE mode\n")
                sys.stderr.write("This is likely because Power HAL AIDL is not implemented on this device\n")
            else:
                write("power", power | {"fixed": word == "true", "asked": [*power["asked"], word]})
                return 0
            return 255
    unknown()


def press(words: list[str]) -> int:
    if words != ["keyevent", "KEYCODE_WAKEUP"]:
        unknown()
    condition = read("condition")
    if condition["wakes"]:
        write("condition", condition | {"wakefulness": "Awake"})
    return 0


def dumpsys(words: list[str]) -> int:
    condition = read("condition")
    match words:
        case ["power"]:
            return say(
                f"POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mWakefulness={condition['wakefulness']}\n"
            )
        case ["battery"]:
            usb = "true" if condition["usb"] else "false"
            return say(
                f"Current Battery Service state:\n  AC powered: false\n  USB powered: {usb}\n"
                f"  Wireless powered: false\n  level: {condition['level']}\n  scale: 100\n  temperature: 312\n"
            )
        case ["thermalservice"]:
            thermal = condition["thermal"]
            if isinstance(thermal, list):  # one reading after another, the last one stays
                write("condition", condition | {"thermal": thermal[1:] if len(thermal) > 2 else thermal[-1]})
                thermal = thermal[0]
            return say(f"IsStatusOverride: false\nThermal Status: {thermal}\nHAL Ready: true\n")
        case ["package", name] if name == PACKAGE:
            return say(dumped())
        case ["activity", "exit-info", name] if name == PACKAGE:
            return say(exit_info())
    unknown()


def exit_info() -> str:
    text = f"ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)\n  package: {PACKAGE}\n"
    text += "    Historical Process Exit for uid=10123\n"
    for number, e in enumerate(reversed(read("exits") or [])):
        text += (
            f"        ApplicationExitInfo #{number}:\n"
            f"          timestamp={e['time']} pid={e['pid']} realUid=10123 packageUid=10123 definingUid=10123 user=0\n"
            f"          process={PACKAGE} reason={e['reason']} ({e['label']}) subreason=0 (UNKNOWN)"
            f" status={e['status']}\n"
            f"          importance=100 pss=0.00 rss=0.00 description={e['description']} state=empty trace=null\n"
        )
    return text
