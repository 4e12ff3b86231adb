"""A benchmark as plain facts: its run.json, read once and checked, whether of `bench` or `bench --sustained`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UsageError
from harness.core.fields import Fields
from harness.report.record import Figures, State, figures_of

PARTS = ("write", "run", "readback", "total")


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, in milliseconds or as a ratio."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Part:
    """The steady times of one part of an iteration, in milliseconds."""

    name: str
    count: int
    mean: float | None
    least: float | None
    most: float | None
    p50: Estimate | None
    p90: Estimate | None
    p99: Estimate | None


@dataclass(frozen=True)
class Flaw:
    """A reason not to count the figures, and what was seen."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Process:
    """One process: its compile and first inference, what it measured, and its peak memory in bytes."""

    compile_ms: float | None
    first_ms: float | None
    warmup: int | None
    samples: int | None
    p50_ms: float | None
    peak_bytes: float | None


@dataclass(frozen=True)
class Against:
    """A comparison with another run."""

    run: str
    verdict: str
    why: str
    ratio: Estimate | None


@dataclass(frozen=True)
class Stretch:
    """Ops between two cuts, under `--per-op`."""

    first: int
    last: int
    ops: tuple[str, ...]
    ms: Estimate | None
    share: float | None


@dataclass(frozen=True)
class Window:
    """The steady samples of a piece of a sustained benchmark: when it began, in seconds, its length, percentiles in
    milliseconds, and the device's own word on its heat."""

    at: float
    seconds: float
    stretch: int
    p10: float
    p50: float
    p90: float
    thermal: str


@dataclass(frozen=True)
class Level:
    """A stair of a sustained benchmark, in seconds and milliseconds; `ratio` is over the level before it, where that
    changed by more than chance."""

    begin: float
    end: float
    p50: float
    p90: float
    ratio: float | None


@dataclass(frozen=True)
class Gap:
    """The device was gone; `seconds` is None where it did not come back."""

    at: float
    seconds: float | None
    why: str
    detail: str


@dataclass(frozen=True)
class Sustained:
    """What a sustained benchmark adds: its word and why, the minutes asked and measured, how it went."""

    word: str
    why: str
    minutes: float | None
    measured: float | None
    windows: tuple[Window, ...]
    levels: tuple[Level, ...]
    gaps: tuple[Gap, ...]
    states: tuple[str, ...]
    highest_celsius: float | None


@dataclass(frozen=True)
class Bench:
    """All of it. `valid` and `accurate` are None where it did not come to be judged."""

    command: str
    state: State
    started: str
    error: str
    model_path: str
    model_sha256: str
    model_ops: int | None
    device: str
    accelerator: str
    precision: str
    backend: str
    threads: int
    runtime: str
    gpu: str
    system: str
    commit: str
    inputs: str
    timeout: float | None
    seconds: float | None
    valid: bool | None
    accurate: bool | None
    flaws: tuple[Flaw, ...]
    parts: tuple[Part, ...]
    samples: int | None
    rounds: int | None
    attempt: int | None
    compile_ms: float | None
    first_ms: float | None
    warmup: int | None
    peak_bytes: float | None
    resident: bool | None
    delegated: int | None
    nodes: int | None
    processes: tuple[Process, ...]
    outputs: tuple[Figures, ...]
    against: tuple[Against, ...]
    stretches: tuple[Stretch, ...]
    conditions: tuple[tuple[str, str], ...]
    sustained: Sustained | None

    @property
    def model_name(self) -> str:
        """The last part of the model's path."""
        return self.model_path.replace("\\", "/").rstrip("/").rpartition("/")[2] or "unknown model"

    @property
    def total(self) -> Part | None:
        """The whole iteration's times."""
        return next((part for part in self.parts if part.name == "total"), None)

    @property
    def place(self) -> str:
        """The device and what computed there."""
        how = self.accelerator.upper() + (f", {self.precision}" if self.precision != "default" else "")
        how += f", {self.backend}" if self.backend not in ("", "default") else ""
        how += f", {self.threads} threads" if self.threads else ""
        return f"{self.device} ({how})"


def parse_bench(record: Mapping[str, Any], state: State) -> Bench:
    """Read what `run_folder.read_run` returned for a benchmark. Raises UsageError for a field of another type."""
    top = Fields(record)
    result, options = top.child("result"), top.child("options")
    cell, model, device = result.child("cell"), top.child("model"), top.child("device")
    latency = result.child("latency")
    sustained = top.text("command") == "bench --sustained"
    processes = result.children("processes" if sustained else "replications")
    return Bench(
        command=top.text("command"),
        state=state,
        started=top.text("started"),
        error=top.text("error"),
        model_path=cell.text("model") or model.text("path"),
        model_sha256=cell.text("model_sha256") or model.text("sha256"),
        model_ops=model.count("ops"),
        device=cell.text("device") or device.text("name"),
        accelerator=cell.text("accelerator") or options.text("accelerator"),
        precision=cell.text("precision") or options.text("precision"),
        backend=cell.text("backend") or options.text("backend"),
        threads=cell.count("threads") or options.count("threads") or 0,
        runtime=result.text("runtime") or device.text("runtime"),
        gpu=result.text("gpu") or device.text("gpu"),
        system=result.text("system"),
        commit=result.text("commit"),
        inputs=options.text("inputs"),
        timeout=options.number("timeout_s"),
        seconds=result.number("seconds") or top.number("seconds"),
        valid=result.flag("valid"),
        accurate=result.flag("accurate"),
        flaws=tuple(Flaw(each.text("reason"), each.text("detail")) for each in result.children("invalid")),
        parts=tuple(_part(name, latency.child(name)) for name in PARTS if latency.values.get(name)),
        samples=result.count("samples"),
        rounds=result.count("rounds"),
        attempt=result.count("attempt"),
        compile_ms=result.number("compile_ms") or (processes[0].number("compile_ms") if processes else None),
        first_ms=result.number("first_ms") or (processes[0].number("first_ms") if processes else None),
        warmup=result.count("warmup"),
        peak_bytes=result.number("peak_bytes"),
        resident=result.flag("resident"),
        delegated=result.count("delegated"),
        nodes=result.count("nodes"),
        processes=tuple(map(_process, processes)),
        outputs=tuple(map(figures_of, result.children("accuracy"))),
        against=tuple(map(_against, result.children("against"))),
        stretches=tuple(map(_stretch, result.children("per_op"))),
        conditions=tuple(_conditions(result.child("conditions"))),
        sustained=_sustained(result) if sustained and result.values else None,
    )


