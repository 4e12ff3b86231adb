"""What the runtime's own profiler said of a cell, and its form in run.json. Every time here is in microseconds, the
profiler's unit: what takes less is 0."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["op", "node", "delegate"]
"""`op` is an op of the model, by the runtime's own index and name; `node` a delegate's node that the runtime times as a
whole; `delegate` an operator inside of a delegate's node, by the delegate's index and name."""


@dataclass(frozen=True)
class Spread:
    """Over inferences, in microseconds: the median, and the 10th and 90th percentile (no interval of it)."""

    p50: float
    p10: float
    p90: float


@dataclass(frozen=True)
class ProfileRow:
    """What the profiler has a time for. `node` counts the delegate's nodes in the order they ran, None for an `op`;
    `calls` is per inference."""

    kind: Kind
    name: str
    index: int
    node: int | None
    calls: int
    us: Spread


@dataclass(frozen=True)
class Cost:
    """Run with the profiler over run without it, of the same process in turns, with its 95 % bootstrap interval over
    rounds: 1.2 is 20 % slower."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Profile:
    """The rows in the order they ran. `ops` are the model's, `delegated` those without a time of their own, `nodes` the
    delegate's; `profiled` and `bare` the run with the profiler and without; `outside` what the rows do not cover."""

    engine: str
    ops: int
    delegated: int
    nodes: int
    samples: int
    rows: tuple[ProfileRow, ...]
    profiled: Spread
    bare: Spread
    outside: Spread
    cost: Cost


@dataclass(frozen=True)
class Unprofiled:
    """The profiler was not there, in one sentence."""

    reason: str


def profile_to_json(profile: Profile | Unprofiled | None) -> dict[str, Any] | None:
    """`profile` in run.json: null, `{"reason": …}`, or the fields of `Profile`."""
    return None if profile is None else asdict(profile)
