"""`compare` and `localize` with several --device: what each ends with, and what a person sees."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.api.across.asking import Asked
from harness.api.across.compare import AcrossComparison, Measured, compare_across
from harness.api.across.localize import AcrossLocalization, localize_across
from harness.cli.across.render import ops_table, verdicts_table
from harness.cli.render import culprit_line, residency_text, runtime_text
from harness.cli.screen import answers, err, out, say, worst_code
from harness.core.errors import EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG
from harness.core.markup import escape
from harness.localize.base.result import Localization
from harness.report.across.ops import told
from harness.report.across.releases import Change, sentences

if TYPE_CHECKING:
    from harness.cli.options import Words
    from harness.localize.probe.journal.resume import Resume

_COLOURS = {"pass": "green", "culprits": "red", "unresolved": "yellow"}
_LOCALIZED = {"pass": EXIT_OK, "culprits": EXIT_WRONG, "unresolved": EXIT_UNRESOLVED}


def compare_devices(words: Words, more: Sequence[Path] | None, *, as_json: bool, runs: int) -> NoReturn:
    """`harness compare` on several devices; ends with the worst of them."""
    answers(
        words.each(more, lambda request, progress: compare_across(request, words.devices, progress, runs=runs)),
        as_json=as_json,
        document=AcrossComparison.to_json,
        show=show_across_comparison,
        code=lambda found: worst_code([_compared(each) for each in found.asked]),
    )
    raise AssertionError("a command ends with its code")


def localize_devices(
    words: Words, more: Sequence[Path] | None, *, as_json: bool, resume: Resume, explain: bool, runs: int
) -> NoReturn:
    """`harness localize` on several devices; ends with the worst of them."""
    answers(
        words.each(
            more,
            lambda request, progress: localize_across(
                request, words.devices, progress, resume=resume, explain=explain, runs=runs
            ),
        ),
        as_json=as_json,
        document=AcrossLocalization.to_json,
        show=show_across_localization,
        code=lambda found: worst_code([_localized(each) for each in found.asked]),
    )
    raise AssertionError("a command ends with its code")


def show_across_comparison(answer: AcrossComparison) -> None:
    """Outputs and devices, then what differs between these."""
    rows = [(each.device, output) for each in answer.asked if each.found for output in each.found.comparison.outputs]
    out.print(verdicts_table(rows))
    _show_failures(answer.asked)
    for each in answer.asked:
        if each.found:
            done = each.found.comparison.done
            say(f"{escape(each.device)}: {residency_text(done.residency)}, {runtime_text(done)}.")
    for note, devices in _by_note(answer.asked).items():
        of = "" if len(devices) == len(answer.asked) else f"{', '.join(devices)}: "
        say(f"[yellow]{escape(of)}{escape(note)}[/]")
    out.print("\n[bold]Between the devices[/]")
    if told(answer.ops):
        out.print(ops_table(answer.ops))
    _show_between(answer.notes, answer.changes)
    _show_folders(answer.asked)


def show_across_localization(answer: AcrossLocalization) -> None:
    """Each device's answer in a line, then one table of op and device."""
    for each in answer.asked:
        if each.found is None:
            continue
        said, colour = each.found.status, _COLOURS[each.found.status]
        certified = ""
        if each.found.culprits:
            certified = f" ({'certified' if each.found.certified else 'not certified'})"
        say(f"[bold]{escape(each.device)}[/]: [{colour}]{said}[/]{certified}, LiteRT {_runtime(each)}")
        for culprit in each.found.culprits:
            say(f"  {escape(culprit_line(culprit))}")
    _show_failures(answer.asked)
    out.print("\n[bold]Between the devices[/]")
    if told(answer.ops):
        out.print(ops_table(answer.ops))
    _show_between(answer.notes, answer.changes)
    _show_folders(answer.asked)


def _by_note(asked: Sequence[Asked[Measured]]) -> dict[str, list[str]]:
    """Every note with the devices of whose comparison it is: most are of the inputs, and so of all."""
    found: dict[str, list[str]] = {}
    for each in asked:
        for note in each.found.comparison.notes if each.found else ():
            found.setdefault(note, []).append(each.device)
    return found


def _runtime(asked: Asked[Localization]) -> str:
    assert asked.found is not None
    return f"{escape(asked.found.device['runtime'])}, {escape(asked.found.device['gpu'])}"


def _show_failures(asked: Sequence[Asked[Measured]] | Sequence[Asked[Localization]]) -> None:
    for each in asked:
        if each.error is not None:
            err.print(f"[bold]{escape(each.device)}[/]: [red]{escape(str(each.error))}[/]")


def _show_between(notes: Sequence[str], changes: Sequence[Change]) -> None:
    for note in notes:
        say(escape(note))
    for sentence in sentences(changes):
        say(f"LiteRT {escape(sentence)}")


def _show_folders(asked: Sequence[Asked[Measured]] | Sequence[Asked[Localization]]) -> None:
    folders = [each.folder for each in asked if each.folder]
    for folder in folders:
        out.print(f"[dim]{escape(str(folder))}[/]")
    if folders:
        out.print(f"As a page, with the other runs there: harness matrix {escape(shlex.quote(str(folders[0].parent)))}")


def _compared(asked: Asked[Measured]) -> int:
    if asked.found is None:
        return asked.error.exit_code if asked.error else EXIT_OK
    return EXIT_OK if asked.found.comparison.ok else EXIT_WRONG


def _localized(asked: Asked[Localization]) -> int:
    if asked.found is None:
        return asked.error.exit_code if asked.error else EXIT_OK
    return _LOCALIZED[asked.found.status]
