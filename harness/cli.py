"""The command line: parses, wires, prints. Exit codes: 0 right, 1 wrong, 2 misuse, 3 device trouble, 4 unresolved."""

from __future__ import annotations

import io
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.table import Table

from harness import __version__, commands, demo, doctor, sam2_commands, sam2_video_commands, terminal
from harness.bench_command import bench_command
from harness.bisect_runtime import bisect_runtime_command
from harness.commands import Request
from harness.dashboard_command import dashboard_command
from harness.devices.registry import attached_devices, profiles
from harness.devices.releases import OLDEST
from harness.entry import ENDING
from harness.errors import EXIT_DEFECT, EXIT_DEVICE, EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, HarnessError, UsageError
from harness.lint_command import lint_command
from harness.markup import escape
from harness.memory import NEXT_STEP
from harness.private import as_the_user, owner_only
from harness.report import figures
from harness.report.export import Format, export
from harness.report.page import write_report
from harness.request_options import (
    DeviceOption,
    JsonOption,
    ModelArgument,
    OutOption,
    RunsOption,
    ShapeOption,
    SignatureOption,
    TimeoutOption,
    shapes_of,
    with_judged_request,
    with_request,
)
from harness.results import list_runs, read_run, writing
from harness.sam2.contract import CARD
from harness.sam2_commands import LayerNormOption, WeightsOption

