"""`python tests/farm/host.py SETUP.json`: a host of a farm with phones that do not exist, over `tests/farm/program.py`.

SETUP.json has `scheduler`, `host`, `address`, `store`, `phones` (a folder) and maybe `certificates`. The folder has a
file `<serial>.json` for each phone that is attached; one that is removed is a phone that is gone.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from harness.farm.found import Found
from harness.farm.keeper import HostSetup, Keeper


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    phones = Path(told["phones"])

    def find() -> list[Found]:
        found = []
        for path in sorted(phones.glob("*.json")):
            offers = (f"serial:{path.stem}", f"host:{told['host']}", *json.loads(path.read_text()).get("offers", ()))
            found.append(Found(path.stem, f"{path.stem}-number", offers))
        return found

    setup = HostSetup(
        scheduler=told["scheduler"],
        address=told["address"],
        host=told["host"],
        store=Path(told["store"]),
        certificates=Path(told["certificates"]) if told.get("certificates") else None,
        program=(sys.executable, str(Path(__file__).with_name("program.py")), str(phones)),
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
