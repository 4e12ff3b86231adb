"""What a person sees in a terminal: progress with the time left on stderr, answers on stdout."""

from __future__ import annotations

import json
import math
import shlex
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.errors import MarkupError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from harness.counted import counted
from harness.devices.refusal import grouped
from harness.graph.audit import Audit
from harness.job import Completed, Residency
from harness.localize.comparison import Comparison
from harness.localize.result import Culprit, Localization, OutputVerdict, Remedy
from harness.localize.sentence import sentence as verdict_of
from harness.localize.unsteady import rate
from harness.markup import escape
from harness.numerics.metrics import finite_range, is_mask, share_of_rms
from harness.numerics.verdict import Judgement
from harness.report import figures
from harness.results import to_json
from harness.visible import visible

# Longer than any path.
LONGEST_LINE = 8000


class Screen(Console):
    """A console to which no name can give orders: control and formatting characters are shown as escapes, what is no
    markup is text, and a line has an end."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Text with markup, each line's characters visible."""
        shown = "\n".join(figures.name(line, LONGEST_LINE) for line in text.split("\n"))
        try:
            return super().render_str(shown, **how)
        except MarkupError:
            return super().render_str(shown, **how | {"markup": False})


out = Screen(highlight=False, soft_wrap=True, emoji=False)
# A table is not broken to fit a narrow terminal; the terminal does that.
TABLE_WIDTH = 140
err = Screen(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class Stages:
    """Draws stages as bars: one that tells its share of work done by that, the others by the clock against a guess.

    A guess overrun slows the bar down rather than letting it stand at the end: it nears 100 % and never claims it.
    """

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(28),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[left]}"),
            console=err,
            transient=False,
        )
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._task: Any = None
        self._began = self._expected = 0.0
        self._done: float | None = None
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Stages:
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._finish(complete=kind is None)
        self._stop.set()
        self._ticker.join()
        if self._bars.tasks:
            self._bars.stop()

    def stage(self, what: str, expected_seconds: float) -> None:
        """A stage begins."""
        with self._lock:
            self._bars.start()  # not before: a fault that shows at once is told without an empty line for the bars
            self._finish(complete=True)
            self._began, self._expected, self._done = time.monotonic(), max(expected_seconds, 0.1), None
            self._task = self._bars.add_task(escape(what), total=1.0, left="")

    def fraction(self, done: float) -> None:
        """This share of the stage is done."""
        with self._lock:
            self._done = done

    def _finish(self, *, complete: bool) -> None:
        if self._task is not None:
            if complete:
                self._bars.update(self._task, completed=1.0, left="")
            self._bars.stop_task(self._task)
            self._task = None

    def _tick(self) -> None:
        while not self._stop.wait(0.25):
            with self._lock:
                if self._task is None:
                    continue
                spent = time.monotonic() - self._began
                if self._done:
                    share, left = self._done, spent * (1 - self._done) / self._done
                else:
                    share = (
                        spent / self._expected if spent < 0.8 * self._expected else 1 - 0.16 * self._expected / spent
                    )
                    left = max(self._expected - spent, 0.0)
                text = f"about {left:.0f} s left" if left >= 1 else "almost done"
                self._bars.update(self._task, completed=min(share, 0.99), left=text if self._expected > 2 else "")


def say(sentence: str) -> None:
    """A sentence on stdout, broken at words where a person reads it and whole where a program does."""
    out.print(sentence, soft_wrap=not out.is_terminal)


def print_text(text: str) -> None:
    """A document on stdout: as it is for a program, with nothing that gives orders for a person."""
    sys.stdout.write("\n".join(map(visible, text.split("\n"))) if sys.stdout.isatty() else text)


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(to_json(document), indent=1) + "\n")


def residency_text(residency: Residency) -> str:
    """`all 330 nodes`, or what is known."""
    if residency.delegated is not None and residency.total is not None:
        parts = counted(residency.partitions or 0, "partition")
        return f"{residency.delegated} of {residency.total} nodes delegated, {parts}"
    return "fully delegated" if residency.full else "not delegated"


