"""A clip for the tap page, with the small tracker's graphs."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import HarnessError, UsageError
from harness.core.progress import SILENT, Progress
from harness.sam2.shared.clicks import Tap
from harness.sam2.video.clip import VideoWriter
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.page import tracking
from harness.sam2.video.page.tracking import ClipTracking


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    random = np.random.default_rng(0)
    with VideoWriter(path, Fraction(10)) as video:
        for _ in range(4):
            video.add(random.integers(0, 256, (64, 96, 3), np.uint8))
    return path


def test_a_clip_is_tracked_from_a_later_frame_and_corrected(clip: Path, exported: Path, tmp_path: Path) -> None:
    made: list[int] = []

    def stages(progress: Progress) -> OnnxStages:
        made.append(1)
        return OnnxStages(exported)

    found = ClipTracking(clip, stages)
    assert (found.name, found.rate, [frame.shape for frame in found.frames()]) == ("clip.mp4", 10.0, [(64, 96, 3)] * 4)
    for run in ("a", "b"):
        said = found.track(1, {1: Tap.at(40, 30)}, {2: {1: Tap.at(50, 30), 2: Tap.at(9, 9)}}, tmp_path / run, SILENT)
        assert "random weights" in said
        masks = sorted(
            str(path.relative_to(tmp_path / run / "masks")) for path in (tmp_path / run / "masks").glob("*/*")
        )
        assert masks == ["1/00001.png", "1/00002.png", "1/00003.png", "2/00002.png", "2/00003.png"]
    assert made == [1]
    told = json.loads((tmp_path / "a" / "track.json").read_text())
    assert told["random_weights"] is True and len(told["frames"]) == 3


def test_it_ends_when_it_is_told_to(clip: Path, exported: Path, tmp_path: Path) -> None:
    found = ClipTracking(clip, lambda progress: OnnxStages(exported))
    found.close()
    with pytest.raises(HarnessError, match="is being ended"):
        found.track(0, {1: Tap.at(40, 30)}, {}, tmp_path / "a", SILENT)


def test_a_clip_that_is_too_long_is_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MOST_FRAMES", 3)
    with pytest.raises(UsageError, match="has 4 frames, and the page takes 3"):
        ClipTracking(clip, lambda progress: pytest.fail("it needs no graphs"))
