"""Questions to a device that come to nothing: no truth to hold its answer against."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from harness.errors import DeviceError, HarnessError, UsageError
from harness.inputs import random_inputs
from harness.job import Options
from harness.localize.experiment import Experiments, Specimen
from tests.chains import chain
from tests.localize.planted import InProcess


@pytest.mark.parametrize("error", [UsageError("its inputs are odd", ""), DeviceError("the host ran out of memory", "")])
def test_what_the_host_cannot_compute_is_impossible_and_asks_nothing(
    error: HarnessError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*words: Any) -> NoReturn:
        raise error

    model, device = chain("RELU"), InProcess()
    monkeypatch.setattr(Experiments, "truth", failing)
    experiments = Experiments(device, InProcess(), 60)
    seen = experiments.observe(Specimen(model, random_inputs(model.graph(), 0)), Options())
    assert (seen.ending, seen.reason, seen.worst, seen.fails) == ("impossible", error.message, None, False)
    assert (experiments.questions, device.jobs) == (0, [])
