from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.sam2.image_path import workload
from harness.sam2.image_path.workload import Workload, prepare
from harness.sam2.shared import card, image
from harness.sam2.shared.contract import INPUT_NAMES
from harness.sam2.shared.prompt import PromptConstants, encode_points

# The first test waits until the model is converted.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[3]


class Prepare(Protocol):
    """`prepare` with the cache folder, the weights and the model of the `prepared` fixture."""

    def __call__(self, **options: Any) -> Workload: ...


@pytest.fixture
def cache(prepared: Workload) -> Path:
    return prepared.model_path.parent


@pytest.fixture
def prepare_again(cache: Path, small_folder: Path, photo: NDArray[np.uint8]) -> Prepare:
    def call(**options: Any) -> Workload:
        return prepare(cache, **{"photo": photo, "source": str(small_folder), **options})

    return call


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the worker is asked for from now on; it is not started, so the call that asks fails."""
    asked: list[dict[str, Any]] = []

    def refuse(request: dict[str, Any], progress: object) -> None:
        asked.append(request)
        raise InterruptedError

    monkeypatch.setattr(workload, "in_torch", refuse)
    return asked


def test_a_photo_and_a_tap_become_a_model_and_its_four_inputs(
    prepared: Workload, small_folder: Path, photo: NDArray[np.uint8]
) -> None:
    assert list(prepared.inputs) == list(INPUT_NAMES)
    assert prepared.at == (40, 50)
    assert prepared.photo is photo
    assert prepared.provenance == f"folder {small_folder}"
    assert not prepared.is_random
    interpreter = Interpreter(str(prepared.model_path))
    for detail in interpreter.get_input_details():
        array = prepared.inputs[detail["name"]]
        assert array.dtype == np.float32
        assert list(array.shape) == detail["shape"].tolist()
        assert np.isfinite(array).all()


def test_the_tap_is_encoded_in_model_space(prepared: Workload, cache: Path) -> None:
    (constants,) = cache.glob("sam2-prompt-*.npz")
    wanted = encode_points([(40 * 128 / 120, 50 * 128 / 90)], [1], PromptConstants.load(constants))
    np.testing.assert_array_equal(prepared.inputs["sparse_prompt"], wanted)


def test_the_same_again_starts_no_worker_and_gives_the_same(
    prepared: Workload, prepare_again: Prepare, requests: list[dict[str, Any]]
) -> None:
    again = prepare_again(at=(40, 50), progress=pytest.fail)
    assert requests == []
    assert again.model_path == prepared.model_path
    for name, array in prepared.inputs.items():
        np.testing.assert_array_equal(again.inputs[name], array)


def test_another_tap_on_the_same_photo_changes_the_prompt_alone(
    prepared: Workload, prepare_again: Prepare, requests: list[dict[str, Any]]
) -> None:
    other = prepare_again(at=(10, 80))
    assert requests == []
    assert not np.array_equal(other.inputs["sparse_prompt"], prepared.inputs["sparse_prompt"])
    for name in ("image_embeddings", "feat_s1", "feat_s0"):
        np.testing.assert_array_equal(other.inputs[name], prepared.inputs[name])


def test_another_photo_asks_for_features_but_not_for_another_model(
    prepare_again: Prepare, photo: NDArray[np.uint8], requests: list[dict[str, Any]]
) -> None:
    changed = photo.copy()
    changed[0, 0, 0] ^= 1
    with pytest.raises(InterruptedError):
        prepare_again(photo=changed)
    (request,) = requests
    assert set(request) == {"source", "features"}


def test_another_model_asks_for_no_new_features(prepare_again: Prepare, requests: list[dict[str, Any]]) -> None:
    with pytest.raises(InterruptedError):
        prepare_again(weights="float16")
    (request,) = requests
    assert set(request) == {"source", "models"}
    (model,) = request["models"]
    assert (model["kind"], model["weights"]) == ("decoder", "float16")


def test_damaged_features_are_made_again(cache: Path, prepare_again: Prepare, requests: list[dict[str, Any]]) -> None:
    (features,) = cache.glob("sam2-features-*.npz")
    content = features.read_bytes()
    try:
        for damaged in (content[: len(content) // 2], b""):
            features.write_bytes(damaged)
            with pytest.raises(InterruptedError):
                prepare_again()
    finally:
        features.write_bytes(content)
    assert [set(request) for request in requests] == [{"source", "features"}] * 2


def test_a_second_run_imports_no_torch(
    cache: Path, small_folder: Path, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    np.save(tmp_path / "photo.npy", photo)
    script = (
        "import sys, numpy, pathlib\n"
        "from harness.sam2.image_path.workload import prepare\n"
        "folder, photo, source = sys.argv[1:]\n"
        "prepare(pathlib.Path(folder), photo=numpy.load(photo), source=source, progress=sys.exit)\n"
        "sys.exit('torch imported' if {'torch', 'transformers', 'litert_torch'} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(cache), str(tmp_path / "photo.npy"), str(small_folder)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def without_torch(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python without torch, and the decoder as its name was with it."""
    for module in (workload, card):
        monkeypatch.setattr(module, "missing_packages", lambda: ["torch"])
    monkeypatch.setattr(card, "versions", lambda: ["torch absent", "litert-torch absent"])
    (model,) = cache.glob("sam2-decoder-*.tflite")
    return model