app = typer.Typer(
    help="Find the op that breaks a model on an on-device GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(sam2_commands.app, name="sam2")
app.command(name="bench")(bench_command)
app.command(name="dashboard")(dashboard_command)
app.command(name="lint")(lint_command)
sam2_video_commands.join(sam2_commands.app)

LOCALIZED = {"pass": EXIT_OK, "culprits": EXIT_WRONG, "unresolved": EXIT_UNRESOLVED}


@app.command()
@with_request
def run(
    request: Request,
    as_json: JsonOption = False,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before the timed ones.")] = 0,
    iterations: Annotated[int, typer.Option(min=1, help="Timed runs.")] = 1,
) -> None:
    """Run a model and keep its outputs."""
    with terminal.Stages() as progress:
        done, folder = commands.run_command(request, warmup=warmup, iterations=iterations, progress=progress)
    if as_json:
        terminal.print_json(commands.run_json(done) | {"run": str(folder)})
    else:
        terminal.show_run(done, folder)


@app.command()
@with_judged_request
def compare(request: Request, as_json: JsonOption = False, runs: RunsOption = 2) -> None:
    """Compare a model's outputs with the host CPU's; exit 1 when they are wrong."""
    with terminal.Stages() as progress:
        found, folder = commands.compare_command(request, progress, runs=runs)
    if as_json:
        terminal.print_json(found.to_json() | {"run": str(folder)})
    else:
        terminal.show_comparison(found, request.device, request.model, folder)
    raise typer.Exit(EXIT_OK if found.ok else EXIT_WRONG)


@app.command()
@with_judged_request
def dump(request: Request, as_json: JsonOption = False) -> None:
    """Write every op's result from device and host as safetensors, and ops.csv; exit 1 when outputs are wrong."""
    with terminal.Stages() as progress:
        found, count, folder = commands.dump_command(request, progress)
    if as_json:
        terminal.print_json(found.to_json() | {"records": count, "run": str(folder)})
    else:
        terminal.show_comparison(found, request.device, request.model, folder)
        terminal.out.print(f"[dim]both sides of every op in tensors/, their figures ({count} rows) in ops.csv[/]")
    raise typer.Exit(EXIT_OK if found.ok else EXIT_WRONG)


@app.command()
@with_judged_request
def localize(
    request: Request,
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
    """Name the ops that break a model, why, and what mends it; exit 1 with culprits, 4 when unresolved.

    An interrupted run of the same model, inputs, device and options under --out is continued.
    """
    if resume is not None and fresh:
        raise UsageError("--resume and --fresh contradict each other.", "Give one of them.")
    with terminal.Stages() as progress:
        answer, folder = commands.localize_command(
            request, progress, resume=resume or ("never" if fresh else "auto"), explain=explain, runs=runs
        )
    if as_json:
        terminal.print_json(answer.to_json() | {"run": str(folder)})
    else:
        terminal.show_localization(answer, folder)
    raise typer.Exit(LOCALIZED[answer.status])


@app.command(name="bisect-runtime")
@with_judged_request
def bisect_runtime(
    request: Request,
    as_json: JsonOption = False,
    first: Annotated[str, typer.Option("--from", metavar="RELEASE", help="The oldest release.")] = OLDEST,
    last: Annotated[
        str | None, typer.Option("--to", metavar="RELEASE", help="The newest release; default the newest there is.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Test every release, not only where a change shows.")] = False,
) -> None:
    """Say which release of the host's runtime broke or mended a model; exit 1 when it is wrong on the newest."""
    with terminal.Stages() as progress:
        found, folder = bisect_runtime_command(request, first, last, every=every, progress=progress)
    if as_json:
        terminal.print_json(found.to_json() | {"run": str(folder)})
    else:
        terminal.show_bisection([(t.release, t.state, t.worst) for t in found.tested], found.bisection.sentences())
    raise typer.Exit({"right": EXIT_OK, "wrong": EXIT_WRONG}.get(found.newest, EXIT_DEVICE))


@app.command()
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
    with terminal.Stages() as progress:
        asked = None if static else device
        found = commands.audit_command(model, signature, asked, timeout, progress, shapes_of(shape))
    if as_json:
        terminal.print_json(found.to_json())
    else:
        terminal.show_audit(found, model)
    raise typer.Exit(EXIT_DEVICE if found.asked and found.unsupported else EXIT_OK)


@app.command(name="doctor")
def doctor_command(out: OutOption = Path("results"), as_json: JsonOption = False) -> None:
    """Check that everything is here, by using it; exit 3 when something is missing."""
    checks = []
    for check in doctor.examine(out):
        checks.append(check)
        if as_json:
            continue
        mark = {"ok": "[green]ok      [/]", "missing": "[red]missing [/]", "optional": "[yellow]optional[/]"}[
            check.state
        ]
        terminal.out.print(f"{mark} {check.name}: {escape(check.detail)}")
        if check.mend:
            terminal.out.print(f"         [bold]{escape(check.mend)}[/]")
    if as_json:
        terminal.print_json({"schema": 1, "checks": [check.to_json() for check in checks]})
    raise typer.Exit(EXIT_DEVICE if any(check.state == "missing" for check in checks) else EXIT_OK)


@app.command()
def devices(as_json: JsonOption = False) -> None:
    """List what --device can name here."""
    found = attached_devices()
    known = profiles()
    if as_json:
        attached = [{"serial": d.serial, "state": d.state, "product": d.product} for d in found]
        terminal.print_json({"schema": 1, "host": True, "attached": attached, "profiles": sorted(known)})
        return
    table = Table("name", "what", box=None, header_style="dim", pad_edge=False)
    table.add_row("host", "this machine's CPU and GPU; host@RELEASE for another ai-edge-litert")
    for device in found:
        table.add_row(escape(device.serial), escape(f"{device.product} ({device.state})".strip()))
    for name, profile in known.items():
        here = any(d.product == profile.product for d in found)
        table.add_row(name, f"{profile.title} ({profile.product}), {'attached' if here else 'not attached'}")
    terminal.out.print(table)


@app.command()
def runs(out: OutOption = Path("results"), as_json: JsonOption = False) -> None:
    """List the runs in a results folder, newest first."""
    rows = []
    for path in list_runs(out):
        try:
            rows.append((path, read_run(path)))
        except UsageError as error:
            terminal.err.print(f"[yellow]{escape(str(error))}[/]")
    if as_json:
        listed = [
            {"path": path, "command": r.get("command"), "status": r.get("status"), "result": _word(r)}
            for path, r in rows
        ]
        terminal.print_json({"schema": 1, "runs": listed})
        return
    if not rows:
        terminal.say(f"No runs in {escape(str(out))}; --out names another folder.")
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("run", overflow="fold")
    for title in ("command", "status", "answer"):
        table.add_column(title, no_wrap=True)
    for path, record in rows:
        said = (str(record.get("command")), str(record.get("status")), _word(record))
        table.add_row(escape(path.name), *(escape(figures.name(word, 40)) for word in said))
    terminal.out.print(table)


def _word(record: dict[str, object]) -> str:
    result = record.get("result")
    return str(result.get("status", "")) if isinstance(result, dict) else ""


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Write a run's report.html anew."""
    terminal.out.print(escape(str(write_report(run_folder))))


@app.command(name="export")
def export_command(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of localize or dump.")],
    form: Annotated[
        Format, typer.Option("--format", help="For pandas, Model Explorer, or LiteRT's mixed_precision tool.")
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="A file; default stdout.")] = None,
) -> None:
    """Write a run's ops in the form that another tool takes."""
    made = export(run_folder, form)
    if made.note:
        terminal.err.print(f"[yellow]{escape(made.note)}[/]")
    if out is None:
        terminal.print_text(made.text)
        return
    with writing(out), as_the_user():
        out.write_text(made.text, encoding="utf-8", errors="backslashreplace")
    terminal.out.print(escape(str(out)))


@app.command(name="demo")
def demo_command(
    device: DeviceOption = "host",
    weights: WeightsOption = None,
    layernorm: LayerNormOption = None,
    out: OutOption = Path("results"),
    timeout: TimeoutOption = 600.0,
) -> None:
    """The SAM 2.1 mask decoder as first published: ops that break it, the rule, the cures, the mask of each step."""
    with terminal.Stages() as progress:
        story = demo.tell(device, weights, layernorm or CARD.layernorm, out, timeout, progress)
    demo.show(story)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        terminal.out.print(f"harness {__version__}")
        raise typer.Exit


class _Interrupted(BaseException):
    """A signal to end; not KeyboardInterrupt, which the command-line library would turn into exit code 1."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)  # one is enough; the next would cut the tidying short
    raise _Interrupted(number)


def _run() -> None:
    try:
        with owner_only():
            app()
    except MemoryError as error:  # no estimate knows it all
        why = str(error)[:200].rstrip(".") or "none was left"
        raise UsageError(f"This machine's memory does not suffice ({why}).", NEXT_STEP) from None


def printable() -> None:
    """Show as escapes what the locale's encoding cannot say, rather than end with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point: a fault of the user's or the device's becomes one sentence and its exit code; SIGINT, SIGTERM and
    SIGHUP end a command in order, with the code that a shell gives them."""
    for number in ENDING:
        signal.signal(number, _interrupt)
    printable()
    try:
        _run()
    except HarnessError as error:
        terminal.err.print(f"[red]{escape(error.message)}[/] {escape(error.next_step)}".rstrip())
        if "--json" in sys.argv[1:]:
            terminal.print_json({"schema": 1, "status": "failed", "error": str(error)})
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001 - ours: a traceback, and a code that cannot be read as "numerically wrong"
        traceback.print_exc()
        sys.exit(EXIT_DEFECT)
    except _Interrupted as signalled:
        more = " The same command again continues it." if sys.argv[1:2] == ["localize"] else ""
        terminal.err.print(f"Interrupted; what was written is kept.{more}")
        sys.exit(128 + signalled.args[0])


if __name__ == "__main__":
    main()
