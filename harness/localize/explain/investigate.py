"""Experiments on culprits of one kind: how the worst of them fails, and which rewrites of it alone are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

from harness.core.arrays import Array, OpIndex
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Options
from harness.graph.ops.real import real
from harness.graph.rebuild import CannotRewrite
from harness.graph.short_ports import as_declared
from harness.localize.base.causes import ONE_ROUNDING, kind_of_error, terms_of
from harness.localize.base.result import Culprit, Trial
from harness.localize.explain.classify import Symptoms, classify
from harness.localize.explain.context import neighbourhoods
from harness.localize.explain.limits import Limit, find_limit, unwritten
from harness.localize.explain.misreading import misreadings, mix_ups
from harness.localize.probe.error_pattern import predicts, signature_of
from harness.localize.probe.experiment import Experiments, Observation, OutputComparison, Specimen
from harness.localize.probe.isolation import reproduces_in_isolation
from harness.localize.probe.subgraph import Subgraph, cut_out
from harness.localize.probe.tensor_values import TensorValues
from harness.numerics import fp16
from harness.remedies.catalogue import BY_SURROUNDINGS, RESCALE, RESCALE_ON, SPLIT_SUM, Rewrite
from harness.remedies.cause import Cause
from harness.remedies.rescale import smaller

_SUMS = frozenset(("BATCH_MATMUL", "FULLY_CONNECTED", "CONV_2D", "SUM", "MEAN"))

# Runs that tell how often a specimen is wrong.
RATE_RUNS = 8
# Other tensors that a wrong one is compared with.
MOST_OTHERS = 8


@dataclass
class Group:
    """Culprits that are explained together, the worst first, by their places in the answer; and what came of it.

    `part` is what fails, `local` the rewrites tried on it and how they ended, `written` the SHA-256 of what they wrote,
    `unasked` rewrites that only the whole model can show.
    """

    members: list[int]
    findings: Symptoms | None = None
    part: Subgraph | None = None
    on_device: tuple[Subgraph, Observation] | None = None
    local: list[tuple[Rewrite, Observation]] = field(default_factory=list)
    unasked: list[Rewrite] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    trials: list[Trial] = field(default_factory=list)

    def note(self, what: str, seen: Observation) -> Observation:
        """Keep what was asked and how it ended."""
        self.trials.append(Trial(what, seen.ending, seen.ratio))
        return seen

    @property
    def cause(self) -> Cause:
        """What the findings say."""
        assert self.findings is not None
        return classify(self.findings)

    @property
    def mending(self) -> list[Rewrite]:
        """The rewrites that made the part right, then those that only the whole model can show."""
        return [*(rewrite for rewrite, seen in self.local if seen.ending == "right"), *self.unasked]


@dataclass(frozen=True)
class Investigator:
    """Asks the device about culprits of one case."""

    experiments: Experiments
    known: TensorValues
    culprits: Sequence[Culprit]
    unsteady: bool = False
    """Whether two runs of the untouched model differed."""

    def ops(self, culprit: Culprit) -> frozenset[OpIndex]:
        """The ops that a culprit consists of."""
        return frozenset(range(culprit.record.first, culprit.record.index + 1)) - self.known.case.graph.constant_ops

    def investigate(self, group: Group) -> None:
        """Ask about the worst member: alone, in context, again, in other precisions; then rewritten."""
        culprit, options = self.culprits[group.members[0]], self.known.case.part_options
        runs = RATE_RUNS if self.unsteady or culprit.cause == "nondeterministic" else 2
        record = culprit.record
        once = record.first == record.index and record.op in ONE_ROUNDING
        terms = terms_of(self.known.case.graph, record)
        findings = Symptoms(record.op, options.half, culprit.cause, right_alone=False, once=once, terms=terms)
        own, near = self._alone(culprit), False
        if own is not None:
            seen = group.note("alone, on the exact inputs", self.experiments.observe(own.specimen, options, runs=runs))
            if seen.fails or not seen.repeatable:
                group.part, findings = own, replace(findings, failing=seen, alone=True)
            near = named_near_its_limit(culprit, seen)
            findings = replace(findings, right_alone=seen.ending == "right" and not near)
            if group.part is None and culprit.record.reading != "window":
                self._on_the_devices_inputs(group, culprit, own)
        if group.part is None and group.on_device is not None and group.on_device[1].fails:
            group.part, failing = group.on_device
            findings = replace(findings, failing=failing, alone=True)
        if group.part is None and not near:
            findings = self._in_context(group, culprit, findings)
        failed = findings.failing
        if group.part is not None and failed is not None and failed.ending == "wrong":
            findings = self._vary_precision(group, group.part, findings)
        if group.part is not None and failed is not None and (failed.ending == "wrong" or failed.beyond):
            findings = replace(findings, limit=self._limit(group, group.part, failed))
        group.findings = findings
        if group.part is not None:
            self._try_rewrites(group, group.part)
        else:  # it fails in the whole model only: there is nothing smaller to ask
            group.unasked += group.cause.rewrites

    def fails_alone(self, culprit: Culprit) -> bool:
        """Whether a culprit fails by itself on the exact inputs."""
        part = self._alone(culprit)
        return part is not None and self.experiments.observe(part.specimen, self.known.case.part_options).fails

    def _alone(self, culprit: Culprit) -> Subgraph | None:
        return cut_out(self.known.case.model, self.ops(culprit), self.known.exact, [culprit.record.tensor])

    def _on_the_devices_inputs(self, group: Group, culprit: Culprit, own: Subgraph) -> None:
        """The same on the inputs that the culprit had on the device, where these were kept."""
        part = cut_out(self.known.case.model, self.ops(culprit), self.known.on_device, own.results)
        if part is not None:
            again = self.experiments.observe(part.specimen, self.known.case.part_options, runs=2)
            group.on_device = part, group.note("alone, on the device's inputs", again)

    def _in_context(self, group: Group, culprit: Culprit, findings: Symptoms) -> Symptoms:
        """With more and more of its neighbours, other culprits excepted."""
        others = {o for c in self.culprits if c is not culprit for o in self.ops(c)}
        right = False
        for ops in neighbourhoods(self.known.case.graph, self.ops(culprit)):
            if ops & others:
                continue
            part = cut_out(self.known.case.model, ops, self.known.exact)
            if part is None:
                continue
            seen = self.experiments.observe(part.specimen, self.known.case.part_options, runs=2)
            if seen.fails:
                group.note(f"with its neighbours, {len(part.places)} ops", seen)
                group.part = part
                return replace(findings, failing=seen)
            right |= seen.ending == "right"
        ending = "right" if right else "impossible"
        group.trials.append(Trial("with its neighbours, as far as they were tried", ending))
        return findings

    def _vary_precision(self, group: Group, part: Subgraph, findings: Symptoms) -> Symptoms:
        """The failing specimen in float32, with float32 sums, on the CPU, with its sum split."""
        options, ask = self.known.case.part_options, self.experiments.observe
        if options.half:
            single = ask(part.specimen, replace(options, precision="fp32"))
            findings = replace(findings, single=group.note("the same in float32", single))
            sums = ask(part.specimen, replace(options, precision="fp16-fp32acc"))
            if sums.ending != "refused":
                findings = replace(findings, long_sums=group.note("in float16 with float32 sums", sums))
        if options.accelerator != "cpu":
            group.note("on the device's CPU", ask(part.specimen, Options(accelerator="cpu")))  # for the reader
        if self._by_size(findings):
            tried = self._rewritten(RESCALE, group, part)
            if tried is not None:
                group.local.append((RESCALE, tried))
                findings = replace(findings, smaller=group.note("the same on smaller values", tried))
                if tried.ending == "right":  # by itself it shows no normalization that may follow
                    group.unasked.append(RESCALE_ON)
        if findings.op in _SUMS and findings.alone:
            split = self._rewritten(SPLIT_SUM, group, part)
            if split is not None:
                group.local.append((SPLIT_SUM, split))
                findings = replace(findings, split=group.note("with the sum split into pieces", split))
        return findings

    @staticmethod
    def _by_size(findings: Symptoms) -> bool:
        """Whether it is worth asking if an op is wrong of large values only: it gives something else in float16 alone,
        and its results are so large that a rewrite for the sake of their range makes them smaller."""
        worst = findings.failing.worst if findings.failing is not None else None
        single = findings.single is not None and findings.single.ending == "right"
        if worst is None or not single or not findings.alone:
            return False
        seen = worst.judgement
        return kind_of_error(seen, half=True) == "unrelated" and smaller(max(map(abs, seen.actual.reference_range)))

    def _limit(self, group: Group, part: Subgraph, failing: Observation) -> Limit | None:
        """Where the specimen turns right, if what fails is as a dispatch that was not made."""
        if not self._not_made(failing):
            return None
        options = self.known.case.part_options
        ask = partial(self.experiments.observe, options=options)
        found = find_limit(self.experiments, part.specimen, failing.said, ask, self._not_made)
        if found is not None and failing.beyond:
            found = replace(found, refused=True)
        if found is not None:
            group.trials += [
                Trial(f"with {found.right:,} {found.what}", "right"),
                Trial(f"with {found.wrong:,} {found.what}", failing.ending, failing.ratio),
            ]
        return found

    @staticmethod
    def _not_made(seen: Observation) -> bool:
        wrong = [output for output in seen.outputs if not output.judgement.ok]
        return seen.beyond or (
            seen.ending == "wrong" and (seen.said is not None or all(unwritten(o, half=seen.half) for o in wrong))
        )

    def _others(self, culprit: Culprit) -> dict[str, Array]:
        """Tensors of the same size, made last before the culprit's: memory may still have held them."""
        graph = self.known.case.graph
        read = {t for o in self.ops(culprit) for t in graph.ops[o].inputs}
        size = graph.tensors[culprit.record.tensor].elements
        made = [t for op in graph.ops[: culprit.record.first] for t in op.outputs if graph.tensors[t].elements == size]
        values = {t: self.known.exact(t) for t in made[-MOST_OTHERS:] if t not in read}
        return {graph.tensors[t].name: real(graph, t, array) for t, array in values.items() if array is not None}

    def signature(self, culprit: Culprit, group: Group) -> str | None:
        """By the values that failed; for a long sum or a range, what was known of that."""
        findings = group.findings
        assert findings is not None
        found = None
        if group.part is not None and findings.failing is not None:
            worst = findings.failing.worst
            if group.cause == "kernel" and worst is not None and (text := self._misread(group.part, worst)):
                return text
            others = {} if group.cause in ("accumulation", "rounding") else self._others(culprit)
            found = findings.failing.signature(group.part.operands(self.known.case.graph), others)
        elif group.on_device is not None and (alone := group.on_device[1].worst) is not None:
            value = self.known.on_device(culprit.record.tensor)
            if value is not None and value.shape == alone.exact.shape:
                value = real(self.known.case.graph, culprit.record.tensor, value)
                found = signature_of(value, alone.exact, group.on_device[0].operands(self.known.case.graph))
        if group.cause == "limits":
            return _beyond(found.text if found else culprit.signature, findings)
        if found is None or group.cause in ("overflow", "underflow", "accumulation"):
            return culprit.signature or (found.text if found else None)
        return found.text

    def _misread(self, part: Subgraph, worst: OutputComparison) -> str | None:
        """How the part's operands were misread or mixed up, if doing so on the host gives the device's values."""
        model, graph = part.specimen.model, self.known.case.graph
        single = misreadings(model, next(iter(part.places.values()))) if len(part.places) == 1 else ()
        called = {place: f"{graph.ops[op].name} #{op}" for op, place in part.places.items()}
        names = {f"x{i}": graph.tensors[t].name for i, t in enumerate(part.feeds)}
        for way in chain(single, mix_ups(model, called, names)):
            try:
                predicted = self.experiments.exactly(Specimen(way.model, part.specimen.inputs))[worst.name]
            except (DeviceError, UsageError):  # misread so, the host would not run it either
                continue
            if predicts(predicted, worst.actual, worst.exact):
                return way.text
        return None

    def _try_rewrites(self, group: Group, part: Subgraph) -> None:
        """Rewrites that suit the cause, on the failing specimen."""
        asked = {rewrite.name for rewrite, _ in group.local}
        for rewrite in group.cause.rewrites:
            if rewrite.name in asked:
                continue
            seen = self._rewritten(rewrite, group, part)
            if seen is not None:
                group.local.append((rewrite, seen))
            elif rewrite is RESCALE or (rewrite in BY_SURROUNDINGS and self._fits_the_model(rewrite, group)):
                group.unasked.append(rewrite)  # a scale may be undone behind the specimen only, a bound known before it

    def _fits_the_model(self, rewrite: Rewrite, group: Group) -> bool:
        """Whether a rewrite that a specimen is too small for is possible in the whole model."""
        ops = frozenset(o for m in group.members for o in self.ops(self.culprits[m]))
        try:
            rewrite.apply(self.known.case.model, ops, {})
        except CannotRewrite:
            return False
        return True

    def _rewritten(self, rewrite: Rewrite, group: Group, part: Subgraph) -> Observation | None:
        """The culprits of a specimen written anew, on the device; None where they cannot be, or were written so
        already under another name."""
        culprits = {o for c in self.culprits for o in self.ops(c)}
        ops = frozenset(place for op, place in part.places.items() if op in culprits)
        graph = part.specimen.model.graph()
        tensors = [t for op in graph.ops for t in op.outputs if graph.tensors[t].type == "FLOAT32"]
        values = self.experiments.values(part.specimen, tensors)
        peaks = {t: fp16.peak(v) for t, v in values.items()}
        try:
            model = rewrite.apply(part.specimen.model, ops, peaks)
        except CannotRewrite:
            return None
        if model.sha256 in group.written:
            return None
        group.written.add(model.sha256)
        inputs = as_declared(model, part.specimen.inputs)
        return self.experiments.observe(Specimen(model, inputs), self.known.case.part_options)


def named_near_its_limit(culprit: Culprit, alone: Observation) -> bool:
    """Whether digits were lost within an op's limit, which an output does not bear, and as many are lost alone: that is
    no doing of the op's neighbours, however right it is called."""
    if culprit.cause not in ("accumulation", "rounding") or alone.ending != "right" or alone.worst is None:
        return False
    return reproduces_in_isolation(culprit.record, alone.worst.judgement)


def _beyond(looks: str | None, findings: Symptoms) -> str | None:
    """What the values look like, and where the limit is, or else the runtime's own words for it."""
    failing = findings.failing
    said = failing.said.plain if failing and failing.said else ""
    if failing and failing.beyond:  # there are no values to look at
        return "; ".join(filter(None, (str(findings.limit or ""), said)))
    where = str(findings.limit) if findings.limit else said
    return "; ".join(filter(None, (looks, where))) or None
