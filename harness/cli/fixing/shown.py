"""What a person sees of `harness lint --fix`: what was rewritten, what is left and why, and what both checks say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.api.fixing.fix import RANDOM
from harness.api.fixing.result import CpuCheck, DeviceCheck, Fixed, Step, Verdict, Word
from harness.cli.render import outputs_table, residency_text
from harness.cli.screen import indented, out, say
from harness.core.markup import escape
from harness.core.visible import counted
from harness.graph.model import Graph

# Ops that a line lists.
MOST_OPS = 12
_WORDS: dict[Word, tuple[str, str]] = {
    "fixed": ("fixed: it passes there, and did not", "green"),
    "right": ("it passes there, as the model did", "green"),
    "better": ("better, and still wrong there: `harness localize` names the ops", "yellow"),
    "unchanged": ("no better there: `harness localize` names the ops", "red"),
    "worse": ("worse there than the model itself: do not use it", "red"),
}


def show_fixed(fixed: Fixed) -> None:
    """Behind the findings of a model: what became of it."""
    out.print()
    if fixed.rewritten is None:
        say(f"[yellow]{escape(fixed.sentence())}[/]" if fixed.findings else escape(fixed.sentence()))
    else:
        where = "" if fixed.path is None else f"{escape(str(fixed.path))}: "
        say(f"[green]Rewritten[/]: {where}{escape(fixed.sentence())}")
        ops, size = (_changed(*pair) for pair in (fixed.ops, fixed.size))
        indented(f"{ops} ops, {size} bytes.", 2)
    for step in fixed.steps:
        _show_step(step)
    _show_left(fixed)
    if fixed.check is not None:
        indented(escape(_checked(fixed.check, _steps(fixed.model.graph()))), 2)
    if fixed.device is not None:
        _show_device(fixed.device)
    for note in fixed.notes:
        indented(f"[yellow]{escape(note)}[/]", 2)


def _changed(before: int, after: int) -> str:
    return f"{before:,}" if before == after else f"{after:,} instead of {before:,}"


def _show_step(step: Step) -> None:
    ops = [f"{op.op_name} {f'#{op.op}' if op.op is not None else repr(op.output)}" for op in step.ops]
    indented(f"[bold]{step.rule}[/]: {escape(step.rewrite)}", 2)
    indented(escape(f"{_listed(ops)}. {step.cost}"), 4)


def _show_left(fixed: Fixed) -> None:
    alike: dict[tuple[str, str, str], list[str]] = {}
    for left in fixed.left:
        finding = left.finding
        word = finding.effect if finding.sure == "certain" else f"at risk: {finding.effect}"
        alike.setdefault((finding.rule, word, left.why), []).append(f"{finding.op_name} #{finding.op}")
    for (rule, word, why), ops in alike.items():
        indented(f"[bold]{rule}[/] [yellow](left; {word})[/]: {escape(_listed(ops))}", 2)
        indented(escape(f"{why[:1].upper()}{why[1:]}."), 4)


def _listed(ops: Iterable[str]) -> str:
    listed = list(ops)
    more = len(listed) - MOST_OPS
    return ", ".join(listed[:MOST_OPS]) + (f" and {more} more" if more > 0 else "")


def _steps(graph: Graph) -> dict[str, float]:
    """The step of each quantized output's grid."""
    grids = {port.name: graph.tensors[port.tensor].grid for port in graph.outputs}
    return {name: grid.step for name, grid in grids.items() if grid is not None}


def _checked(check: CpuCheck, steps: Mapping[str, float]) -> str:
    """What the CPU says, in a sentence or two; `steps` of the outputs that are on a grid."""
    on = f"On the CPU, {counted(len(check.inputs), 'set')} of inputs ({_inputs(check.inputs)})"
    if check.identical:
        said = f"{on}: every value is the same."
    else:
        worst = check.worst
        by = f"{worst.float32_steps:.3g} steps of float32 ({worst.float16_steps:.2g} of float16)"
        if worst.name in steps:
            by = counted(round(worst.max_abs / steps[worst.name]), "step") + " of its grid"
        said = f"{on}: the same up to rounding. Most differs '{worst.name}', by {by}, {worst.max_abs:.3g}."
    unseen = [output.name for output in check.outputs if not output.seen]
    if unseen:
        said += f" The same for all of these inputs, so that it says nothing of them: {_listed(unseen)}."
    return said


def _inputs(said: Sequence[str]) -> str:
    """`FILE.npz; random, seeds 0 to 2`."""
    seeds = [each.removeprefix(RANDOM) for each in said if each.startswith(RANDOM)]
    others = [each for each in said if not each.startswith(RANDOM)]
    drawn = [f"random, seeds {seeds[0]} to {seeds[-1]}"] if len(seeds) > 1 else [f"{RANDOM}{seed}" for seed in seeds]
    return "; ".join((*others, *drawn))


def _show_device(found: DeviceCheck) -> None:
    word, colour = _WORDS[found.word]
    indented(f"On {escape(found.device)}, [{colour}]{escape(word)}[/].", 2)
    for when, verdict in (("before", found.before), ("after", found.after)):
        indented(f"{when}: {escape(_verdict(verdict))}", 4)
        if verdict.outputs and verdict.ending != "pass":
            out.print(outputs_table(verdict.outputs, out.width if out.is_terminal else None))


def _verdict(verdict: Verdict) -> str:
    ran = "" if verdict.residency is None else f" {residency_text(verdict.residency).capitalize()}."
    return f"{verdict.sentence}{ran}"
