"""What the scheduler remembers: nothing of what is over, for a farm runs for months."""

from __future__ import annotations

import asyncio
import os

import pytest

pytest.importorskip("distributed")

from distributed import Client, Scheduler, Worker

from harness.farm.node import configure
from harness.farm.scheduler import forget

CALLS = 50


def test_groups_of_tasks_that_are_gone_are_forgotten() -> None:
    async def calls() -> tuple[int, int]:
        configure()
        async with (
            Scheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler,
            Worker(scheduler.address, nthreads=1, dashboard=False),
            Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
        ):
            for _ in range(CALLS):
                future = client.submit(os.getpid, pure=False)
                await future
                future.release()
                while scheduler.tasks:
                    await asyncio.sleep(0.01)
            groups = [span.groups for span in scheduler.extensions["spans"].spans.values()]
            before = sum(map(len, groups))
            forget(scheduler)
            return before, sum(len(span.groups) for span in scheduler.extensions["spans"].spans.values())

    # Without it each call leaves a group; the first figure is what makes the second mean something.
    assert asyncio.run(calls()) == (CALLS, 0)
