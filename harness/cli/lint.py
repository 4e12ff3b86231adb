"""`harness lint`, parsed and wired. Exit codes: 0 nothing that `--fail-on` names; 1 findings that it names; 2 misuse, a
file that is no model included. With --fix: 0 nothing that it names is left, and the device gets the model right where
one was asked; 1 something is left, or the device gets it wrong; 3 the device gave no answer; 4 nothing to compare."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.api.opening import as_linted
from harness.cli import screen
from harness.cli.options import JsonOption, TimeoutOption
from harness.core.choices import Precision
from harness.core.errors import EXIT_OK, EXIT_WRONG, HarnessError, UsageError
from harness.core.markup import escape
from harness.core.run_folder import writing
from harness.core.visible import counted
from harness.devices.web.package import DEFAULT as WEB_RELEASE
from harness.lint.finding import Finding
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.target import NAMES, Target, target_of
from harness.lint.lint import entered, lint, shapeless
from harness.lint.sarif import Looked, sarif

if TYPE_CHECKING:
    from harness.api.fixing.result import Fixed
    from harness.cli.fixing.asked import FixWords


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
    fixed: Fixed | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of `models` in `lint --json`, schema 1."""
        held: dict[str, Any] = {} if self.fixed is None else {"fix": self.fixed.to_json()}
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "for": self.target.name,
            "release": self.target.release,
            "ops": self.ops,
            "shapeless": self.shapeless,
            "assumed": self.assumed,
            "findings": [finding.to_json() for finding in self.findings],
            **held,
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
    fix: Annotated[
        bool, typer.Option("--fix", help="Write the model anew without what is found, as far as that keeps its values.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Of --fix: the new model, or a folder; default MODEL.fixed.tflite."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Of --fix: compares both models; default this machine's GPU for host. Or none."),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", metavar="FILE.npz", help="Of --fix: inputs to try beside random ones.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of --fix: for the first of three random inputs.")] = 0,
    precision: Annotated[Precision, typer.Option("--precision", help="Of --fix: how the device computes.")] = "default",
    results: Annotated[
        Path, typer.Option("--results", metavar="DIR", help="Of --fix: where run folders of the device go.")
    ] = Path("results"),
    timeout: TimeoutOption = 600.0,
) -> None:
    """Look in the file alone for what a GPU refuses or computes wrongly; exit 1 when something is silently wrong."""
    chosen = target_of(target, web_release=WEB_RELEASE)
    fixing = None
    if fix:
        from harness.cli.fixing.asked import FixWords

        fixing = FixWords(chosen, out, device, inputs, seed, precision, results, timeout)
        fixing.check()
    else:
        _refuse_alone({"--out": out, "--device": device, "--inputs": inputs})
    places = fixing.places(models) if fixing is not None else [Path()] * len(models)
    linted: list[Linted] = []
    unread: list[HarnessError] = []
    looked: list[Looked] = []
    told: list[dict[str, Any]] = []
    codes: set[int] = set()
    levels = set(fail_on or [FailOn.SILENT])
    for path, to in zip(models, places, strict=True):
        try:
            linted.append(_linted(path, chosen) if fixing is None else _fixed(_linted(path, chosen), fixing, to))
            codes.add(_code(linted[-1], levels))
            told.append(linted[-1].to_json())
            looked.append(Looked(path, linted[-1].findings))
        except HarnessError as error:
            if len(models) == 1:
                raise
            unread.append(error)
            codes.add(error.exit_code)
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
            if one.fixed is not None:
                from harness.cli.fixing.shown import show_fixed

                show_fixed(one.fixed)
        if codes <= {EXIT_OK} and fixing is None:
            _say_uncounted({finding.level for one in linted for finding in one.findings})
    for why in unread:
        screen.print_error(why)
    raise typer.Exit(screen.worst_code(codes))


def _linted(path: Path, target: Target) -> Linted:
    file, model, assumed = as_linted(path)
    ops = sum(len(graph.ops) for graph in entered(model))
    return Linted(path, file.sha256, ops, shapeless(model), lint(model, target), target, assumed)


def _refuse_alone(options: Mapping[str, object]) -> None:
    """Raises UsageError where an option of --fix is given without it."""
    if given := [name for name, value in options.items() if value is not None]:
        raise UsageError(f"{given[0]} is an option of --fix.", "Add --fix, or leave it out.")


def _fixed(linted: Linted, words: FixWords, to: Path) -> Linted:
    with screen.ProgressBar() as progress:
        return replace(linted, fixed=words.fix(linted.path, to, progress))


def _code(one: Linted, levels: Collection[str]) -> int:
    if one.fixed is not None:
        from harness.cli.fixing.asked import exit_code

        return exit_code(one.fixed, levels)
    return EXIT_WRONG if any(finding.level in levels for finding in one.findings) else EXIT_OK


def _say_uncounted(levels: Collection[str]) -> None:
    """What was found and does not change the exit code."""
    if levels:
        more = " ".join(f"--fail-on {level}" for level in FailOn if level in levels)
        screen.out.print()
        screen.say(f"Exit code 0, as nothing that was asked for is among it; 1 with {more}.")


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
        word = "[yellow]Nothing found[/]" if one.shapeless else "[green]Nothing known[/]"
        asked = {release for entry in entries() for each in entry.evidence for release in each.versions}
        new = one.target.platform == "host" and one.target.release not in asked
        unasked = " None of them was measured on that release." if new else ""
        screen.say(f"{word}: {name}, {count}; {len(entries())} entries, {for_whom}.{unasked}")
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
    screen.indented(f"[bold]{first.rule}[/] [{colour}]({word}{_basis(first)})[/]", 2)
    screen.indented(f"[dim]{escape(first.entry.why)}[/]", 2)
    if first.entry.issues:
        screen.indented(f"[dim]{escape(', '.join(first.entry.issues))}[/]", 2)
    alike: dict[tuple[str, str, str], list[str]] = {}
    for finding in found:
        where = f" of subgraph {finding.subgraph}" if several else ""
        alike.setdefault((finding.op_name, finding.sentence, finding.fix), []).append(f"#{finding.op}{where}")
    for (op, sentence, fix), places in alike.items():
        screen.indented(escape(f"{op} {', '.join(places)}: {sentence}"), 4)
        screen.indented(f"[green]{escape(fix)}[/]", 6)


def _basis(finding: Finding) -> str:
    """On which releases of ai-edge-litert the host's GPU was measured to do so; that nobody measured the target."""
    releases = finding.entry.releases
    if finding.sure == "certain":
        if not finding.target.startswith("ai-edge-litert") or not releases:
            return f" on {escape(finding.target)}"
        return f" on ai-edge-litert {' to '.join(dict.fromkeys((releases[0], releases[-1])))}"
    if finding.effect == "precision":
        return ", by its values"
    return f"; not measured on {escape(finding.target)}"
