"""Which kind of tap is held against copies, by the release of the runtime."""

from __future__ import annotations

import pytest

from harness.localize.find.recheck import second_kind


@pytest.mark.parametrize(
    ("runtime", "kind"),
    [
        ("2.1.3", "negated"),
        ("2.1.5", "negated"),
        ("2.1.6", "direct"),
        ("2.3.0", "direct"),
        ("2.10.0", "direct"),
        ("unknown", "direct"),
    ],
)
def test_releases_that_forget_outputs_when_they_fuse_are_not_asked_for_them(runtime: str, kind: str) -> None:
    assert second_kind(runtime) == kind