def outputs_table(outputs: Sequence[OutputVerdict]) -> Table:
    """The outputs against the reference. The IoU is told of masks alone; columns that say nothing are left out."""
    masks = any(is_mask(verdict.name) for verdict in outputs)
    odd = any(verdict.judgement.actual.nonfinite for verdict in outputs)
    table = Table("output", box=None, header_style="dim", pad_edge=False)
    titles = ["cosine", "max error", "range", "explained", "ratio"]
    for title in (*titles, *["mask IoU"] * masks, *["non-finite"] * odd):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for verdict in outputs:
        actual, expected = verdict.judgement.actual, verdict.judgement.expected
        table.add_row(
            escape(verdict.name),
            f"{actual.cosine:.6f}",
            f"{actual.max_abs:.3g}",
            "{:.3g}…{:.3g}".format(*actual.reference_range),
            f"{expected.max_abs:.3g}",
            f"{verdict.judgement.ratio:.1f}x" if math.isfinite(verdict.judgement.ratio) else "inf",
            *[f"{verdict.iou:.4f}" if is_mask(verdict.name) else "–"] * masks,
            *[str(actual.nonfinite)] * odd,
            f"[{'green' if verdict.ok else 'red'}]{verdict.verdict}[/]",
        )
    return table


def show_comparison(comparison: Comparison, device: str, model: Path, folder: Path) -> None:
    """The end of `harness compare` and `harness dump`."""
    done = comparison.done
    out.print(outputs_table(comparison.outputs))
    changed = f"a second run gave another output {comparison.differs}." if comparison.differs else ""
    failed = not all(output.ok for output in comparison.outputs)
    said = f"FAIL: {changed}" if changed and not failed else verdict_of(comparison.outputs, half=comparison.half)
    say(f"\n[{'green' if comparison.ok else 'red'}]{escape(said)}[/]")
    if changed and failed:
        say(f"[red]{escape(changed.capitalize())}[/]")
    given = ", on random inputs" if comparison.drawn else ""
    say(
        f"{escape(device)} against plain kernels on this machine's CPU{given}: "
        f"{residency_text(done.residency)}, {_runtime(done)}."
    )
    for note in comparison.notes:
        say(f"[yellow]{escape(note)}[/]")
    for verdict in comparison.outputs:
        if verdict.runs:
            say(f"Output '{escape(verdict.name)}' was {rate(*verdict.runs)}.")
    if not comparison.ok:
        out.print(f"Which op: harness localize {escape(shlex.quote(str(model)))}, with the same options, --inputs too.")
    out.print(f"[dim]{escape(str(folder))}[/]")


def _runtime(done: Completed) -> str:
    return f"LiteRT {escape(done.runtime)}{f', {escape(done.adapter)}' if done.adapter else ''}"


def show_run(done: Completed, folder: Path) -> None:
    """The end of `harness run`."""
    table = Table("output", "type", "shape", "range", box=None, header_style="dim", pad_edge=False)
    for name, values in done.outputs.items():
        low, high = finite_range(values)
        table.add_row(escape(name), values.dtype.name, "x".join(map(str, values.shape)), f"{low:.4g} … {high:.4g}")
    out.print(table)
    last = done.samples[-1]
    total = (last.write_ns + last.run_ns + last.read_ns) / 1e6
    out.print(
        f"\n{residency_text(done.residency).capitalize()}; compiled in {done.compile_ns / 1e9:.2f} s; last run "
        f"{total:.1f} ms (write {last.write_ns / 1e6:.1f}, run {last.run_ns / 1e6:.1f}, read {last.read_ns / 1e6:.1f})."
    )
    out.print(f"{_runtime(done)}.\n[dim]{escape(str(folder))}[/]")


