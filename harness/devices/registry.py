"""From a name on the command line to a device: `host`, `host@2.1.5`, `web`, `web@2.5.3`, a profile such as `pixel8a`,
a serial, any of the latter two with `@server:port` behind it for a remote adb server; `planted:mali` for a phone that
is none; `web:chrome-on-pixel8a` for Chrome on a phone."""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.resources import files

from harness.core.errors import DeviceError, UsageError
from harness.core.job import Options
from harness.core.progress import Say
from harness.core.visible import counted
from harness.devices.android.adb import Adb, AdbError, AdbMissing, Attached, Server
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.android.no_app.device import ToolDevice
from harness.devices.android.no_app.folder import chosen_tools
from harness.devices.android.recovery import UNAUTHORIZED
from harness.devices.base import Device
from harness.devices.host import releases
from harness.devices.host.device import HostDevice
from harness.devices.host.environments import release_environment
from harness.devices.planted.catalogue import PREFIX, bugs_of
from harness.devices.planted.device import PlantedDevice
from harness.devices.web import package
from harness.devices.web.browser import browser_program
from harness.devices.web.chrome import ChromeDevice, phone_of
from harness.devices.web.device import WebDevice
from harness.devices.web.websocket import check_library

RECONNECT_SECONDS = 5.0
PRODUCT_SECONDS = 10.0
MOST_NAMED = 20


@dataclass(frozen=True)
class DeviceProfile:
    """A phone model by name."""

    name: str
    product: str
    title: str


def profiles() -> dict[str, DeviceProfile]:
    """The phones known by name."""
    table = tomllib.loads(files("harness.devices").joinpath("profiles.toml").read_text("utf-8"))
    return {name: DeviceProfile(name, entry["product"], entry["title"]) for name, entry in table.items()}


@dataclass(frozen=True)
class Releases:
    """Of a runtime: the package's name, the oldest release to begin with, and all releases that two ends
    need, oldest first; where there are daily builds, the newest of them. Both raise DeviceError where the package index
    cannot be asked."""

    package: str
    oldest: str
    listed: Callable[[str | None, str | None], tuple[str, ...]]
    newest_build: Callable[[], str] | None = None

    def between(self, first: str | None, last: str | None) -> tuple[str, ...]:
        """The releases from `first` to `last`, both included; None is the oldest to begin with, or the newest release,
        `nightly` the newest daily build.

        Raises:
            UsageError: one of them is none, or they are in the wrong order. DeviceError: the index cannot be asked.
        """
        if self.newest_build is not None and last == releases.NEWEST_BUILD:
            last = self.newest_build()
        package = f"{self.package} for this Python" if self.package == releases.PACKAGE else self.package
        return releases.between(self.listed(first, last), first or self.oldest, last, package)


@dataclass(frozen=True)
class DeviceKind:
    """A kind of device, and all that the rest of the harness asks of it by name.

    `claims` tells whether a name on the command line is of this kind; `open` gives the device, not started yet; `check`
    complains of a name that cannot be opened, without starting anything. `profiler_python`: for kinds whose runtime's
    profiler can be asked on this machine, the Python that has that runtime. `in_parts`: the GPU may be a software one,
    for which large models are cut in two. `fixed_performance`: its devices may have Android's mode of that name.
    `lacks`: what the device of that name has none of, of some options, as (sentence, next step), so that nothing is
    started for them. `releases`: for kinds of which `NAME@RELEASE` runs another release of the runtime, what there is
    of them.
    """

    name: str
    claims: Callable[[str], bool]
    open: Callable[[str, Say | None, PhoneOptions | None], Device]
    check: Callable[[str, Say | None], object]
    profiler_python: Callable[[str], str] | None = None
    in_parts: bool = False
    fixed_performance: bool = False
    lacks: Callable[[str, Options], tuple[str, str] | None] = lambda name, options: None
    releases: Releases | None = None


def kind_of(name: str) -> DeviceKind:
    """The kind of the device of that name: the first that claims it."""
    return next(kind for kind in (*_claimed, *KINDS) if kind.claims(name))


_claimed: list[DeviceKind] = []


@contextmanager
def claiming(kind: DeviceKind) -> Iterator[None]:
    """Meanwhile, `kind` is asked before all others whether a name is its own."""
    _claimed.insert(0, kind)
    try:
        yield
    finally:
        _claimed.remove(kind)


