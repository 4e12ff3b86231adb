"""A culprit is told to be known, or that it is not: in the terminal, in JSON, on the page and in what is filed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api.on_device import OnDevice
from harness.cli import render, screen
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.result import Localization
from tests.arrays import normal
from tests.localize.patterns import PATTERNS, Pattern


def added() -> Model:
    """x plus a constant without a leading 1."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (24, 16)), graph.constant(normal((24, 16)))), "y")
    return graph.build()


def asked(folder: Path, model: Model, bug: str) -> Localization:
    return OnDevice(f"planted:{bug}", folder, 120).localize(model, explain=True)


def everywhere(answer: Localization, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is said of the culprit in each place."""
    (culprit,) = answer.culprits
    folder = answer.folder
    assert folder is not None and culprit.reproducer is not None
    screen.out.file = None  # type: ignore[assignment] # whatever the capture has put there
    render.show_localization(answer, folder)
    known = culprit.to_json()["known"]
    page = (folder / "report.html").read_text("utf-8")
    return [capsys.readouterr().out, known["sentence"], page, Path(culprit.reproducer, "ISSUE.md").read_text("utf-8")]


def test_what_is_known_is_told_in_each_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(tmp_path, added(), "low-rank-constant")
    for told in everywhere(answer, capsys):
        assert "Known: low-rank-constant, LiteRT #8619, planted here as it was reported." in told
    (culprit,) = answer.culprits
    assert culprit.known is not None and culprit.known.helps.startswith("Keep the batch dimension")
    issue = Path(culprit.reproducer or "", "ISSUE.md").read_text("utf-8")
    assert "<https://github.com/google-ai-edge/LiteRT/issues/8619>" in issue
    assert "Keep the batch dimension" in issue


def test_what_is_not_known_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pattern that a phone was planted with, on a device that was planted with another: nobody saw it there."""
    pattern = next(p for p in PATTERNS if p.bug == "resize-nearest" and p.culprits)
    answer = asked(tmp_path, pattern.model(), "resize-nearest")
    (culprit,) = answer.culprits
    assert culprit.known is not None and culprit.known.entry is not None
    assert culprit.known.entry.name == "resize-nearest-offset"

    from harness.localize.explain import known

    def nobody(device: object) -> None:
        return None

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(known, "target_of_run", nobody)
        answer = asked(tmp_path, pattern.model(), "resize-nearest")
    for told in everywhere(answer, capsys):
        assert "Not known: it has the pattern of resize-nearest-offset, but that was not seen on such a device." in told


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p.culprits], ids=lambda p: f"{p.bug}, {p.name}")
def test_every_planted_culprit_is_known_by_its_bug(tmp_path: Path, pattern: Pattern) -> None:
    phone = OnDevice(f"planted:{pattern.bug}", tmp_path, 240)
    answer = phone.localize(pattern.model(), explain=True, precision=pattern.precision)
    for culprit in answer.culprits:
        assert culprit.known is not None
        if culprit.cause == "overflow" and pattern.bug == "large-convolution":
            assert culprit.known.entry is None  # a square beyond float16: no fault of this phone's
            continue
        assert culprit.known.entry is not None, culprit.known.sentence
        planted = {place.planted for place in culprit.known.entry.places if place.planted}
        assert planted == {pattern.bug}
