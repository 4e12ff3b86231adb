"""Models that are right on the host's GPU, by device_tests: of none of them lint says that it is silently wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from device_tests import knowledge_forms, knowledge_swept, lint_forms
from device_tests.corpus import CORPUS
from harness.graph.model import Model
from harness.lint.knowledge.target import target_of
from harness.lint.lint import lint, silent
from tests.localize.patterns import PATTERNS

LEAST = 40
RELEASES = ("host@2.1.3", "host@2.1.5", "host@2.1.6", "host@2.2.0", "host@2.3.0")


def healthy() -> Iterator[tuple[str, Model]]:
    """Those of the corpus, neighbours of what is accused, and what comes just short of phones' bugs."""
    for bug in CORPUS:
        if not bug.culprits:
            yield bug.name, bug.build()
    for form in (*knowledge_forms.FORMS, *knowledge_swept.FORMS):
        if not form.accused:
            yield f"{form.entry}, {form.name}", form.model()
    for rule, forms in lint_forms.FORMS.items():
        for part in forms:
            if not part.accused:
                yield f"{rule}, {part.name}", lint_forms.packed([part])
    for pattern in PATTERNS:
        if not pattern.culprits:
            yield f"{pattern.bug}, {pattern.name}", pattern.model()


@pytest.fixture(scope="module")
def models() -> list[tuple[str, Model]]:
    return list(healthy())


def test_there_are_enough_of_them(models: list[tuple[str, Model]]) -> None:
    assert len({model.sha256 for _, model in models}) >= LEAST


@pytest.mark.parametrize("release", RELEASES)
def test_none_is_called_silently_wrong(release: str, models: list[tuple[str, Model]]) -> None:
    target = target_of(release)
    assert {name: found for name, model in models if (found := silent(lint(model, target)))} == {}
