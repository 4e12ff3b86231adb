"""From experiments to causes: each answer rules some out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.localize.explain.classify import Symptoms, classify
from harness.localize.explain.limits import Limit
from harness.localize.probe.excess import Excess
from harness.localize.probe.experiment import Ending, Observation, OutputComparison, Specimen
from harness.numerics.metrics import compare
from harness.numerics.tolerance import judge
from harness.remedies.cause import Cause
from tests.chains import chain

EXACT = np.linspace(1, 2, 64, dtype=np.float32)


def ended(ending: Ending, actual: object = None, exact: object = EXACT, *, same: bool = True) -> Observation:
    """An observation whose one output reads `actual`."""
    values = np.asarray(EXACT if actual is None else actual, np.float32)
    right = np.asarray(exact, np.float32)
    judgement = judge(compare(values, right, 2.0**-14), compare(right, right), roundoff=2.0**-11, factor=32)
    seen = OutputComparison("y0", values, right, judgement)
    return Observation(ending, "", seen, (seen,), same)


RIGHT, REFUSED = ended("right"), Observation("refused", "no such precision")
assert RIGHT.worst is not None
IMPRECISE = ended("wrong", EXACT * np.linspace(0.5, 1, 64))
DIGITS = ended("wrong", EXACT * (1 + 1e-4))
# Either side of the most that lost digits make in float32, 2^-10 of the RMS.
NEAR, BEHIND = (ended("wrong", EXACT * (1 + share * 2.0**-10)) for share in (0.9, 1.1))
UNRELATED = ended("wrong", -EXACT)
INFINITE = ended("wrong", np.full(64, np.inf))
ONE_INFINITE = ended("wrong", [*EXACT[:-1], np.inf])
BEYOND = ended("wrong", EXACT * 1e5, EXACT * 1.2e5)

DEAD = Observation("crash", "SIGSEGV")
# Its values are below float16's smallest normal number, and came out zero: no error but for those.
FLUSHED = replace(
    ended("wrong"),
    worst=replace(
        RIGHT.worst, judgement=replace(RIGHT.worst.judgement, actual=replace(RIGHT.worst.judgement.actual, flushed=3))
    ),
)
SAID = Excess("too much", 2, 1)
ENDS = Limit(5000, 5001, "elements", Specimen(chain("ABS"), {}))

MATMUL = Symptoms("BATCH_MATMUL", True, Cause.ACCUMULATION, alone=True, single=RIGHT)
PAD = Symptoms("PAD", True, Cause.KERNEL, alone=True)

CASES = {
    "imprecise alone, right with its sum split": (replace(MATMUL, failing=IMPRECISE, split=RIGHT), "accumulation"),
    "unrelated alone, right with its sum split": (replace(MATMUL, failing=UNRELATED, split=RIGHT), "accumulation"),
    "unrelated alone, right with its sum split, and right of smaller values": (
        replace(MATMUL, failing=UNRELATED, split=RIGHT, smaller=RIGHT), "kernel",
    ),
    "unrelated alone, right with its sum split, wrong of smaller values too": (
        replace(MATMUL, failing=UNRELATED, split=RIGHT, smaller=UNRELATED), "accumulation",
    ),
    "imprecise alone, right with its sum split, and right of smaller values": (
        replace(MATMUL, failing=IMPRECISE, split=RIGHT, smaller=RIGHT), "accumulation",
    ),
    "a sum that splitting does not help": (replace(MATMUL, failing=IMPRECISE, split=IMPRECISE), "rounding"),
    "a sum that float32 sums help": (
        replace(MATMUL, failing=IMPRECISE, split=IMPRECISE, long_sums=RIGHT), "accumulation",
    ),
    "a sum that cannot be split": (replace(MATMUL, failing=IMPRECISE), "accumulation"),
    "an imprecise op that sums nothing": (replace(PAD, op="TANH", failing=IMPRECISE, single=RIGHT), "rounding"),
    "an imprecise op that rounds once": (replace(PAD, op="MUL", failing=IMPRECISE, single=RIGHT, once=True), "kernel"),
    "a few digits lost in float32 too, by an op that rounds once": (
        replace(PAD, op="MUL", failing=IMPRECISE, single=DIGITS, once=True), "kernel",
    ),
    "wrong in float32 too": (replace(PAD, failing=UNRELATED, single=UNRELATED), "kernel"),
    "wrong where float32 is refused": (replace(PAD, failing=UNRELATED, single=REFUSED), "kernel"),
    "a few digits lost in float32 too": (replace(MATMUL, failing=IMPRECISE, single=DIGITS), "rounding"),
    "scaled in float32 too": (replace(MATMUL, failing=IMPRECISE, single=IMPRECISE), "kernel"),
    "off in float32 by just what lost digits make": (replace(MATMUL, failing=IMPRECISE, single=NEAR), "rounding"),
    "off in float32 by more than lost digits make": (replace(MATMUL, failing=IMPRECISE, single=BEHIND), "kernel"),
    "infinite in float16 only": (replace(PAD, failing=INFINITE, single=RIGHT), "overflow"),
    "infinite in float32 too": (replace(PAD, failing=INFINITE, single=INFINITE), "kernel"),
    "one value infinite in float32 too": (replace(PAD, failing=INFINITE, single=ONE_INFINITE), "kernel"),
    "larger than float16 holds": (replace(MATMUL, failing=BEYOND), "overflow"),
    "right alone, wrong with neighbours": (replace(PAD, alone=False, failing=UNRELATED, single=UNRELATED), "context"),
    "right alone, wrong with neighbours in float16 only": (
        replace(PAD, alone=False, failing=UNRELATED, single=RIGHT), "context",
    ),
    "infinite alone in float32 too, though its values suggest a range": (
        replace(PAD, first=Cause.OVERFLOW, failing=INFINITE, single=INFINITE), "kernel",
    ),
    "right alone and with neighbours": (replace(PAD, alone=False), "context"),
    "never asked alone": (replace(PAD, alone=False, right_alone=False), "kernel"),
    "flushed, and harmful to its readers": (
        replace(PAD, op="MUL", first=Cause.UNDERFLOW, alone=False, failing=INFINITE, single=RIGHT), "underflow",
    ),
    "flushed, and float32 does not help its readers": (
        replace(PAD, op="MUL", first=Cause.UNDERFLOW, alone=False, failing=INFINITE, single=INFINITE), "context",
    ),
    "flushed, and nothing fails around it": (replace(PAD, first=Cause.UNDERFLOW, alone=False), "underflow"),
    "another answer each time": (replace(PAD, failing=ended("wrong", -EXACT, same=False)), "nondeterministic"),
    "right once, another answer each time": (replace(PAD, failing=ended("right", same=False)), "nondeterministic"),
    "the process dies": (replace(PAD, failing=Observation("crash", "SIGSEGV")), "crash"),
    "no answer": (replace(PAD, failing=Observation("hang", "60 s")), "hang"),
    "the runtime names a limit": (replace(PAD, failing=replace(UNRELATED, said=SAID)), "limits"),
    "it names a limit, and the process dies": (replace(PAD, failing=replace(DEAD, said=SAID)), "crash"),
    "it names a limit, and the answer differs each time": (
        replace(PAD, failing=ended("wrong", -EXACT, same=False), limit=ENDS), "limits",
    ),
    "wrong from a size on": (replace(PAD, failing=UNRELATED, limit=ENDS), "limits"),
    "wrong from a size on, right again behind it": (
        replace(PAD, failing=UNRELATED, limit=replace(ENDS, above=5056)), "kernel",
    ),
    "a limit was named, and nothing fails by itself": (replace(PAD, first=Cause.LIMITS, alone=False), "limits"),
    "overflow was seen, and nothing fails around it": (replace(PAD, first=Cause.OVERFLOW, alone=False), "overflow"),
    "infinite with neighbours, and float32 was not asked": (
        replace(PAD, first=Cause.OVERFLOW, alone=False, failing=INFINITE), "overflow",
    ),
    "infinite with neighbours, and float32 is refused": (
        replace(PAD, first=Cause.OVERFLOW, alone=False, failing=INFINITE, single=REFUSED), "overflow",
    ),
    "unrelated to what was infinite before": (
        replace(PAD, first=Cause.OVERFLOW, failing=UNRELATED, single=RIGHT), "overflow",
    ),
    "imprecise where something was infinite before": (
        replace(PAD, op="TANH", first=Cause.OVERFLOW, failing=IMPRECISE, single=RIGHT), "rounding",
    ),
    "the process dies in float32": (replace(PAD, op="TANH", failing=IMPRECISE, single=DEAD), "kernel"),
    "float32 could not be asked": (
        replace(PAD, op="TANH", failing=IMPRECISE, single=Observation("impossible")), "rounding",
    ),
    "right in all but values that float16 flushes": (replace(MATMUL, failing=FLUSHED), "underflow"),
    "float32 sums help an op that sums nothing": (
        replace(PAD, op="TANH", failing=IMPRECISE, split=IMPRECISE, long_sums=RIGHT), "rounding",
    ),
    "neither splitting nor float32 sums help": (
        replace(MATMUL, failing=IMPRECISE, split=IMPRECISE, long_sums=IMPRECISE), "rounding",
    ),
    "unrelated, and neither splitting nor float32 sums help": (
        replace(MATMUL, failing=UNRELATED, split=UNRELATED, long_sums=RIGHT), "kernel",
    ),
    "unrelated under float32": (replace(PAD, half=False, failing=replace(UNRELATED, half=False)), "kernel"),
    "a few digits lost under float32 by an op that rounds once": (
        replace(PAD, half=False, once=True, failing=replace(DIGITS, half=False)), "kernel",
    ),
    "a few digits lost under float32": (replace(PAD, half=False, failing=replace(DIGITS, half=False)), "rounding"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_experiments_give_the_cause(name: str) -> None:
    findings, cause = CASES[name]
    assert classify(findings) == cause


def test_failing_alike_means_the_same_ending_and_the_same_kind_of_error() -> None:
    assert IMPRECISE.alike(ended("wrong", EXACT * 0.7))
    assert not IMPRECISE.alike(UNRELATED)
    assert not IMPRECISE.alike(INFINITE)
    assert not IMPRECISE.alike(RIGHT)
    assert not RIGHT.alike(RIGHT)
    assert Observation("crash", "a").alike(Observation("crash", "b"))
    assert not Observation("crash", "a").alike(Observation("hang", "a"))


# Means over 256 of up to 1,000, whose sums stay at 65504, and one that ends somewhat below.
MEANS = np.linspace(1, 1000, 64, dtype=np.float32)
STAYED, ELSEWHERE = (ended("wrong", np.minimum(MEANS, most), MEANS) for most in (65504 / 256, 250.0))
MEAN = Symptoms("MEAN", True, Cause.ACCUMULATION, alone=True, single=RIGHT, split=RIGHT, terms=256)


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (replace(MEAN, failing=STAYED), "overflow"),
        (replace(MEAN, failing=STAYED, split=None), "overflow"),
        (replace(MEAN, failing=STAYED, terms=None), "accumulation"),
        (replace(MEAN, failing=STAYED, terms=128), "accumulation"),
        (replace(MEAN, failing=ELSEWHERE), "accumulation"),
        (replace(MEAN, failing=STAYED, single=STAYED), "kernel"),
        (replace(MEAN, failing=STAYED, alone=False), "context"),
    ],
)
def test_a_sum_that_stays_at_float16s_largest_value_left_its_range(found: Symptoms, cause: str) -> None:
    assert classify(found) == cause
