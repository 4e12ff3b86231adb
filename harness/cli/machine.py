"""`doctor`, `devices`, `app` and `schema`: what is here, and what is on a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import screen
from harness.cli.options import JsonOption, OutOption
from harness.core.errors import EXIT_DEVICE, EXIT_OK
from harness.core.markup import escape


def doctor(out: OutOption = Path("results"), as_json: JsonOption = False) -> None:
    """Check that everything is here, by using it; exit 3 when something is missing."""
    from harness.api.doctor import examine

    checks = []
    for check in examine(out):
        checks.append(check)
        if as_json:
            continue
        mark = {"ok": "[green]ok      [/]", "missing": "[red]missing [/]", "optional": "[yellow]optional[/]"}[
            check.state
        ]
        screen.out.print(f"{mark} {check.name}: {escape(check.detail)}")
        if check.mend:
            screen.out.print(f"         [bold]{escape(check.mend)}[/]")
    if as_json:
        screen.print_json({"schema": 1, "checks": [check.to_json() for check in checks]})
    raise typer.Exit(EXIT_DEVICE if any(check.state == "missing" for check in checks) else EXIT_OK)


def devices(as_json: JsonOption = False) -> None:
    """List what --device can name here."""
    from rich.table import Table

    from harness.devices.planted.catalogue import PREFIX, names
    from harness.devices.registry import attached_devices, profiles

    found = attached_devices()
    known = profiles()
    if as_json:
        attached = [{"serial": d.serial, "state": d.state, "product": d.product} for d in found]
        screen.print_json(
            {"schema": 1, "host": True, "attached": attached, "profiles": sorted(known), "planted": list(names())}
        )
        return
    table = Table("name", "what", box=None, header_style="dim", pad_edge=False)
    table.add_row("host", "this machine's CPU and GPU; host@RELEASE or host@nightly for another ai-edge-litert")
    table.add_row("web", "LiteRT.js in a browser on this machine; web@RELEASE for another one")
    table.add_row("web:chrome-on-PHONE", "LiteRT.js in the Chrome of a phone below, by serial or name")
    for device in found:
        table.add_row(escape(device.serial), escape(f"{device.product} ({device.state})".strip()))
    for name, profile in known.items():
        here = any(d.product == profile.product for d in found)
        table.add_row(name, f"{profile.title} ({profile.product}), {'attached' if here else 'not attached'}")
    table.add_row(
        f"{PREFIX}NAME", f"no phone: this machine's CPU with bugs of phones; NAME is one of {', '.join(names())}"
    )
    screen.out.print(table)


app = typer.Typer(no_args_is_help=True)


@app.callback()
def phone_app() -> None:
    """The app on a phone: the first job puts it there by itself, this does so beforehand."""


@app.command(epilog="Example: harness app install --device pixel8a")
def install(
    device: Annotated[str, typer.Option("--device", help="A phone: a name that `harness devices` lists.")],
    apk: Annotated[
        Path | None,
        typer.Option("--apk", metavar="FILE", envvar="HARNESS_APK", help="The app, else the one a job would take."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put this harness's app on a phone, or leave it where it is the same byte for byte."""
    from harness.api.app import InstalledApp, install_app

    def show(found: InstalledApp) -> None:
        before = "" if found.was == found.version else f" (before: {escape(found.was or 'none')})"
        screen.out.print(f"The app {escape(found.version)} is on {escape(found.serial)}{before}.")

    screen.answer(lambda progress: install_app(device, apk, progress), as_json=as_json, show=show)


def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of a document; without one they are listed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON Schema of a document that the harness prints or writes. With --json it is `content` in one."""
    from rich.table import Table

    from harness.report import schemas

    found = schemas.schema(name) if name else {}
    entries = [
        entry | ({"content": found} if name else {}) for entry in schemas.catalogue() if name in (None, entry["name"])
    ]
    if as_json:
        screen.print_json({"schema": 1, "schemas": entries})
    elif name:
        screen.print_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    else:
        table = Table("name", "what", "from", box=None, header_style="dim", pad_edge=False)
        for entry in entries:
            table.add_row(entry["name"], entry["title"], escape(", ".join((*entry["commands"], *entry["files"]))))
        screen.out.print(table)
