"""`lint --fix` against a real delegate: what it writes anew is right there, for every pattern that has a rewrite."""

from __future__ import annotations

import pytest

from device_tests.corpus import CORPUS
from device_tests.knowledge_forms import FORMS
from device_tests.test_knowledge import MEASURED
from harness.api.on_device import OnDevice
from harness.graph.model import Model
from harness.lint.lint import lint, silent

pytestmark = pytest.mark.slow

SILENT = [
    *((bug.name, bug.build()) for bug in CORPUS if silent(lint(bug.build()))),
    *((f"{form.entry}, {form.name}", form.model()) for form in FORMS if form.accused),
]


@pytest.mark.parametrize(("name", "model"), SILENT, ids=[name for name, _ in SILENT])
def test_what_is_written_anew_is_right(on_device: OnDevice, name: str, model: Model) -> None:
    found = on_device.fix(model)
    if found.rewritten is None:
        assert found.left, "nothing was done, and no reason was told"
        pytest.skip(f"left as it is: {found.left[0].why}")
    assert found.device is not None and found.check is not None
    assert not silent(lint(found.model)) and found.device.ok, found.device.after.sentence
    assert found.device.word == "fixed" or on_device.name not in MEASURED
