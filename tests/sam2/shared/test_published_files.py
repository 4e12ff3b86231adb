"""Which files of a folder are meant, and what the prompt constants beside them must hold."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import StorageError, UsageError
from harness.sam2.shared import published_files
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.prompt import POSITIVE, PromptConstants, encode_points
from harness.sam2.shared.published_files import (
    CONSTANTS,
    PUBLISHED_FILES,
    TRACKER_FILES,
    choose_files,
    fetch_published,
    fetched_published,
    have_published,
    is_published,
)
from harness.sam2.video.contract import GRAPHS
from tests.sites import Site

V1, V2 = "sam2_tiny_mask_decoder_fp16.tflite", "sam2_tiny_mask_decoder_v2_fp16.tflite"
ENCODER = "sam2_tiny_image_encoder_v2_fp16.tflite"


def folder_of(path: Path, *names: str) -> Path:
    """A folder with files of these names and each its own content."""
    for name in names:
        (path / name).write_text(name)
    return path


@pytest.mark.parametrize(
    ("names", "wanted", "decoder", "encoder"),
    [
        ([V2, ENCODER], None, V2, ENCODER),
        ([V1, V2, ENCODER], None, V2, ENCODER),
        ([V1, V2, ENCODER], "v1", V1, ENCODER),
        ([V1, V2, ENCODER], "published-v1", V1, ENCODER),
        ([V1, V2, ENCODER], V1, V1, ENCODER),
        (
            ["sam2_mask_decoder_fp16.tflite", "sam2_image_encoder_v2_fp16.tflite"],
            None,
            "sam2_mask_decoder_fp16.tflite",
            "sam2_image_encoder_v2_fp16.tflite",
        ),
        (
            [V2, "sam2_tiny_mask_decoder_v2.tflite", ENCODER, "sam2_tiny_image_encoder_v2_fp32.tflite"],
            "sam2_tiny_mask_decoder_v2.tflite",
            "sam2_tiny_mask_decoder_v2.tflite",
            "sam2_tiny_image_encoder_v2_fp32.tflite",
        ),
        ([V2, ENCODER, "sam2_tiny_image_encoder.tflite", "other.tflite", "sam2-decoder.tflite"], None, V2, ENCODER),
    ],
)
def test_the_files_of_the_published_names_are_found(
    tmp_path: Path, names: list[str], wanted: str | None, decoder: str, encoder: str
) -> None:
    found = choose_files(folder_of(tmp_path, CONSTANTS, *names), wanted)
    assert (found.decoder.name, found.encoder.name, found.constants.name) == (decoder, encoder, CONSTANTS)
    for name in names:
        is_one = "sam2_" in name and name not in (decoder, encoder)
        assert (f" {name}" in found.chosen.partition("not")[2]) is is_one
    assert bool(found.chosen) is any("sam2_" in name for name in {*names} - {decoder, encoder})


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        ([ENCODER, CONSTANTS], None, r"has no decoder \(sam2_tiny_mask_decoder\*\.tflite\)"),
        ([V2, CONSTANTS], None, r"has no encoder \(sam2_tiny_image_encoder\*\.tflite\)"),
        ([V2, ENCODER], None, f"has no {CONSTANTS}"),
        ([V2, ENCODER, CONSTANTS], "v1", rf"No decoder 'v1' is in .*: it has {V2} \(v2\)"),
        (
            [V2, "sam2_tiny_mask_decoder_v2.tflite", ENCODER, CONSTANTS],
            None,
            f"Several decoders of .* fit: sam2_tiny_mask_decoder_v2.tflite and {V2}. Leave one in the folder, or name",
        ),
        (
            [V2, ENCODER, "sam2_image_encoder_v2_fp16.tflite", CONSTANTS],
            None,
            f"Several encoders of .* fit: sam2_image_encoder_v2_fp16.tflite and {ENCODER}",
        ),
    ],
)
def test_what_is_missing_or_open_is_one_sentence(
    tmp_path: Path, names: list[str], wanted: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        choose_files(folder_of(tmp_path, *names), wanted)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The folder '.*nowhere' of models does not exist\. Put the files of litert"):
        choose_files(tmp_path / "nowhere")


def test_two_names_of_one_content_are_one_file(tmp_path: Path) -> None:
    folder_of(tmp_path, V2, ENCODER, CONSTANTS)
    (tmp_path / "sam2_mask_decoder_v2_fp16.tflite").write_bytes((tmp_path / V2).read_bytes())
    assert choose_files(tmp_path).decoder.read_bytes() == (tmp_path / V2).read_bytes()


def test_a_pipe_is_no_model_and_not_waited_for(tmp_path: Path) -> None:
    folder_of(tmp_path, ENCODER, CONSTANTS)
    os.mkfifo(tmp_path / V2)
    with pytest.raises(UsageError, match="has no decoder"):
        choose_files(tmp_path)


def test_only_files_of_the_known_digests_are_called_published(tmp_path: Path) -> None:
    assert not is_published([folder_of(tmp_path, V2) / V2])
    assert {len(file.sha256 or "") for file in PUBLISHED_FILES} == {64}


VALUES = np.random.default_rng(3).standard_normal(3 * 16).astype("<f4")


def constants(path: Path, content: bytes) -> PromptConstants:
    (path / CONSTANTS).write_bytes(content)
    return PromptConstants.published(path / CONSTANTS, 16, 64)


def test_the_constants_lie_as_published(tmp_path: Path) -> None:
    found = constants(tmp_path, VALUES.tobytes())
    np.testing.assert_array_equal(found.posmat, VALUES[:16].reshape(2, 8))
    np.testing.assert_array_equal(found.point_embed[POSITIVE], VALUES[16:32])
    np.testing.assert_array_equal(found.not_a_point, VALUES[32:])
    assert (found.image_size, found.labels) == (64, (POSITIVE,))


def test_the_published_constants_have_as_many_bytes_as_the_file(tmp_path: Path) -> None:
    (size,) = [file.bytes for file in PUBLISHED_FILES if file.name == CONSTANTS]
    (tmp_path / CONSTANTS).write_bytes(np.ones(size // 4, "<f4").tobytes())
    assert PromptConstants.published(tmp_path / CONSTANTS, 256, 1024).posmat.shape == (2, 128)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (VALUES.tobytes()[:-1], "have 191 bytes, not the 192 of a decoder with 16 channels"),
        (VALUES.tobytes() + b"x", "have more than 192 bytes, not the 192"),
        (b"", "have 0 bytes"),
        (VALUES[:-2].tobytes() + np.array([np.nan, np.inf], "<f4").tobytes(), "hold 2 values that are not finite"),
        (bytes(192), "hold nothing but zeros for one of the three"),
    ],
)
def test_constants_of_another_size_or_without_numbers_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        constants(tmp_path, content)


def test_a_point_beside_the_object_or_a_box_has_no_embedding(tmp_path: Path) -> None:
    found = constants(tmp_path, VALUES.tobytes())
    assert np.isfinite(encode_points([(3, 4)], [1], found)).all()
    for tap, what in ((Tap(((3, 4),), ((5, 6),)), "a point beside the object"), (Tap(box=(1, 2, 3, 4)), "a box")):
        with pytest.raises(UsageError, match=f"no embedding of {what}.*--models own"):
            tap.encode((10, 10), found)


class Stages:
    """The stages that were told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.notes: list[str] = []

    def stage(self, what: str, expected_seconds: float) -> None:
        self.told.append(what)

    def fraction(self, done: float) -> None:
        pass

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


