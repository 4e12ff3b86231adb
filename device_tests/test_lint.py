"""The rules of `harness lint` against a real delegate: what they accuse is wrong there, its neighbours are right.

The two kinds are compiled apart: an integer op that misreads its constant also spoils what lies beside it in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from device_tests.lint_forms import FORMS, packed, whole_numbers
from harness.core.job import Options
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.lint.knowledge.reading import entries

RELEASES = {entry.name: entry.releases for entry in entries()}
MEASURED = {"host"} | {f"host@{release}" for rule in FORMS for release in RELEASES[rule]}
# Up to 2.2.0 the runtime waits 20 s for an output, cold shaders included.
FORMS_A_MODEL = 16
# POW is 2 to the y log2(x), at most 8, where float16 is spaced by 2^-7: one step more or less is a relative error of
# ln 2 times 2^-7.
TOLERANCE = 2.0**-6
every_rule = pytest.mark.parametrize("rule", FORMS)


@pytest.fixture(scope="module")
def reference() -> Iterator[Device]:
    with HostDevice() as host:
        yield host


def wrong(device: Device, reference: Device, rule: str, *, accused: bool) -> tuple[set[str], set[str]]:
    """Names of the rule's forms of one kind: those that are wrong on the device, and all."""
    forms = [form for form in FORMS[rule] if form.accused == accused]
    names: set[str] = set()
    for first in range(0, len(forms), FORMS_A_MODEL):
        model = packed(forms[first : first + FORMS_A_MODEL])
        inputs = whole_numbers(model)
        exact = completed(reference, make_job(model, inputs, Options("reference"), timeout=60), "the reference").outputs
        found = completed(device, make_job(model, inputs, Options("gpu"), timeout=300), "running the forms")
        assert found.residency.full
        for name, right in exact.items():
            if not np.allclose(found.outputs[name], right, rtol=TOLERANCE, atol=TOLERANCE):
                names.add(name)
    return names, {form.name for form in forms}


@every_rule
def test_every_accused_form_is_wrong(device: Device, reference: Device, rule: str) -> None:
    if device.name not in MEASURED:
        pytest.skip("a device nobody has measured yet may be right where others are wrong")
    found, forms = wrong(device, reference, rule, accused=True)
    assert found == forms


@every_rule
def test_every_neighbour_is_right(device: Device, reference: Device, rule: str) -> None:
    found, _ = wrong(device, reference, rule, accused=False)
    assert found == set()
