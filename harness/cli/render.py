"""What a person sees of each answer in a terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from harness.cli.screen import TABLE_WIDTH, out, say
from harness.core.job import Completed, Residency
from harness.core.markup import escape
from harness.core.visible import best_at_one, counted
from harness.devices.refusal import grouped
from harness.graph.ops.audit import Audit
from harness.localize.base.comparison import ModelComparison
from harness.localize.base.remarks import sentence as verdict_of
from harness.localize.base.result import VERDICT_WORDS, Culprit, Localization, OutputVerdict, Remedy
from harness.localize.find.unsteady import rate
from harness.numerics.metrics import finite_range, is_mask, share_of_rms
from harness.numerics.tolerance import Judgement

MOST_PORTS = 12
"""Inputs and outputs that `audit` lists; --json has all."""


def residency_text(residency: Residency) -> str:
    """`all 330 nodes`, or what is known."""
    if residency.delegated is not None and residency.total is not None:
        parts = counted(residency.partitions or 0, "partition")
        return f"{residency.delegated} of {residency.total} nodes delegated, {parts}"
    return "fully delegated" if residency.full else "not delegated"


# What a narrow terminal does without, first to last; figures are never cut.
_SPARED = ("range", "explained", "non-finite", "mask IoU", "max error")


def outputs_table(outputs: Sequence[OutputVerdict], width: int | None = None) -> Table:
    """The outputs against the reference, in as many columns as `width` has room for. The IoU is told of masks alone;
    columns that say nothing are left out."""
    masks = any(is_mask(verdict.name) for verdict in outputs)
    nonfinite = any(verdict.judgement.actual.nonfinite for verdict in outputs)
    titles = ["cosine", "max error", "range", "explained", "ratio"]
    titles += ["mask IoU"] * masks + ["non-finite"] * nonfinite
    rows = [(verdict, _output_figures(verdict)) for verdict in outputs]

    def made() -> Table:
        table = Table(box=None, header_style="dim", pad_edge=False)
        table.add_column("output", overflow="fold", min_width=8)
        for title in titles:
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("")
        for verdict, figures in rows:
            word = f"[{'green' if verdict.ok else 'red'}]{VERDICT_WORDS[verdict.verdict]}[/]"
            table.add_row(escape(verdict.name), *(figures[title] for title in titles), word)
        return table

    table = made()
    for spared in _SPARED:
        if width is None or out.measure(table).minimum <= width:
            break
        if spared in titles:
            titles.remove(spared)
            table = made()
    return table


def _output_figures(verdict: OutputVerdict) -> dict[str, str]:
    """Every column by its title."""
    actual, expected, ratio = verdict.judgement.actual, verdict.judgement.expected, verdict.judgement.ratio
    return {
        "cosine": best_at_one(actual.cosine),
        "max error": f"{actual.max_abs:.3g}",
        "range": "{:.3g}…{:.3g}".format(*actual.reference_range),
        "explained": f"{expected.max_abs:.3g}",
        "ratio": f"{ratio:.1f}x" if math.isfinite(ratio) else "inf",
        "mask IoU": f"{verdict.iou:.4f}" if is_mask(verdict.name) else "–",
        "non-finite": str(actual.nonfinite),
    }


def show_comparison(comparison: ModelComparison, device: str, model: Path, folder: Path) -> None:
    """The end of `harness compare` and `harness dump`."""
    done = comparison.done
    out.print(outputs_table(comparison.outputs, _width()))
    changed = f"a second run gave another output {comparison.differs}." if comparison.differs else ""
    failed = not all(output.ok for output in comparison.outputs)
    said = f"FAIL: {changed}" if changed and not failed else verdict_of(comparison.outputs, half=comparison.half)
    say(f"\n[{'green' if comparison.ok else 'red'}]{escape(said)}[/]")
    if changed and failed:
        say(f"[red]{escape(changed.capitalize())}[/]")
    given = ", on random inputs" if comparison.drawn else ""
    say(
        f"{escape(device)} against plain kernels on this machine's CPU{given}: "
        f"{residency_text(done.residency)}, {runtime_text(done)}."
    )
    for note in comparison.notes:
        say(f"[yellow]{escape(note)}[/]")
    for verdict in comparison.outputs:
        if verdict.runs:
            say(f"Output '{escape(verdict.name)}' was {rate(*verdict.runs)}.")
    if not comparison.ok:
        out.print(f"Which op: harness localize {escape(shlex.quote(str(model)))}, with the same options, --inputs too.")
    out.print(f"[dim]{escape(str(folder))}[/]")


def _width() -> int | None:
    """Columns of a terminal; a pipe has no end."""
    return out.width if out.is_terminal else None


def runtime_text(done: Completed) -> str:
    """The runtime's release, and the GPU where it is known; for the terminal, escaped."""
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
    out.print(f"{runtime_text(done)}.\n[dim]{escape(str(folder))}[/]")


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
    return [best_at_one(cosine), f"{max_abs:.3g}", *([] if iou is None else [f"{iou:.4f}"])]


