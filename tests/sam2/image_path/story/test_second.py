"""Which second version the story finds beside the first, and what it says where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.sam2.image_path.published import PublishedModels
from harness.sam2.image_path.story.second import SecondDecoder, successor, versions_of
from harness.sam2.image_path.workload import Workload
from harness.sam2.shared.contract import DecoderVariant
from tests import story_decoder
from tests.story_decoder import FIRST, SECOND


def nothing() -> SecondDecoder:
    raise AssertionError("files are not converted")


@pytest.fixture
def first(tmp_path: Path) -> Workload:
    """What the first decoder of a folder of both is run with."""
    models = PublishedModels.of(story_decoder.published(tmp_path), "v1")
    work = story_decoder.workload(tmp_path)
    return replace(work, model_path=tmp_path / FIRST, file=FIRST, prompt=models.constants())


def test_of_files_the_second_version_is_the_one_in_the_folder(first: Workload, tmp_path: Path) -> None:
    versions = versions_of(first, nothing)
    assert versions.localized == "v1" and versions.note == "" and versions.second is not None
    assert (versions.second.version, versions.second.model) == ("v2", tmp_path / SECOND)
    assert versions.second.ports == PublishedModels.of(tmp_path, "v2").decoder_file.ports


def test_a_second_version_that_takes_other_features_is_not_run_on_these(first: Workload) -> None:
    other = {name: values[:, :, :1] for name, values in first.features.items()}
    versions = versions_of(replace(first, features=other), nothing)
    assert versions.second is None
    assert versions.note.startswith(
        f"The v2 beside it cannot be run on the same inputs: {SECOND} takes image_embeddings"
    )


def test_the_first_version_by_itself_says_so(tmp_path: Path) -> None:
    work = replace(story_decoder.workload(tmp_path), model_path=tmp_path / FIRST, file=FIRST)
    work.model_path.write_bytes(b"")
    versions = versions_of(work, nothing)
    assert (versions.localized, versions.second) == ("v1", None)
    assert versions.note == f"There is no second version: {str(tmp_path)!r} holds {FIRST} alone."


def test_the_second_version_by_itself_is_called_that_and_the_first_asked_for(tmp_path: Path) -> None:
    work = replace(story_decoder.workload(tmp_path), model_path=tmp_path / SECOND, file=SECOND)
    work.model_path.write_bytes(b"")
    versions = versions_of(work, nothing)
    assert (versions.localized, versions.second) == ("v2", None)
    assert versions.note.startswith(f"Only the second version is there, {SECOND}")
    assert FIRST in versions.note and "--models FOLDER" in versions.note


def test_a_conversion_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    def refuse() -> SecondDecoder:
        raise UsageError("This needs torch.", "Install it.")

    versions = versions_of(story_decoder.workload(tmp_path), refuse)
    assert versions.second is None and versions.note == "The second version was not converted: This needs torch."


@pytest.mark.parametrize("layernorm", ["safe", "plain"])
def test_the_successor_differs_in_rank_and_batch_alone(layernorm: str) -> None:
    first = DecoderVariant(layernorm=layernorm, batch="dropped")  # type: ignore[arg-type]
    assert successor(first) == DecoderVariant(layernorm=layernorm, attention="rank4")  # type: ignore[arg-type]
