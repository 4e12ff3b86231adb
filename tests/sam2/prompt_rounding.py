"""How far `transformers`' float32 prompt may be from its own formula, whatever CPU and BLAS computed it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.sam2.shared.prompt import PADDING, PromptConstants

UNIT = 2.0**-24
"""The unit roundoff u of float32: one operation's result is off by at most u times its size."""


def upstream_rounding(
    points: ArrayLike, labels: ArrayLike, constants: PromptConstants, exact: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A bound on |upstream's float32 prompt - exact|, [N, C], for N float32 points [N, 2] and their labels; a padding
    point is a constant and has none.

    Step by step, as upstream computes it, to first order in u:

    - b = (p + 0.5) / side has two roundings: 2u|b|. Doubling is exact, and c = 2b - 1 has one: δc = 4u|b| + u|c|.
    - t = c₁W₁ + c₂W₂: in any order, fused or not, a term has at most two roundings: δt = Σ|W|δc + 2u Σ|cW|.
    - θ = 2π t, the constant rounded to float32 and the product rounded: δθ = 2π δt + 2u|θ|.
    - Sine and cosine pass on no more than δθ, for their derivative is at most 1; the routines that torch calls are
      right within one unit in the last place, which is at most u for results below 1, and 2u at 1.
    - The sum with the label's embedding has one rounding: u times the result.

    The terms in u², and the rounding of this computation, are below a thousandth of that.
    """
    matrix = np.abs(constants.posmat.astype(np.float64))
    unit = (np.asarray(points, np.float32).astype(np.float64) + 0.5) / constants.image_size
    centred = 2 * unit - 1
    off_centred = 4 * UNIT * np.abs(unit) + UNIT * np.abs(centred)
    off_turns = off_centred @ matrix + 2 * UNIT * (np.abs(centred) @ matrix)
    off_angles = 2 * np.pi * off_turns + 2 * UNIT * 2 * np.pi * (np.abs(centred) @ matrix)
    bound: NDArray[np.float64] = np.tile(off_angles, 2) + 2 * UNIT + UNIT * np.abs(exact)
    return np.where((np.asarray(labels) == PADDING)[:, None], 0.0, 1.001 * bound)


def one_rounding(exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the spacing of float32 at each value, and a millionth of it for the float64 computation's own error."""
    return 0.500001 * np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
