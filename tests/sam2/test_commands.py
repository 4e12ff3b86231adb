"""`harness sam2 …`: what the words on the command line ask for, what is said, and the exit codes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from harness.cli.sam2 import app
from harness.cli.sam2_options import numbers
from harness.core.errors import EXIT_OK, EXIT_WRONG, UsageError
from harness.core.job import Residency
from harness.graph.ops.audit import Audit
from harness.sam2.image_path.ablate import Ablation
from harness.sam2.image_path.click import Clicked, Mask
from harness.sam2.image_path.fidelity import Fidelity, Figure, FileFacts
from harness.sam2.image_path.pipeline import Decoded, Encoded
from harness.sam2.image_path.workload import Workload
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import CARD, PUBLISHED_V1, RECOMMENDED, VARIANTS, DecoderVariant
from harness.sam2.shared.published_files import ChosenFiles

RANDOM = "random weights, seed 0 (realistic scale)"


def clicked(*logits: float) -> Clicked:
    """An answer whose one mask has these logits."""
    off = Residency(False)
    scores = np.array([0.25], np.float32)
    decoded = Decoded(Tap.at(1, 2), np.array([[logits]], np.float32), scores, "gpu", off, 5.0, "2.3.0", "llvmpipe")
    mask = Mask(decoded, 0.5, Path("mask-1.png"), Path("overlay-1.png"))
    encoded = Encoded({}, "gpu", (off,), 9.0, "2.3.0", "llvmpipe")
    return Clicked(Path("clicked"), (4, 3), "host", encoded, (mask,), RECOMMENDED, RANDOM, True)


def measured(value: float) -> Fidelity:
    """A table with one goal, 0.9996, and this value."""
    clean = Audit({"BATCH_MATMUL": 15, "SOFTMAX": 7, "GELU": 2, "CONV_2D": 2}, 26, 4, 0, (), 1, ())
    figure = Figure("mask IoU", value, goal=0.9996)
    return Fidelity(CARD, RANDOM, True, "portrait", (figure,), (), (FileFacts("decoder float32", 9, clean),))


def said(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `click` was called with, once it was; it answers with a right mask."""
    given: dict[str, Any] = {}

    def click(photo: Path, taps: list[Tap], **options: Any) -> Clicked:
        given.update(options, photo=photo, taps=taps)
        return clicked(1.0, -1.0)

    monkeypatch.setattr("harness.sam2.image_path.click.click", click)
    return given


@pytest.mark.parametrize(
    ("words", "taps"),
    [
        (["--at", "1,2", "--at", "3.5,4"], [Tap.at(1, 2), Tap.at(3.5, 4)]),
        (["--at", "1,2", "--at", "3,4", "--together"], [Tap(((1, 2), (3, 4)))]),
        (["--at", "1,2", "--away", "3,4"], [Tap(((1, 2),), ((3, 4),))]),
        (["--box", "1,2,3,4"], [Tap(box=(1, 2, 3, 4))]),
        (["--at", "1,2", "--away", "5,6", "--box", "1,2,3,4"], [Tap(((1, 2),), ((5, 6),), (1, 2, 3, 4))]),
        ([], []),
    ],
)
def test_points_and_boxes_become_taps(asked: dict[str, Any], words: list[str], taps: list[Tap]) -> None:
    assert said("click", "photo.jpg", *words).exit_code == EXIT_OK
    assert asked["taps"] == taps


@pytest.mark.parametrize(("words", "single"), [(["--single-mask"], True), ([], False)])
def test_a_single_mask_is_asked_for_by_name(asked: dict[str, Any], words: list[str], single: bool) -> None:
    said("click", "photo.jpg", "--at", "1,2", *words)
    assert asked["single"] is single


def test_a_click_runs_the_recommended_decoder_on_the_gpu_unless_told_otherwise(asked: dict[str, Any]) -> None:
    said("click", "photo.jpg", "--at", "1,2")
    assert (asked["encoder"], asked["decoder"], asked["device"]) == ("gpu", "gpu", "host")
    assert (asked["variant"], asked["out"]) == (RECOMMENDED, Path("clicked"))
    said("click", "photo.jpg", "--encoder", "cpu", "--reductions", "whole", "--attention", "rank4", "--out", "there")
    assert (asked["encoder"], asked["decoder"]) == ("cpu", "gpu")
    assert (asked["variant"], asked["out"]) == (DecoderVariant("safe", "rank4", "whole"), Path("there"))


