"""Every entry with forms accuses exactly those that device_tests/test_lint.py finds wrong on a device."""

from __future__ import annotations

import pytest

from device_tests.lint_forms import FORMS, packed
from harness.lint.knowledge.target import target_of
from harness.lint.lint import lint, silent


@pytest.mark.parametrize("rule", FORMS)
def test_a_rule_accuses_its_forms_and_none_of_their_neighbours(rule: str) -> None:
    found = silent(lint(packed(FORMS[rule]), target_of("host@2.3.0")))
    assert sorted(finding.output for finding in found) == sorted(f.name for f in FORMS[rule] if f.accused)
    assert {finding.rule for finding in found} == {rule}


def test_names_are_told_apart_and_every_rule_has_forms_of_both_kinds() -> None:
    for forms in FORMS.values():
        assert len({form.name for form in forms}) == len(forms)
        assert {form.accused for form in forms} == {True, False}
