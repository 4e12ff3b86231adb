"""The verdict: one sentence that an engineer who has never seen this tool understands, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.numerics import metrics
from harness.numerics.metrics import MOST_SHARE
from harness.numerics.tolerance import FACTOR
from harness.remedies.cause import Cause
from harness.report.figures import count, figure, name, shares, times
from harness.report.record import CulpritFacts, Figures, Run
from harness.report.wording import place, precision, storage

Tone = Literal["good", "bad", "open", "plain"]

# Named in the sentence; the cards below it show all.
_NAMED = 12
# Injected and observed errors that differ by less than this factor are the same failure.
_SAME = 1.25


@dataclass(frozen=True)
class Verdict:
    """`mark` is the word above the sentence; `support` is what the sentence rests on, or what weakens it."""

    tone: Tone
    mark: str
    sentence: str
    support: tuple[str, ...] = ()


def verdict_of(run: Run) -> Verdict:
    """What the run found, or how far it came."""
    where = f"in {precision(run)} on {place(run)}"
    if run.state == "failed":
        return Verdict("bad", "Failed", f"The run failed. {_sentence(run.error or 'No reason was recorded')}")
    if run.state != "done":
        mark = "Interrupted" if run.state == "interrupted" else "Running"
        how = "was interrupted" if run.state == "interrupted" else "is still going on"
        return Verdict(
            "open", mark, f"The run {where} {how}; this page shows what was written until then.{_so_far(run)}"
        )
    if run.command == "bisect-runtime":
        mark = "Right on the newest" if run.answer == "pass" else "Wrong on the newest"
        said = " ".join(name(note, 400) for note in run.notes)
        return Verdict("good" if run.answer == "pass" else "bad", mark, f"Releases of the runtime: {said}")
    if run.by_precision and run.answer in ("culprits", "fail", "unresolved"):
        return _by_precision(run, where)
    if run.answer == "culprits" and run.culprits:
        return _culprits(run, where)
    if run.answer == "pass" and run.outputs:
        return _pass(run, where)
    if run.answer == "fail":
        return Verdict("bad", "Fail", f"This model is wrong {where}: {_wrong(run)}", (*_notes(run), *_advice(run)))
    if run.answer == "unresolved":
        note = " ".join(_sentence(name(note, 400)) for note in run.notes) or "Nothing that could be read explains it."
        return Verdict("open", "Unresolved", f"No op could be named as the cause {where}. {note}", (_wrong(run),))
    return _ran(run, where)


def group(culprits: Sequence[CulpritFacts]) -> list[list[CulpritFacts]]:
    """Culprits of the same op, cause and signature together, in graph order of their first."""
    groups: dict[tuple[str, str, str], list[CulpritFacts]] = {}
    for culprit in sorted(culprits, key=lambda c: (c.first, c.last)):
        groups.setdefault((culprit.op, culprit.cause, culprit.signature), []).append(culprit)
    return list(groups.values())


def reproduces(run: Run) -> bool:
    """Whether the culprits' local errors alone, injected on the host, fail as the device does.

    They do when every output that is wrong on the device shows an error within a factor 1.25 of the device's: in
    relative RMS, or, where that was not recorded, both in the angle to the exact result and in the largest element.
    """
    injected = {figures.name: figures for figures in run.explained}
    wrong = _failing(run.outputs)
    return bool(wrong) and all(o.name in injected and _alike(injected[o.name], o) for o in wrong)


def _culprits(run: Run, where: str) -> Verdict:
    number = len(run.culprits)
    what = _counted(number, "op" if all(c.first == c.last for c in run.culprits) else "place")
    named, left = [], _NAMED
    for alike in group(run.culprits):
        if left:
            names = ", ".join(c.number for c in alike[:left])
            named.append(f"{name(alike[0].kind, 80)} {names} — {_why(alike)}")
            left -= len(alike[:left])
    rest = len(run.culprits) - (_NAMED - left)
    sentence = (
        f"{what} {'breaks' if number == 1 else 'break'} this model {where}: {'; '.join(named)}"
        f"{f'; and {rest} more' if rest else ''}."
    )
    their = "Its local error alone" if number == 1 else "Their local errors alone"
    # Without a certificate, what was injected is what taps showed, which is not what the culprits rest on.
    share = _injected(run) if run.certified else ""
    if share and reproduces(run):
        verb = "reproduces" if number == 1 else "reproduce"
        sentence += f" {their} {verb} the failure: {share}."
    elif share:
        verb = "does" if number == 1 else "do"
        sentence += f" {their} {verb} not account for all of it: {share}."
    return Verdict("bad", f"{what} at fault", sentence, _certificate(run))


def _certificate(run: Run) -> tuple[str, ...]:
    if run.certified:
        return (
            "Certified: reading the intermediates left the model's own outputs unchanged, and a second, different "
            "way of reading shows the same error at every culprit.",
        )
    unread = not run.outputs  # nothing came of it to be read: it was refused
    if all((cause := Cause.of(c.cause)) is not None and (cause.stops or unread) for c in run.culprits):
        return (
            "The model does not run as it is, so it was cut into windows, each fed with the CPU's values and run by "
            "itself: these are the smallest that fail.",
        )
    text = "Not certified: reading intermediates disturbed the model, or what was read does not explain all of it."
    if all(c.isolated for c in run.culprits):
        each = "It was" if len(run.culprits) == 1 else "Each was"
        text += f" {each} cut out, fed with the CPU's values, and failed by itself."
    else:
        text += " What does not fail by itself is a suspect."
    doubts = [name(c.note, 400) for c in run.culprits if c.note]
    doubts += [name(note, 400) for note in run.notes if note.startswith("Tapping changed")]
    return (" ".join([text, *map(_sentence, dict.fromkeys(doubts))]),)


def _pass(run: Run, where: str) -> Verdict:
    support = ("Two runs of the untouched model agree within rounding.",) if run.command == "localize" else ()
    whose = {1: "its output", 2: "both outputs"}.get(len(run.outputs), f"all {len(run.outputs)} outputs")
    predicted = f"the error of {whose} is what {storage(run)} rounding predicts{_measure(run.outputs)}"
    return Verdict("good", "Pass", f"This model passes {where}: {predicted}.", (*support, *_notes(run)))


def _measure(outputs: Sequence[Figures]) -> str:
    """` (2.68×, limit 16×)`, of the output that comes nearest to its limit; empty where nothing was measured."""
    known = [(o.ratio, o.limit or FACTOR) for o in outputs if o.ratio is not None]
    if not known:
        return ""
    ratio, limit = max(known, key=lambda pair: pair[0] / pair[1])
    return f" ({times(ratio)}, limit {limit:g}×)"


def _by_precision(run: Run, where: str) -> Verdict:
    """Rounding explains the error, and it is too large to be of use."""
    useless = [output for output in run.outputs if output.verdict == "precision"]
    why = "; ".join(f"{name(o.name, 120)} is of no use ({name(next(iter(o.useless), ''), 300)})" for o in useless)
    sentence = (
        f"This model fails by precision {where}: the error is what {storage(run)} rounding predicts"
        f"{_measure(useless)}, but {why}."
    )
    if run.answer == "fail":
        return Verdict("bad", "Fails by precision", sentence, (*_notes(run), *_advice(run)))
    if not run.culprits:
        return Verdict("open", "Unresolved", sentence, _notes(run))
    lost = [f"{name(c.kind, 80)} {c.number} ({_why([c])})" for c in run.culprits[:_NAMED]]
    more = f"; and {len(run.culprits) - _NAMED} more" if len(run.culprits) > _NAMED else ""
    sentence += f" The digits are lost at {'; '.join(lost)}{more}."
    certificate = (
        f"Certified on the host: with only what {'this op stores' if len(run.culprits) == 1 else 'these ops store'} "
        "rounded, the exact model is of no use either; with that exact and all else rounded, it is. The device does, "
        "twice, what rounding predicts."
        if run.certified
        else "Not certified: with what these ops store kept exact, rounding the rest loses too much as well."
    )
    return Verdict("bad", "Fails by precision", sentence, (certificate, *_notes(run)))


def _notes(run: Run) -> tuple[str, ...]:
    return tuple(_sentence(name(note, 400)) for note in run.notes)


def _wrong(run: Run) -> str:
    wrong = _failing(run.outputs)
    if not wrong:
        return f"No output is beyond what {storage(run)} explains."
    shown = headline(run.outputs)
    text = f"{len(wrong)} of {len(run.outputs)} outputs {'is' if len(wrong) == 1 else 'are'} beyond what "
    text += f"{storage(run)} explains"
    if shown is None:
        return f"{text}."
    details = []
    if shown.nonfinite:
        details.append(f"{count(shown.nonfinite)} elements NaN or infinite")
    if shown.cosine is not None:
        details.append(f"cosine {shares(shown.cosine)[0]}")
    if shown.ratio is not None and not math.isinf(shown.ratio):
        details.append(f"{times(shown.ratio)} the error of an ideal device")
    return f"{text}; {name(shown.name, 120)} shows {', '.join(details)}." if details else f"{text}."


def _advice(run: Run) -> tuple[str, ...]:
    return () if run.command == "localize" else ("`harness localize` names the op at fault.",)


def _so_far(run: Run) -> str:
    return f" Up to then: {_wrong(run)}" if any(o.ok is False for o in run.outputs) else ""


def _ran(run: Run, where: str) -> Verdict:
    odd = [o for o in run.outputs if o.nonfinite]
    if odd:
        said = ", ".join(f"{count(o.nonfinite)} in {name(o.name, 120)}" for o in odd)
        return Verdict("bad", "Non-finite", f"The model ran {where}; its outputs hold NaN or infinity: {said}.")
    if not run.outputs:
        return Verdict("plain", "Done", f"The run {where} is done; it recorded no outputs to judge.")
    outputs = _all(run.outputs)
    return Verdict("plain", "Ran", f"The model ran {where}; {outputs} finite. Nothing was compared.")


def headline(outputs: Sequence[Figures]) -> Figures | None:
    """The wrong output to quote: a mask if there is one, else the one that is furthest off."""
    wrong = _failing(outputs)
    if not wrong:
        return None
    return min(wrong, key=lambda o: (not is_mask(o), -(o.nonfinite or 0), 1.0 if o.cosine is None else o.cosine))


def _failing(outputs: Sequence[Figures]) -> list[Figures]:
    """The outputs that are wrong; without any, those that fail by precision."""
    failed = [output for output in outputs if output.ok is False]
    return [output for output in failed if output.verdict != "precision"] or failed


def is_mask(output: Figures) -> bool:
    """Whether the output is a mask whose IoU is known."""
    return output.iou is not None and metrics.is_mask(output.name)


def _injected(run: Run) -> str:
    """`mask IoU 0.972 injected, 0.972 on the device`."""
    observed = headline(run.outputs)
    injected = next((e for e in run.explained if observed and e.name == observed.name), None)
    if observed is None or injected is None:
        return ""
    if is_mask(observed) and observed.iou is not None and injected.iou is not None:
        a, b = shares(injected.iou, observed.iou)
        return f"mask IoU {a} injected, {b} on the device"
    if observed.nonfinite and injected.nonfinite is not None:
        return (
            f"{count(injected.nonfinite)} elements NaN or infinite injected, {count(observed.nonfinite)} on the device"
        )
    if observed.relative_rms is not None and injected.relative_rms is not None:
        each = (injected.relative_rms, observed.relative_rms)
        a, b = (f"over {MOST_SHARE:.0f}" if r > MOST_SHARE else figure(r) for r in each)
        return f"relative error {a} injected, {b} on the device"
    if observed.cosine is not None and injected.cosine is not None:
        a, b = shares(injected.cosine, observed.cosine)
        return f"cosine {a} injected, {b} on the device"
    return ""


def _alike(injected: Figures, observed: Figures) -> bool:
    if not _close(injected.nonfinite or 0, observed.nonfinite or 0):
        return False
    if injected.relative_rms is not None and observed.relative_rms is not None:
        return _close(injected.relative_rms, observed.relative_rms)
    angles = [math.sqrt(max(0.0, 1 - f.cosine)) if f.cosine is not None else math.nan for f in (injected, observed)]
    largest = [math.nan if f.max_abs is None else f.max_abs for f in (injected, observed)]
    return _close(*angles) and _close(*largest)


def _close(a: float, b: float) -> bool:
    return a == b or (min(a, b) > 0 and max(a, b) <= _SAME * min(a, b))


def _why(alike: Sequence[CulpritFacts]) -> str:
    several = len(alike) > 1
    signature = name(alike[0].signature, 160)
    if signature:
        return signature.replace("float16 sum over", "float16 sums over") if several else signature
    cause = Cause.of(alike[0].cause)
    return cause.short[several] if cause is not None else name(alike[0].cause, 60) or "cause unknown"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _all(outputs: Sequence[Figures]) -> str:
    return {1: "its output is", 2: "both outputs are"}.get(len(outputs), f"all {len(outputs)} outputs are")


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
