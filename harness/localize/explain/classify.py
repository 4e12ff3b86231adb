"""From experiments to a cause.

A culprit is asked alone on the exact inputs, alone on the inputs that it had on the device, and, where it is right both
times, together with more and more of its neighbours. What fails then is asked again: repeatedly, in float32, in float16
with float32 sums, on the device's CPU, and with its sum split. Each answer rules causes out.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.localize.base.causes import REDUCTIONS, kind_of_error, stops_at_largest
from harness.localize.explain.limits import Limit
from harness.localize.probe.experiment import Observation
from harness.remedies.cause import Cause

# A float32 result that is off by more of its RMS than this lost no digits; it was computed otherwise.
SINGLE_LOSS = 2.0**-10


@dataclass(frozen=True)
class Symptoms:
    """What the experiments on one culprit showed. None: not asked. `first` is the cause that its values alone suggest,
    `failing` the observation that fails, `alone` whether it does so by itself, `right_alone` whether it is right so,
    `once` whether it is a single op that rounds at most once: it cannot lose digits, only be wrong. `smaller` is the
    same op on values that are smaller by a power of two. `limit` is where it turns right, if it does so at a size;
    `terms` is how many a result sums.
    """

    op: str
    half: bool
    first: Cause
    failing: Observation | None = None
    alone: bool = False
    right_alone: bool = True
    once: bool = False
    single: Observation | None = None
    long_sums: Observation | None = None
    split: Observation | None = None
    smaller: Observation | None = None
    limit: Limit | None = None
    terms: int | None = None


def classify(found: Symptoms) -> Cause:
    """The cause. Without a failing observation it is `context`, unless the values left float16's range, the runtime
    said that a limit was gone beyond, or the culprit could not be asked alone: then it is what its values suggest."""
    failing = found.failing
    ranged = found.first in ("overflow", "underflow")
    if failing is None:
        return found.first if ranged or found.first == "limits" or not found.right_alone else Cause.CONTEXT
    if failing.ending in ("crash", "hang"):
        return Cause(failing.ending)
    if failing.said is not None or _ends(found.limit):
        return Cause.LIMITS
    if not failing.repeatable:
        return Cause.NONDETERMINISTIC
    if ranged and not found.alone:
        return found.first if _right(found.single) is not False else Cause.CONTEXT
    if not found.alone:
        return Cause.CONTEXT
    if not found.half or _right(found.single) is False:
        far = found.once or _far_off(failing if not found.half else found.single)
        return Cause.KERNEL if far else Cause.ROUNDING
    return _of_half(found, failing)


def _ends(limit: Limit | None) -> bool:
    """Whether what is right below a size is wrong above it, as far as it was asked."""
    return limit is not None and limit.above is None


def _far_off(single: Observation | None) -> bool:
    """Whether a float32 result is another one altogether, rather than one with some digits lost."""
    if single is None or single.worst is None:
        return True
    actual = single.worst.judgement.actual
    return actual.nonfinite > 0 or actual.relative_rms > SINGLE_LOSS


def _of_half(found: Symptoms, failing: Observation) -> Cause:
    """The cause of what fails alone in float16, and not, as far as is known, in float32."""
    kind = _kind(failing)
    if kind == "flushed":
        return Cause.UNDERFLOW
    if kind in ("nonfinite", "beyond") or (found.first == "overflow" and kind == "unrelated"):
        return Cause.OVERFLOW  # NaN need not stay NaN: RELU and MAXIMUM make a number of it
    seen = None if failing.worst is None else failing.worst.judgement.actual
    if seen is not None and found.terms is not None and stops_at_largest(found.op, found.terms, seen):
        return Cause.OVERFLOW
    # A power of two rounds nothing: a sum in float16 loses as many digits of smaller terms, and is not right of them.
    if _right(found.split) and not (kind == "unrelated" and _right(found.smaller)):
        return Cause.ACCUMULATION  # the same terms, summed another way, are right
    if kind == "unrelated" or found.once:
        return Cause.KERNEL
    sums = found.op in REDUCTIONS and (_right(found.long_sums) or found.split is None)
    return Cause.ACCUMULATION if sums else Cause.ROUNDING


def _kind(observation: Observation) -> str:
    assert observation.worst is not None
    return kind_of_error(observation.worst.judgement, half=observation.half)


def _right(observation: Observation | None) -> bool | None:
    """Whether an experiment was right; None when it was not asked or could not be answered."""
    if observation is None or observation.ending in ("refused", "impossible"):
        return None
    return observation.ending == "right"
