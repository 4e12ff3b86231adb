"""The same question to one device after the other: one that cannot be asked does not keep the others from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.api.session import ModelRequest, Prepared, prepare
from harness.core.errors import DeviceError, HarnessError, StorageError, UsageError
from harness.core.progress import SILENT, Progress
from harness.devices.registry import check_device, check_options

T = TypeVar("T")


@dataclass(frozen=True)
class Asked(Generic[T]):
    """One device's answer with its run folder, or why it has none."""

    device: str
    found: T | None = None
    folder: Path | None = None
    error: HarnessError | None = None

    def failed_json(self) -> dict[str, Any]:
        """Its entry in a document, where it has no answer."""
        return {"device": {"name": self.device}, "status": "failed", "error": str(self.error)}


def prepared_for(request: ModelRequest, devices: Sequence[str], progress: Progress) -> Prepared:
    """The model and its inputs, read before any device is asked. A name that is none ends it here.

    Raises:
        UsageError: the model, its inputs, or the name of a device does not do, or it has no such options.
    """
    for device in devices:
        check_options(device, request.options)
    ready = prepare(request, compared=True, progress=SILENT)
    for device in devices:
        try:
            check_device(device, lambda what: progress.stage(what, 30.0))
        except DeviceError:
            continue  # it is known, and not here: the others are asked all the same
    return ready


def ask_each(
    request: ModelRequest, devices: Sequence[str], ask: Callable[[ModelRequest], tuple[T, Path]]
) -> Iterator[Asked[T]]:
    """Each device's answer, as it comes. Raises StorageError: what cannot be written for one cannot for the others."""
    for device in devices:
        try:
            found, folder = ask(replace(request, device=device))
        except (StorageError, UsageError):
            raise
        except HarnessError as error:
            yield Asked(device, error=error)
        else:
            yield Asked(device, found, folder)


def model_facts(request: ModelRequest, ready: Prepared) -> dict[str, Any]:
    """What a document says of the model that all were asked about."""
    return {"path": str(request.model), "sha256": ready.case.model.sha256, "ops": len(ready.case.graph.ops)}
