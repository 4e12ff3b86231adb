"""A model and the one that it was rewritten to on a device, each compared with the host's CPU as `compare` does it."""

from __future__ import annotations

from pathlib import Path

from harness.api.compare import compare_command
from harness.api.fixing.request import FixRequest
from harness.api.fixing.result import DeviceCheck, Verdict
from harness.api.session import ModelRequest
from harness.core.errors import DeviceError, UnresolvedError
from harness.core.job import Options
from harness.core.progress import Progress


def on_device(device: str, request: FixRequest, rewritten: Path, progress: Progress) -> DeviceCheck:
    """Both models on the same inputs. Raises UsageError where the device has no such options."""
    before, after = (_verdict(device, request, path, progress) for path in (request.model, rewritten))
    return DeviceCheck(device, before, after)


def _verdict(device: str, request: FixRequest, model: Path, progress: Progress) -> Verdict:
    asked = ModelRequest(
        model,
        device,
        Options(precision=request.precision),
        inputs=request.inputs,
        seed=request.seed,
        out=request.runs,
        timeout=request.timeout,
        given=request.given,
    )
    try:
        found, folder = compare_command(asked, progress)
    except DeviceError as error:
        return Verdict(error.trouble, sentence=error.message)
    except UnresolvedError as error:
        return Verdict("unresolved", sentence=error.message)
    return Verdict("pass" if found.ok else "fail", found.outputs, found.done.residency, found.sentence(), folder)
