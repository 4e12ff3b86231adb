"""A localizer that asks a device of this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.graph.model import Model
from harness.inputs import random_inputs
from harness.job import Array, Options
from harness.localize.baseline import Case
from harness.localize.comparison import Bench
from harness.localize.localize import localize
from harness.localize.result import Localization
from harness.results import RunFolder
from tests.localize.attention import Localize
from tests.localize.planted import Half, InProcess


@pytest.fixture
def find(tmp_path: Path) -> Localize:
    """Localizes with a device of this process; the run's folder is the test's own."""

    def run(
        device: Half,
        model: Model,
        *,
        seed: int = 0,
        options: Options | None = None,
        inputs: dict[str, Array] | None = None,
        **budget: int,
    ) -> Localization:
        given = random_inputs(model.graph(), seed) if inputs is None else inputs
        case = Case(model, given, options or Options(), timeout=60, seed=seed)
        with RunFolder.create(tmp_path, "localize", "planted", device.name) as folder:
            return localize(Bench(device, InProcess(), folder), case, **budget)

    return run
