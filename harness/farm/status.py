"""How a farm stands: its hosts, their devices, those that were taken out, and what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from harness.farm.node import QUEUE, Farm, FarmWorker, configure, not_reached, workers_of


def farm_status(farm: Farm) -> dict[str, Any]:
    """As `harness farm status --json` prints it. Raises DeviceError where the scheduler is not reached."""
    configure()
    try:
        return asyncio.run(_asked(farm))
    except OSError as error:
        raise not_reached(farm, error) from None


async def _asked(farm: Farm) -> dict[str, Any]:
    async with farm.client() as client:
        workers = await workers_of(client)
        queues = await client.get_metadata([QUEUE], default={})
        dashboard = client.dashboard_link
        facts = await client.run_on_scheduler(_facts)
    here = {name: queue for name, queue in queues.items() if name in facts["clients"]}
    return status_document(farm.scheduler, dashboard if facts["dashboard"] else None, workers, here)


def status_document(
    scheduler: str, dashboard: str | None, workers: Sequence[FarmWorker], queues: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What the workers and the clients that are connected tell, as one document."""
    serving = {worker.report.get("device"): worker for worker in workers if not worker.keeper}
    hosts = []
    for worker in sorted((worker for worker in workers if worker.keeper), key=lambda worker: worker.keeper):
        devices = [
            {
                "name": str(device.get("name")),
                "serial": str(device.get("serial")),
                "state": _state(device, serving),
                "reason": str(device.get("reason")),
                "times_out": device.get("times_out"),
                "probe_in": device.get("probe_in"),
                "job": str(device.get("job")),
                "doing": str(device.get("doing", "")),
                "offers": [str(offer) for offer in device.get("offers", ())],
            }
            for device in worker.report.get("devices", ())
        ]
        trouble = str(worker.report.get("trouble", ""))
        hosts.append({"host": worker.keeper, "address": worker.address, "trouble": trouble, "devices": devices})
    waiting = [
        {"matrix": str(queue["matrix"]), **{name: int(queue[name]) for name in ("waiting", "running", "done")}}
        for queue in queues.values()
        if queue["waiting"] + queue["running"]
    ]
    return {
        "schema": 1,
        "scheduler": scheduler,
        "dashboard": dashboard,
        "hosts": hosts,
        "queues": waiting,
    }


def _facts(dask_scheduler: Any) -> dict[str, Any]:
    """Whether the scheduler has a dashboard, and the ids of its clients."""
    shown = "dashboard" in dask_scheduler.services and find_spec("bokeh") is not None
    return {"dashboard": shown, "clients": list(dask_scheduler.clients)}


def _state(device: dict[str, Any], serving: dict[Any, Any]) -> str:
    state = str(device.get("state"))
    if state != "here":
        return state
    return "busy" if device.get("job") else "free" if device.get("name") in serving else "starting"
