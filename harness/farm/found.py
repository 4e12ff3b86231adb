"""Which devices a host has, and what each offers: the resources that jobs are matched with."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from harness.core.errors import DeviceError
from harness.devices.android.adb import Adb, AdbError, Attached, Server
from harness.devices.registry import attached_devices, phones, profiles

ASK_SECONDS = 5.0
HOST = "host"
_PLAIN = re.compile(r"[A-Za-z0-9._:@\[\]-]{1,100}")


@dataclass(frozen=True)
class Found:
    """A device of this host. `name` is what `--device` takes, `lock` the number that its lock has (empty for the host
    itself), `offers` its resources, as `serial:X`, `model:pixel8a`, `gpu:mali`, `host:NAME` and `kind:host`."""

    name: str
    lock: str
    offers: tuple[str, ...]


Find = Callable[[], list[Found]]


class Finder:
    """Lists what adb sees that is ready for work. What a phone is does not change: it is asked once."""

    def __init__(self, host: str, *, with_host: bool = True) -> None:
        self._host = host
        self._with_host = with_host
        self._known: dict[str, Found] = {}

    def __call__(self) -> list[Found]:
        """The devices that are here now. Raises DeviceError where adb cannot be asked and the host is no device."""
        found = [Found(HOST, "", ("kind:host", f"host:{self._host}"))] if self._with_host else []
        try:
            ready = [device for device in attached_devices() if device.state == "device"]
            here = phones(ready) if {device.serial for device in ready} - self._known.keys() else ready
        except DeviceError:
            if not self._with_host:
                raise
            return found
        for device in here:
            if device.serial not in self._known:
                with suppress(AdbError):  # one that cannot be asked is asked again next time
                    self._known[device.serial] = self._asked(device)
        seen = {device.serial for device in here}
        return found + [phone for serial, phone in self._known.items() if serial in seen]

    def _asked(self, device: Attached) -> Found:
        adb = Adb(Server(), device.serial)
        number = adb.serialno(ASK_SECONDS)
        offers = {f"serial:{device.serial}", f"serial:{number}", f"host:{self._host}"}
        product = device.product
        offers |= {f"model:{name}" for name, known in profiles().items() if known.product == product}
        offers |= {f"model:{product}"} if _PLAIN.fullmatch(product) else set()
        family = gpu_family(adb.getprop("ro.hardware.egl", ASK_SECONDS))
        offers |= {f"gpu:{family}"} if family else set()
        return Found(device.serial, number, tuple(sorted(offers)))


def gpu_family(driver: str) -> str:
    """`mali`, `adreno`, `powervr` and the like from the name of the OpenGL ES driver; empty where that tells none."""
    word = re.match("[a-z]+", driver.lower())
    return word[0] if word else ""
