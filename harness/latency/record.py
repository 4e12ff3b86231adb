"""What one benchmark of one cell keeps: frozen facts, and their form in run.json and samples.csv.

A *cell* is one point of the matrix: model × device × accelerator × precision × back end × threads. A *replication* is
one process with one compile; its iterations come in *rounds*, between which the other cells have their turn.

Every time is in milliseconds in run.json and in nanoseconds in samples.csv. `total` is write + run + readback: on a GPU
`run` alone may return when the work is enqueued.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from harness.core.errors import UsageError
from harness.core.typed_json import Facts, read_as
from harness.latency.profile_record import Profile, Unprofiled, profile_to_json

TimedPart = Literal["write", "run", "readback", "total"]
PARTS: tuple[TimedPart, ...] = get_args(TimedPart)

Phase = Literal["first", "warmup", "resume", "steady"]
"""`first` is the first inference of a replication, `warmup` what comes before its samples settle, `resume` the first
iteration after another cell had its turn, `steady` what the percentiles are made of."""

Reason = Literal[
    "enqueue-only",
    "fallback",
    "other-backend",
    "throttled",
    "rebooted",
    "runtime-changed",
    "busy",
    "stalled",
    "bimodal",
    "trending",
    "replications",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

Verdict = Literal["faster", "slower", "same", "cannot tell", "incomparable"]

SAMPLES_COLUMNS = (
    "phase", "iteration", "write_ns", "run_ns", "read_ns", "total_ns", "replication", "round", "elapsed_s",
    "thermal", "clock_mhz", "waited",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What is measured. `threads` 0 leaves the number to the runtime; `backend` is `default`, or `plain` for the CPU's
    kernels without any delegate."""

    model: str
    model_sha256: str
    device: str
    accelerator: str
    precision: str = "default"
    backend: str = "default"
    threads: int = 0

    @property
    def label(self) -> str:
        """`cpu`, `gpu fp32`, `cpu 2 threads`, `cpu plain`: what tells it from others of a model and device."""
        words = [self.accelerator]
        words += [self.precision] if self.precision != "default" else []
        words += [self.backend] if self.backend != "default" else []
        words += [f"{self.threads} thread{'s' if self.threads > 1 else ''}"] if self.threads else []
        return " ".join(words)


@dataclass(frozen=True)
class Conditions:
    """The surroundings of one round. What cannot be read is None, or empty.

    `waited` is the share of its wanted time that the process spent waiting for a core; `foreign` the share of all
    cores' time that other processes took, and `stolen` that the hypervisor took. `throttled` counts the events that
    the processor itself reports; `headroom` is Android's forecast (1.0: severe throttling). `fixed_performance` is
    whether Android's mode of that name was on, None where nobody asked for it.
    """

    thermal: str = ""
    headroom: float | None = None
    clock_mhz: float | None = None
    throttled: int | None = None
    waited: float | None = None
    foreign: float | None = None
    stolen: float | None = None
    fixed_performance: bool | None = None


@dataclass(frozen=True)
class TimedSample:
    """One iteration. `elapsed_s` is when its round began, in seconds since the benchmark did."""

    phase: Phase
    iteration: int
    write_ns: int
    run_ns: int
    read_ns: int
    replication: int
    round: int
    elapsed_s: float
    conditions: Conditions

    @property
    def total_ns(self) -> int:
        """Write, run and readback."""
        return self.write_ns + self.run_ns + self.read_ns

    def row(self) -> tuple[Any, ...]:
        """Its line of samples.csv, as `SAMPLES_COLUMNS`; what was not read is an empty field."""
        seen = self.conditions
        optional = ["" if value is None else f"{value:.4g}" for value in (seen.clock_mhz, seen.waited)]
        times = (self.write_ns, self.run_ns, self.read_ns, self.total_ns)
        where = (self.replication, self.round, f"{self.elapsed_s:.3f}", seen.thermal)
        return (self.phase, self.iteration, *times, *where, *optional)


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bootstrap interval, in milliseconds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Distribution:
    """The steady samples of one part, in milliseconds."""

    count: int
    mean: float
    min: float
    max: float
    p50: Interval
    p90: Interval
    p99: Interval


