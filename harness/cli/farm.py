"""`harness farm …`: many phones on many hosts. What it runs on is imported when a command of it is asked for."""

from __future__ import annotations

import asyncio
import shlex
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import screen
from harness.cli.options import JsonOption
from harness.core.errors import EXIT_OK, UsageError
from harness.core.markup import escape

if TYPE_CHECKING:
    from harness.farm.node import Farm
    from harness.farm.record import MatrixRecord

app = typer.Typer(no_args_is_help=True)

Certificates = Annotated[
    Path | None,
    typer.Option(
        "--certificates", metavar="DIR", envvar="HARNESS_FARM_CERTIFICATES", help="This node's, from `certificates`."
    ),
]
NoTls = Annotated[bool, typer.Option("--no-tls", help="Neither certificates nor encryption: trust the whole network.")]
Scheduler = Annotated[str, typer.Argument(metavar="ADDRESS", help="Of the scheduler, as lab1:8786.")]


@app.callback()
def farm() -> None:
    """Many phones on many hosts: a matrix of models, devices, runtimes and precisions, on Dask distributed."""
    from harness.farm.tls import require_packages

    require_packages()


@app.command(epilog="Example: harness farm certificates farm --node lab1 --node lab2 --node me")
def certificates(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where they go; an authority that is there is used.")],
    node: Annotated[
        list[str] | None,
        typer.Option("--node", metavar="NAME", help="A machine of the farm, by host name or IP; repeatable. [node]"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an authority and certificates for the machines of a farm; keys are for their owner's eyes alone."""
    from harness.farm.tls import make_certificates

    made = [str(path) for path in make_certificates(folder, list(dict.fromkeys(node or ["node"])))]
    if as_json:
        screen.print_json({"schema": 1, "authority": str(folder / "ca.pem"), "nodes": made})
        return
    for path in made:
        screen.say(f"{escape(path)}: take it to that machine, and name it with --certificates.")
    screen.say(f"Keep {escape(str(folder / 'ca-key.pem'))}: who has it can join the farm.")


@app.command(epilog="Example: harness farm scheduler --certificates farm/lab1")
def scheduler(
    certificates: Certificates = None,
    no_tls: NoTls = False,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="To listen at; default all.")] = "",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8786,
    dashboard: Annotated[
        str, typer.Option("--dashboard", metavar="HOST:PORT", help="Of Dask's dashboard, which asks nobody who he is.")
    ] = "127.0.0.1:8787",
    lost_after: Annotated[
        float, typer.Option("--lost-after", metavar="S", min=1, max=3600, help="Until a silent host counts as gone.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Run Dask's scheduler, one for a farm, until it is ended."""
    from harness.farm.scheduler import schedule

    folder = _folder(certificates, no_tls)

    def ready(address: str, shown: str) -> None:
        if as_json:
            _tell({"schema": 1, "address": address, "dashboard": shown or None})
        else:
            screen.say(
                f"The scheduler is at {escape(address)}" + (f", its dashboard at {escape(shown)}." if shown else ".")
            )

    def work(stopping: asyncio.Event) -> Any:
        return schedule(
            stopping, ready, certificates=folder, host=host, port=port, dashboard=dashboard, lost_after=lost_after
        )

    screen.until_ended(work)


@app.command(epilog="Example: harness farm worker lab1:8786 --certificates farm/lab2")
def worker(
    address: Scheduler,
    certificates: Certificates = None,
    no_tls: NoTls = False,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="This host's; default its host name.")] = "",
    own: Annotated[
        str,
        typer.Option("--address", metavar="IP", help="This host's, as others reach it; default: asked."),
    ] = "",
    host_device: Annotated[
        bool, typer.Option("--host-device/--no-host-device", help="Whether the host's own CPU and GPU take jobs.")
    ] = True,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DIR", help="For files and finished jobs; default in the cache.")
    ] = None,
    look: Annotated[float, typer.Option("--look", metavar="S", min=0.2, max=600, help="Between looks at adb.")] = 5.0,
    probe_every: Annotated[
        float, typer.Option("--probe-every", metavar="S", min=1, max=86400, help="Between probes of one taken out.")
    ] = 60.0,
    gone_after: Annotated[
        float,
        typer.Option("--gone-after", metavar="S", min=1, max=3600, help="How long a phone with a job may go."),
    ] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Let this host's phones, and its own CPU and GPU, take jobs until it is ended."""
    from harness.devices.cache import cache_folder
    from harness.farm.found import Finder
    from harness.farm.keeper import HostSetup, Keeper
    from harness.farm.node import own_address, scheduler_address

    folder = _folder(certificates, no_tls)
    where = scheduler_address(address, tls=folder is not None)
    called = name or socket.gethostname().partition(".")[0]
    if not called.replace("-", "").replace("_", "").isalnum() or not called.isascii():
        raise UsageError(f"'{called[:80]}' is no name of a host.", "Give letters, digits, - and _ with --name.")
    setup = HostSetup(
        scheduler=where,
        address=own or own_address(where),
        host=called,
        store=store or cache_folder() / "farm",
        certificates=folder,
        look=look,
        probe_every=probe_every,
        gone_after=gone_after,
    )
    keeper = Keeper(setup, Finder(called, with_host=host_device), lambda sentence: screen.err.print(escape(sentence)))
    if as_json:
        _tell({"schema": 1, "host": called, "scheduler": where, "address": setup.address, "store": str(setup.store)})

    def work(stopping: asyncio.Event) -> Any:
        async def kept() -> None:
            ended = asyncio.ensure_future(stopping.wait())
            ended.add_done_callback(lambda _: keeper.stop())
            await keeper.run()

        return kept()

    screen.until_ended(work)


@app.command(epilog="Example: harness farm run nightly.toml --scheduler lab1:8786 --certificates farm/me")
def run(
    matrix: Annotated[Path, typer.Argument(metavar="MATRIX.toml", help="What to do: docs/farm.md.")],
    scheduler: Annotated[str, typer.Option("--scheduler", metavar="ADDRESS", help="As lab1:8786.")],
    certificates: Certificates = None,
    no_tls: NoTls = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="For its run folders; default results/NAME.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Have jobs done again that failed or ran out of time.")
    ] = False,
    absent_after: Annotated[
        float, typer.Option("--absent-after", metavar="S", min=0, max=86400, help="Longest wait for a device.")
    ] = 60.0,
    patience: Annotated[
        float, typer.Option("--patience", metavar="S", min=0, max=86400, help="Longest wait for the scheduler.")
    ] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Have a matrix done; the same command again asks only what is not finished. Exit code: the worst of its jobs'."""
    from dataclasses import replace

    from harness.farm.client import run_matrix
    from harness.farm.matrix import read_matrix
    from harness.farm.record import MatrixRecord

    farm = _farm(scheduler, certificates, no_tls)
    read = read_matrix(matrix, "0" * 32)
    record = MatrixRecord(out or Path("results") / read.name)
    try:
        read = replace(read, jobs=tuple(replace(job, matrix=record.id) for job in read.jobs))
        with screen.ProgressBar() as progress:
            run_matrix(replace(farm, absent_after=absent_after, patience=patience), read, record, progress, again=again)
    finally:
        record.close()
    if as_json:
        screen.print_json(record.document())
    else:
        _show_ends(record)
    raise typer.Exit(record.exit_code())


@app.command(epilog="Example: harness farm status lab1:8786 --certificates farm/me")
def status(
    address: Scheduler, certificates: Certificates = None, no_tls: NoTls = False, as_json: JsonOption = False
) -> None:
    """Show the hosts of a farm, their devices, those that were taken out and why, and what waits."""
    from rich.table import Table

    from harness.farm.status import farm_status

    found = farm_status(_farm(address, certificates, no_tls))
    if as_json:
        screen.print_json(found)
        raise typer.Exit(EXIT_OK)
    table = Table("host", "device", "state", "offers", "job or reason", box=None, header_style="dim", pad_edge=False)
    for host in found["hosts"]:
        for device in host["devices"]:
            words = (host["host"], device["name"], device["state"], ", ".join(device["offers"]))
            table.add_row(*map(escape, words), escape(device["doing"] or device["job"] or _why_out(device)))
        if host["trouble"] or not host["devices"]:
            table.add_row(escape(host["host"]), "", "", "", escape(host["trouble"] or "no devices"))
    screen.out.print(table, width=None if screen.out.is_terminal else 1000, crop=False)
    for queue in found["queues"]:
        left = f"{queue['waiting']} wait, {queue['running']} run, {queue['done']} done"
        screen.say(f"{escape(queue['matrix'])}: {left}")
    screen.say(f"Dashboard: {escape(found['dashboard'] or 'none; it needs the package bokeh at the scheduler')}")


SHOWN = 10
"""Jobs that did not end well, named one by one."""


def _show_ends(record: MatrixRecord) -> None:
    """How many jobs came to what, those that a person has to look at, and where to."""
    rows = record.rows()
    for state, count in record.counts().items():
        answers = Counter(str(row["status"]) for row in rows if row["state"] == state and row["status"])
        told = ", ".join(f"{number} {answer}" for answer, number in sorted(answers.items()))
        screen.say(f"{count} {state}" + (f": {escape(told)}" if told else ""))
    bad = [row for row in rows if row["exit_code"] or row["state"] not in ("done", "skipped")]
    for row in bad[:SHOWN]:
        what = f"{row['command']} {row['model']} on {row['serial'] or row['device']}"
        screen.say(f"  {escape(what)}: {escape(str(row['reason'] or row['status'] or row['state']))}")
        if row["run"]:
            screen.out.print(f"    [dim]{escape(str(record.folder / row['run']))}[/]")
    if len(bad) > SHOWN:
        screen.say(f"  and {len(bad) - SHOWN} more; {escape(str(record.folder / 'matrix.json'))} has all of them")
    if any(row["run"] for row in rows):
        screen.say(f"Side by side: harness matrix {escape(shlex.quote(str(record.folder)))}")
    if any(row["state"] in record.repeatable for row in rows):
        screen.say("The same command with --again has those done again that failed or ran out of time.")


def _why_out(device: dict[str, Any]) -> str:
    """Why a device was taken out, how often, and when it may come back; empty for one that was not."""
    if device["state"] != "out":
        return str(device["reason"])
    often = f"; out {device['times_out']} times with no job done between" if device["times_out"] > 1 else ""
    return f"{device['reason']}{often}; a small model in {device['probe_in']:.0f} s"


def _farm(address: str, certificates: Path | None, no_tls: bool) -> Farm:
    from harness.farm.node import Farm, scheduler_address

    folder = _folder(certificates, no_tls)
    return Farm(scheduler_address(address, tls=folder is not None), folder)


def _folder(certificates: Path | None, no_tls: bool) -> Path | None:
    from harness.farm.tls import security

    if no_tls and certificates is not None:
        raise UsageError("--certificates and --no-tls contradict each other.", "Give one of them.")
    security(certificates, without=no_tls)
    return certificates.absolute() if certificates is not None else None


def _tell(document: dict[str, Any]) -> None:
    import sys

    screen.print_json(document)
    sys.stdout.flush()