def culprit_line(culprit: Culprit) -> str:
    """`BATCH_MATMUL #49 (1x8x16): accumulation, …`."""
    record = culprit.record
    local = record.local
    shape = "x".join(map(str, record.shape))
    why = f"{culprit.cause}" + (f", {culprit.signature}" if culprit.signature else "")
    # A run of ops is not called by its last: which of them is wrong is not known.
    what = f"{record.op} {record.number}" if record.first == record.index else f"Ops {record.number}"
    if local is None:
        return f"{what} [{shape}]: {why}"
    times = f"{local.ratio:.0f}x what the arithmetic explains" if local.ratio < 1e30 else "not finite"
    if record.grid is not None:
        times += f" ({local.actual.max_abs / record.grid.step:.3g} steps of {record.grid.dtype})"
    often = f"; {rate(*culprit.runs)}" if culprit.runs else ""
    return f"{what} [{shape}]: {why}; local error {times}{often}"


def _off(judgement: Judgement) -> str:
    """How far an output is off: as a share of its RMS, and in values that are NaN or infinite and should not be."""
    actual = judgement.actual
    lost = f"{actual.nonfinite:,} NaN or infinite value{'s' if actual.nonfinite > 1 else ''}"
    if actual.nonfinite and not actual.relative_rms:
        return lost
    return share_of_rms(actual.relative_rms) + (f" and {lost}" if actual.nonfinite else "")


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.2f} s"


def show_explanation(answer: Localization) -> None:
    """Reproducers, and what was tried against the culprits."""
    for path in dict.fromkeys(c.reproducer for c in answer.culprits if c.reproducer):
        out.print(f"  reproducer: {escape(path)}")
    shown: set[tuple[Remedy, ...]] = set()
    for culprit in answer.culprits:
        if not culprit.remedies or culprit.remedies in shown:
            continue
        shown.add(culprit.remedies)
        table = Table("remedy (whole model)", box=None, header_style="dim", pad_edge=False)
        masks = any(is_mask(output.name) for output in answer.outputs)
        for title in ("cosine", "max error", *["mask IoU"] * masks, "run"):
            table.add_column(title, justify="right")
        table.add_column("")
        for remedy in culprit.remedies:
            run = "–" if remedy.run_ms is None else _milliseconds(remedy.run_ms)
            figures = _worst_figures(remedy.cosine, remedy.max_abs, remedy.iou if masks else None)
            word = "[green]pass[/]" if remedy.ok else "[red]fail[/]" if remedy.run_ms else "did not run"
            table.add_row(escape(remedy.name), *(figures if remedy.run_ms else ["–"] * len(figures)), run, word)
        if answer.explanation and answer.explanation.run_ms is not None:
            seen = [output.judgement.actual for output in answer.outputs]
            iou = min(output.iou for output in answer.outputs) if masks else None
            as_is = _worst_figures(min(a.cosine for a in seen), max(a.max_abs for a in seen), iou)
            run = _milliseconds(answer.explanation.run_ms)
            table.add_row(*(f"[dim]{each}[/]" for each in ("untouched", *as_is, run)), "")
        out.print(table, width=TABLE_WIDTH, crop=False)
        if len(answer.outputs) > 1:
            out.print("  [dim]Each figure is that of the output for which it is worst.[/]")
        for remedy in culprit.remedies:
            if remedy.path or not remedy.run_ms:
                out.print(f"  [dim]{escape(remedy.name)}: {escape(remedy.path or remedy.note)}[/]")
            for sentence in remedy.declares:
                out.print(f"    {escape(sentence)}")


def _worst_figures(cosine: float, max_abs: float, iou: float | None) -> list[str]:
    return [f"{cosine:.6f}", f"{max_abs:.3g}", *([] if iou is None else [f"{iou:.4f}"])]