@pytest.mark.parametrize("words", [["--at", "foo"], ["--at", "1,2,3"], ["--away", "1"], ["--box", "1,2,3"]])
def test_what_is_no_position_is_refused(asked: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError, match=rf"'{words[1]}' is not .*\. Write numbers in the photo's pixels\."):
        said("click", "photo.jpg", *words)
    assert asked == {}


def test_numbers_are_read_as_they_are() -> None:
    assert numbers("1,-2.5", 2) == (1.0, -2.5)
    assert math.isnan(numbers("nan,0", 2)[0]), "a tap that is no place in the photo is for `Tap.check` to refuse"


@pytest.mark.parametrize(("logits", "code"), [((1.0, -1.0), EXIT_OK), ((math.nan, math.inf), EXIT_WRONG)])
def test_a_mask_of_no_numbers_is_wrong_and_said_to_be(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, logits: tuple[float, float], code: int
) -> None:
    monkeypatch.setattr("harness.sam2.image_path.click.click", lambda *_, **__: clicked(*logits))
    shown = said("click", "photo.jpg", "--at", "1,2")
    assert shown.exit_code == code
    assert ("2 of the decoder's logits and scores are NaN or infinite" in " ".join(shown.output.split())) is bool(code)
    told = said("click", "photo.jpg", "--at", "1,2", "--json")
    assert told.exit_code == code
    assert json.loads(told.stdout)["masks"][0]["nonfinite"] == 2 * code


def test_every_answer_to_a_click_says_that_weights_are_random(asked: dict[str, Any]) -> None:
    shown = " ".join(said("click", "photo.jpg", "--at", "1,2").output.split())
    assert RANDOM in shown
    assert "Random weights: the masks mean nothing" in shown
    told = json.loads(said("click", "photo.jpg", "--at", "1,2", "--json").stdout)
    assert (told["weights"], told["random_weights"]) == (RANDOM, True)


@pytest.mark.parametrize(
    ("words", "variants"),
    [
        ([], VARIANTS),
        (["--variant", "card", "--variant", "published-v1"], [CARD, PUBLISHED_V1]),
        (["--variant", "plain-dropped"], [DecoderVariant("plain", batch="dropped")]),
    ],
)
def test_an_ablation_is_of_all_variants_or_of_those_named(
    monkeypatch: pytest.MonkeyPatch, words: list[str], variants: list[DecoderVariant]
) -> None:
    asked: dict[str, Any] = {}

    def ablate(device: str, **options: Any) -> Ablation:
        asked.update(options, device=device)
        raise UsageError("stop here")

    monkeypatch.setattr("harness.sam2.image_path.ablate.ablate", ablate)
    with pytest.raises(UsageError, match="stop here"):
        said("ablate", *words)
    assert (asked["device"], list(asked["variants"])) == ("host", list(variants))


def test_a_variant_that_does_not_exist_is_refused_before_anything_runs(asked: dict[str, Any]) -> None:
    for command in (
        ["ablate"],
        ["accuracy"],
        ["fidelity"],
        ["convert", "there"],
        ["click", "photo.jpg", "--at", "1,2"],
    ):
        with pytest.raises(UsageError, match=r"There is no decoder variant 'rank5': 'rank5' is no word for it\."):
            said(*command, "--variant", "rank5")
    assert asked == {}


@pytest.mark.parametrize(("value", "code"), [(0.9997, EXIT_OK), (0.9995, EXIT_WRONG)])
def test_a_missed_goal_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, value: float, code: int) -> None:
    monkeypatch.setattr("harness.sam2.image_path.fidelity.fidelity", lambda **_: measured(value))
    assert said("fidelity").exit_code == code
    told = said("fidelity", "--json")
    assert (told.exit_code, json.loads(told.stdout)["ok"]) == (code, code == EXIT_OK)


