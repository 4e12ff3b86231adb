"""Which models the demo takes, and how it ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cli import demo
from harness.cli.demo import Story
from harness.cli.sam2_options import DecoderWords
from harness.core.errors import EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, UsageError
from harness.core.progress import SILENT


@pytest.mark.parametrize(
    ("published", "words", "wanted"),
    [
        (True, {}, ("published", None)),
        (False, {}, "converted"),
        (True, {"weights": "random"}, "converted"),
        (True, {"layernorm": "plain"}, "converted"),
        (True, {"models": "own"}, "converted"),
        (False, {"models": "published"}, ("published", None)),
        (True, {"models": "FOLDER"}, ("FOLDER", "v1")),
    ],
)
def test_files_that_can_be_had_come_before_a_conversion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, published: bool, words: dict[str, str], wanted: object
) -> None:
    (tmp_path / "sam2_tiny_mask_decoder_v2_fp16.tflite").write_text("")
    (tmp_path / "sam2_tiny_mask_decoder_fp16.tflite").write_text("")
    given: dict[str, Any] = {"models": None, "weights": None, "layernorm": None} | words
    if given["models"] == "FOLDER":
        given["models"] = str(tmp_path)

    def files(source: str | None, words: DecoderWords, _: object) -> tuple[str, str | None] | None:
        return None if source in (None, "own") else (source.replace(str(tmp_path), "FOLDER"), words.variant)

    monkeypatch.setattr(demo, "have_published", lambda *_: published)
    monkeypatch.setattr(demo, "published_models", files)
    monkeypatch.setattr(demo, "workload_of", lambda models, **_: models)
    monkeypatch.setattr(demo, "make_workload", lambda *_: "converted")
    assert demo.demo_workload(**given, timeout=1.0, progress=SILENT) == wanted


def test_a_device_that_is_not_there_is_refused_before_models_are_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "demo_workload", lambda *_: pytest.fail("models are made"))
    with pytest.raises(UsageError, match="'no-release' is not a release"):
        demo.tell("host@no-release", None, None, None, tmp_path, 1.0, SILENT)


@pytest.mark.parametrize(
    ("status", "remedies", "code"),
    [
        ("pass", None, EXIT_OK),
        ("culprits", [False, True], EXIT_OK),
        ("culprits", [False], EXIT_WRONG),
        ("unresolved", None, EXIT_UNRESOLVED),
    ],
)
def test_the_code_says_what_the_story_came_to(status: str, remedies: list[bool] | None, code: int) -> None:
    culprits = [] if remedies is None else [SimpleNamespace(remedies=[SimpleNamespace(ok=ok) for ok in remedies])]
    answer = SimpleNamespace(status=status, culprits=culprits)
    assert demo.exit_code(cast("Story", SimpleNamespace(answer=answer))) == code