def show_localization(answer: Localization, folder: Path) -> None:
    """The end of `harness localize`."""
    out.print(outputs_table(answer.outputs))
    out.print()
    said = escape(verdict_of(answer.outputs, half=answer.half)) if answer.outputs else ""
    if answer.status == "pass":
        say(f"[green]{said}[/]")
    elif answer.status == "unresolved":
        if answer.by_precision:
            say(f"[red]{said}[/]")
        what = "of no use" if answer.by_precision else "wrong"
        out.print(f"[yellow]Unresolved[/]: the outputs are {what}, and no op could be named.")
    else:
        if answer.by_precision:
            say(f"[red]{said}[/]")
        n = len(answer.culprits)
        out.print(
            f"[red]{n} culprit{'s' if n > 1 else ''}[/] ({'certified' if answer.certified else 'not certified'}):"
        )
        for culprit in answer.culprits:
            say(f"  {escape(culprit_line(culprit))}")
            if culprit.note:
                say(f"    [dim]{escape(culprit.note)}[/]")
        show_explanation(answer)
        for impact in answer.explained:
            seen = next(o for o in answer.outputs if o.name == impact.output)
            copied = any(shortfall.kind == "difference" for shortfall in seen.shortfalls)
            if not seen.explained or (
                answer.by_precision and not seen.ok and not copied
            ):  # of a copy the error in all is small
                added = f"only these ops' errors added to {impact.into}"
                if answer.by_precision:
                    added = f"only what these ops store rounded to {'float16' if answer.half else '20 bits'}"
                say(
                    f"With {added}, {escape(impact.output)} is off by "
                    f"{_off(impact.judgement)}; on the device by {_off(seen.judgement)}."
                )
    for note in answer.notes:
        say(f"[dim]{escape(note)}[/]")
    more = answer.explanation
    extra = (
        f"; to explain: {more.device_compiles} more, {counted(more.device_runs, 'run')}, {more.seconds:.0f} s"
        if more
        else ""
    )
    say(
        f"[dim]{counted(answer.device_compiles, 'device compile')}, {counted(answer.device_runs, 'run')}, "
        f"{answer.seconds:.0f} s{extra}; "
        f"LiteRT {escape(answer.device['runtime'])}, {escape(answer.device['gpu'])}[/]"
    )
    out.print(f"[dim]{escape(str(folder / 'report.html'))}[/]")


def show_audit(found: Audit, path: Path) -> None:
    """The end of `harness audit`."""
    table = Table("op", box=None, header_style="dim", pad_edge=False)
    table.add_column("count", justify="right")
    for name, count in found.ops.items():
        table.add_row(escape(name), str(count))
    out.print(table)
    signatures = ", ".join(found.signatures) or "none"
    weights = found.weights_bytes
    size = f"{weights / 1e6:.1f} MB" if weights >= 1e5 else f"{weights / 1e3:.1f} kB"
    say(
        f"\n{escape(str(path))}: {found.total} ops, {size} of weights, largest rank "
        f"{found.max_rank}, {counted(found.rank_over_4, 'tensor')} over rank 4, signatures: {escape(signatures)}."
    )
    if found.folded:
        out.print(escape(found.folded))
    asked = f"{found.asked} refuses" if found.asked else "the file shows ops that a GPU refuses"
    if not found.unsupported:
        said = f"{found.asked} takes all of it" if found.asked else "nothing in the file that a GPU is known to refuse"
        say(f"[green]{escape(said)}[/]")
        return
    out.print(f"[red]{escape(asked)}[/]:")
    for line in grouped(found.unsupported):
        say(f"  {escape(line)}")
    if found.fallback is False:
        say("It does not run with --fallback cpu either: the delegate refuses the model as a whole.")
    else:
        may = "take" if found.fallback else "may take"
        if found.varying:
            alone = "takes" if found.fallback else may
            say(
                f"`run` {alone} it with --fallback cpu: the CPU runs what the GPU refuses. "
                f"`compare`, `dump` and `localize` do not, for two runs need not agree: {escape(found.varying)}."
            )
            return
        say(f"`run`, `compare`, `dump` and `localize` {may} it with --fallback cpu: the CPU runs what the GPU refuses.")


def show_bisection(tested: Iterable[tuple[str, str, str]], sentences: Iterable[str]) -> None:
    """Releases with their states and figures, then the answer."""
    table = Table("release", "", "", box=None, header_style="dim", pad_edge=False)
    colours = {"right": "green", "wrong": "red", "fails": "red"}
    for release, state, told in tested:
        table.add_row(release, f"[{colours.get(state, 'yellow')}]{state}[/]", escape(told))
    out.print(table)
    out.print()
    for each in sentences:
        out.print(escape(each))
