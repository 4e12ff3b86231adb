"""Why a culprit is wrong, as far as its values alone tell; experiments on the device come on top (see `classify`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from harness.core.arrays import Array
from harness.core.visible import counted
from harness.graph.model import Graph
from harness.graph.ops.work import reduction_length
from harness.localize.base.op_record import OpRecord
from harness.numerics.fp16 import LARGEST, peak
from harness.numerics.metrics import Comparison
from harness.numerics.tolerance import Judgement
from harness.remedies.cause import Cause

# The least side of an image that OpenCL's embedded profile (CL_DEVICE_IMAGE2D_MAX_WIDTH) and OpenGL ES 3.0
# (GL_MAX_TEXTURE_SIZE) promise; WebGPU promises 8,192 and 65,535 workgroups. What fails below is no limit.
SMALLEST_LIMIT = 2048
ErrorKind = Literal["nonfinite", "beyond", "flushed", "unrelated", "imprecise"]

_PRODUCTS = ("BATCH_MATMUL", "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_SUMS = ("MEAN", "SUM", "SOFTMAX", "L2_NORMALIZATION", "AVERAGE_POOL_2D", "CUMSUM")
REDUCTIONS = frozenset((*_PRODUCTS, *_SUMS))

# Ops that by their definition round at most once on the way to each of their results, so that an error of many
# roundings has another cause. Every result is an operand's value, its place, 0 or 1 …
_CHOOSES = (
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "CONCATENATION",
    "PACK", "UNPACK", "TILE", "BROADCAST_TO", "PAD", "PADV2", "MIRROR_PAD", "GATHER", "GATHER_ND", "EMBEDDING_LOOKUP",
    "ONE_HOT", "FILL", "REVERSE_V2", "REVERSE_SEQUENCE", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND",
    "BATCH_TO_SPACE_ND", "RESIZE_NEAREST_NEIGHBOR", "DYNAMIC_UPDATE_SLICE", "SELECT", "SELECT_V2", "TOPK_V2", "MAXIMUM",
    "MINIMUM", "REDUCE_MAX", "REDUCE_MIN", "MAX_POOL_2D", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ABS", "NEG",
)  # fmt: skip
# … or one sum, difference or product of two, which every float arithmetic rounds once. Not a quotient or a root, which
# GPUs compute in steps.
_COMPUTES_ONCE = ("ADD", "SUB", "MUL", "SQUARE", "LEAKY_RELU", "PRELU")
ONE_ROUNDING = frozenset((*_CHOOSES, *_COMPUTES_ONCE))

# Float16's roundings of 65504 / n: that of the quotient, and that of 1 / n where it is multiplied by instead.
_TWO_ROUNDINGS = 2.0**-10
# Below this the result is not an imprecise version of the right one, but another one.
_UNRELATED = 0.9


def kind_of_error(judgement: Judgement, *, half: bool) -> ErrorKind:
    """What sort of wrong a result is: `nonfinite` where the exact one is finite; exact values `beyond` float16's range;
    right but for values `flushed` towards zero; `unrelated` to the exact one (cosine below 0.9, or a number that
    float16 cannot hold, which no overflow makes: it leaves infinity); `imprecise`."""
    actual = judgement.actual
    if half and not_computed(actual):
        return "unrelated"
    if actual.nonfinite:
        return "nonfinite"
    if half and actual.flushed and judgement.ok:
        return "flushed"
    if half and max(map(abs, actual.reference_range)) > LARGEST:
        return "beyond"
    return "unrelated" if actual.cosine < _UNRELATED else "imprecise"


def not_computed(seen: Comparison) -> bool:
    """Whether float16 arithmetic cannot have made some of the values: finite ones beyond twice 65504 where no exact one
    is over that. They are what the memory held, or were read as another type."""
    actual, exact = (max(map(abs, ends)) for ends in (seen.range, seen.reference_range))
    return bool(exact <= LARGEST and 2 * LARGEST < actual < np.inf)


def cause_of(
    record: OpRecord, *, half: bool, reduction: int | None, beyond: bool = False, fed: float = 0.0
) -> tuple[Cause, str | None]:
    """(cause, signature) of a culprit. `beyond`: the runtime says of a run that it went beyond a limit of the device,
    and the op is large enough for that. `fed`: the largest finite magnitude among the model's inputs that it reads.

    `underflow`: within bounds but for values that float16 cannot hold, whose loss an output does not bear.
    `overflow`: NaN or infinity where the exact result is finite, under float16 storage; or anything that is made of an
    input which float16 does not hold, such as 0 where a RELU meets NaN; or a mean whose sum stays at 65504. `kernel`:
    the result has little to do with the exact one. `accumulation`: an op that sums `reduction` products is imprecise
    beyond storage under float16. `rounding`: any other imprecision. An op that rounds once at most and is over its
    limit has lost more than digits: `kernel`. `limits`: all zeros, and `beyond`.
    """
    assert record.local is not None
    actual = record.local.actual
    largest = max(map(abs, actual.reference_range))
    kind = kind_of_error(record.local, half=half)
    if half and fed > LARGEST and kind != "flushed":
        return Cause.OVERFLOW, f"an input reaches {fed:.3g}, beyond float16's {LARGEST:.0f}"
    if half and reduction is not None and stops_at_largest(record.op, reduction, actual):
        most = f"{LARGEST / reduction:.4g}"
        return Cause.OVERFLOW, f"no result is over {most}: the sum of {reduction} stays at float16's {LARGEST:.0f}"
    match kind:
        case "flushed":
            return Cause.UNDERFLOW, f"{counted(actual.flushed, 'value')} below float16's range came out nearer to zero"
        case "nonfinite" if not half:
            return Cause.KERNEL, "NaN or infinity from finite inputs"
        case "nonfinite" if largest <= LARGEST:
            return Cause.OVERFLOW, f"results stay below {largest:.3g}, but a step on the way leaves float16's range"
        case "nonfinite" | "beyond":
            return Cause.OVERFLOW, f"results reach {largest:.3g}, beyond float16's {LARGEST:.0f}"
        case "unrelated":
            if half and not_computed(actual):
                held = max(map(abs, actual.range))
                return Cause.KERNEL, f"values up to {held:.3g}, which float16 cannot hold: the op did not write them"
            unwritten = actual.range == (0.0, 0.0)
            return Cause.LIMITS if unwritten and beyond else Cause.KERNEL, "all zeros" if unwritten else None
    if not record.local.ok and record.first == record.index and record.op in ONE_ROUNDING:
        return Cause.KERNEL, None
    if half and record.op in REDUCTIONS:
        return Cause.ACCUMULATION, None if reduction is None else f"float16 sum over {reduction} products"
    return Cause.ROUNDING, None


def stops_at_largest(op: str, terms: int, seen: Comparison) -> bool:
    """Whether the largest result is what a mean over so many `terms` can be at most where their sum is kept in float16
    and stays at its largest value, 65504, instead of becoming infinite; and the exact one is larger."""
    most = LARGEST / terms
    actual, exact = (max(map(abs, ends)) for ends in (seen.range, seen.reference_range))
    return op == "MEAN" and exact > most * (1 + _TWO_ROUNDINGS) and abs(actual - most) <= most * _TWO_ROUNDINGS


def largest_given(graph: Graph, inputs: Mapping[str, Array], record: OpRecord) -> float:
    """The largest finite magnitude among the model's float inputs that the ops of a record read; 0 without any."""
    read = {t for o in range(record.first, record.index + 1) for t in graph.ops[o].inputs}
    given = [inputs[port.name] for port in graph.inputs if port.tensor in read]
    return max((peak(values) for values in given if values.dtype.kind == "f"), default=0.0)


def terms_of(graph: Graph, record: OpRecord) -> int | None:
    """How many products (or terms) make one element of an op's result; None if unknown."""
    shapes = [graph.tensors[t].shape or () for t in graph.ops[record.index].inputs if t >= 0]
    return reduction_length(record.op, shapes, record.shape)
