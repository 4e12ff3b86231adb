"""The catalogue against a real delegate: what it accuses is wrong there or refused, its neighbours are right."""

from __future__ import annotations

import pytest

from device_tests import knowledge_forms, knowledge_swept
from device_tests.corpus.refused import REFUSED, Refused
from device_tests.knowledge_forms import Form
from harness.api.on_device import OnDevice
from harness.core.errors import DeviceDied, DeviceRefused
from harness.core.job import Options, Rejected
from harness.devices.base import Device
from harness.devices.execute import make_job
from harness.lint.knowledge.reading import entries

FORMS = (*knowledge_forms.FORMS, *knowledge_swept.FORMS)
# Releases of which every entry with forms is known to hold; another device has a bug or has not.
MEASURED = {"host"} | {f"host@{release}" for entry in entries() for release in entry.releases[-1:]}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.entry}, {form.name}")
def test_an_accused_form_is_wrong_and_its_neighbour_is_right(on_device: OnDevice, form: Form) -> None:
    try:
        right = on_device.compare(form.model()).ok
    except DeviceDied:
        right = False
    except DeviceRefused:
        if not form.accused or on_device.name in MEASURED:
            raise
        pytest.skip("an older release refuses it")
    if form.accused and on_device.name not in MEASURED:
        pytest.skip("a device nobody has measured yet may be right where others are wrong")
    assert right is not form.accused


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.name)
def test_a_refused_graph_is_refused_in_the_delegates_own_words(device: Device, refused: Refused) -> None:
    if device.name not in MEASURED:
        pytest.skip("a device nobody has measured yet may take what others refuse")
    outcome = device.run(make_job(refused.build(), {}, Options(), timeout=120, wanted=(), iterations=0))
    assert isinstance(outcome, Rejected) and refused.said in outcome.reason
