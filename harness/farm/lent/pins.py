"""Which device of a farm a word means for a whole session: chosen once, so that all that is said of it is of one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.core.errors import DeviceError
from harness.farm.matrix import DEFAULT, check_device_words, device_name, needs
from harness.farm.node import Farm, FarmWorker, absent_sentence, configure, not_reached, workers_of

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Pin:
    """One device of the farm. `word` is what was asked for, `device` its name on its `host`, `serial` a phone's own
    number, empty for the host itself."""

    word: str
    host: str
    device: str
    serial: str

    @property
    def opens(self) -> str:
        """What `--device` is on its host."""
        return device_name(self.word, DEFAULT, self.device)

    @property
    def place(self) -> str:
        """For people: `1A2B3C on lab1`."""
        return f"{self.serial or self.device} on {self.host}"

    @property
    def needs(self) -> tuple[str, ...]:
        """What its worker offers, as the farm's resources."""
        return (f"serial:{self.device}" if self.serial else "kind:host", f"host:{self.host}")

    def worker(self, workers: Sequence[FarmWorker]) -> FarmWorker | None:
        """The process that works for it, if it is there."""
        return next((worker for worker in workers if _is_at(worker, self.host, self.device)), None)


def pin_devices(farm: Farm, words: Sequence[str], say: Callable[[str], None] = lambda sentence: None) -> dict[str, Pin]:
    """A device for each word, as `pixel8a` or `gpu=mali`: one that nothing else here means and that is free, where
    there is one. `say` is told what is waited for.

    Raises:
        UsageError: a word is no device of a farm. DeviceError: no device fits for `farm.absent_after` seconds, or the
            scheduler is not reached.
    """
    for word in words:
        check_device_words("--device", word)
    configure_client()
    try:
        return asyncio.run(_found(farm, words, say))
    except (OSError, TimeoutError) as error:
        raise not_reached(farm, error) from None


def configure_client() -> None:
    """Set Dask up for a program that borrows: what it logs of a connection that ends is told in other words."""
    configure()
    for name in ("distributed", "distributed.client"):  # Dask gives the second a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)


def absent(farm: Farm, need: Sequence[str], workers: Sequence[FarmWorker]) -> DeviceError:
    """One sentence for a device that no host has had for `farm.absent_after` seconds."""
    sentence = absent_sentence(need, farm.absent_after, workers)
    plain = farm.scheduler.partition("://")[2]
    return DeviceError(sentence, f"Look at `harness farm status {plain}`.")


async def _found(farm: Farm, words: Sequence[str], say: Callable[[str], None]) -> dict[str, Pin]:
    until, told = time.monotonic() + farm.absent_after, False
    async with farm.client() as client:
        while True:
            workers = await workers_of(client)
            pins = choose(workers, words)
            lacking = [word for word in words if word not in pins]
            if not lacking:
                return pins
            if time.monotonic() >= until:
                raise absent(farm, needs(lacking[0]), workers)
            if not told:
                say(f"Waiting up to {farm.absent_after:g} s for {', '.join(lacking)} on {farm.scheduler} …")
                told = True
            await asyncio.sleep(LOOK_SECONDS)


def choose(workers: Sequence[FarmWorker], words: Sequence[str]) -> dict[str, Pin]:
    """A device for each word that one fits; the words that fewer devices fit choose first."""
    devices = [worker for worker in workers if not worker.keeper and isinstance(worker.report.get("device"), str)]
    fitting = {word: [d for d in devices if d.offers >= set(needs(word))] for word in words}
    pins: dict[str, Pin] = {}
    taken: set[str] = set()
    for word in sorted(fitting, key=lambda word: len(fitting[word])):
        among = sorted(fitting[word], key=lambda worker: (worker.address in taken, bool(worker.report.get("job"))))
        if among:
            taken.add(among[0].address)
            host, device = among[0].host, str(among[0].report["device"])
            pins[word] = Pin(word, host, device, _serial(workers, host, device))
    return {word: pins[word] for word in words if word in pins}


def _is_at(worker: FarmWorker, host: str, device: str) -> bool:
    return not worker.keeper and worker.host == host and worker.report.get("device") == device


def _serial(workers: Sequence[FarmWorker], host: str, device: str) -> str:
    for keeper in workers:
        for known in keeper.report.get("devices", ()) if keeper.keeper == host else ():
            if known.get("name") == device:
                return str(known.get("serial", ""))
    return ""
