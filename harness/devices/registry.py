"""From a name on the command line to a device: `host`, `host@2.1.5`, a profile such as `pixel8a`, a serial, any of the
latter two with `@server:port` behind it for a remote adb server."""

from __future__ import annotations

import subprocess
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

from harness.devices.base import Device
from harness.devices.host import HostDevice, Progress, release_environment
from harness.errors import DeviceError, UsageError

ADB_SECONDS = 10.0


@dataclass(frozen=True)
class Profile:
    """A phone model by name."""

    name: str
    product: str
    title: str


@dataclass(frozen=True)
class Attached:
    """A device that an adb server lists."""

    serial: str
    state: str
    product: str


def profiles() -> dict[str, Profile]:
    """The phones known by name."""
    table = tomllib.loads(files("harness.devices").joinpath("profiles.toml").read_text("utf-8"))
    return {name: Profile(name, entry["product"], entry["title"]) for name, entry in table.items()}


def open_device(name: str, progress: Progress | None = None) -> Device:
    """The device of that name, not started yet.

    Raises:
        UsageError: nothing has that name. DeviceError: it is known but not here.
    """
    if name == "host" or name.startswith("host@"):
        return HostDevice(name, progress=progress)
    plain, _, server = name.partition("@")
    attached = attached_devices(server)
    profile = profiles().get(plain)
    seen = ", ".join(f"{d.serial} ({d.product or d.state})" for d in attached) or "no device"
    if profile is not None:
        matching = [d for d in attached if d.product == profile.product and d.state == "device"]
        if not matching:
            raise DeviceError(
                f"No {profile.title} ({profile.product}) is attached: adb sees {seen}.",
                "Connect it, allow USB debugging on its screen, and look at `adb devices`.",
            )
    elif plain not in [d.serial for d in attached]:
        raise UsageError(
            f"There is no device '{name}': adb sees {seen}.",
            f"Use host, host@RELEASE, a serial that adb lists, or one of: {', '.join(profiles())}.",
        )
    raise DeviceError(
        f"'{name}' is attached, but this release drives the host only.",
        "Use --device host or --device host@RELEASE.",
    )


def check_device(name: str) -> None:
    """Complain about a name that cannot be opened, without starting anything. Raises as :func:`open_device`."""
    if name.startswith("host@"):
        release_environment(name.removeprefix("host@"))
    elif name != "host":
        open_device(name).close()


def attached_devices(server: str = "") -> list[Attached]:
    """What adb lists; an empty `server` is the local one, which is started if needed.

    Raises:
        DeviceError: adb cannot be asked. UsageError: `server` is not HOST or HOST:PORT.
    """
    import adbutils

    host, _, port = server.partition(":")
    if port and not (port.isdecimal() and len(port) <= 5 and int(port) < 1 << 16):
        raise UsageError(f"'{server}' is not an adb server.", "Write it as NAME@HOST:PORT.")
    if not server:
        _start_server(adbutils.adb_path())
    client = adbutils.AdbClient(host or "127.0.0.1", int(port or 5037), socket_timeout=ADB_SECONDS)
    try:
        found = [Attached(info.serial, info.state, "") for info in client.list()]
        return [Attached(d.serial, d.state, _product(client, d)) for d in found]
    except (adbutils.AdbError, OSError, RuntimeError) as error:
        raise DeviceError(
            f"The adb server at {server or 'this machine'} cannot be asked ({error}).",
            "Run `adb start-server` there.",
        ) from None


def _start_server(adb: str) -> None:
    """Start the local adb server without its chatter; what goes wrong shows when it is asked."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([adb, "start-server"], capture_output=True, timeout=ADB_SECONDS, check=False)


def _product(client: object, device: Attached) -> str:
    if device.state != "device":
        return ""
    value = client.device(serial=device.serial).getprop("ro.product.device")  # type: ignore[attr-defined]
    return str(value)