@pytest.mark.parametrize(
    ("words", "variant"),
    [
        ([], CARD),
        (["--reductions", "compensated"], RECOMMENDED),
        (["--layernorm", "plain"], DecoderVariant("plain")),
        (["--batch", "dropped"], DecoderVariant(batch="dropped")),
        (["--variant", "published-v1"], PUBLISHED_V1),
        (["--variant", "published-v1", "--batch", "kept"], replace(PUBLISHED_V1, batch="kept")),
        (["--variant", "dropped-split", "--reductions", "whole"], DecoderVariant(batch="dropped")),
    ],
)
def test_the_published_decoder_is_converted_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], variant: DecoderVariant
) -> None:
    asked: dict[str, Any] = {}

    def prepare(cache_dir: Path, **options: Any) -> Workload:
        asked.update(options, cache_dir=cache_dir)
        inputs = {"image_embeddings": np.ones((1, 2), np.float32)}
        return Workload(cache_dir / "decoder.tflite", inputs, np.zeros((3, 4, 3), np.uint8), (1.0, 2.0), RANDOM, True)

    monkeypatch.setattr("harness.cli.demo.prepare", prepare)
    shown = said("convert", str(tmp_path), *words)
    assert shown.exit_code == EXIT_OK
    assert (asked["cache_dir"], asked["variant"], asked["weights"]) == (tmp_path, variant, "float32")
    assert RANDOM in " ".join(shown.output.split())
    with np.load(tmp_path / "inputs.npz") as kept:
        assert kept.files == ["image_embeddings"]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str | None]]:
    """Which folder and which decoder of it `--models` came to; the files themselves are no one's business here."""
    given: list[tuple[Path, str | None]] = []

    def of(folder: Path, wanted: str | None = None) -> Any:
        given.append((folder, wanted))
        return SimpleNamespace(files=ChosenFiles(Path("d"), Path("e"), Path("c"), "Taken: d."))

    monkeypatch.setattr("harness.sam2.image_path.published.PublishedModels.of", of)
    return given


def test_a_folder_of_models_stands_in_for_a_conversion(
    asked: dict[str, Any], opened: list[tuple[Path, str | None]]
) -> None:
    shown = said("click", "photo.jpg", "--at", "1,2", "--models", "there", "--variant", "v1")
    assert (shown.exit_code, opened) == (EXIT_OK, [(Path("there"), "v1")])
    assert asked["models"].files.decoder == Path("d") and "Taken: d." in shown.stderr
    said("click", "photo.jpg", "--at", "1,2", "--models", "own", "--reductions", "split")
    assert asked["models"] is None and len(opened) == 1


@pytest.mark.parametrize("command", [["click", "photo.jpg", "--at", "1,2"], ["accuracy"], ["fidelity"]])
@pytest.mark.parametrize(
    "words", [("--reductions", "split"), ("--weights", "random"), ("--seed", "3"), ("--batch", "kept")]
)
def test_how_a_file_is_written_cannot_be_chosen(
    asked: dict[str, Any], opened: list[tuple[Path, str | None]], command: list[str], words: tuple[str, str]
) -> None:
    with pytest.raises(UsageError, match=f"{words[0]} does not go with --models there"):
        said(*command, "--models", "there", *words)
    assert opened == [] and asked == {}


@pytest.mark.parametrize("command", ["accuracy", "fidelity"])
def test_a_decoder_of_four_masks_is_not_compared_as_one_of_three(command: str) -> None:
    with pytest.raises(UsageError, match="compares the three candidates, and a decoder of variant 'four'"):
        said(command, "--variant", "four")


def test_an_ablation_takes_no_files() -> None:
    with pytest.raises(UsageError, match="`ablate` writes the decoder anew in each way, so --models published has"):
        said("ablate", "--models", "published")


def test_published_models_are_those_that_were_fetched(
    asked: dict[str, Any],
    opened: list[tuple[Path, str | None]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr("harness.sam2.shared.published_files.fetch_published", lambda folder, _: folder)
    said("click", "photo.jpg", "--at", "1,2", "--models", "published")
    assert opened == [(tmp_path / "sam2" / "published", None)]
