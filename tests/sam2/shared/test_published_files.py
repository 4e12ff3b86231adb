"""Which files of a folder are meant, and what the prompt constants beside them must hold."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import UsageError
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.prompt import POSITIVE, PromptConstants, encode_points
from harness.sam2.shared.published_files import CONSTANTS, PUBLISHED_FILES, choose_files, is_published

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
            f"Several decoders of .* fit: sam2_tiny_mask_decoder_v2.tflite and {V2}. Name one with --variant FILE",
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
    assert {len(file.sha256) for file in PUBLISHED_FILES} == {64}


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
    (tmp_path / CONSTANTS).write_bytes(bytes(size))
    assert PromptConstants.published(tmp_path / CONSTANTS, 256, 1024).posmat.shape == (2, 128)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (VALUES.tobytes()[:-1], "have 191 bytes, not the 192 of a decoder with 16 channels"),
        (VALUES.tobytes() + b"x", "have more than 192 bytes, not the 192"),
        (b"", "have 0 bytes"),
        (VALUES[:-2].tobytes() + np.array([np.nan, np.inf], "<f4").tobytes(), "hold 2 values that are not finite"),
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
