"""A log has no line for a stage that took no time."""

from __future__ import annotations

import io

import pytest

from harness.cli import screen


@pytest.mark.parametrize(("seconds", "listed"), [(0.5, False), (1.0, True)])
def test_a_stage_under_a_second_is_left_out_of_a_log(
    seconds: float, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    now = [100.0]
    monkeypatch.setattr(screen, "err", screen.Screen(file=log, highlight=False))
    monkeypatch.setattr("harness.cli.screen.time.monotonic", lambda: now[0])
    with screen.ProgressBar() as bars:
        bars.stage("reading the model", 5.0)
        now[0] += seconds
    assert ("reading the model" in log.getvalue()) is listed
