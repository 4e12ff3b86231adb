"""`python tests/farm/host.py SETUP.json`: a host of a farm with phones that do not exist, over `tests/farm/program.py`.

SETUP.json has `scheduler`, `host`, `address`, `store`, `phones` (a folder) and maybe `certificates`. The folder has a
file `<serial>.json` for each phone that is attached; one that is removed is a phone that is gone. With `standin` there
are so many stand-in phones instead, each a real adbd, on an adb server of this host's own; with `harness` they do what
the harness asks of them, and `noted.py` writes it down; else `program.py` says what they do.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness.farm.found import Find, Finder, Found
from harness.farm.keeper import HostSetup, Keeper


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    phones = Path(told["phones"])
    with simulated(told, phones) if "standin" not in told else standins(told, phones) as find:
        here = Path(__file__).parent
        words = ["noted.py", "job"] if told.get("harness") else ["program.py"]
        keep(told, find, (sys.executable, str(here / words[0]), *words[1:], str(phones)))


@contextmanager
def standins(told: dict[str, Any], phones: Path) -> Iterator[Find]:
    """Real adb, real adbd, no phone."""
    from tests.standin import app
    from tests.standin.phone import AdbServer, Phone, make_apk, temporary_state

    with ExitStack() as stack:
        server = AdbServer()
        os.environ["ANDROID_ADB_SERVER_PORT"] = str(server.port)
        stack.callback(server.kill)
        command = app.command(socket="{socket}") if told.get("harness") else ["false"]
        for number in range(told["standin"]):
            state = temporary_state()
            stack.callback(shutil.rmtree, state)
            phone = Phone(state, [], "akita" if number % 2 == 0 else "tokay")
            stack.callback(phone.close)
            noted = [sys.executable, str(Path(__file__).with_name("noted.py")), "app", str(phones)]
            phone.change("app", command=[*noted, phone.serial.replace(":", "_"), *command])
            phone.change("properties", **{"ro.serialno": f"{told['host']}p{number}"})
            phone.boot()
            phone.connect()
        if told.get("harness"):
            apk = temporary_state()
            stack.callback(shutil.rmtree, apk)
            os.environ["HARNESS_APK"] = str(make_apk(apk))
        yield Finder(told["host"], with_host=False)


@contextmanager
def simulated(told: dict[str, Any], phones: Path) -> Iterator[Find]:
    """Files that stand for phones."""

    def find() -> list[Found]:
        found = []
        for path in sorted(phones.glob("*.json")):
            offers = (f"serial:{path.stem}", f"host:{told['host']}", *json.loads(path.read_text()).get("offers", ()))
            found.append(Found(path.stem, f"{path.stem}-number", offers))
        return found

    yield find


def keep(told: dict[str, Any], find: Find, program: tuple[str, ...]) -> None:
    """The host's part, until a signal comes."""
    setup = HostSetup(
        scheduler=told["scheduler"],
        address=told["address"],
        host=told["host"],
        store=Path(told["store"]),
        certificates=Path(told["certificates"]) if told.get("certificates") else None,
        program=program,
        look=0.5,
        probe_every=told.get("probe_every", 3.0),
        gone_after=2.0,
    )

    def say(sentence: str) -> None:
        sys.stderr.write(sentence + "\n")

    keeper = Keeper(setup, find, say)

    async def run() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, keeper.stop)
        await keeper.run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