def test_without_torch_the_newest_conversion_is_taken_and_its_torch_named(
    cache: Path, prepared: Workload, prepare_again: Prepare, without_torch: Path, requests: list[dict[str, Any]]
) -> None:
    notes: list[str] = []
    again = prepare_again(at=(40, 50), progress=pytest.fail, note=notes.append)
    assert again.model_path == without_torch and requests == []
    for name, array in prepared.inputs.items():
        np.testing.assert_array_equal(again.inputs[name], array)
    torch = importlib.metadata.version("torch")
    assert notes == [f"The decoder was converted earlier, with torch {torch}; this Python has no torch."]

    # One of a newer date is taken before it, and one that is damaged, or of another request, never.
    stem = without_torch.stem[:-8]
    newer = cache / f"{stem}{'0' * 8}.tflite"
    said = json.loads(without_torch.with_suffix(".json").read_text("utf-8"))
    later = time.time() + 100
    made = []
    try:
        for name, whole in ((newer.stem, True), (f"{stem}{'1' * 8}", False), (f"other-{newer.stem}", True)):
            path = cache / f"{name}.tflite"
            made += [path, path.with_suffix(".json")]
            path.write_bytes(without_torch.read_bytes() if whole else b"")
            path.with_suffix(".json").write_text(json.dumps(said | {"made_by": ["torch==9"]}), "utf-8")
            later += 100
            os.utime(path, (later, later))
        assert prepare_again(at=(40, 50), note=notes.append).model_path == newer
        assert notes[1].startswith("The decoder was converted earlier, with torch 9;")
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def test_with_torch_a_conversion_by_another_one_is_not_taken(
    cache: Path, prepare_again: Prepare, requests: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "versions", lambda: ["torch==9"])
    with pytest.raises(InterruptedError):
        prepare_again()
    assert [set(request) for request in requests] == [{"source", "models", "features"}]


def test_without_torch_what_nobody_made_is_asked_for(
    prepare_again: Prepare, without_torch: Path, requests: list[dict[str, Any]]
) -> None:
    with pytest.raises(InterruptedError):
        prepare_again(weights="float16")
    assert [set(request) for request in requests] == [{"source", "models"}]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"made_by": 3}', '{"made_by": ["Python 3"]}'])
def test_a_card_that_does_not_say_its_torch_is_no_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "card.json").write_text(content, "utf-8")
    assert card.torch_of(tmp_path / "card.json") == "another torch"


def test_without_a_tap_the_middle_of_the_photo_is_tapped(prepare_again: Prepare) -> None:
    assert prepare_again().at == (60, 45)


def test_without_a_photo_the_sample_portrait_is_tapped_on_the_face(
    tmp_path: Path, requests: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos: list[NDArray[np.uint8]] = []

    def refuse(request: dict[str, Any], progress: object) -> None:
        photos.append(np.load(request["features"]["photo"]))
        raise InterruptedError

    monkeypatch.setattr(workload, "in_torch", refuse)
    with pytest.raises(InterruptedError):
        prepare(tmp_path, source="random")
    np.testing.assert_array_equal(photos[0], image.sample_photo())
    assert image.SAMPLE_FACE == (266, 228)
    assert requests == []


@pytest.mark.parametrize("at", [(-1, 5), (5, -0.5), (120, 5), (5, 90), (float("nan"), 5)])
def test_a_tap_outside_the_photo_is_refused(tmp_path: Path, photo: NDArray[np.uint8], at: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="outside the photo, which is 120 wide and 90 high"):
        prepare(tmp_path, photo=photo, at=at, source="random")


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_a_photo_of_another_kind_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(UsageError, match="is not RGB"):
        prepare(tmp_path, photo=wrong, source="random")


@pytest.mark.slow
def test_the_published_size_is_prepared_from_random_weights_that_are_said_to_be_so(tmp_path: Path) -> None:
    workload = prepare(tmp_path, source="random", seed=0)
    assert workload.is_random
    assert workload.provenance == "random weights, seed 0 (realistic scale)"
    assert {name: array.shape for name, array in workload.inputs.items()} == {
        "image_embeddings": (1, 256, 64, 64),
        "sparse_prompt": (1, 2, 256),
        "feat_s1": (1, 64, 128, 128),
        "feat_s0": (1, 32, 256, 256),
    }
    for array in workload.inputs.values():
        assert 0.3 < float(array.std()) < 3
