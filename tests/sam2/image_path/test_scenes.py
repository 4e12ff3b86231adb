from __future__ import annotations

import numpy as np
import pytest

from harness.sam2.image_path.scenes import all_scenes, drawn


def test_there_are_a_portrait_and_five_drawn_scenes_with_taps_inside() -> None:
    scenes = all_scenes()
    assert [scene.name for scene in scenes] == ["portrait", *(f"drawn {seed}" for seed in range(5))]
    for scene in scenes:
        assert scene.photo.dtype == np.uint8
        scene.tap.check(scene.photo.shape)


@pytest.mark.parametrize("seed", range(5))
def test_a_scene_is_textured_and_tapped_on_a_plain_shape(seed: int) -> None:
    scene = drawn(seed)
    assert scene.photo.shape == (480, 640, 3)
    x, y = (round(place) for place in scene.tap.positive[0])
    assert not scene.photo[y - 5 : y + 6, x - 5 : x + 6].std(axis=(0, 1)).any()
    assert scene.photo.std() > 20


def test_the_same_seed_draws_the_same_and_another_seed_another() -> None:
    assert np.array_equal(drawn(3).photo, drawn(3).photo)
    assert not np.array_equal(drawn(3).photo, drawn(4).photo)
