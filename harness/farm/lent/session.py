"""A test session on a farm: what `--device` names is, in this process, a device that the farm lends.

The process that collects the session finds the devices once; where tests run in several processes, each of them is told
which ones they are, so that a word means one device in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError
from harness.core.progress import Say
from harness.core.typed_json import read_as
from harness.core.visible import visible
from harness.devices.android.device import PhoneOptions
from harness.devices.base import Device
from harness.devices.registry import DeviceKind, claiming, kind_of
from harness.farm.lent.device import Borrowed, FarmDevice
from harness.farm.lent.pins import Pin, pin_devices
from harness.farm.node import Farm, scheduler_address
from harness.farm.tls import security


def farm_at(address: str, certificates: Path | None, no_tls: bool, absent_after: float) -> Farm:
    """The farm of a scheduler's address, as `harness farm run` takes it; nothing is asked yet.

    Raises:
        UsageError: it is no address, certificates are missing, or are given with `no_tls`.
    """
    if no_tls and certificates is not None:
        raise UsageError("Certificates and no TLS contradict each other.", "Give one of them.")
    if not 0 <= absent_after <= 86400:
        raise UsageError(f"{absent_after:g} s is no time to wait for a device.", "Give 0 to 86400.")
    if certificates is None and not no_tls:
        raise UsageError(
            "No certificates are named.",
            "Give --farm-certificates DIR, this machine's of `harness farm certificates`, or --farm-no-tls on a "
            "network where every machine is trusted.",
        )
    security(certificates, without=no_tls)
    folder = certificates.absolute() if certificates is not None else None
    return Farm(scheduler_address(address, tls=folder is not None), folder, absent_after=absent_after)


class LentDevices:
    """The devices of a session, from :meth:`found` or :meth:`told` to :meth:`close`."""

    def __init__(self, farm: Farm, pins: Mapping[str, Pin]) -> None:
        self._farm, self._pins = farm, dict(pins)
        self._borrowed: dict[str, Borrowed] = {}
        self._stack = ExitStack()
        for word in pins:
            kind = kind_of(word)
            mine = DeviceKind(
                kind.name,
                claims=word.__eq__,
                open=self._open,
                check=lambda name, progress: None,
                in_parts=kind.in_parts,
                fixed_performance=kind.fixed_performance,
            )
            self._stack.enter_context(claiming(mine))

    @classmethod
    def found(cls, farm: Farm, words: Sequence[str], say: Callable[[str], None]) -> LentDevices:
        """Ask the farm for a device for each word. Raises as `pins.pin_devices`."""
        return cls(farm, pin_devices(farm, words, say))

    @classmethod
    def told(cls, farm: Farm, document: Any) -> LentDevices:
        """Those that another process of this session found. Raises ValueError."""
        return cls(farm, {word: read_as(Pin, pin) for word, pin in document.items()})

    def document(self) -> dict[str, Any]:
        """What :meth:`told` takes."""
        return {word: asdict(pin) for word, pin in self._pins.items()}

    def place(self, word: str) -> str:
        """Which device a word means, for people: `1A2B3C on lab1`."""
        return visible(self._pins[word].place)

    def give_back(self, word: str) -> None:
        """Return a device to the farm; what still runs there is ended."""
        borrowed = self._borrowed.pop(word, None)
        if borrowed is not None:
            borrowed.give_back()

    def close(self) -> None:
        """Return all of them, and leave the names to whom they belong."""
        for word in list(self._borrowed):
            self.give_back(word)
        self._stack.close()

    def _open(self, name: str, progress: Say | None, phone: PhoneOptions | None) -> Device:
        options = phone or PhoneOptions()
        if options.apk is not None or options.tools is not None:
            raise UsageError(
                f"{options.apk or options.tools} is a file of this machine, and {name} is at a host of a farm.",
                "Leave --apk and --tools out: the host has its own.",
            )
        return FarmDevice(self._borrowed.setdefault(name, Borrowed(self._farm, self._pins[name])), options)
