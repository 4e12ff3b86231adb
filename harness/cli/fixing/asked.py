"""What `harness lint --fix` is asked: where each rewritten model goes, and on which device both are compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.api.doctor import host_gpu
from harness.api.fixing.fix import compared, fix_model
from harness.api.fixing.request import FixRequest, check_place, fixed_name
from harness.api.fixing.result import Fixed
from harness.core.choices import Precision
from harness.core.errors import EXIT_DEVICE, EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, UsageError
from harness.core.job import Options
from harness.core.progress import Progress
from harness.devices.registry import check_device, check_options
from harness.lint.knowledge.target import Target

NO_DEVICE = "none"
_SUFFIX = ".tflite"


@dataclass(frozen=True)
class FixWords:
    """The options that go with --fix, as they were given. Without `device` both models are compared on this machine's
    GPU where that is what they are for, and is there."""

    target: Target
    out: Path | None
    device: str | None
    inputs: Path | None
    seed: int
    precision: Precision
    results: Path
    timeout: float

    def places(self, models: Sequence[Path]) -> list[Path]:
        """Where each model's rewritten one goes. Raises UsageError: two would be one file, or a file is there."""
        folder = False
        with suppress(OSError):  # a name that no file can have
            folder = self.out is not None and self.out.is_dir()
        if self.out is None:
            places = [model.with_name(fixed_name(model)) for model in models]
        elif folder or len(models) > 1:
            if not folder:
                raise UsageError(
                    f"--out {self.out} is no folder, and there are {len(models)} models.", "Give a folder that exists."
                )
            places = [self.out / fixed_name(model) for model in models]
        elif self.out.suffix != _SUFFIX:
            raise UsageError(
                f"--out {self.out} is no folder that exists, and does not end with {_SUFFIX}.",
                f"Make the folder, or write {self.out}{_SUFFIX}.",
            )
        else:
            places = [self.out]
        for place in places:
            if places.count(place) > 1:
                raise UsageError(f"Two of the models would be {place}.", "Rewrite them one at a time.")
        for model, place in zip(models, places, strict=True):
            check_place(model, place)
        return places

    def check(self) -> None:
        """Whether the device that was named can be opened, and has such options. Raises UsageError, DeviceError."""
        if self.device not in (None, NO_DEVICE):
            check_options(self.device, Options(precision=self.precision))
            check_device(self.device)

    @cached_property
    def compared_on(self) -> tuple[str | None, str]:
        """The device that compares both models, and why there is none where one was wanted."""
        if self.device is not None:
            return (None if self.device == NO_DEVICE else self.device), ""
        if self.target.name != "host":
            return None, ""
        found = host_gpu()
        if found.state == "ok":
            return "host", ""
        return None, f"Not compared on a GPU: {found.detail}"

    def fix(self, model: Path, to: Path, progress: Progress) -> Fixed:
        """Rewrite one model. Raises HarnessError."""
        request = FixRequest(
            model,
            self.target,
            to,
            inputs=self.inputs,
            seed=self.seed,
            precision=self.precision,
            runs=self.results,
            timeout=self.timeout,
        )
        fixed = fix_model(request, progress)
        if fixed.rewritten is None:
            return fixed
        device, why = self.compared_on
        return compared(fixed, device, request, progress) if not why else fixed.noting(why)


def exit_code(fixed: Fixed, levels: Collection[str]) -> int:
    """0 where no finding of these levels is left, and the device, where one was asked, gets the model right."""
    if any(left.finding.level in levels for left in fixed.left):
        return EXIT_WRONG
    if fixed.device is None or fixed.device.ok:
        return EXIT_OK
    return {"fail": EXIT_WRONG, "unresolved": EXIT_UNRESOLVED}.get(fixed.device.after.ending, EXIT_DEVICE)
