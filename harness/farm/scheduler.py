"""Dask's own scheduler, set up for devices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from distributed import Scheduler
from distributed.scheduler import DEFAULT_EXTENSIONS, WorkerState

from harness.core.errors import UsageError
from harness.farm.node import configure
from harness.farm.tls import security

PORT = 8786
LOST_SECONDS = 60.0
# A job whose device went is given back to its client after this, which says so.
NO_DEVICE_SECONDS = 30.0
# It asks nobody who he is: this machine alone, unless somebody wants it otherwise.
DASHBOARD = "127.0.0.1:8787"


class NoSpans:
    """In the place of Dask's spans, which keep something of every task for ever: some kilobytes for a job. It is false,
    as Dask asks for."""

    def __init__(self, scheduler: Scheduler) -> None:
        """As Dask makes its extensions."""

    def __bool__(self) -> bool:
        return False

    def heartbeat(self, worker: WorkerState, data: object) -> None:
        """Workers tell what their spans measured: nothing is kept."""


# Without stealing, which miscounts resources.
EXTENSIONS = {name: made for name, made in DEFAULT_EXTENSIONS.items() if name != "stealing"} | {"spans": NoSpans}


async def schedule(
    stopping: asyncio.Event,
    ready: Callable[[str, str], None],
    *,
    certificates: Path | None,
    host: str = "",
    port: int = PORT,
    lost_after: float = LOST_SECONDS,
    dashboard: str = DASHBOARD,
) -> None:
    """Schedule until `stopping`; `ready` is told the address and that of the dashboard. A host that is silent for
    `lost_after` seconds counts as gone.

    Raises:
        UsageError: the port cannot be had.
    """
    configure(
        **{
            "distributed.scheduler.no-workers-timeout": f"{NO_DEVICE_SECONDS:g}s",
            "distributed.scheduler.worker-ttl": f"{lost_after:g}s",
            "distributed.comm.timeouts.tcp": f"{min(max(lost_after, 15.0), 30.0):g}s",
        }
    )
    secured = security(certificates) if certificates else None
    try:
        scheduler = await Scheduler(
            host=host or None,
            port=port,
            protocol="tls" if secured else "tcp",
            security=secured,
            dashboard_address=dashboard,
            extensions=EXTENSIONS,
        )
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__  # Dask says that it failed, and behind it why
        if not isinstance(cause, OSError):
            raise
        raise UsageError(
            f"The port {port} cannot be had ({cause.strerror or cause}).", "Give another with --port."
        ) from None
    async with scheduler:
        services = scheduler.services.get("dashboard") if find_spec("bokeh") is not None else None
        shown = f"http://{scheduler.ip}:{services.port}/status" if services is not None else ""
        ready(scheduler.address, shown)
        ended = {asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(scheduler.finished())}
        await asyncio.wait(ended, return_when="FIRST_COMPLETED")