@dataclass(frozen=True)
class Replication:
    """One process with one compile. `warmup` counts the iterations before the samples settled, the first inference
    among them; `p50_ms` is of its steady samples."""

    compile_ms: float
    first_ms: float
    warmup: int
    samples: int
    p50_ms: float
    peak_bytes: int | None
    boot_id: str
    runtime: str


@dataclass(frozen=True)
class Flaw:
    """Why a run does not count: the kind, and one sentence with the figures."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class OutputError:
    """One output against the host's plain kernels; `expected_max_abs` is what the arithmetic explains."""

    name: str
    cosine: float
    max_abs: float
    expected_max_abs: float
    nonfinite: int
    ok: bool


@dataclass(frozen=True)
class Against:
    """A comparison of total latency with another run. `ratio` is this run's over the other's: 1.1 is 10 % slower.

    `p` is Mann–Whitney's (two-sided) over the medians of rounds, `effect` Cliff's delta: the chance that a round of
    this run is slower than one of the other, less the chance that it is faster. None where `incomparable`.
    """

    run: str
    verdict: Verdict
    why: str
    ratio: Interval | None = None
    p: float | None = None
    effect: float | None = None


@dataclass(frozen=True)
class OpRange:
    """Ops `first` to `last` in graph order and what they add to the time, in milliseconds. `share` is of the whole
    model's; `cut_bytes` are alive behind the last op, and read back there."""

    first: int
    last: int
    ops: tuple[str, ...]
    ms: Interval
    share: float
    cut_bytes: int

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero; else the time cannot be told from nothing."""
        return self.ms.low > 0


class Judged:
    """A measurement with reasons not to count it, and with what its outputs were worth."""

    invalid: tuple[Flaw, ...]
    accuracy: tuple[OutputError, ...] | None

    @property
    def valid(self) -> bool:
        """Whether the figures count."""
        return not self.invalid

    @property
    def right(self) -> bool | None:
        """Whether every output was as right as the arithmetic allows; None when it was not looked at."""
        return None if self.accuracy is None else all(output.ok for output in self.accuracy)


def read_result(kind: type[Facts], document: Any, what: str, command: str) -> Facts:
    """`result` of a run.json that a command wrote. Raises UsageError: a field is missing, or is not what it should
    be."""
    try:
        return read_as(kind, document)
    except ValueError as error:
        raise UsageError(
            f"The result of that run is no {what}'s ({error}).",
            f"Give a run whose command is `{command}`; `harness runs` lists them.",
        ) from None


@dataclass(frozen=True)
class BenchResult(Judged):
    """`result` of a run whose `command` is `bench`."""

    cell: Cell
    invalid: tuple[Flaw, ...]
    latency: Mapping[TimedPart, Distribution]
    replications: tuple[Replication, ...]
    rounds: int
    seconds: float
    peak_bytes: int | None
    written_bytes: int
    read_bytes: int
    delegated: int | None
    nodes: int | None
    resident: bool | None
    accuracy: tuple[OutputError, ...] | None
    conditions: Conditions
    inputs_sha256: str
    runtime: str
    gpu: str
    system: str
    boot_id: str
    commit: str
    attempt: int = 1
    bench_id: str = ""
    against: tuple[Against, ...] = ()
    per_op: tuple[OpRange, ...] = ()
    profile: Profile | Unprofiled | None = None

    def to_json(self) -> dict[str, Any]:
        """`result` in run.json and in `bench --json`, schema 1."""
        document = asdict(self)
        document["latency"] = {part: asdict(found) for part, found in self.latency.items()}
        document["profile"] = profile_to_json(self.profile)
        first = self.replications[0] if self.replications else None
        summary = {
            "schema": 1,
            "status": "valid" if self.valid else "invalid",
            "valid": self.valid,
            "accurate": self.right,
            "samples": sum(r.samples for r in self.replications),
            "compile_ms": first.compile_ms if first else None,
            "first_ms": first.first_ms if first else None,
            "warmup": max((r.warmup for r in self.replications), default=0),
        }
        return summary | document

    @classmethod
    def from_json(cls, document: Any) -> BenchResult:
        """Read `result` of a run.json back; fields that a later release added are passed over.

        Raises:
            UsageError: a field is missing, or is not what it should be.
        """
        return read_result(cls, document, "benchmark", "bench")
