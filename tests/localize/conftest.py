"""A localizer that asks a device of this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.arrays import Array
from harness.core.job import Options
from harness.core.run_folder import RunFolder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.find.localizer import localize
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
            return localize(Workbench(device, InProcess(), folder), case, **budget)

    return run
