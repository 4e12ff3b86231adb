"""A converted ResNet stem: PADV2 of minus infinity, which phones refuse, and what it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api.on_device import OnDevice
from harness.graph.model import Model
from tests.api.fixing.stem import write_stem

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_border_of_a_max_pooling_becomes_one_that_phones_take(tmp_path: Path) -> None:
    path = tmp_path / "stem.tflite"
    write_stem(path)
    assert [op.name for op in Model.load(path).graph().ops].count("PADV2") == 1
    found = OnDevice("planted:mali", tmp_path, 120).fix(path, target="pixel8a")
    assert found.left == () and [step.rule for step in found.steps] == ["refused-on-phones"]
    assert found.check is not None and found.check.identical
    assert found.device is not None and found.device.word == "fixed"
    assert (found.device.before.ending, found.device.after.ending) == ("refused", "pass")
    assert "PADV2" not in {op.name for op in found.model.graph().ops}
