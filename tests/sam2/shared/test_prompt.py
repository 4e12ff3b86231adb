from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.sam2.shared.prompt import PADDING, PromptConstants, encode_points
from tests.sam2.prompt_rounding import one_rounding, upstream_rounding

if TYPE_CHECKING:
    from transformers import Sam2Model


@pytest.fixture(scope="module")
def constants(full_decoder_model: Sam2Model) -> PromptConstants:
    from harness.sam2.shared.weights import prompt_constants

    return prompt_constants(full_decoder_model)


def upstream(
    model: Sam2Model, *, points: Any = None, labels: Any = None, box: Any = None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """transformers' sparse embedding of one prompt, [1, N, 256], and what its formula gives in float64."""
    import torch

    from harness.sam2.image_path.reference import exact_prompt

    asked: dict[str, Any] = {}
    if points is not None:
        asked["input_points"] = torch.tensor(points, dtype=torch.float32)[None, None]
        asked["input_labels"] = torch.tensor(labels)[None, None]
    if box is not None:
        asked["input_boxes"] = torch.tensor(box, dtype=torch.float32)[None, None]
    with torch.no_grad():
        sparse = model.get_prompt_embeddings(**asked)[0]
    return sparse[0].numpy(), exact_prompt(model, asked)


def test_the_constants_have_the_published_shapes(constants: PromptConstants) -> None:
    assert constants.posmat.shape == (2, 128)
    assert constants.point_embed.shape == (4, 256)
    assert constants.not_a_point.shape == (256,)
    assert constants.image_size == 1024


def test_a_single_click_follows_the_published_formula(constants: PromptConstants) -> None:
    got = encode_points([(300.0, 700.0)], [1], constants)
    centred = 2 * (np.array([300.0, 700.0]) + 0.5) / 1024 - 1
    angles = 2 * math.pi * (centred @ constants.posmat.astype(np.float64))
    token = np.concatenate([np.sin(angles), np.cos(angles)]) + constants.point_embed[1]
    assert got.shape == (1, 2, 256)
    assert got.dtype == np.float32
    assert (np.abs(got[0, 0] - token) <= one_rounding(token)).all()
    np.testing.assert_array_equal(got[0, 1], constants.not_a_point)


def test_positive_negative_and_padding_points_are_encoded_as_upstream(
    full_decoder_model: Sam2Model, constants: PromptConstants
) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        points, labels = rng.uniform(0, 1024, (6, 2)), rng.integers(-1, 2, 6)
        wanted, exact = upstream(full_decoder_model, points=points, labels=labels)
        got = encode_points(points, labels.tolist(), constants)
        assert got.shape == wanted.shape == (1, 7, 256)
        assert (np.abs(got - exact) <= one_rounding(exact)).all()
        bound = upstream_rounding([*points, (0, 0)], [*labels, PADDING], constants, exact[0])
        assert (np.abs(wanted[0] - exact[0]) <= bound).all()


def test_the_label_changes_the_token(constants: PromptConstants) -> None:
    positive, negative = (encode_points([(10, 20)], [label], constants) for label in (1, 0))
    wanted = constants.point_embed[1].astype(np.float64) - constants.point_embed[0]
    bound = one_rounding(positive[0, 0].astype(np.float64)) + one_rounding(negative[0, 0].astype(np.float64))
    assert (np.abs(positive[0, 0].astype(np.float64) - negative[0, 0] - wanted) <= bound).all()


def test_a_box_is_its_two_corners(full_decoder_model: Sam2Model, constants: PromptConstants) -> None:
    wanted, exact = upstream(full_decoder_model, box=[100.0, 200.0, 640.5, 900.0])
    points, labels = [(100.0, 200.0), (640.5, 900.0)], [2, 3]
    got = encode_points(points, labels, constants)
    assert (np.abs(got - exact) <= one_rounding(exact)).all()
    bound = upstream_rounding([*points, (0, 0)], [*labels, PADDING], constants, exact[0])
    assert (np.abs(wanted[0] - exact[0]) <= bound).all()


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([], [], "not pairs"),
        ([(1.0, 2.0, 3.0)], [1], "not pairs"),
        ([(1.0, math.nan)], [1], "not all finite"),
        ([(1.0, 2.0)], [1, 1], "do not fit 1 points"),
        ([(1.0, 2.0)], [4], "do not fit 1 points"),
        ([(1.0, 2.0)], [-10], "do not fit 1 points"),
    ],
)
def test_a_prompt_that_makes_no_sense_is_refused(
    points: Any, labels: list[int], message: str, constants: PromptConstants
) -> None:
    with pytest.raises(UsageError, match=message):
        encode_points(points, labels, constants)


def test_constants_survive_being_saved(constants: PromptConstants, tmp_path: Path) -> None:
    constants.save(tmp_path / "constants.npz")
    back = PromptConstants.load(tmp_path / "constants.npz")
    np.testing.assert_array_equal(back.posmat, constants.posmat)
    np.testing.assert_array_equal(back.point_embed, constants.point_embed)
    np.testing.assert_array_equal(back.not_a_point, constants.not_a_point)
    assert back.image_size == 1024
    assert [entry.name for entry in tmp_path.iterdir()] == ["constants.npz"]


def test_pickled_constants_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", posmat=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        PromptConstants.load(tmp_path / "evil.npz")


def test_encoding_prompts_needs_numpy_alone() -> None:
    script = (
        "import sys, harness.sam2, harness.sam2.shared.prompt\n"
        "heavy = {'torch', 'transformers', 'litert_torch', 'ai_edge_litert', 'PIL', 'matplotlib'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=root)
    assert done.returncode == 0, done.stderr