def test_the_published_files_are_fetched_by_revision_and_digest_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(200)) * 1000
    digest = hashlib.sha256(data).hexdigest()
    pinned = [replace(file, bytes=len(data), sha256=digest) for file in PUBLISHED_FILES]
    monkeypatch.setattr("harness.sam2.shared.published_files.PUBLISHED_FILES", pinned)
    stages = Stages()
    with Site(data) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.address(""))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        assert not fetched_published(tmp_path)
        assert fetch_published(tmp_path, stages) == fetch_published(tmp_path, stages) == tmp_path
    assert site.paths == [f"/{file.repository}/resolve/{file.revision}/{file.name}" for file in PUBLISHED_FILES]
    assert stages.told[0] == "fetching sam2_tiny_image_encoder_v2_fp16.tflite (0 MB, once)"
    assert len(stages.told) == 3 and fetched_published(tmp_path)
    (tmp_path / CONSTANTS).write_bytes(data[:-1])
    assert not fetched_published(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=f"{CONSTANTS} is not in .* while HF_HUB_OFFLINE is set.*--models FOLDER"):
        fetch_published(tmp_path)


def test_without_an_answer_the_published_files_are_not_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(UsageError, match=r"v2_fp16\.tflite cannot be reached .*--models FOLDER"):
        fetch_published(tmp_path)


