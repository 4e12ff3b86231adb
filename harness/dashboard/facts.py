"""One run of any command as a flat row: what the dashboard and the data frames know of it.

Whatever a folder holds, there is a row: a run.json that cannot be read makes one whose state is `unreadable` and whose
error says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast, get_args

from harness.core.choices import Accelerator, Precision
from harness.core.errors import UsageError
from harness.core.fields import Fields
from harness.core.job import Options
from harness.core.run_folder import Status, read_run
from harness.report.tables import read_samples

State = Status | Literal["unreadable"]
# How the outputs were judged; `nothing` where none were compared.
Judgement = Literal["pass", "fail", "nothing"]

_STATES: tuple[str, ...] = get_args(Status)
# A name from a model file may be a megabyte; nothing here is longer.
_LONGEST = 300
_MOST_WORDS = 12


@dataclass(frozen=True)
class RunFacts:
    """A run. What was not measured is None; a word that is not known is empty.

    Latencies are milliseconds of write + run + readback for one inference: the percentiles of a benchmark's steady
    samples, with the 95 % interval `p50_low`–`p50_high` of the median; for other commands `p50_ms` alone, the median of
    all iterations but the first, which is no benchmark (`benchmark` tells). Accuracy is that of the worst output:
    `ratio` is its error over what the arithmetic explains.
    """

    run: str
    command: str
    state: State
    started: str
    seconds: float | None
    error: str
    model: str
    sha256: str
    ops: int | None
    device: str
    kind: str
    gpu: str
    runtime: str
    system: str
    commit: str
    accelerator: str
    precision: str
    backend: str
    threads: int
    inputs: str
    answer: str
    judgement: Judgement
    output: str
    cosine: float | None
    max_abs: float | None
    ratio: float | None
    nonfinite: int | None
    culprits: tuple[str, ...]
    delegated: int | None
    nodes: int | None
    benchmark: bool
    invalid: tuple[str, ...]
    samples: int | None
    p50_ms: float | None
    p50_low_ms: float | None
    p50_high_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    compile_ms: float | None
    first_ms: float | None
    peak_bytes: int | None
    report: bool

    @property
    def valid(self) -> bool:
        """A finished benchmark whose figures may be quoted and averaged."""
        return self.benchmark and self.state == "done" and not self.invalid and self.p50_ms is not None


def read_facts(folder: Path) -> RunFacts:
    """The facts of a run folder; one that cannot be read is told so, never an error."""
    try:
        return _facts(folder, Fields(read_run(folder)))
    except (UsageError, RecursionError) as error:
        why = error.message if isinstance(error, UsageError) else "run.json is nested too deeply."
        return _facts(folder, Fields({"status": "unreadable", "error": why.replace(f"{folder}/", "")}))


def _facts(folder: Path, top: Fields) -> RunFacts:
    state = top.text("status")
    if state not in (*_STATES, "unreadable"):
        raise UsageError(f"run.json: status is {state[:40]!r}, not one of {', '.join(_STATES)}.")
    result, options = top.child("result"), top.child("options")
    cell = result.child("cell")
    model = top.child("model") if top.values.get("model") else result.child("model")
    device = result.child("device") if isinstance(result.values.get("device"), Mapping) else top.child("device")
    accelerator = cell.text("accelerator") or options.text("accelerator") or "gpu"
    benchmark = top.text("command") == "bench"
    answer = _answer(result, state)
    return RunFacts(
        run=folder.name,
        command=_short(top.text("command")),
        state=cast(State, state),
        started=_short(top.text("started") or _from_name(folder.name), 40),
        seconds=top.number("seconds") or result.number("seconds"),
        error=top.text("error")[: 4 * _LONGEST],
        model=_short(_last(model.text("path"))),
        sha256=_short(model.text("sha256"), 64),
        ops=model.count("ops"),
        device=_short(device.text("name")),
        kind=_short(device.text("kind")),
        gpu=_short(result.text("gpu") if benchmark else device.text("gpu")) or _short(device.text("gpu")),
        runtime=_short(device.text("runtime") or result.text("runtime"), 60),
        system=_short(result.text("system") if benchmark else ""),
        commit=_short(result.text("commit") if benchmark else "", 64),
        accelerator=_short(accelerator, 20),
        precision=_precision(accelerator, cell.text("precision") or options.text("precision") or "default"),
        backend=_short(cell.text("backend") or options.text("backend") or "default", 40),
        threads=cell.count("threads") or options.count("threads") or 0,
        inputs=_short((result.text("inputs_sha256") if benchmark else "") or options.text("inputs")),
        answer=answer,
        **_judged(top, result, answer),
        **_latency(folder, result, benchmark, state != "unreadable"),
        benchmark=benchmark,
        invalid=_reasons(result) if benchmark else (),
        culprits=_culprits(result),
        report=(folder / "report.html").is_file(),
    )


def _answer(result: Fields, state: str) -> str:
    """The result's own word: pass, fail, culprits, unresolved, valid, invalid; of a command with others, that one."""
    value = result.values.get("status")
    return _short(value, 40) if isinstance(value, str) and state == "done" else ""


