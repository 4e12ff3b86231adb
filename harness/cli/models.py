"""`run`, `compare`, `dump`, `localize`, `bisect-runtime`, `audit`: a model on a device. Exit codes: 0 right, 1 wrong,
2 misuse, 3 device trouble, 4 unresolved.

What computes is imported inside the functions, so that help and completion need not wait for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    DeviceOption,
    JsonOption,
    ModelArgument,
    MoreModels,
    RunsOption,
    ShapeOption,
    SignatureOption,
    TimeoutOption,
    Words,
    shapes_of,
    with_judged_request,
    with_request,
)
from harness.cli.screen import answer, answers
from harness.core.errors import EXIT_DEVICE, EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, UsageError

if TYPE_CHECKING:
    from harness.api.session import ModelRequest
    from harness.core.progress import Progress
    from harness.localize.base.comparison import ModelComparison

LOCALIZED = {"pass": EXIT_OK, "culprits": EXIT_WRONG, "unresolved": EXIT_UNRESOLVED}


@with_request
def run(
    words: Words,
    as_json: JsonOption = False,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before the timed ones.")] = 0,
    iterations: Annotated[int, typer.Option(min=1, help="Timed runs.")] = 1,
) -> None:
    """Run a model and keep its outputs."""
    from harness.api.compare import run_command, run_json
    from harness.cli.render import show_run

    answer(
        lambda progress: run_command(words.request(), warmup=warmup, iterations=iterations, progress=progress),
        as_json=as_json,
        document=lambda found: run_json(found[0]) | {"run": str(found[1])},
        show=lambda found: show_run(*found),
    )


@with_judged_request
def compare(words: Words, more: MoreModels = None, as_json: JsonOption = False, runs: RunsOption = 2) -> None:
    """Compare the outputs of one or more models with the host CPU's; exit 1 when they are wrong.

    With several --device: each by itself, then the outputs and ops that differ between them.
    """
    if len(words.devices) > 1:
        from harness.cli.across.devices import compare_devices

        compare_devices(words, more, as_json=as_json, runs=runs)
    from harness.api.compare import compare_command
    from harness.cli.render import show_comparison

    def one(request: ModelRequest, progress: Progress) -> tuple[ModelComparison, Path, ModelRequest]:
        return *compare_command(request, progress, runs=runs), request

    answers(
        words.each(more, one),
        as_json=as_json,
        document=lambda found: found[0].to_json() | {"run": str(found[1])},
        show=lambda found: show_comparison(found[0], found[2].device, found[2].model, found[1]),
        code=lambda found: EXIT_OK if found[0].ok else EXIT_WRONG,
    )


@with_judged_request
def dump(words: Words, as_json: JsonOption = False) -> None:
    """Write every op's result from device and host as safetensors, and ops.csv; exit 1 when outputs are wrong."""
    from harness.api.compare import dump_command
    from harness.cli.render import show_dump

    request = words.request()
    answer(
        lambda progress: dump_command(request, progress),
        as_json=as_json,
        document=lambda found: found[0].to_json() | {"records": found[1], "run": str(found[2])},
        show=lambda found: show_dump(found[0], request.device, request.model, found[1], found[2]),
        code=lambda found: EXIT_OK if found[0].ok else EXIT_WRONG,
    )


@with_judged_request
def localize(
    words: Words,
    more: MoreModels = None,
    as_json: JsonOption = False,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Continue this run, also one that failed.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not continue an interrupted run.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain/--no-explain", help="Go on to causes, reproducers and remedies.")
    ] = True,
    runs: RunsOption = 2,
) -> None:
    """Name the ops that break one or more models, why, and what mends it; exit 1 with culprits, 4 when unresolved.

    An interrupted run of the same model, inputs, device and options under --out is continued. With several --device:
    each by itself, then one table of op and device.
    """
    if resume is not None and fresh:
        raise UsageError("--resume and --fresh contradict each other.", "Give one of them.")
    from harness.api.localize import localize_command
    from harness.cli.render import show_localization
    from harness.localize.probe.journal.resume import Resume

    how: Resume = resume or ("never" if fresh else "auto")
    if resume is not None and more:
        raise UsageError("--resume continues the run of one model.", "Give that model alone.")
    if len(words.devices) > 1:
        if resume is not None:
            raise UsageError("--resume continues the run of one device.", "Give that --device alone.")
        from harness.cli.across.devices import localize_devices

        localize_devices(words, more, as_json=as_json, resume=how, explain=explain, runs=runs)
    answers(
        words.each(more, lambda r, progress: localize_command(r, progress, resume=how, explain=explain, runs=runs)),
        as_json=as_json,
        document=lambda found: found[0].to_json() | {"run": str(found[1])},
        show=lambda found: show_localization(*found),
        code=lambda found: LOCALIZED[found[0].status],
    )


@with_judged_request
def bisect_runtime(
    words: Words,
    as_json: JsonOption = False,
    first: Annotated[
        str | None, typer.Option("--from", metavar="RELEASE", help="The oldest release; default the oldest that runs.")
    ] = None,
    last: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="RELEASE",
            help="The newest release; default the newest there is; `nightly`: the newest daily build.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Test every release, not only where a change shows.")] = False,
) -> None:
    """Say which release of the runtime broke or mended a model; exit 1 when it is wrong on the newest."""
    from harness.api.bisect_runtime import bisect_runtime_command
    from harness.cli.render import show_bisection

    answer(
        lambda progress: bisect_runtime_command(words.request(), first, last, every=every, progress=progress),
        as_json=as_json,
        document=lambda found: found[0].to_json() | {"run": str(found[1])},
        show=lambda found: show_bisection(
            [(t.release, t.state, t.worst) for t in found[0].tested], found[0].bisection.sentences()
        ),
        code=lambda found: {"right": EXIT_OK, "wrong": EXIT_WRONG}.get(found[0].newest, EXIT_DEVICE),
    )


def audit(
    model: ModelArgument,
    device: DeviceOption = "host",
    static: Annotated[bool, typer.Option("--static", help="Look at the file only, ask no GPU.")] = False,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 600.0,
    signature: SignatureOption = None,
    shape: ShapeOption = None,
) -> None:
    """Count ops and ranks, and list what the GPU refuses; exit 3 when it refuses something."""
    from harness.api.audit import audit_command
    from harness.cli.render import show_audit

    asked = None if static else device
    answer(
        lambda progress: audit_command(model, signature, asked, timeout, progress, shapes_of(shape)),
        as_json=as_json,
        show=lambda found: show_audit(found, model),
        code=lambda found: EXIT_DEVICE if found.asked and found.unsupported else EXIT_OK,
    )
