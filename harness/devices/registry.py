"""From a name on the command line to a device: `host`, `host@2.1.5`, a profile such as `pixel8a`, a serial, any of the
latter two with `@server:port` behind it for a remote adb server."""

from __future__ import annotations

import time
import tomllib
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files

from harness.counted import counted
from harness.devices.adb import Adb, AdbError, AdbMissing, Attached, Server
from harness.devices.android import AndroidDevice, PhoneOptions
from harness.devices.base import Device
from harness.devices.environments import Progress, release_environment
from harness.devices.host import HostDevice
from harness.devices.recovery import UNAUTHORIZED
from harness.errors import DeviceError, UsageError

RECONNECT_SECONDS = 5.0
PRODUCT_SECONDS = 10.0
MOST_NAMED = 20


@dataclass(frozen=True)
class Profile:
    """A phone model by name."""

    name: str
    product: str
    title: str


def profiles() -> dict[str, Profile]:
    """The phones known by name."""
    table = tomllib.loads(files("harness.devices").joinpath("profiles.toml").read_text("utf-8"))
    return {name: Profile(name, entry["product"], entry["title"]) for name, entry in table.items()}


def open_device(name: str, progress: Progress | None = None, phone: PhoneOptions | None = None) -> Device:
    """The device of that name, not started yet.

    Raises:
        UsageError: nothing has that name, or several phones do. DeviceError: it is known but not here.
    """
    if name == "host" or name.startswith("host@"):
        return HostDevice(name, progress=progress)
    return AndroidDevice(name, find_phone(name), phone, progress=progress)


def find_phone(name: str) -> Adb:
    """adb on the phone of that name. Raises as :func:`open_device`."""
    plain, _, at = name.partition("@")
    server = Server.of(at)
    profile = profiles().get(plain)
    attached = attached_devices(server)
    if profile is not None and not _of(profile, attached) and any(d.state == "offline" for d in attached):
        attached = _reconnected(server, profile, attached)
    seen = ", ".join(f"{d.serial} ({d.product or d.state})" for d in attached[:MOST_NAMED]) or "no device"
    seen += f" and {counted(len(attached) - MOST_NAMED, 'other')}" if len(attached) > MOST_NAMED else ""
    if profile is None:
        known = {d.serial: d for d in attached}
        if plain not in known:
            raise UsageError(
                f"There is no device '{name}': adb sees {seen}.",
                f"Use host, host@RELEASE, a serial that adb lists, or one of: {', '.join(profiles())}.",
            )
        if known[plain].state in ("unauthorized", "no permissions"):
            raise DeviceError(f"{plain} is {known[plain].state} for adb.", UNAUTHORIZED)
        return Adb(server, plain)
    matching = _of(profile, attached)
    if not matching:
        raise DeviceError(
            f"No {profile.title} ({profile.product}) is attached: adb sees {seen}.",
            "Connect it, allow USB debugging on its screen, and look at `harness devices`.",
        )
    if len(matching) > 1:
        serials = [d.serial for d in matching]
        raise UsageError(
            f"'{name}' could be any of {len(serials)} phones: {', '.join(serials)}.", f"Use --device {serials[0]}."
        )
    return Adb(server, matching[0].serial)


def check_device(name: str, progress: Progress | None = None) -> None:
    """Complain about a name that cannot be opened, without starting anything. Raises as :func:`open_device`."""
    if name.startswith("host@"):
        release_environment(name.removeprefix("host@"), progress)
    elif name != "host":
        find_phone(name)


def attached_devices(server: Server | None = None) -> list[Attached]:
    """What adb lists, by default on this machine's server, which is started if needed. A product that the list lacks
    is asked of the phone, of all of them for at most `PRODUCT_SECONDS`.

    Raises:
        DeviceError: adb cannot be asked.
    """
    where = server or Server()
    try:
        listed = Adb(where).listed()
        until = time.monotonic() + PRODUCT_SECONDS
        return [replace(d, product=_product(where, d, until, len(listed) - i)) for i, d in enumerate(listed)]
    except AdbMissing:
        raise
    except AdbError as error:
        said = error.output.strip().splitlines()[-1:] or [error.message.removesuffix(".")]
        raise DeviceError(
            f"The adb server at {where} cannot be asked ({said[0]}).", "Run `adb start-server` there."
        ) from None


def _of(profile: Profile, attached: list[Attached]) -> list[Attached]:
    return [d for d in attached if d.product == profile.product and d.state == "device"]


def _reconnected(server: Server, profile: Profile, attached: list[Attached]) -> list[Attached]:
    """The list again once phones that were offline had a moment to come back; one of them may be the one meant."""
    with suppress(AdbError):
        Adb(server).call("reconnect", "offline")
    deadline = time.monotonic() + RECONNECT_SECONDS
    while not _of(profile, attached) and time.monotonic() < deadline:
        time.sleep(0.25)
        attached = attached_devices(server)
    return attached


def _product(server: Server, device: Attached, until: float, share: int) -> str:
    """Of one of `share` phones that are still to be asked: one that hangs leaves time for the others."""
    left = until - time.monotonic()
    if device.state != "device" or device.product or left <= 0:
        return device.product
    with suppress(AdbError):
        return (
            Adb(server, device.serial)
            .shell("getprop", "ro.product.device", seconds=max(left / share, min(left, 1.0)))
            .strip()
        )
    return ""