def show_localization(answer: Localization, folder: Path) -> None:
    """The end of `harness localize`."""
    if answer.outputs:
        out.print(outputs_table(answer.outputs, _width()))
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
            if culprit.known is not None:
                say(f"    {escape(f'{culprit.known.sentence} {culprit.known.helps}'.strip())}")
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
    show_cost(answer, folder)


def show_cost(answer: Localization, folder: Path) -> None:
    """What a localization asked of the device, how long it took, and where its page is."""
    more = answer.explanation
    extra = (
        f"; to explain: {more.device_compiles} more, {counted(more.device_runs, 'run')}, {more.seconds:.0f} s"
        if more
        else ""
    )
    # A GPU that ran nothing has not said its name.
    on = ", ".join(filter(None, (answer.device["runtime"], answer.device["gpu"])))
    say(
        f"[dim]{counted(answer.device_compiles, 'device compile')}, {counted(answer.device_runs, 'run')}, "
        f"{answer.seconds:.0f} s{extra}; LiteRT {escape(on)}[/]"
    )
    out.print(f"[dim]{escape(str(folder / 'report.html'))}[/]")


def show_audit(found: Audit, path: Path) -> None:
    """The end of `harness audit`."""
    table = Table("op", box=None, header_style="dim", pad_edge=False)
    table.add_column("count", justify="right")
    for name, count in found.ops.items():
        table.add_row(escape(name), str(count))
    out.print(table)
    for word, ports in (("in", found.inputs), ("out", found.outputs)):
        for port in ports[:MOST_PORTS]:
            say(f"{word:>3}  {escape(str(port))}")
        if len(ports) > MOST_PORTS:
            say(f"     and {len(ports) - MOST_PORTS} more")
    signatures = ", ".join(found.signatures) or "none"
    weights = found.weights_bytes
    size = f"{weights / 1e6:.1f} MB" if weights >= 1e5 else f"{weights / 1e3:.1f} kB"
    say(
        f"\n{escape(str(path))}: {counted(found.total, 'op')}, {size} of weights, largest rank "
        f"{found.max_rank}, {counted(found.rank_over_4, 'tensor')} over rank 4, signatures: {escape(signatures)}."
    )
    if found.folded:
        out.print(escape(found.folded))
    _show_expected(found)
    asked = f"{found.asked} refuses" if found.asked else "the file shows ops that a GPU refuses"
    if not found.unsupported:
        said = f"{found.asked} takes all of it" if found.asked else "nothing in the file that a GPU is known to refuse"
        say(f"[green]{escape(said)}[/]")
        return
    out.print(f"[red]{escape(asked)}[/]:")
    for line in grouped(found.unsupported):
        say(f"  {escape(line)}")
    if found.cut:
        say(escape(found.cut))
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


def _show_expected(found: Audit) -> None:
    """What the catalogue says beside what the device does, and where the two differ."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for each in found.lint:
        word = each.effect if each.certain else f"at risk: {each.effect}"
        alike.setdefault((each.op_name, word, each.sentence), []).append(f"#{each.op}")
    if alike:
        out.print("`harness lint` says:")
    for (op, word, sentence), places in alike.items():
        more = f" and {len(places) - MOST_PORTS} more" if len(places) > MOST_PORTS else ""
        where = ", ".join(places[:MOST_PORTS])
        say(f"  {escape(f'{op} {where}{more} ({word}): {sentence}')}")
    for difference in found.differs:
        say(f"[yellow]{escape(difference)}[/]")


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


def show_dump(comparison: ModelComparison, device: str, model: Path, count: int, folder: Path) -> None:
    """The end of `harness dump`; `count` are the rows of ops.csv."""
    show_comparison(comparison, device, model, folder)
    out.print(f"[dim]both sides of every op in tensors/, their figures ({count} rows) in ops.csv[/]")
