"""Every rule accuses exactly the forms that device_tests/test_lint.py finds wrong on a device."""

from __future__ import annotations

import pytest

from device_tests.lint_forms import FORMS, packed
from harness.lint.catalogue import RULES
from harness.lint.lint import lint
from harness.lint.rule import Rule


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_accuses_its_forms_and_none_of_their_neighbours(rule: Rule) -> None:
    found = lint(packed(FORMS[rule.name]))
    assert sorted(finding.output for finding in found) == sorted(f.name for f in FORMS[rule.name] if f.accused)
    assert {finding.rule for finding in found} == {rule.name}


def test_names_are_told_apart_and_every_rule_has_forms_of_both_kinds() -> None:
    assert sorted(FORMS) == sorted(rule.name for rule in RULES)
    for forms in FORMS.values():
        assert len({form.name for form in forms}) == len(forms)
        assert {form.accused for form in forms} == {True, False}