def _part(name: str, fields: Fields) -> Part:
    return Part(
        name,
        fields.count("count") or 0,
        fields.number("mean"),
        fields.number("min"),
        fields.number("max"),
        *(_estimate(fields, key) for key in ("p50", "p90", "p99")),
    )


def _estimate(fields: Fields, key: str) -> Estimate | None:
    """A figure with its interval; one without stands for itself."""
    if fields.values.get(key) is None:
        return None
    inner = fields.child(key)
    value, low, high = (inner.number(part) for part in ("value", "low", "high"))
    return None if value is None else Estimate(value, value if low is None else low, value if high is None else high)


def _process(fields: Fields) -> Process:
    return Process(
        fields.number("compile_ms"),
        fields.number("first_ms"),
        fields.count("warmup"),
        fields.count("samples"),
        fields.number("p50_ms"),
        fields.number("peak_bytes"),
    )


def _against(fields: Fields) -> Against:
    return Against(fields.text("run"), fields.text("verdict"), fields.text("why"), _estimate(fields, "ratio"))


def _stretch(fields: Fields) -> Stretch:
    first, last = fields.count("first"), fields.count("last")
    if first is None or last is None:
        raise UsageError(f"{fields.where} has no first and last op.", "Run the command again.")
    return Stretch(first, last, fields.texts("ops"), _estimate(fields, "ms"), fields.number("share"))


_SHARES: tuple[tuple[str, str], ...] = (
    ("waited", "Share of its time that the process waited for a core"),
    ("foreign", "Share of all cores that other processes took"),
    ("stolen", "Share of all cores that the hypervisor took"),
)


def _conditions(fields: Fields) -> list[tuple[str, str]]:
    """The worst of all rounds, as far as it could be read."""
    told = [(label, f"{100 * value:.0f} %") for key, label in _SHARES if (value := fields.number(key)) is not None]
    told += [("Thermal state", fields.text("thermal"))] if fields.text("thermal") else []
    for key, label, form in (
        ("headroom", "Thermal headroom (1 is severe throttling)", "{:.2f}"),
        ("clock_mhz", "Slowest core’s clock", "{:.0f} MHz"),
        ("throttled", "Thermal throttling events", "{:.0f}"),
    ):
        value = fields.number(key)
        told += [(label, form.format(value))] if value is not None else []
    fixed = fields.flag("fixed_performance")
    return told + ([("Clocks pinned", "yes" if fixed else "no")] if fixed is not None else [])


def _sustained(result: Fields) -> Sustained:
    warmth = result.child("warmth")
    changes = {change.number("at_s"): change.number("ratio") for change in result.children("changes")}
    return Sustained(
        word=result.text("status"),
        why=result.text("why"),
        minutes=result.number("minutes"),
        measured=result.number("measured_minutes"),
        windows=tuple(map(_window, result.children("windows"))),
        levels=tuple(_level(each, changes) for each in result.children("levels")),
        gaps=tuple(
            Gap(_needed(each, "at_s"), each.number("seconds"), each.text("why"), each.text("detail"))
            for each in result.children("gaps")
        ),
        states=warmth.texts("states"),
        highest_celsius=warmth.number("highest_celsius"),
    )


def _window(fields: Fields) -> Window:
    return Window(
        at=_needed(fields, "at_s"),
        seconds=_needed(fields, "seconds"),
        stretch=fields.count("stretch") or 0,
        p10=_needed(fields, "p10_ms"),
        p50=_needed(fields, "p50_ms"),
        p90=_needed(fields, "p90_ms"),
        thermal=fields.text("thermal"),
    )


def _level(fields: Fields, changes: Mapping[float | None, float | None]) -> Level:
    return Level(
        begin=_needed(fields, "from_s"),
        end=_needed(fields, "until_s"),
        p50=_needed(fields, "p50_ms"),
        p90=_needed(fields, "p90_ms"),
        ratio=changes.get(fields.number("from_s")),
    )


def _needed(fields: Fields, key: str) -> float:
    value = fields.number(key)
    if value is None:
        raise UsageError(f"{fields.where} has no {key}.", "Run the command again.")
    return value
