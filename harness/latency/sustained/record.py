"""What a sustained benchmark keeps: frozen facts, and their form in run.json and `bench --sustained --json`.

Times of day are in seconds since the measurement began, by this machine's clock, gaps included; latencies are write,
run and readback together, in milliseconds. A *process* is one compile; a *stretch* is what lies between two gaps, in
which the device was gone, idle and cooling.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from harness.latency.record import Cell, Flaw, Interval, Judged, OutputError, read_result

Word = Literal["steady", "slower", "unsteady", "undecided"]
"""`steady`: no later half is over 5 % slower, with 95 % confidence; `slower`: a later level is, with p < 0.01;
`unsteady`: the speed goes up and down by more than 5 %, slowly, without levels that could be told from its own
wandering; `undecided`: the samples are too few, or scatter too much, for any of these."""
WORDS: tuple[Word, ...] = get_args(Word)

Interruption = Literal["rebooted", "lost", "crashed", "timed out"]
"""Why a stretch ended: the device restarted, its connection broke, the process died, or it gave no answer."""


@dataclass(frozen=True)
class Window:
    """The steady samples of a piece of the time. `p10_ms` is of the quickest: what does not slow with the median is
    disturbed now and then, not slow. `thermal` and `celsius` are the device's own words at its end, empty or None
    where it does not tell."""

    at_s: float
    seconds: float
    stretch: int
    process: int
    samples: int
    p10_ms: float
    p50_ms: float
    p90_ms: float
    thermal: str
    celsius: float | None


@dataclass(frozen=True)
class Level:
    """A stair: the windows between two changes. `p50_ms` and `p90_ms` are the medians of the windows' own."""

    stretch: int
    from_s: float
    until_s: float
    windows: int
    p50_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Change:
    """Where one level ends and the next begins. `ratio` is of the levels, later over earlier; `restart` says that a
    process began within a window of it, which may be the cause: where a compiled model lies in memory makes one up to
    5 % slower than the next."""

    at_s: float
    ratio: float
    p: float
    restart: bool


@dataclass(frozen=True)
class Slowdown:
    """From `peak_ms`, the quickest level, to `worst_ms`, the slowest after it, and to `sustained_ms`, the last one of
    the same stretch. `at_s` is when the samples first were on a level over 5 % slower than the peak. Ratios are over
    the peak: `ratio` of the slowest level, with its 95 % interval, `sustained_ratio` of the last, `quickest_ratio` of
    the tenth percentiles of the slowest level."""

    stretch: int
    at_s: float
    peak_ms: float
    worst_ms: float
    sustained_ms: float
    ratio: Interval
    sustained_ratio: float
    quickest_ratio: float
    p: float


@dataclass(frozen=True)
class Swing:
    """The largest rise of the running median, from `low_ms` to a later `high_ms`: `ratio` is high over low, `p` the
    chance of so much slow variation in noise of a short memory."""

    stretch: int
    low_ms: float
    high_ms: float
    ratio: float
    p: float


@dataclass(frozen=True)
class Gap:
    """The device was gone. `seconds` is from the last sample before it to the first answer after it; None where it did
    not come back. The samples of the job that it interrupted are not known."""

    at_s: float
    seconds: float | None
    why: Interruption
    detail: str


@dataclass(frozen=True)
class Stint:
    """One process: when it began and ended, its compile and first inference, the iterations before its samples settled,
    and the steady samples."""

    stretch: int
    from_s: float
    until_s: float
    compile_ms: float
    first_ms: float
    warmup: int
    samples: int
    boot_id: str
    runtime: str


@dataclass(frozen=True)
class Warmth:
    """What the device said of its own heat: the states in the order they came first, and its temperature at the
    beginning, at its highest and at the end. `silent`: the samples slowed down and no state above `light` was told."""

    states: tuple[str, ...]
    first_celsius: float | None
    highest_celsius: float | None
    last_celsius: float | None
    silent: bool


@dataclass(frozen=True)
class SustainedResult(Judged):
    """`result` of a run whose `command` is `bench --sustained`."""

    cell: Cell
    status: Word
    why: str
    complete: bool
    invalid: tuple[Flaw, ...]
    minutes: float
    measured_minutes: float
    seconds: float
    samples: int
    drift: Interval | None
    slowdown: Slowdown | None
    swing: Swing | None
    levels: tuple[Level, ...]
    changes: tuple[Change, ...]
    gaps: tuple[Gap, ...]
    processes: tuple[Stint, ...]
    windows: tuple[Window, ...]
    warmth: Warmth
    fixed_performance: bool | None
    delegated: int | None
    nodes: int | None
    accuracy: tuple[OutputError, ...] | None
    inputs_sha256: str
    runtime: str
    gpu: str
    system: str
    boot_id: str
    commit: str

    def to_json(self) -> dict[str, Any]:
        """`result` in run.json and in `bench --sustained --json`, schema 1."""
        return {"schema": 1, "valid": self.valid, "accurate": self.right} | asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> SustainedResult:
        """Read `result` of a run.json back; fields that a later release added are passed over.

        Raises:
            UsageError: a field is missing, or is not what it should be.
        """
        return read_result(cls, document, "sustained benchmark", "bench --sustained")
