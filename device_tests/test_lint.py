"""The rules of `harness lint` against a real delegate: what they accuse is wrong there, its neighbours are right.

The two kinds are compiled apart: an integer op that misreads its constant also spoils what lies beside it in memory.
"""

from __future__ import annotations

import pytest

from device_tests.lint_forms import FORMS, packed
from harness.lint.catalogue import RULES
from harness.lint.rule import Rule
from harness.on_device import OnDevice

MEASURED = {"host"} | {f"host@{release}" for rule in RULES for release in rule.releases}
# Up to 2.2.0 the runtime waits 20 s for an output, cold shaders included.
FORMS_A_MODEL = 16
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def wrong(on_device: OnDevice, rule: Rule, *, accused: bool) -> tuple[set[str], set[str]]:
    """Names of the rule's forms of one kind: those that are wrong on the device, and all."""
    forms = [form for form in FORMS[rule.name] if form.accused == accused]
    names = set()
    for first in range(0, len(forms), FORMS_A_MODEL):
        found = on_device.compare(packed(forms[first : first + FORMS_A_MODEL]))
        assert found.done.residency.full
        names |= {verdict.name for verdict in found.outputs if not verdict.ok}
    return names, {form.name for form in forms}


@every_rule
def test_every_accused_form_is_wrong(on_device: OnDevice, rule: Rule) -> None:
    if on_device.name not in MEASURED:
        pytest.skip("a device nobody has measured yet may be right where others are wrong")
    found, forms = wrong(on_device, rule, accused=True)
    assert found == forms


@every_rule
def test_every_neighbour_is_right(on_device: OnDevice, rule: Rule) -> None:
    found, _ = wrong(on_device, rule, accused=False)
    assert found == set()
