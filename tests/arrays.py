"""Short ways to write down arrays, and what the tests call values by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.graph.model import Model

Values = dict[str, NDArray[Any]]
Evaluate = Callable[[Model, Values], Values]


def f32(values: ArrayLike) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def i32(values: ArrayLike) -> NDArray[np.int32]:
    return np.asarray(values, np.int32)


def normal(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    """Standard normal values times `scale`."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
