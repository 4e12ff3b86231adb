"""`harness lint`, parsed and wired. Exit codes: 0 nothing that `--fail-on` names; 1 findings that it names; 2 misuse, a
file that is no model included."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding

from harness.api.opening import open_model
from harness.cli import screen
from harness.cli.options import JsonOption
from harness.core.errors import EXIT_MISUSE, EXIT_OK, EXIT_WRONG, HarnessError
from harness.core.markup import escape
from harness.core.run_folder import writing
from harness.core.visible import counted
from harness.devices.web.package import DEFAULT as WEB_RELEASE
from harness.graph.model import Model
from harness.lint.finding import Finding
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.target import NAMES, Target, target_of
from harness.lint.lint import entered, lint, shapeless
from harness.lint.sarif import Looked, sarif


class FailOn(StrEnum):
    """Findings that make the exit code 1."""

    SILENT = "silent"
    REFUSED = "refused"
    CRASH = "crash"
    PRECISION = "precision"
    RISK = "risk"


# How each level is told of a rule: the word, and its colour.
_WORDS = {
    "silent": ("wrong", "red"),
    "refused": ("refused", "red"),
    "crash": ("ends the process", "red"),
    "precision": ("loses precision", "yellow"),
    "slow": ("slow", "yellow"),
}
_RISKS = {
    "silent": "at risk of being wrong without a word",
    "refused": "at risk of being refused",
    "crash": "at risk of ending the process",
    "precision": "at risk of losing precision",
    "slow": "at risk of being slow",
}


@dataclass(frozen=True)
class Linted:
    """One model's findings. `shapeless` of its `ops` have no static shape; `assumed` says at what shapes it was looked
    at where the file leaves some open."""

    path: Path
    sha256: str
    ops: int
    shapeless: int
    findings: tuple[Finding, ...]
    target: Target
    assumed: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of `models` in `lint --json`, schema 1."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "for": self.target.name,
            "release": self.target.release,
            "ops": self.ops,
            "shapeless": self.shapeless,
            "assumed": self.assumed,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def certain(self) -> tuple[Finding, ...]:
        """Those that are more than a risk."""
        return tuple(finding for finding in self.findings if finding.sure == "certain")


def lint_command(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="One or more .tflite files.")],
    target: Annotated[
        str,
        typer.Option(
            "--for", metavar="TARGET", help=f"{', '.join(NAMES)}; @RELEASE behind it for another than the newest known."
        ),
    ] = "host",
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option("--fail-on", help="Exit with 1 for findings of this kind; may be given several times."),
    ] = None,
    sarif_file: Annotated[
        Path | None, typer.Option("--sarif", metavar="FILE", help="Write the findings as SARIF 2.1.0 too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look in the file alone for what a GPU refuses or computes wrongly; exit 1 when something is silently wrong."""
    chosen = target_of(target, web_release=WEB_RELEASE)
    linted: list[Linted] = []
    unread: list[HarnessError] = []
    looked: list[Looked] = []
    told: list[dict[str, Any]] = []
    for path in models:
        try:
            linted.append(_linted(path, chosen))
            told.append(linted[-1].to_json())
            looked.append(Looked(path, linted[-1].findings))
        except HarnessError as error:
            if len(models) == 1:
                raise
            unread.append(error)
            told.append({"path": str(path), "status": "failed", "error": str(error)})
            looked.append(Looked(path, trouble=str(error)))
    if sarif_file is not None:
        with writing(sarif_file):
            sarif_file.write_text(json.dumps(sarif(looked), indent=2) + "\n", encoding="utf-8")
    if as_json:
        screen.print_json({"schema": 1, "models": told})
    else:
        for number, one in enumerate(linted):
            if number:
                screen.out.print()
            _show(one)
    for why in unread:
        screen.print_error(why)
    fails = set(fail_on or [FailOn.SILENT])
    if any(finding.level in fails for one in linted for finding in one.findings):
        raise typer.Exit(EXIT_WRONG)
    raise typer.Exit(EXIT_MISUSE if unread else EXIT_OK)


def _linted(path: Path, target: Target) -> Linted:
    model, assumed = Model.load(path), ""
    sha256 = model.sha256
    if shapeless(model) and len(model.signatures) < 2:
        with suppress(HarnessError):  # as every other command takes it
            opened = open_model(path)
            model, assumed = opened.model, opened.assumed
    ops = sum(len(graph.ops) for graph in entered(model))
    return Linted(path, sha256, ops, shapeless(model), lint(model, target), target, assumed)


def _show(one: Linted) -> None:
    name, count = escape(str(one.path)), counted(one.ops, "op")
    if one.shapeless:
        count += f", {one.shapeless} of them without a static shape and hardly looked at"
    if one.assumed:
        count += ", shapes that it leaves open as it stores them"
    certain = one.certain()
    risks = len(one.findings) - len(certain)
    for_whom = f"for {one.target.words}"
    if not one.findings:
        word = "[yellow]Nothing found[/]" if one.shapeless else "[green]Clean[/]"
        screen.say(f"{word}: {name}, {count}; {len(entries())} entries, {for_whom}.")
        return
    said = [f"[red]{counted(len(certain), 'finding')}[/]"] if certain else []
    said += [f"[yellow]{risks} at risk[/]"] if risks else []
    screen.say(f"{', '.join(said)}: {name}, {count}; {for_whom}.")
    several = len({finding.subgraph for finding in one.findings}) > 1
    for rule in dict.fromkeys(finding.rule for finding in (*certain, *one.findings)):
        screen.out.print()
        _show_rule([finding for finding in one.findings if finding.rule == rule], several=several)


def _show_rule(found: Sequence[Finding], *, several: bool) -> None:
    first = found[0]
    word, colour = _WORDS[first.effect] if first.sure == "certain" else (_RISKS[first.effect], "yellow")
    _indented(f"[bold]{first.rule}[/] [{colour}]({word}{_basis(first)})[/]", 2)
    _indented(f"[dim]{escape(first.entry.why)}[/]", 2)
    if first.entry.issues:
        _indented(f"[dim]{escape(', '.join(first.entry.issues))}[/]", 2)
    alike: dict[tuple[str, str, str], list[str]] = {}
    for finding in found:
        where = f" of subgraph {finding.subgraph}" if several else ""
        alike.setdefault((finding.op_name, finding.sentence, finding.fix), []).append(f"#{finding.op}{where}")
    for (op, sentence, fix), places in alike.items():
        _indented(escape(f"{op} {', '.join(places)}: {sentence}"), 4)
        _indented(f"[green]{escape(fix)}[/]", 6)


def _basis(finding: Finding) -> str:
    """On which releases of ai-edge-litert the host's GPU was measured to do so; that nobody measured the target."""
    releases = finding.entry.releases
    if finding.sure == "certain":
        if not finding.target.startswith("ai-edge-litert") or not releases:
            return f" on {escape(finding.target)}"
        return f" on ai-edge-litert {' to '.join(dict.fromkeys((releases[0], releases[-1])))}"
    return f"; not measured on {escape(finding.target)}"


def _indented(markup: str, columns: int) -> None:
    """A paragraph, broken at words where a person reads it and whole where a program does."""
    if screen.out.is_terminal:
        screen.out.print(Padding.indent(screen.out.render_str(markup), columns), soft_wrap=False)
    else:
        screen.out.print(" " * columns + markup)
