"""The catalogue against a real delegate: what it accuses is wrong there or refused, its neighbours are right."""

from __future__ import annotations

import pytest

from device_tests import knowledge_forms, knowledge_swept
from device_tests.corpus.refused import REFUSED, Refused
from device_tests.knowledge_forms import Form
from device_tests.refused_forms import REFUSED_FORMS
from harness.api.on_device import OnDevice
from harness.core.errors import DeviceDied, DeviceRefused
from harness.core.job import Completed, Options, Outcome, Rejected
from harness.devices.base import Device
from harness.devices.execute import make_job
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.target import Target, target_of_device
from harness.lint.lint import lint

FORMS = (*knowledge_forms.FORMS, *knowledge_swept.FORMS)
# Releases of which every entry with forms is known to hold; another device has a bug or has not.
MEASURED = {"host"} | {f"host@{release}" for entry in entries() for release in entry.releases[-1:]}
TOLD = {name: entry for entry in entries() for each in entry.evidence for name in each.corpus}


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


def taken(device: Device, model: Model) -> Outcome:
    """What becomes of a model that is run once: some refusals come with the first run."""
    return device.run(make_job(model, random_inputs(model.graph(), 0), Options(), timeout=120, wanted=()))


def target_for(device: Device) -> Target:
    """What the catalogue takes a device for."""
    facts = device.facts()
    found = target_of_device(device.described(facts.runtime, facts.gpu))
    if found is None:
        pytest.skip("a device of a kind that the catalogue does not know")
    return found


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.name)
def test_a_graph_is_refused_in_the_delegates_own_words_where_its_entry_is_certain_and_else_taken(
    device: Device, refused: Refused
) -> None:
    target = target_for(device)
    there = TOLD[refused.name].at(target)
    # Of the host's releases it is known where a refusal begins and ends; elsewhere, no place says nothing.
    if there != ("refused", "certain") and not (there is None and target.platform == "host"):
        pytest.skip("a device nobody has measured yet may take what others refuse")
    outcome = taken(device, refused.build())
    assert isinstance(outcome, Completed if there is None else Rejected)
    if isinstance(outcome, Rejected):
        assert refused.said in outcome.reason or device.name != refused.device, outcome.reason


@pytest.mark.parametrize("form", REFUSED_FORMS, ids=lambda form: f"{form.entry}, {form.name}")
def test_an_accused_form_is_refused_and_its_neighbour_is_taken(device: Device, form: Form) -> None:
    told = [f for f in lint(form.model(), target_for(device)) if f.effect == "refused"]
    if any(f.sure != "certain" for f in told):
        pytest.skip("a device nobody has measured yet may take what others refuse")
    assert isinstance(taken(device, form.model()), Rejected if told else Completed)
