"""What to do about a benchmark that does not count, or is wrong, and the commands for it."""

from __future__ import annotations

from collections.abc import Iterator

from harness.report.benchmark.record import Bench
from harness.report.command import SEED, NextStep, quote

QUIET = frozenset({"busy"})
AGAIN = frozenset({"rebooted", "runtime-changed", "stalled"})
MORE = frozenset({"bimodal", "replications"})
HOT = frozenset({"throttled", "trending"})
ELSEWHERE = frozenset({"enqueue-only", "other-backend"})
REFUSED = frozenset({"fallback"})


def next_steps(bench: Bench) -> tuple[NextStep, ...]:
    """What comes next; nothing after a benchmark that counts and is right."""
    if bench.state == "running" or not bench.model_path:
        return ()
    found: dict[str, NextStep] = {}
    for step in _steps(bench):
        found.setdefault(step.command, step)
    return tuple(found.values())


def _steps(bench: Bench) -> Iterator[NextStep]:
    reasons = {flaw.reason for flaw in bench.flaws}
    if bench.accurate is False:
        how = ["--accelerator", bench.accelerator, *_unless_default("--precision", bench.precision)]
        words = ["harness", "localize", _file(bench.model_path), "--device", bench.device, *how]
        yield NextStep("Find the op that makes the outputs wrong:", _line(*words))
    if reasons & REFUSED:
        audit = _line("harness", "audit", _file(bench.model_path), "--device", bench.device)
        yield NextStep("See which ops the accelerator does not take:", audit)
    if reasons & QUIET:
        until = "again" if bench.sustained else "until it counts"
        yield NextStep(f"End what else runs, and measure {until}:", command(bench, "--until-valid", "5"))
    if reasons & MORE:
        more = command(bench, "--replications", "10")
        yield NextStep("Measure in more processes, to see how far apart they are:", more)
    if reasons & HOT:
        yield NextStep("Let it cool between tries:", command(bench, "--until-valid", "3", "--cool-down", "300"))
        yield NextStep("Or see how it slows down under load:", command(bench, "--sustained", "10"))
    if reasons & ELSEWHERE:
        other = _line("harness", "bench", _file(bench.model_path), "--device", bench.device, "--accelerator", "cpu")
        yield NextStep("Measure where it is known what computes, and when it is done:", other)
    if reasons & AGAIN or (bench.state in ("failed", "interrupted") and bench.valid is None):
        yield NextStep("Measure again:", command(bench))
    if bench.sustained is not None and bench.sustained.word == "undecided":
        longer = max(10.0, 2 * (bench.sustained.minutes or 0.0))
        yield NextStep("Load it for longer:", command(bench, "--sustained", f"{longer:g}"))


def command(bench: Bench, *more: str) -> str:
    """The command that measures the same again; empty where the model is not known."""
    if not bench.model_path:
        return ""
    words = ["harness", "bench", _file(bench.model_path), "--device", bench.device, "--accelerator", bench.accelerator]
    words += _unless_default("--precision", bench.precision) + _unless_default("--backend", bench.backend)
    words += ["--threads", str(bench.threads)] if bench.threads else []
    seed = SEED.fullmatch(bench.inputs)
    if seed:
        words += ["--seed", seed[1]] if seed[1] != "0" else []
    elif bench.inputs and bench.inputs != "given by the caller":
        words += ["--inputs", _file(bench.inputs)]
    if bench.sustained is not None and bench.sustained.minutes is not None and "--sustained" not in more:
        words += ["--sustained", f"{bench.sustained.minutes:g}"]
        more = () if "--until-valid" in more else more  # which means nothing with --sustained
    return _line(*words, *more)


def _unless_default(option: str, value: str) -> list[str]:
    return [option, value] if value not in ("", "default") else []


def _file(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


def _line(*words: str) -> str:
    return " ".join(map(quote, words))
