"""What can be chosen: photos, decoders, back ends, and what is known of the ops that break them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.core.errors import UsageError
from harness.core.run_folder import RunFolder
from harness.sam2.image_path.pipeline import Models
from harness.sam2.image_path.tap_page.choices import (
    BackEnd,
    back_ends,
    first_choice,
    own_decoders,
    published_decoders,
)
from harness.sam2.image_path.tap_page.ops import found_in, known_run
from harness.sam2.image_path.tap_page.photos import MASK_SIDE, Photos, mask_shape, picture


def save(path: Path) -> None:
    Image.new("RGB", (4, 3)).save(path)


def test_a_folder_offers_its_own_photos_alone(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.JPG"):
        save(folder / name)
    (folder / "notes.txt").write_text("text")
    save(tmp_path / "outside.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "inner.png").symlink_to(folder / "b.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    photos = Photos.of(folder)
    assert photos.names == ("a.JPG", "b.png", "inner.png")
    assert photos.load("b.png").shape == (3, 4, 3)
    with pytest.raises(UsageError, match=r"no photo 'link\.png'"):
        photos.load("link.png")


def test_what_is_there_and_no_photo_is_called_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UsageError, match="is neither a file nor a folder"):
        Photos.of(tmp_path / "pipe.png")
    with pytest.raises(UsageError, match="does not exist"):
        Photos.of(tmp_path / "none.png")


def test_of_many_photos_the_first_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sam2.image_path.tap_page.photos.MOST_PHOTOS", 2)
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name)
    photos = Photos.of(tmp_path)
    assert (photos.names, photos.left_out) == (("a.png", "b.png"), 1)


def test_large_photos_are_shown_smaller() -> None:
    photo = np.zeros((4000, 3000, 3), np.uint8)
    assert mask_shape(photo) == (MASK_SIDE, 768)
    assert mask_shape(photo[:90, :120]) == (90, 120)
    assert mask_shape(np.zeros((1, 9000, 3), np.uint8)) == (1, MASK_SIDE)
    assert picture(photo[:10, :10]).startswith(b"\xff\xd8")


def test_each_device_has_three_back_ends() -> None:
    ends = back_ends(["host", "web", "host"])
    assert [end.key for end in ends[:4]] == ["host/gpu", "host/gpu/fp32", "host/cpu", "web/gpu"] and len(ends) == 6
    assert [end.label for end in ends[:3]] == ["host: GPU, float16", "host: GPU, float32", "host: CPU"]
    assert [(end.options.accelerator, end.options.precision) for end in ends[:2]] == [
        ("gpu", "default"),
        ("gpu", "fp32"),
    ]


def test_own_decoders_are_the_named_ones_or_those_of_its_history(small_folder: Path, tmp_path: Path) -> None:
    models = Models.of(tmp_path, str(small_folder))
    every = own_decoders(models, ())
    assert [choice.key for choice in every] == ["published-v1", "card", "recommended"]
    assert first_choice(every, named=False) == "recommended"
    named = own_decoders(models, ("card", "plain-rank4"))
    assert [choice.label for choice in named] == ["card", "plain-rank4-whole"]
    assert first_choice(named, named=True) == "card"
    assert every[0].to_json()["why_not"] == {}
    with pytest.raises(UsageError, match="no decoder variant"):
        own_decoders(models, ("none",))


def test_published_decoders_are_the_files_oldest_first(published_folder: Path) -> None:
    every = published_decoders(published_folder, ())
    assert [choice.label for choice in every] == ["sam2_tiny_mask_decoder_fp16", "sam2_tiny_mask_decoder_v2_fp16"]
    assert [choice.label for choice in published_decoders(published_folder, ("v2",))] == [every[1].label]
    told = every[0].to_json()["why_not"]
    assert "takes a prompt of 2 tokens" in told["more"]
    assert all(told[name] for name in ("negative", "box"))


def finished(results: Path, model: Path, **changes: Any) -> Path:
    """A localization that found an op, in a results folder."""
    result = {
        "status": "culprits",
        "certified": True,
        "outputs": [{"name": "y", "ok": False, "verdict": "wrong"}],
        "culprits": [{"ops": [3, 3], "op": "ADD", "output": "z", "cause": "kernel", "ratio": 40.0}],
        "device": {"name": "host", "kind": "host", "runtime": "2.1.5", "gpu": "llvmpipe"},
        "model": {"path": str(model), "sha256": "a" * 64, "ops": 9},
    }
    with RunFolder.create(results, "localize", str(model), "host") as run:
        kept = {"model": result["model"], "options": {"accelerator": "gpu", "precision": "default"}, "result": result}
        run.save(**kept)
        (run.path / "report.html").write_text("<!doctype html>")
    run.save(**changes)
    record = json.loads((run.path / "run.json").read_text("utf-8"))
    assert record["status"] == changes.get("status", "done")
    return run.path


def test_an_earlier_localization_of_the_same_model_there_is_known(tmp_path: Path) -> None:
    model, gpu = tmp_path / "model.tflite", BackEnd("host", "gpu")
    model.write_bytes(b"")
    os.utime(model, (1, 1))
    results = tmp_path / "results"
    assert known_run(results, model, "a" * 64, gpu) is None
    folder = finished(results, model)
    assert known_run(results, model, "a" * 64, gpu) == folder
    assert known_run(results, tmp_path / "copy.tflite", "a" * 64, gpu) == folder
    assert known_run(results, model, "b" * 64, gpu) == folder  # the run's model had its constants folded
    os.utime(model)
    os.utime(folder / "run.json", (9, 9))
    assert known_run(results, model, "b" * 64, gpu) is None  # another file of that name by now
    for other in (BackEnd("host", "cpu"), BackEnd("host", "gpu", "fp32"), BackEnd("web", "gpu")):
        assert known_run(results, model, "a" * 64, other) is None
    with_help = finished(
        results, model, options={"accelerator": "gpu", "precision": "default", "fallback": "cpu"}
    )  # what the CPU has a share in says nothing of the GPU alone
    assert known_run(results, model, "a" * 64, gpu) == folder != with_help
    found = found_in(folder)
    assert found["status"] == "culprits" and found["report"] == f"run/{folder.name}/report.html"
    assert found["culprits"] == [{"op": "ADD #3", "cause": "kernel", "error": "40.0× what rounding explains"}]


def test_what_is_not_finished_is_not_known(tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    finished(tmp_path / "results", model, status="failed", error="It crashed.")
    (finished(tmp_path / "results", model) / "report.html").unlink()
    assert known_run(tmp_path / "results", model, "a" * 64, BackEnd("host", "gpu")) is None