def test_a_password_in_the_endpoint_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://someone:secret@127.0.0.1:1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(UsageError) as caught:
        fetch_published(tmp_path)
    assert "HF_ENDPOINT has a user or a password in it" in caught.value.message
    assert "secret" not in str(caught.value)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What the published files are for this test, and a hub may be asked."""
    data = bytes(range(200)) * 10
    digest = hashlib.sha256(data).hexdigest()
    files = [replace(file, bytes=len(data), sha256=digest) for file in PUBLISHED_FILES]
    monkeypatch.setattr("harness.sam2.shared.published_files.PUBLISHED_FILES", files)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return data


def test_published_files_that_can_be_had_are_fetched_and_then_nobody_is_asked(
    pinned: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages()
    with Site(pinned) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.address(""))
        assert have_published(tmp_path, stages)
    assert len(stages.told) == 3 and fetched_published(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert have_published(tmp_path, stages)
    assert (len(stages.told), stages.notes) == (3, [])


def test_a_hub_that_never_answers_is_given_up_in_a_sentence(
    pinned: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_files, "_PROBE_SECONDS", 0.5)
    stages, start = Stages(), time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert not have_published(tmp_path, stages)
    assert time.monotonic() - start < 5
    assert (stages.told, stages.notes) == ([], [f"The published files cannot be had: {address} does not answer."])


@pytest.mark.parametrize("offline", [True, False])
def test_files_that_cannot_be_had_are_told_once_and_no_error(
    pinned: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    stages = Stages()
    with Site(b"another file") as site:
        monkeypatch.setenv("HF_ENDPOINT", site.address(""))
        if offline:
            monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not have_published(tmp_path, stages)
    (note,) = stages.notes
    assert note.startswith("The published files cannot be had: ")
    assert ("while HF_HUB_OFFLINE is set" in note) is offline and bool(site.paths) is not offline


def test_a_folder_that_cannot_be_written_is_an_error(
    pinned: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with Site(pinned) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.address(""))
        with pytest.raises(StorageError):
            have_published(tmp_path / "file" / "folder")


def test_a_file_whose_digest_is_not_known_is_refused_before_any_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(b"graph") as site:
        monkeypatch.setenv("HF_ENDPOINT", site.address(""))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        known = replace(TRACKER_FILES[0], revision="abc", bytes=5, sha256=hashlib.sha256(b"graph").hexdigest())
        said = (
            r"mask_decoder\.onnx of square-zero-labs/.* its SHA-256 is not known here, and nothing is taken unchecked"
        )
        with pytest.raises(UsageError, match=said):
            fetch_published(tmp_path, files=[known, TRACKER_FILES[1]])
        assert site.paths == [] and not list(tmp_path.iterdir())
        fetch_published(tmp_path, files=[known])
    assert site.paths == [f"/{known.repository}/resolve/abc/onnx/vision_encoder.onnx"]
    assert (tmp_path / "onnx" / "vision_encoder.onnx").read_bytes() == b"graph"
    assert [file.name for file in TRACKER_FILES] == [*(f"onnx/{graph}.onnx" for graph in GRAPHS), "constants.json"]
