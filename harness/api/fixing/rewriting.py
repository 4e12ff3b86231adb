"""Rewrites for what `lint` finds, one rule after another, until nothing is left that a rewrite takes away.

A rewrite is kept where the model stays the same one (its inputs and outputs, and their values on the CPU), the findings
that it is meant for are gone, and no other comes. Of several ops that it is not kept for together, it is tried for
each half, and so on. What a rewrite moves has another index afterwards, so ops are found by what `lint` says anew.
A rule whose rewrite brings back what another took away is kept for neither: each step leaves fewer findings than there
were, so that there is an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.api.fixing.ports import changed_ports
from harness.api.fixing.result import Left, RewrittenOp, Step
from harness.core.arrays import OpIndex
from harness.core.errors import UsageError
from harness.core.visible import counted
from harness.graph.model import Graph, Model
from harness.graph.rebuild import CannotRewrite
from harness.lint.finding import Finding
from harness.lint.knowledge.target import Target
from harness.lint.lint import lint
from harness.remedies.catalogue import BY_NAME, BY_VALUES, Rewrite
from harness.remedies.cost import cost_of

# Rounds over all rules, and models that are written and looked at. A rewrite seldom makes room for another.
MOST_ROUNDS = 8
MOST_ATTEMPTS = 256
# Bytes of constants that rewrites may add, or so many times those that are there, as weights of 8 bits in 32: a file of
# a few bytes can ask for any number.
MOST_ADDED, MOST_TIMES = 1 << 28, 4

NO_REWRITE = "no rewrite of it is known"
BY_INPUTS = "its rewrite follows the values of the model's inputs: give some that it is made for with --inputs"
NOT_TRIED = "not tried: too many rewrites of other ops were not kept"

_Key = tuple[str, str, str]


@dataclass
class Rewriting:
    """Rewrites a model (`surgery.isolate`, with static shapes) for a target. `why_not` says in a clause why a model is
    not the same as the one given, by its values on the CPU; it is empty where it is. `peaks` has the largest magnitude
    of each tensor by name on inputs that the user gave, None without such."""

    model: Model
    target: Target
    why_not: Callable[[Model], str]
    peaks: Mapping[str, float] | None = None
    steps: list[Step] = field(default_factory=list)
    dropped: dict[_Key, str] = field(default_factory=dict)
    attempts: int = 0

    def __post_init__(self) -> None:
        self._own, self._bytes = self.model.graph(), self.model.weights_bytes
        self._findings = lint(self.model, self.target)

    def run(self) -> tuple[Left, ...]:
        """Rewrite what can be; what is found in `model` then, and why it is left."""
        for _ in range(MOST_ROUNDS):
            before = len(self.steps)
            self.dropped.clear()  # what was in the way may be gone
            for rule in dict.fromkeys(finding.rule for finding in self._findings):
                self._rewrite([finding for finding in self._findings if finding.rule == rule])
            if len(self.steps) == before:
                break
        return tuple(Left(finding, self.dropped.get(_key(finding), NOT_TRIED)) for finding in self._findings)

    def _rewrite(self, found: Sequence[Finding]) -> None:
        """Write all findings of one rule anew, or each half of them, those that were dropped left out."""
        wanted = {_key(finding) for finding in found} - self.dropped.keys()
        found = [finding for finding in self._findings if _key(finding) in wanted]
        if not found:
            return
        why = self._tried(found)
        if not why:
            return
        if len(found) == 1:
            self.dropped[_key(found[0])] = why
        elif why in (NO_REWRITE, BY_INPUTS):
            self.dropped |= dict.fromkeys(map(_key, found), why)
        else:
            half = len(found) // 2
            self._rewrite(found[:half])
            self._rewrite(found[half:])

    def _tried(self, found: Sequence[Finding]) -> str:
        """Why a rule's rewrite of these ops is not kept, in a clause; empty where it is kept."""
        rewrite = BY_NAME.get(found[0].entry.remedy or "")
        if rewrite is None:
            return NO_REWRITE
        if rewrite in BY_VALUES and self.peaks is None:
            return BY_INPUTS
        if self.attempts >= MOST_ATTEMPTS:
            return NOT_TRIED
        self.attempts += 1
        graph = self.model.graph()
        ops = frozenset(finding.op for finding in found)
        try:
            model = rewrite.apply(self.model, ops, self._peaks_in(graph))
        except CannotRewrite as error:
            return f"'{rewrite.name}' does not fit: {str(error).rstrip('.')}"
        except UsageError as error:
            return f"'{rewrite.name}' is not kept: {error.message.rstrip('.')}"
        if (added := model.weights_bytes - self._bytes) > max(MOST_ADDED, MOST_TIMES * self._bytes):
            return f"'{rewrite.name}' is not kept: the file would grow by {added >> 20:,} MiB"
        after = lint(model, self.target)
        why = self._not_kept(found, model, after)
        if why:
            return f"'{rewrite.name}' is not kept: {why}"
        self.steps.append(self._step(rewrite, found, graph, model))
        self.model, self._findings = model, after
        return ""

    def _not_kept(self, found: Sequence[Finding], model: Model, after: Sequence[Finding]) -> str:
        if changed := changed_ports(self.model, model):
            return changed
        was, now = (Counter(finding.rule for finding in held) for held in (self._findings, after))
        rule = found[0].rule
        if now[rule] > was[rule] - len(found):
            return "what it is meant for is still found"
        for other in sorted(now):
            if now[other] > was[other]:
                return f"{other} would be found {counted(now[other] - was[other], 'time')} more"
        return self.why_not(model)

    def _peaks_in(self, graph: Graph) -> dict[int, float]:
        peaks = self.peaks or {}
        return {tensor.index: peaks[tensor.name] for tensor in graph.tensors if tensor.name in peaks}

    def _step(self, rewrite: Rewrite, found: Sequence[Finding], graph: Graph, model: Model) -> Step:
        places = Counter(self._own.tensors[t].name for op in self._own.ops for t in op.outputs)
        index: dict[str, OpIndex] = {self._own.tensors[t].name: op.index for op in self._own.ops for t in op.outputs}
        ops = [
            RewrittenOp(index[f.output] if places[f.output] == 1 else None, f.op_name, f.output)
            for f in {finding.op: finding for finding in found}.values()
        ]
        counts = len(graph.ops), len(model.graph().ops)
        return Step(found[0].rule, rewrite.name, tuple(ops), *counts, cost_of(self.model, model).words)


def _key(finding: Finding) -> _Key:
    return finding.rule, finding.op_name, finding.output
