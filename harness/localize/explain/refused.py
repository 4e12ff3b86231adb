"""A model that a runtime does not take, without a word on the op: whose fault is it, and which op is it?

A file that the host's plain CPU runtime does not prepare either is the file's fault. Otherwise parts of the model are
compiled, nothing of them run, until the smallest that are refused for the same reason are found, by the search of
`search` and in a bounded number of compiles.

A list of refused ops that a phone's log cuts off is completed by what the delegate says of single ops.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.arrays import OpIndex
from harness.core.errors import DeviceRefused, HarnessError, UsageError
from harness.core.job import Completed, Crashed, Job, Options, Rejected
from harness.core.progress import SILENT, Progress
from harness.devices.base import Device
from harness.devices.execute import NO_TYPE, make_job
from harness.devices.loadable import check_loadable
from harness.devices.refusal import COMPLAINED, dynamic_tensor, grouped, may_follow, refusals
from harness.devices.residency import MESSAGE_BYTES, refused_and_cut
from harness.devices.shapes import Unanswered, shapes_at
from harness.graph import surgery
from harness.graph.inputs import random_inputs
from harness.graph.model import Graph, Model
from harness.localize.base.placement import ask_alone, merged
from harness.localize.probe import control
from harness.localize.probe.search import Answer, Window, find_windows
from harness.localize.probe.subgraph import feeds_of, leaves

MOST_COMPILES = 32
# An op that is refused for reasons of its own is, as a rule, the only one of its kind; more are not listed.
MOST_NAMED = 4


@dataclass(frozen=True)
class Refused:
    """`OP: why` for each op that is refused. Where the log cut the delegate's list off, `asked` are the lines that came
    of single ops instead, and `whole` is whether each of those gave an answer."""

    lines: tuple[str, ...]
    asked: tuple[str, ...] = ()
    cut: bool = False
    whole: bool = True

    @property
    def sentence(self) -> str:
        """What is from the log and what is not; empty where the log has it all."""
        if not self.cut:
            return ""
        found = "No op that could follow is refused by itself."
        if self.asked:
            found = f"Not in it, and refused when compiled by themselves: {', '.join(grouped(self.asked))}."
        more = "" if self.whole else " Not every op that could follow gave an answer, so there may be more."
        return f"The phone's log cuts that list off after {MESSAGE_BYTES:,} bytes. {found}{more}"


@dataclass(frozen=True)
class Refusing:
    """Who refuses what: the device, the model, and how it is to be compiled."""

    device: Device
    model: Model
    options: Options
    timeout: float
    progress: Progress = SILENT

    def explained(self, error: DeviceRefused) -> HarnessError:
        """The refusal of the whole model with the op to blame, or as the file's fault. One that names ops has said all,
        unless its list was cut off.

        Raises:
            DeviceError: the device is lost on the way, or refuses everything.
        """
        cut = refused_and_cut(error.log)[1]
        if (error.ops and not cut) or error.reason.startswith(NO_TYPE):
            return error
        try:
            blamed = self.ops(Rejected(error.reason, error.ops, error.log))
        except UsageError as fault:
            return fault
        if blamed.cut:
            return _in_full(error, blamed)
        said = error.message.rstrip(".")
        places = [line.removesuffix(f": {error.reason}") for line in blamed.lines]
        told = f"{said}; the op is {', '.join(places)}." if places != [error.reason] else f"{said}."
        other = "" if self.options.accelerator == "cpu" else ", or run the model with --accelerator cpu"
        step = f"Re-author it{other}; the runtime's own words are in log.txt."
        if dynamic_tensor(error.log) is not None:
            step = "Export the model with fixed input shapes, so that sizes it computes of them become constants."
        return DeviceRefused(told, step, error.log, reason=error.reason, ops=error.ops)

    def ops(self, outcome: Rejected) -> Refused:
        """What is refused: the runtime's own lines, or what it makes of parts of the model; the reason alone where
        these do not tell.

        Raises:
            UsageError: the file is at fault. DeviceError: the device is lost on the way, or refuses everything.
        """
        listed = self._completed(outcome.ops, outcome.log)
        if listed.lines:
            return listed
        check_loadable(self.model)
        graph = self.model.graph()
        tensor = dynamic_tensor(outcome.log)
        maker = None
        if tensor is not None:
            maker = graph.producer[tensor] if tensor in graph.producer else _sized_late(self.model, graph)
        places = [[maker]] if maker is not None else self.smallest(outcome.reason)
        if not places:
            return Refused((outcome.reason,))
        return Refused(tuple(f"{_named(graph, ops)}: {outcome.reason}" for ops in places[:MOST_NAMED]))

    def _completed(self, lines: tuple[str, ...], log: str) -> Refused:
        """The delegate's lines, with those that a phone's log leaves out, from single ops."""
        if not refused_and_cut(log)[1]:
            return Refused(lines)
        graph = self.model.graph()
        left = [op for op in graph.ops if op.index not in graph.constant_ops and may_follow(op, lines)]
        alone = replace(self.options, fallback="none")  # else the CPU takes each
        found = ask_alone(self.device, self.model, left, alone, self.timeout, self.progress)
        every = merged(lines, found.lines)
        return Refused(every, every[len(lines) :], cut=True, whole=found.whole)

    def ops_of_crash(self, outcome: Crashed) -> Refused:
        """What the delegate refused before it took its process down, and the ops that take it down by themselves; no
        line where neither can be told.

        Raises:
            UsageError: the file ends the plain CPU runtime too. DeviceError: the device is lost on the way, or
                crashes on everything.
        """
        check_loadable(self.model)
        graph = self.model.graph()
        places = self.smallest(outcome.reason, crashes=True)
        ends = tuple(f"{_named(graph, ops)}: {outcome.reason}" for ops in places[:MOST_NAMED])
        listed = self._completed(refused_and_cut(outcome.log)[0], outcome.log)
        return replace(listed, lines=(*listed.lines, *ends))

    def smallest(self, reason: str, *, crashes: bool = False) -> list[list[OpIndex]]:
        """The smallest stretches of ops that are refused for the same reason, or that end the process; none where the
        whole model alone is, or does. Raises DeviceError where the device refuses, or dies of, everything."""
        control.check(self.device, self.options, self.timeout, compiled=True)
        graph = self.model.graph()
        items = [op.index for op in graph.ops if op.index not in graph.constant_ops]
        compiles = 0

        def ask(start: int, stop: int) -> Answer:
            nonlocal compiles
            ops = items[start:stop]
            if len(ops) == len(items):
                return "bad"
            part = _part(self.model, graph, ops)
            if part is None:
                return "unresolved"
            told = f"op {ops[0]}" if len(ops) == 1 else f"ops {ops[0]} to {ops[-1]}"
            compiles += 1
            asked = "which op ends the process" if crashes else "which op is refused"
            self.progress.stage(f"{asked}: {told} (compile {compiles} of {MOST_COMPILES} at most)", 3.0)
            try:
                job = self._job(part, runs=reason.startswith(COMPLAINED))
            except UsageError:
                return "unresolved"  # no inputs can be drawn for it
            outcome = self.device.run(job)
            if isinstance(outcome, Crashed):
                return "bad" if crashes else "unresolved"
            if isinstance(outcome, Rejected) and not crashes:
                return "bad" if _alike(outcome.reason, reason) else "unresolved"
            return "good" if isinstance(outcome, Completed | Rejected) else "unresolved"

        found = find_windows(len(items), ask, limit=MOST_COMPILES)
        smaller = [window for window in found.failing if window != Window(0, len(items)) or len(items) == 1]
        return [items[window.start : window.stop] for window in smaller]

    def _job(self, part: Model, *, runs: bool) -> Job:
        """A part to be compiled, and to be run as well where only that shows the refusal."""
        wanted = None if runs else ()
        given = random_inputs(part.graph(), 0) if runs else {}
        return make_job(part, given, self.options, timeout=self.timeout, wanted=wanted, iterations=int(runs))


def _alike(reason: str, other: str) -> bool:
    """Whether two refusals are the same one. What a browser complains of states how far over a limit a part goes."""
    if reason.startswith(COMPLAINED):
        reason, other = (re.sub(r"\d+", "N", text) for text in (reason, other))
    return reason == other


def _in_full(error: DeviceRefused, blamed: Refused) -> DeviceRefused:
    """A refusal whose list was cut off, with the whole of it."""
    before, every = refusals(error.ops, cut=True), refusals(blamed.lines, cut=False)
    if error.ops:
        reason, message = (text.replace(before, every, 1) for text in (error.reason, error.message))
    else:  # the log has not even the first line in full
        reason = f"{error.reason}: the GPU delegate refuses {every}"
        message = error.message.replace(error.reason, reason, 1)
    told = f"{message} {blamed.sentence}"
    return DeviceRefused(told, error.next_step, error.log, reason=reason, ops=blamed.lines, doing=error.doing)


def _sized_late(model: Model, graph: Graph) -> OpIndex | None:
    """The first op whose result the runtime sizes only when it runs, where it can be told."""
    try:
        shapes = shapes_at(model, {})
    except Unanswered:
        return None
    late = [op.index for op in graph.ops if any(shapes.get(t) is None for t in op.outputs)]
    if not late:
        return None
    # A RESHAPE to a computed size shows the file's shape until it runs, and the runtime prepares nothing behind it.
    before = graph.ops[late[0] - 1] if late[0] else None
    computed = before is not None and before.name == "RESHAPE" and any(t in graph.producer for t in before.inputs[1:])
    return late[0] - 1 if computed else late[0]


def _part(model: Model, graph: Graph, ops: Sequence[OpIndex]) -> Model | None:
    """Some ops by themselves; None where they give nothing, or what they would take has no static shape."""
    inside, given = set(ops), {port.tensor for port in graph.outputs}
    targets = [t for o in ops for t in graph.ops[o].outputs if leaves(graph, t, inside, given)]
    sources = feeds_of(graph, ops)
    if not targets or any(graph.tensors[t].shape is None for t in (*targets, *sources)):
        return None
    return surgery.extract(model, targets, sources).model


def _named(graph: Graph, ops: Sequence[OpIndex]) -> str:
    """`FULLY_CONNECTED #12`, or `ops #3 to #5 (ADD, MUL)`."""
    kinds = list(dict.fromkeys(graph.ops[o].custom or graph.ops[o].name for o in ops))
    if len(ops) == 1:
        return f"{kinds[0]} #{ops[0]}"
    return f"ops #{ops[0]} to #{ops[-1]} ({', '.join(kinds[:6])}{', …' if len(kinds) > 6 else ''})"
