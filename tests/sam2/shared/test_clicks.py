from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from harness.core.errors import UsageError
from harness.sam2.image_path.reference import exact_prompt, upstream_prompt
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.prompt import PADDING, PromptConstants
from harness.sam2.shared.weights import prompt_constants
from tests.sam2.prompt_rounding import one_rounding, upstream_rounding

if TYPE_CHECKING:
    from transformers import Sam2Model

SHAPE = (90, 120, 3)
TAPS = (
    Tap.at(40, 50),
    Tap(((40, 50), (7.5, 80.25))),
    Tap(((40, 50),), ((119.9, 0),)),
    Tap(box=(3, 4.5, 120, 90)),
    Tap(((40, 50),), ((1, 2), (5, 6)), (10, 10, 60, 70)),
)


@pytest.fixture(scope="module")
def constants(small_model: Sam2Model) -> PromptConstants:
    return prompt_constants(small_model)


@pytest.mark.parametrize("tap", TAPS, ids=str)
def test_a_tap_is_encoded_as_upstream_does(small_model: Sam2Model, constants: PromptConstants, tap: Tap) -> None:
    asked = upstream_prompt(tap, SHAPE, 128)
    wanted = small_model.get_prompt_embeddings(
        asked.get("input_points"), asked.get("input_labels"), asked.get("input_boxes")
    )[0]
    got = tap.encode(SHAPE, constants)
    assert got.shape == (1, tap.tokens, 64)
    exact = exact_prompt(small_model, asked)
    assert (np.abs(got - exact) <= one_rounding(exact)).all()
    points, labels = tap.labelled(SHAPE, 128)
    bound = upstream_rounding([*points, (0, 0)], [*labels, PADDING], constants, exact[0])
    assert (np.abs(wanted[0, 0].numpy() - exact[0]) <= bound).all()


@pytest.mark.parametrize("tap", TAPS, ids=str)
def test_points_are_scaled_as_upstreams_processor_does(tap: Tap) -> None:
    from transformers.models.sam2.processing_sam2 import Sam2Processor

    # Its constructor wants an image processor, which needs torchvision; scaling points does not.
    processor = Sam2Processor.__new__(Sam2Processor)
    processor.target_size, processor.point_pad_value = 128, -10
    points = [list(map(float, point)) for point in (*tap.positive, *tap.negative)]
    labels = [1] * len(tap.positive) + [0] * len(tap.negative)
    given = {"input_points": [[points]], "input_labels": [[labels]]} if points else {}
    if tap.box is not None:
        given["input_boxes"] = [[list(map(float, tap.box))]]
    wanted = processor(original_sizes=[list(SHAPE[:2])], return_tensors="pt", **given)
    got = upstream_prompt(tap, SHAPE, 128)
    assert set(got) == set(given)
    for name, tensor in got.items():
        assert torch.equal(tensor, wanted[name]), name


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        (Tap(), "asks for nothing"),
        (Tap.at(120, 50), r"The tap \(120, 50\) is outside the photo, which is 120 wide and 90 high"),
        (Tap.at(-0.1, 5), "is outside the photo"),
        (Tap.at(math.nan, 5), "is outside the photo"),
        (Tap(((1, 1),), ((5, 90),)), r"The tap \(5, 90\) is outside"),
        (Tap(box=(10, 10, 10, 20)), r"The box \(10, 10, 10, 20\) is not one"),
        (Tap(box=(20, 10, 10, 20)), "is not one"),
        (Tap(box=(0, 0, math.inf, 20)), "is not one"),
        (Tap(box=(0, 0, 121, 20)), r"The box \(0, 0, 121, 20\) reaches outside the photo"),
        (Tap(((1, 1),) * 33), "A tap of 33 points is too much"),
    ],
    ids=str,
)
def test_a_tap_that_cannot_be_asked_is_refused(tap: Tap, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tap.check(SHAPE)


@pytest.mark.parametrize("tap", TAPS, ids=str)
def test_a_tap_survives_being_written_down(tap: Tap) -> None:
    assert Tap.from_json(tap.to_json()) == tap


def test_a_box_counts_as_two_tokens_and_the_padding_as_one() -> None:
    assert [tap.tokens for tap in TAPS] == [2, 3, 3, 3, 6]
