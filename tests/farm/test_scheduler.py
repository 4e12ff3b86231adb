"""What the scheduler remembers: nothing of what is over, for a farm runs for months."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import pytest

pytest.importorskip("distributed")

from distributed import Client, Scheduler, Worker
from distributed.scheduler import TaskGroup

from harness.farm.node import configure
from harness.farm.scheduler import EXTENSIONS

CALLS = 50


def groups() -> int:
    """How many of Dask's groups of tasks are in memory."""
    gc.collect()
    return sum(isinstance(each, TaskGroup) for each in gc.get_objects())


@pytest.mark.parametrize(("extensions", "kept"), [(EXTENSIONS, 1), (None, CALLS)], ids=["ours", "Dask's"])
def test_nothing_is_kept_of_a_task_that_is_over(extensions: dict[str, Any] | None, kept: int) -> None:
    """What Dask's own scheduler keeps is what makes the other figure mean something."""

    async def calls() -> int:
        configure()
        async with (
            Scheduler(host="127.0.0.1", port=0, dashboard_address=":0", extensions=extensions) as scheduler,
            Worker(scheduler.address, nthreads=1, dashboard=False, heartbeat_interval="50ms") as worker,
            Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
        ):
            before = groups()
            for _ in range(CALLS):
                future = client.submit(os.getpid, pure=False)
                await future
                future.release()
                del future
                while scheduler.tasks:
                    await asyncio.sleep(0.01)
            beaten = scheduler.workers[worker.address].last_seen
            while scheduler.workers[worker.address].last_seen == beaten:
                await asyncio.sleep(0.05)
            return groups() - before

    assert asyncio.run(calls()) == kept