def _judged(top: Fields, result: Fields, answer: str) -> dict[str, Any]:
    """How right the outputs were: the worst of them, and the verdict on all."""
    outputs = result.children("accuracy") or result.children("outputs") or top.children("outputs")
    told = [output.flag("ok") for output in outputs]
    judgement: Judgement = "nothing"
    if answer in ("fail", "culprits") or any(ok is False for ok in told):
        judgement = "fail"
    elif answer == "pass" or (told and all(ok for ok in told)):
        judgement = "pass"
    judged = [(output, error_ratio(output)) for output, ok in zip(outputs, told, strict=True) if ok is not None]
    worst, ratio = max(judged, key=lambda each: _badness(*each), default=(Fields(), None))
    nonfinite = max((output.count("nonfinite") or 0 for output in outputs), default=None)
    return {
        "judgement": judgement,
        "output": _short(worst.text("name")),
        "cosine": worst.number("cosine"),
        "max_abs": worst.number("max_abs"),
        "ratio": ratio,
        "nonfinite": nonfinite,
        "delegated": result.child("residency").count("delegated") or result.count("delegated"),
        "nodes": result.child("residency").count("total") or result.count("nodes"),
    }


def error_ratio(output: Fields) -> float | None:
    """Error over what the arithmetic explains: as judged, or else from the two."""
    told = output.number("ratio")
    largest, expected = output.number("max_abs"), output.number("expected_max_abs")
    if told is not None or largest is None or expected is None:
        return told
    return largest / expected if expected > 0 else (math.inf if largest > 0 else 0.0)


def _badness(output: Fields, ratio: float | None) -> tuple[bool, float, float]:
    """Wrong outputs first, then the furthest off; NaN is as far off as can be."""
    off = math.inf if ratio is not None and math.isnan(ratio) else (0.0 if ratio is None else ratio)
    cosine = output.number("cosine")
    return output.flag("ok") is False, off, 0.0 if cosine is None or math.isnan(cosine) else -cosine


def _latency(folder: Path, result: Fields, benchmark: bool, readable: bool) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(
        ("samples", "p50_ms", "p50_low_ms", "p50_high_ms", "p90_ms", "p99_ms", "first_ms", "peak_bytes")
    )
    found["compile_ms"] = _positive(result.number("compile_ms"))
    if benchmark:
        total = result.child("latency").child("total")
        p50 = total.child("p50")
        found |= {
            "samples": total.count("count"),
            "p50_ms": _positive(p50.number("value")),
            "p50_low_ms": _positive(p50.number("low")),
            "p50_high_ms": _positive(p50.number("high")),
            "p90_ms": _positive(total.child("p90").number("value")),
            "p99_ms": _positive(total.child("p99").number("value")),
            "first_ms": _positive(result.number("first_ms")),
            "peak_bytes": result.count("peak_bytes"),
        }
        return found
    later = read_samples(folder / "samples.csv")[1:] if readable else ()
    if later:
        found |= {"samples": len(later), "p50_ms": _positive(median(s.write + s.run + s.read for s in later) / 1e6)}
    return found


def _positive(value: float | None) -> float | None:
    """A time; nothing that is none."""
    return value if value is not None and 0 < value < math.inf else None


def _reasons(result: Fields) -> tuple[str, ...]:
    """Why a benchmark does not count. One that says it is invalid and not why is invalid too."""
    told = [f"{flaw.text('reason')}: {flaw.text('detail').rstrip('.')}" for flaw in result.children("invalid")]
    if not told and result.flag("valid") is False:
        told = ["invalid: no reason was recorded"]
    return tuple(_short(reason) for reason in told[:_MOST_WORDS])


def _culprits(result: Fields) -> tuple[str, ...]:
    """`BATCH_MATMUL #49 (accumulation)`."""
    found = []
    for culprit in result.children("culprits")[:_MOST_WORDS]:
        ops = culprit.numbers("ops")
        number = f" #{ops[-1]:.0f}" if ops and math.isfinite(ops[-1]) else ""
        cause = culprit.text("cause")
        found.append(_short(f"{culprit.text('op')}{number}{f' ({cause})' if cause else ''}", 120))
    return tuple(found)


def _precision(accelerator: str, asked: str) -> str:
    """What the device stores, in the words of the report."""
    if not Options(cast(Accelerator, accelerator), cast(Precision, asked)).half:
        return "fp32"
    return {"default": "fp16", "fp16-fp32acc": "fp16 with fp32 sums"}.get(asked, _short(asked, 40))


def _last(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _short(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _from_name(name: str) -> str:
    """When a run began, as its folder's name tells: `20261120T142123Z-…`."""
    digits = name[:16]
    if len(digits) < 16 or digits[8] != "T" or digits[15] != "Z" or not (digits[:8] + digits[9:15]).isdigit():
        return ""
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[9:11]}:{digits[11:13]}:{digits[13:15]}+00:00"
