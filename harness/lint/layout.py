"""Where the ML Drift delegate puts a tensor's axes among its own four: batch (B), height (H), width (W), channels (C).

The source is google-ai-edge/LiteRT, folder `ml_drift_delegate/tflite`. `ExtractTensorShape` (model_builder_helper.cc)
aligns run-time tensors left: [a] is B, [a, b] is B and C, [a, b, c] is B, W and C. `ParseInputsWithConstTensor`
(model_builder.cc) aligns float constants of element-wise ops right: [a] is C, [a, b] is W and C, [a, b, c] is H, W
and C. `AddConstInput` (object_reader.cc) leaves integer and boolean constants at the left. An operand is read wrongly
where one of its axes and the result's axis that it belongs to lie in different places.
"""

from __future__ import annotations

from typing import Literal

Side = Literal["left", "right"]
MAX_RANK = 4
_LEFT = ("", "B", "BC", "BWC", "BHWC")
_RIGHT = ("", "C", "WC", "HWC", "BHWC")


def misplaced_axes(shape: tuple[int, ...], side: Side, result_rank: int) -> tuple[int, ...]:
    """Axes of an operand of this shape that do not lie where the result's do; an axis of size 1 lies anywhere.

    `side` is where the delegate aligns the operand; results are aligned left. `len(shape) <= result_rank <= 4`.
    """
    places = (_LEFT if side == "left" else _RIGHT)[len(shape)]
    wanted = _LEFT[result_rank][result_rank - len(shape) :]
    return tuple(axis for axis, size in enumerate(shape) if size > 1 and places[axis] != wanted[axis])
