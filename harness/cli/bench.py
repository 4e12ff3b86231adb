"""`harness bench`, parsed and wired. Exit codes: 0 valid, right, same or faster; 1 wrong or slower; 2 misuse; 3 device
trouble; 4 invalid, or the comparison cannot tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from harness.api.memory import COPIES_TO_RUN, check_memory
from harness.api.opening import open_model
from harness.api.ports import check_ports
from harness.cli import screen
from harness.cli.options import JsonOption, OutOption, ShapeOption, SignatureOption, TimeoutOption, shapes_of
from harness.core.errors import EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, UsageError
from harness.core.markup import escape
from harness.devices.android.device import PhoneOptions
from harness.devices.registry import check_device, check_options, kind_of, open_device
from harness.graph.inputs import load_inputs, random_inputs
from harness.latency.bench import COOL_DOWN_SECONDS, Benched, BenchRequest, bench
from harness.latency.compare import read_baseline
from harness.latency.matrix import Choices, Loaded, subjects
from harness.latency.measure import QUICK, Plan
from harness.latency.profile_record import Profile
from harness.latency.record import Verdict
from harness.latency.sustained.bench import StoppedShort, Sustained, SustainedRequest, bench_sustained
from harness.latency.sustained.run import WAIT_SECONDS, SustainedPlan
from harness.latency.sustained.table import staircase, sustained_lines
from harness.latency.table import (
    against_line,
    bench_table,
    detail_line,
    flaw_lines,
    per_op_table,
    profile_line,
    profile_table,
)

_FULL = Plan()


class AcceleratorWord(StrEnum):
    """Words of `--accelerator`: repeated options take an enum, where single ones take a Literal."""

    CPU = "cpu"
    GPU = "gpu"
    NPU = "npu"


class PrecisionWord(StrEnum):
    """Words of `--precision`."""

    DEFAULT = "default"
    FP16 = "fp16"
    FP32 = "fp32"
    FP16_FP32ACC = "fp16-fp32acc"


class BackendWord(StrEnum):
    """Words of `--backend`."""

    DEFAULT = "default"
    PLAIN = "plain"
    OPENCL = "opencl"
    OPENGL = "opengl"


def bench_command(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="One or more .tflite files.")],
    device: Annotated[
        list[str] | None, typer.Option("--device", help="host, web, either @RELEASE or a phone; may be repeated.")
    ] = None,
    accelerator: Annotated[
        list[AcceleratorWord] | None,
        typer.Option("--accelerator", help="What runs the model (default: gpu); may be repeated."),
    ] = None,
    precision: Annotated[
        list[PrecisionWord] | None, typer.Option("--precision", help="How a GPU computes; may be repeated.")
    ] = None,
    backend: Annotated[
        list[BackendWord] | None,
        typer.Option("--backend", help="plain: the CPU without XNNPACK; a phone's opencl, opengl; may be repeated."),
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", min=0, max=1024, help="Of the CPU; may be repeated.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help=f"At least so many (default: {_FULL.samples}).")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, max=86400, help=f"And at least so long (default: {_FULL.seconds:g})."),
    ] = None,
    replications: Annotated[
        int | None, typer.Option(min=1, max=100, help=f"Processes for each cell (default: {_FULL.replications}).")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help=f"{QUICK.samples} samples, {QUICK.seconds:g} s, {QUICK.replications} replications."
        ),
    ] = False,
    until_valid: Annotated[
        int, typer.Option("--until-valid", metavar="N", min=1, max=100, help="Cool down and try again, N times in all.")
    ] = 1,
    cool_down: Annotated[
        float | None,
        typer.Option(
            "--cool-down",
            metavar="S",
            min=0,
            max=86400,
            help=f"Between tries (default: {COOL_DOWN_SECONDS:g}); also a phone's longest wait before the first.",
        ),
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option("--against", metavar="RUN", help="Compare with that run; may be repeated.")
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy/--no-accuracy", help="Judge the timed outputs against the host's CPU.")
    ] = True,
    by_op: Annotated[
        bool, typer.Option("--per-op", help="Then time stretches of ops too, and ask the runtime's profiler.")
    ] = False,
    sustained: Annotated[
        float | None,
        typer.Option(
            "--sustained",
            metavar="MINUTES",
            min=0.01,
            max=1440,
            help="Load one cell for so long, and say when and by how much it slows down.",
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="S",
            min=0,
            max=86400,
            help=f"With --sustained: longest wait for a device that went away (default: {WAIT_SECONDS:g}).",
        ),
    ] = None,
    fixed_performance: Annotated[
        bool,
        typer.Option(
            "--fixed-performance", help="For a phone: pin its clocks by Android's mode of that name; off again after."
        ),
    ] = False,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", metavar="FILE.npz", help="One array for each input.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="For random inputs, without --inputs.")] = 0,
    signature: SignatureOption = None,
    shape: ShapeOption = None,
    apk: Annotated[Path | None, typer.Option("--apk", metavar="FILE", help="For a phone: a prebuilt app.")] = None,
    out: OutOption = Path("results"),
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Measure latency so that a wrong figure says so; exit 1 when slower or wrong, 4 when invalid or undecided."""
    own = {"--samples": samples, "--seconds": seconds, "--quick": quick, "--against": against, "--per-op": by_op}
    own |= {"--until-valid": until_valid > 1}
    _check_alone(sustained, wait, [word for word, given in own.items() if given not in (None, False, [])])
    choices = Choices(
        devices=tuple(dict.fromkeys(device or ["host"])),
        accelerators=tuple(word.value for word in accelerator or [AcceleratorWord.GPU]),
        precisions=tuple(word.value for word in precision or [PrecisionWord.DEFAULT]),
        backends=tuple(word.value for word in backend or [BackendWord.DEFAULT]),
        threads=tuple(threads or [0]),
    )
    _check_modes(fixed_performance, choices.devices)
    base = QUICK if quick else _FULL
    plan = Plan(
        samples=base.samples if samples is None else samples,
        seconds=base.seconds if seconds is None else seconds,
        rounds=base.rounds,
        replications=base.replications if replications is None else replications,
        timeout=timeout,
    )
    baselines = tuple(read_baseline(path) for path in against or ())
    cells = subjects([_load(path, signature, inputs, seed, shapes_of(shape)) for path in models], choices)
    for each in cells:
        check_options(each.cell.device, each.options)
    fed = f"random, seed {seed}" if inputs is None else str(inputs)
    phone = PhoneOptions(apk, cool_down or 0.0, fixed_performance=fixed_performance)
    if sustained is not None:
        load = SustainedPlan(sustained, plan.replications, WAIT_SECONDS if wait is None else wait, timeout)
        _sustained(SustainedRequest(cells, load, out, fed, accuracy), replace(phone, return_seconds=load.wait), as_json)
    trial = BenchRequest(
        subjects=cells,
        plan=replace(plan, rounds=max(plan.rounds, 2 * plan.replications)),
        out=out,
        inputs=fed,
        against=baselines,
        tries=until_valid,
        cool_down=COOL_DOWN_SECONDS if cool_down is None else cool_down,
        accuracy=accuracy,
    )
    with screen.ProgressBar() as progress:
        for name in choices.devices:
            check_device(name, lambda what: progress.stage(what, 20.0))
        tries = bench(trial, lambda name: open_device(name, phone=phone), progress, per_op=by_op)
    _write_reports(one.folder for made in tries for one in made)
    named = {baseline.path.name for baseline in baselines}
    if as_json:
        documents = [one.result.to_json() | {"run": str(one.folder)} for made in tries for one in made]
        screen.print_json({"schema": 1, "cells": documents})
    else:
        _show(tries)
    raise typer.Exit(exit_code(tries[-1], named))


