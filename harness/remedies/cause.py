"""Why an op is wrong: every cause with its words and with the rewrites that are worth trying, in one place.

To add a cause: a member here, and where it is recognized (`harness.localize.base.causes` from values alone,
`harness.localize.explain.classify` from experiments). Reports, reproducers and remedies take the rest from here.
"""

from __future__ import annotations

from enum import StrEnum

from harness.remedies.catalogue import (
    APART,
    CHAIN,
    CONCATENATION,
    FLATTENED,
    KEEP_BATCH,
    MEANING,
    NO_BROADCAST,
    ONE_AXIS,
    OWN_OUTPUT,
    RANK_4,
    RESCALE,
    SIMPLER,
    SPLIT_SUM,
    STACKED,
    TILES,
    TWO_DIMENSIONS,
    Rewrite,
)


class Cause(StrEnum):
    """A cause; its value is the word in JSON. `explanation` is a sentence or two for people; `short` stands after a
    dash, of one culprit and of several; `does` is what such an op does, for the title of a reproducer; `rewrites` are
    tried in this order, the likeliest first, and each on the device before it is called a remedy; `stops` the process.
    """

    explanation: str
    short: tuple[str, str]
    does: str
    rewrites: tuple[Rewrite, ...]
    stops: bool

    def __new__(
        cls,
        word: str,
        explanation: str = "",
        short: tuple[str, str] = ("", ""),
        rewrites: tuple[Rewrite, ...] = (),
        does: str = "gives wrong results",
        stops: bool = False,
    ) -> Cause:
        """A member of this word. (Called with the word alone, the class looks the member up.)"""
        made = str.__new__(cls, word)
        made._value_ = word
        made.explanation, made.short, made.rewrites, made.does, made.stops = explanation, short, rewrites, does, stops
        return made

    KERNEL = (
        "kernel",
        "The kernel computes something else, and no rounding explains it: the result has little to do with "
        "the exact one, or is further off than the single rounding of such an op.",
        ("it computes something else", "they compute something else"),
        MEANING,
    )
    ACCUMULATION = (
        "accumulation",
        "The sum itself is kept in float16. Once it is large against the next product, that product is "
        "rounded away, so a long reduction loses far more than storing its result in float16 would.",
        ("its sum is kept in float16", "their sums are kept in float16"),
        (SPLIT_SUM,),
        "loses precision in a long sum",
    )
    OVERFLOW = (
        "overflow",
        "A value beyond 65504, the largest float16, became infinity, or stayed at 65504 as some GPUs have it; what is "
        "computed from it is infinite, NaN, zero or too small.",
        ("its values leave float16's range", "their values leave float16's range"),
        (RESCALE, SPLIT_SUM, ONE_AXIS, SIMPLER),
        "leaves float16's range",
    )
    UNDERFLOW = (
        "underflow",
        "Values below float16's range became zero, and the outputs depend on them.",
        ("its values vanish below float16's range", "their values vanish below float16's range"),
        (RESCALE,),
    )
    ROUNDING = (
        "rounding",
        "The result is recognizably the right one, but less precise than rounding explains.",
        ("its result is less precise than rounding explains", "their results are less precise than rounding explains"),
        (SPLIT_SUM, RESCALE, SIMPLER, APART),
    )
    CONTEXT = (
        "context",
        "By itself, on the same inputs, each op is right; the result is wrong only together with neighbours, "
        "as the delegate fuses or places them.",
        ("wrong only together with its neighbours", "wrong only together with their neighbours"),
        (KEEP_BATCH, CHAIN, FLATTENED, APART, OWN_OUTPUT, CONCATENATION, RANK_4, STACKED, NO_BROADCAST, SIMPLER),
    )
    LIMITS = (
        "limits",
        "A dispatch, a buffer or a texture would go beyond what the device takes. It is left out: nothing is "
        "written and no error is returned, so that the result is what the memory held, most often zeros. A browser "
        "complains of it to the page, and what the runtime gives then is taken for a refusal.",
        ("it goes beyond a limit of the device", "they go beyond a limit of the device"),
        (TWO_DIMENSIONS, TILES, SPLIT_SUM, APART),
        "writes nothing beyond a limit of the device",
    )
    NONDETERMINISTIC = (
        "nondeterministic",
        "The same inputs gave different results in two runs.",
        ("its result differs between two runs", "their results differ between two runs"),
        (*MEANING, SPLIT_SUM),
        "gives other results each time",
    )
    CRASH = (
        "crash",
        "Running the op ends the process that runs it.",
        ("it ends the process", "they end the process"),
        (*MEANING, SPLIT_SUM),
        "ends the process",
        True,
    )
    HANG = (
        "hang",
        "The op did not finish in time.",
        ("it does not finish", "they do not finish"),
        (*MEANING, SPLIT_SUM),
        "does not finish",
        True,
    )

    @classmethod
    def of(cls, word: str) -> Cause | None:
        """The cause of that word; None for one that another release wrote."""
        return next((cause for cause in cls if cause.value == word), None)
