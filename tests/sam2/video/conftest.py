"""A video model small enough to make, export and track with in seconds, with every part of the full one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.sam2.shared.source import Source, resolve
from harness.sam2.video.conversion.convert import VideoModels
from tests.sam2.conftest import Once

if TYPE_CHECKING:
    from transformers import Sam2VideoModel


@pytest.fixture(scope="session")
def video_source(video_model: Sam2VideoModel, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """The small model as a folder that it was saved to."""
    folder: Path = tmp_path_factory.mktemp("video-model")
    video_model.save_pretrained(folder)
    return resolve(str(folder))


@pytest.fixture(scope="session")
def exported(video_model: Sam2VideoModel, of_this_run: Path, once: Once) -> Path:
    """The small model's five graphs, as `export_video` writes them, made by the first process that wants them: for
    reading."""
    from harness.sam2.video.conversion.export import export_all

    folder = of_this_run / "video-graphs"

    def export() -> None:
        folder.mkdir()
        export_all(video_model, folder, "random weights, seed 7 (small)", True, None, lambda _: None)

    once("video-graphs-made", export)
    return folder


@pytest.fixture(scope="session")
def litert_told() -> list[str]:
    """What the conversion of `litert_models` said it was doing."""
    return []


@pytest.fixture(scope="session")
def litert_models(video_source: Source, litert_told: list[str], of_this_run: Path, once: Once) -> VideoModels:
    """The small model's graphs for LiteRT, for prompts of one point or two, converted by the first process that wants
    them."""
    found = VideoModels(of_this_run / "litert" / "new", video_source)

    def convert() -> list[str]:
        found.prepare({2, 3}, litert_told.append)
        return litert_told

    litert_told[:] = once("litert", convert)
    return found
