"""A localization with its explanation, of a device of this process."""

from __future__ import annotations

from collections.abc import Callable
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
from harness.localize.explain.explainer import explain
from harness.localize.find.localizer import localize
from tests.localize.planted import InProcess

Explain = Callable[..., Localization]


@pytest.fixture
def explained(tmp_path: Path) -> Explain:
    """Localizes and explains with a device of this process; the run's folder is the test's own."""

    def run(device: InProcess, model: Model, inputs: dict[str, Array] | None = None) -> Localization:
        case = Case(model, inputs or random_inputs(model.graph(), 0), Options(), timeout=60)
        with RunFolder.create(tmp_path, "localize", "broken", device.name) as folder:
            bench = Workbench(device, InProcess(), folder)
            found = localize(bench, case)
            before = found.device_compiles
            answer = explain(bench, case, found)
            assert answer.device_compiles == before <= 3 + len(found.culprits)
            return answer

    return run