def _write_reports(folders: Iterable[Path]) -> None:
    from harness.report.page import write_report

    for folder in folders:
        write_report(folder)


def exit_code(cells: Sequence[Benched], named: set[str]) -> int:
    """The code of the last try; `named` are the runs that `--against` named."""
    verdicts: set[Verdict] = {found.verdict for one in cells for found in one.result.against if found.run in named}
    if "slower" in verdicts or any(one.result.right is False for one in cells):
        return EXIT_WRONG
    if verdicts & {"cannot tell", "incomparable"} or not all(one.result.valid for one in cells):
        return EXIT_UNRESOLVED
    return EXIT_OK


def _check_alone(sustained: float | None, wait: float | None, words: Sequence[str]) -> None:
    """Raises UsageError: options are together that mean nothing together."""
    for option, value in (("--sustained", sustained), ("--wait", wait)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{option} {value} is no length of time.", "Give a number.")
    if sustained is None and wait is not None:
        raise UsageError("--wait means nothing without --sustained.", "Leave it out.")
    if sustained is not None and words:
        raise UsageError(f"{words[0]} means nothing with --sustained.", "Leave one of the two out.")


def _check_modes(fixed_performance: bool, devices: Sequence[str]) -> None:
    """Raises UsageError: a device has no fixed-performance mode whatever it is asked."""
    lacking = [name for name in devices if fixed_performance and not kind_of(name).fixed_performance]
    if lacking:
        raise UsageError(
            f"{lacking[0]} has no fixed-performance mode.", "That is Android's: leave it out, or name a phone."
        )


def _sustained(asked: SustainedRequest, phone: PhoneOptions, as_json: bool) -> NoReturn:
    """Load, tell, end."""
    device = asked.subject.cell.device
    short: StoppedShort | None = None
    with screen.ProgressBar() as progress:
        check_device(device, lambda what: progress.stage(what, 20.0))
        try:
            found = bench_sustained(asked, lambda name: open_device(name, phone=phone), progress)
        except StoppedShort as error:
            short, found = error, error.sustained
    _write_reports([found.folder])
    if as_json:
        screen.print_json({"schema": 1, "cells": [found.result.to_json() | {"run": str(found.folder)}]})
    else:
        screen.out.print(staircase(found.result))
        for line in ("", *sustained_lines(found.result)):
            screen.say(line)
        screen.out.print(f"[dim]{escape(str(found.folder))}[/]")
    if short is not None:
        screen.print_error(short)
        raise typer.Exit(short.exit_code)
    raise typer.Exit(sustained_code(found))


def sustained_code(found: Sustained) -> int:
    """1 where outputs are wrong or it does not hold its speed, 4 where the figures do not count or decide, else 0."""
    result = found.result
    if result.right is False:
        return EXIT_WRONG
    if not result.valid or result.status == "undecided":
        return EXIT_UNRESOLVED
    return EXIT_OK if result.status == "steady" else EXIT_WRONG


def _load(
    path: Path, signature: str | None, inputs: Path | None, seed: int, shapes: dict[str, tuple[int, ...]]
) -> Loaded:
    found = open_model(path, signature, shapes)
    if found.assumed:
        screen.err.print(escape(f"{path}: {found.assumed}"))
    model = found.model
    graph = model.graph()
    check_ports(graph)
    if not graph.outputs:
        raise UsageError(f"{path} has no outputs to read back.", "Export it with the results that are wanted.")
    if inputs is not None:
        check_memory(graph, COPIES_TO_RUN, model.weights_bytes)
    given = random_inputs(graph, seed) if inputs is None else load_inputs(inputs, graph)
    check_memory(graph, COPIES_TO_RUN, model.weights_bytes)
    return Loaded(path, model, given, found.file_sha256)


def _show(tries: Sequence[Sequence[Benched]]) -> None:
    for number, cells in enumerate(tries, 1):
        results = [one.result for one in cells]
        if len(tries) > 1:
            screen.out.print(f"[dim]try {number}[/]")
        screen.out.print(bench_table(results))
        lines = [detail_line(result) for result in results]
        lines += [line for result in results for line in flaw_lines(result)]
        lines += [against_line(result, found) for result in results for found in result.against]
        for line in ("", *lines):
            screen.say(line)
        for one in cells:
            if len(cells) > 1 and (one.result.per_op or one.result.profile is not None):
                screen.out.print(f"\n{escape(one.result.cell.label)}, {escape(one.result.cell.model)}")
            if one.result.per_op:
                screen.out.print(per_op_table(one.result))
            if isinstance(one.result.profile, Profile):
                screen.out.print(profile_table(one.result.profile))
            if one.result.profile is not None:
                screen.say(profile_line(one.result.profile))
            screen.out.print(f"[dim]{escape(str(one.folder))}[/]")