def open_device(name: str, progress: Say | None = None, phone: PhoneOptions | None = None) -> Device:
    """The device of that name, not started yet.

    Raises:
        UsageError: nothing has that name, or several phones do. DeviceError: it is known but not here.
    """
    return kind_of(name).open(name, progress, phone)


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
                f"Use host, web, either @RELEASE, a serial that adb lists, or one of: {', '.join(profiles())}.",
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
        matching = phones(matching, server)
    if len(matching) > 1:
        serials = [d.serial for d in matching]
        raise UsageError(
            f"'{name}' could be any of {len(serials)} phones: {', '.join(serials)}.", f"Use --device {serials[0]}."
        )
    return Adb(server, matching[0].serial)


def phones(attached: Sequence[Attached], server: Server | None = None) -> list[Attached]:
    """One entry for each phone: of those that adb reaches in several ways, by cable, over Wi-Fi and at an address, the
    steadiest. All are asked for at most `PRODUCT_SECONDS`; one that cannot be asked counts by the name it has."""
    found: dict[str, Attached] = {}
    until = time.monotonic() + PRODUCT_SECONDS
    for device in sorted(attached, key=lambda d: d.way):
        number, left = device.serial, until - time.monotonic()
        if device.state == "device" and left > 0:
            with suppress(AdbError):
                number = Adb(server or Server(), device.serial).serialno(left)
        found.setdefault(number, device)
    return [device for device in attached if device in found.values()]


def check_options(name: str, options: Options) -> None:
    """Complain about options that the device of that name does not have. Raises UsageError."""
    if lacking := kind_of(name).lacks(name, options):
        raise UsageError(*lacking)


def check_device(name: str, progress: Say | None = None) -> None:
    """Complain about a name that cannot be opened, without starting anything. Raises as :func:`open_device`."""
    kind_of(name).check(name, progress)


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


def _of(profile: DeviceProfile, attached: list[Attached]) -> list[Attached]:
    return [d for d in attached if d.product == profile.product and d.state == "device"]


def _reconnected(server: Server, profile: DeviceProfile, attached: list[Attached]) -> list[Attached]:
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
        return Adb(server, device.serial).getprop("ro.product.device", max(left / share, min(left, 1.0)))
    return ""


def _phone(name: str, progress: Say | None, phone: PhoneOptions | None) -> Device:
    options = phone or PhoneOptions()
    tools = chosen_tools(options.tools, options.apk)
    if tools is None:
        return AndroidDevice(name, find_phone(name), options, progress=progress)
    return ToolDevice(name, find_phone(name), tools, options, progress=progress)


def _python_of(name: str, progress: Say | None = None) -> str:
    return sys.executable if name == "host" else release_environment(name.removeprefix("host@"), progress)


def _browser_of(name: str, progress: Say | None = None) -> str:
    package.package_folder(package.release_of(name), progress)
    return browser_program()


def _chrome_of(name: str, progress: Say | None = None) -> Adb:
    phone = phone_of(name)
    check_library()
    return find_phone(phone)


# The last one claims what no other does. To add a kind: a module with its `Device`, and its entry here.
KINDS = (
    DeviceKind(
        "host",
        claims=lambda name: name == "host" or name.startswith("host@"),
        open=lambda name, progress, phone: HostDevice(name, progress=progress),
        check=_python_of,
        profiler_python=_python_of,
        in_parts=True,
        releases=Releases(
            releases.PACKAGE,
            releases.OLDEST,
            lambda first, last: releases.with_builds(first, last),
            newest_build=lambda: releases.newest_build(),
        ),
    ),
    DeviceKind(
        "web",
        claims=lambda name: name == "web" or name.startswith("web@"),
        open=lambda name, progress, phone: WebDevice(name, progress=progress),
        check=_browser_of,
        in_parts=True,
        lacks=lambda name, options: package.lacking(package.release_of(name), options),
        releases=Releases(package.CORE, package.OLDEST, lambda first, last: package.available_releases()),
    ),
    DeviceKind(
        "chrome",
        claims=lambda name: name.startswith("web:"),
        open=lambda name, progress, phone: ChromeDevice(name, _chrome_of(name), phone, progress=progress),
        check=_chrome_of,
        fixed_performance=True,
        lacks=lambda name, options: package.lacking(package.DEFAULT, options),
    ),
    DeviceKind(
        "planted",
        claims=lambda name: name.startswith(PREFIX),
        open=lambda name, progress, phone: PlantedDevice(name, progress=progress),
        check=lambda name, progress: bugs_of(name),
    ),
    DeviceKind(
        "android",
        claims=lambda name: True,
        open=_phone,
        check=lambda name, progress: find_phone(name),
        fixed_performance=True,
    ),
)
