"""`harness lint`, parsed and wired. Exit codes: 0 clean; 1 findings; 2 misuse, a file that is no model included."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding

from harness.api.opening import open_model
from harness.cli import screen
from harness.cli.options import JsonOption
from harness.core.errors import EXIT_MISUSE, EXIT_OK, EXIT_WRONG, HarnessError
from harness.core.markup import escape
from harness.graph.model import Model
from harness.lint.catalogue import RULES
from harness.lint.lint import entered, lint, shapeless
from harness.lint.rule import Finding


@dataclass(frozen=True)
class Linted:
    """One model's findings. `shapeless` of its `ops` have no static shape and were not looked at; `assumed` says at
    what shapes it was looked at where the file leaves some open."""

    path: Path
    sha256: str
    ops: int
    shapeless: int
    findings: tuple[Finding, ...]
    assumed: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of `models` in `lint --json`, schema 1."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "ops": self.ops,
            "shapeless": self.shapeless,
            "assumed": self.assumed,
            "findings": [finding.to_json() for finding in self.findings],
        }


def lint_command(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="One or more .tflite files.")],
    as_json: JsonOption = False,
) -> None:
    """Look in the file alone for what a GPU computes wrongly without a word; exit 1 when something is found."""
    linted: list[Linted] = []
    unread: list[tuple[Path, HarnessError]] = []
    told: list[dict[str, Any]] = []
    for path in models:
        try:
            linted.append(_linted(path))
            told.append(linted[-1].to_json())
        except HarnessError as error:
            if len(models) == 1:
                raise
            unread.append((path, error))
            told.append({"path": str(path), "status": "failed", "error": str(error)})
    if as_json:
        screen.print_json({"schema": 1, "models": told})
    else:
        for number, one in enumerate(linted):
            if number:
                screen.out.print()
            _show(one)
    for _, why in unread:
        screen.print_error(why)
    if any(one.findings for one in linted):
        raise typer.Exit(EXIT_WRONG)
    raise typer.Exit(EXIT_MISUSE if unread else EXIT_OK)


def _linted(path: Path) -> Linted:
    model, assumed = Model.load(path), ""
    sha256 = model.sha256
    if shapeless(model) and len(model.signatures) < 2:
        with suppress(HarnessError):  # as every other command takes it
            opened = open_model(path)
            model, assumed = opened.model, opened.assumed
    ops = sum(len(graph.ops) for graph in entered(model))
    return Linted(path, sha256, ops, shapeless(model), lint(model), assumed)


def _show(one: Linted) -> None:
    name, count = escape(str(one.path)), f"{one.ops} op{'' if one.ops == 1 else 's'}"
    if one.shapeless:
        count += f", {one.shapeless} of them without a static shape and not looked at"
    if one.assumed:
        count += ", shapes that it leaves open as it stores them"
    if not one.findings:
        word = "[yellow]Nothing found[/]" if one.shapeless else "[green]Clean[/]"
        screen.say(f"{word}: {name}, {count}; {len(RULES)} rules.")
        return
    screen.say(f"[red]{len(one.findings)} finding{'' if len(one.findings) == 1 else 's'}[/]: {name}, {count}.")
    several = len({finding.subgraph for finding in one.findings}) > 1
    for rule in RULES:
        found = [finding for finding in one.findings if finding.rule == rule.name]
        if not found:
            continue
        screen.out.print()
        _indented(
            f"[bold]{rule.name}[/] [dim](wrong on ai-edge-litert {rule.releases[0]} to {rule.releases[-1]})[/]", 2
        )
        _indented(f"[dim]{escape(rule.why)}[/]", 2)
        alike: dict[tuple[str, str, str], list[str]] = {}
        for finding in found:
            where = f" of subgraph {finding.subgraph}" if several else ""
            alike.setdefault((finding.op_name, finding.sentence, finding.fix), []).append(f"#{finding.op}{where}")
        for (op, sentence, fix), places in alike.items():
            _indented(escape(f"{op} {', '.join(places)}: {sentence}"), 4)
            _indented(f"[green]{escape(fix)}[/]", 6)


def _indented(markup: str, columns: int) -> None:
    """A paragraph, broken at words where a person reads it and whole where a program does."""
    if screen.out.is_terminal:
        screen.out.print(Padding.indent(screen.out.render_str(markup), columns), soft_wrap=False)
    else:
        screen.out.print(" " * columns + markup)
