"""Why each culprit is wrong, the smallest thing that shows it, and what mends it.

This comes after the culprits are named, and its compiles are counted apart. Culprits of one op, shapes and first
suspicion are explained together, by the worst of them: experiments give the cause, the failing specimen is shrunk to a
reproducer, rewrites are tried on it, and those that make it right are tried on the whole model together.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.core.arrays import TensorIndex
from harness.core.errors import DeviceError, UnresolvedError, UsageError
from harness.core.visible import counted
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.result import Culprit, Explanation, Localization, Remedy, Trial
from harness.localize.explain.investigate import Group, Investigator
from harness.localize.explain.known import known
from harness.localize.explain.remedy_trials import ALL_ON_CPU, TrialPlan, Truth, Whole, ranked
from harness.localize.explain.reproducer import Circumstances, write_reproducer
from harness.localize.explain.shrink import Shrunk, shrink
from harness.localize.probe.experiment import UNSTEADY_RUNS, Experiments, Specimen
from harness.localize.probe.tensor_values import TensorValues
from harness.numerics.tolerance import LOCAL_FACTOR
from harness.remedies.catalogue import KEEP_DIGITS, Rewrite
from harness.remedies.options import OTHER_OPTIONS

# Combinations of rewrites that are tried on the whole model, and groups of culprits that are explained.
MOST_PLANS = 3
MOST_GROUPS = 8
# Ops that are kept on the CPU for being like a culprit: each makes up to two more models of the chain.
MOST_ALIKE = 32
# A reproducer fails by this factor over the limit, or as much as the culprit itself.
MARGIN = 2.0
# Every tensor of the reference, under the run folder while it is needed.
SCRATCH = "scratch"


def explain(bench: Workbench, case: Case, answer: Localization) -> Localization:
    """The answer with causes by experiment, reproducers and remedies. Trouble on the device becomes a note.

    Raises:
        StorageError: the run folder cannot be written.
    """
    if not answer.culprits:
        return answer
    started, compiles, runs = time.monotonic(), bench.device.compiles, bench.device.runs
    explainer = _Explainer(bench, case, answer)
    scratch = bench.run.path / SCRATCH
    try:
        explainer.prepare(scratch)
        if answer.by_precision:
            explainer.keep_digits()
        else:
            explainer.explain()
    except (DeviceError, UsageError, UnresolvedError) as error:
        explainer.notes.append(f"Explaining the culprits ended early: {error.message}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    spent = Explanation(
        bench.device.compiles - compiles,
        bench.device.runs - runs,
        time.monotonic() - started,
        explainer.run_ms,
    )
    notes = (*answer.notes, *explainer.notes)
    return replace(answer, culprits=tuple(explainer.culprits), explanation=spent, notes=notes)


class _Explainer:
    def __init__(self, bench: Workbench, case: Case, answer: Localization) -> None:
        self.bench, self.case = bench, case
        self.graph = case.graph
        self.device = answer.device
        self.unsteady = bool(answer.differs)
        useless = frozenset(output.name for output in answer.outputs if output.verdict == "precision")
        self.excused = frozenset() if answer.by_precision else useless
        self.culprits = list(answer.culprits)
        self.notes: list[str] = []
        self.run_ms: float | None = None
        self.experiments = Experiments(bench.device, bench.host, case.timeout, case.seed)

    def prepare(self, scratch: Path) -> None:
        """One host run that keeps every tensor, so that anything can be cut out; what is right for the whole model."""
        host = self.bench.host
        self.bench.progress.stage("reference values for experiments", 1 + len(self.graph.ops) / 100)
        known = TensorValues.collect(host, self.case, self.bench.run.tensors, scratch)
        ideal = run_ideal(self.case, host, self.case.model, self.case.inputs, known.beyond, "running ideally")
        exact = known.outputs()
        ideal = self.case.with_single(host, ideal, exact, known.beyond | known.unbounded)
        truth = Truth(exact, ideal, known.peaks)
        self.whole = Whole(self.bench, self.case, truth, self.excused)
        self.investigator = Investigator(self.experiments, known, tuple(self.culprits), self.unsteady)
        host.stop()

    def explain(self) -> None:
        """Every group, then remedies for all of them together."""
        groups = self._groups()
        if len(groups) > MOST_GROUPS:
            self.notes.append(
                f"{counted(len(groups) - MOST_GROUPS, 'kind of culprit is', 'kinds of culprit are')} left unexplained."
            )
        for group in groups[:MOST_GROUPS]:
            record = self.culprits[group.members[0]].record
            self.bench.progress.stage(f"{record.title} {record.number}: experiments", 8.0)
            self.investigator.investigate(group)
            self._conclude(group)
            self._reproduce(group)
        self._try_remedies(groups)

    def keep_digits(self) -> None:
        """Remedies for ops that lose digits as float16 has it: there is nothing to show by experiment, nor a fault to
        reproduce."""
        stage, options = self.bench.progress.stage, self.case.options
        guess = self._timed_untouched()
        results = tuple(dict.fromkeys(culprit.record.tensor for culprit in self.culprits))
        tried: list[Remedy] = []
        for rewrite in KEEP_DIGITS:
            plan = TrialPlan(((rewrite, results),))
            stage(f"remedy: {plan.name}", guess)
            if (remedy := self.whole.rewritten(plan)) is not None and remedy.run_ms:
                tried.append(remedy)
        tried += self._by_options(guess, long_sums=False)
        if options.accelerator != "cpu":
            stage("remedy: the ops that lose the digits on the CPU", guess)
            tried.append(self.whole.on_cpu(frozenset(o for culprit in self.culprits for o in culprit.window)))
        remedies = ranked(tried)
        self.culprits = [replace(culprit, remedies=remedies) for culprit in self.culprits]

    def _conclude(self, group: Group) -> None:
        """Cause and signature of each member; whether it fails alone is asked of each."""
        findings = group.findings
        assert findings is not None
        for place in group.members:
            culprit = self.culprits[place]
            worst = place == group.members[0]
            self.culprits[place] = replace(
                culprit,
                cause=group.cause,
                signature=self.investigator.signature(culprit, group),
                isolated=findings.alone if worst else self.investigator.fails_alone(culprit),
                trials=tuple(group.trials),
                runs=findings.failing.runs if worst and findings.failing else None,
            )

    def _groups(self) -> list[Group]:
        """Culprits alike in op, shapes and first cause, the worst first."""
        found: dict[object, Group] = {}
        for place, culprit in enumerate(self.culprits):
            record = culprit.record
            ops = self.graph.ops[record.first : record.index + 1]
            shapes = tuple((op.name, tuple(self.graph.tensors[t].shape for t in op.inputs if t >= 0)) for op in ops)
            found.setdefault((shapes, record.shape, culprit.cause), Group([])).members.append(place)
        for group in found.values():
            group.members.sort(key=lambda place: -self._ratio(self.culprits[place]))
        return list(found.values())

    @staticmethod
    def _ratio(culprit: Culprit) -> float:
        return culprit.record.local.ratio if culprit.record.local else 0.0

    # The reproducer.

    def _reproduce(self, group: Group) -> None:
        """Shrink what fails and write the folder."""
        findings, part = group.findings, group.part
        if part is None or findings is None or findings.failing is None:
            return
        culprit = self.culprits[group.members[0]]
        self.bench.progress.stage(f"{culprit.record.title} {culprit.record.number}: the smallest that fails", 12.0)
        first, options = findings.failing, self.case.part_options
        enough = min(first.ratio, MARGIN * LOCAL_FACTOR)
        runs = 1 if first.repeatable else UNSTEADY_RUNS

        def fails(specimen: Specimen) -> bool:
            """Whether it fails like the culprit, which is in it still."""
            seen = self.experiments.observe(specimen, options, runs=runs)
            if not first.repeatable:
                return not seen.repeatable
            alone = culprit.record.first == culprit.record.index
            if alone and culprit.record.op not in {op.custom or op.name for op in specimen.model.graph().ops}:
                return False
            return seen.alike(first) and (first.worst is None or seen.ratio >= enough)

        begin = findings.limit.specimen if findings.limit and culprit.cause == "limits" else part.specimen
        shrunk = shrink(self.experiments, begin, fails)
        # What float32 gets right, or wrong, is to stay so: another fault of the same looks is not this one.
        if findings.single is not None and self._single(shrunk.specimen) != findings.single.ending:
            shrunk = Shrunk(part.specimen)
        seen = self.experiments.observe(shrunk.specimen, options, runs=runs)
        if not seen.fails and seen.repeatable:
            self.notes.append(
                f"{culprit.record.title} {culprit.record.number} does not fail each time it is run alone."
            )
            return
        exact, _ = self.experiments.truth(shrunk.specimen, options)
        record = culprit.record
        named = record.op if record.first == record.index else f"{record.index:04d}"
        folder = self.bench.run.path / "reproducers" / f"{record.first:04d}-{named}"
        about = Circumstances(
            cause=culprit.cause,
            signature=culprit.signature,
            device=self.bench.device.name,
            gpu=self.device.get("gpu", ""),
            runtime=self.device.get("runtime", ""),
            options=options,
            trials=[(t.what, _ending(t)) for t in group.trials],
            remedies=[(rewrite.name, o.words()) for rewrite, o in group.local],
            planted=self.device.get("kind") == "planted",
            web=self.device.get("kind") == "web",
            known=known(self.case, self.device, culprit),
        )
        allowed = self.experiments.allowed(shrunk.specimen, options) if seen.beyond else None
        write_reproducer(folder, shrunk, exact, seen, about, allowed)
        for place in group.members:
            self.culprits[place] = replace(self.culprits[place], reproducer=str(folder))

    def _single(self, specimen: Specimen) -> str:
        return self.experiments.observe(specimen, replace(self.case.part_options, precision="fp32")).ending

    # Remedies for the whole model.

    def _try_remedies(self, groups: Sequence[Group]) -> None:
        """What mends all culprits at once, tried on the whole model."""
        stage, options = self.bench.progress.stage, self.case.options
        guess = self._timed_untouched()
        tried: list[Remedy] = []
        for plan in self._plans(groups):
            stage(f"remedy: {plan.name}", guess)
            if (remedy := self.whole.rewritten(plan)) is not None:
                tried.append(remedy)
        summed = any(g.findings is not None and g.findings.long_sums is not None for g in groups)
        tried += self._by_options(guess, long_sums=summed)
        if options.accelerator != "cpu":
            stage("remedy: the culprits on the CPU", guess)
            ops = frozenset(o for c in self.culprits for o in self.investigator.ops(c))
            tried.append(self.whole.on_cpu(ops))
            alike = self._alike(ops)
            if not tried[-1].ok and len(ops) < len(alike) <= MOST_ALIKE:
                stage("remedy: all ops like the culprits on the CPU", guess)
                tried.append(self.whole.on_cpu(alike, ALL_ON_CPU))
        remedies = ranked(tried)
        self.culprits = [replace(culprit, remedies=remedies) for culprit in self.culprits]

    def _alike(self, ops: frozenset[int]) -> frozenset[int]:
        """The culprits and all ops of the same kinds on operands of the same shapes: where a culprit is right, what it
        hid may show in the next of them."""
        graph = self.graph

        def form(o: int) -> object:
            operands = [graph.tensors[t] for t in graph.ops[o].inputs if t >= 0]
            return graph.ops[o].name, tuple((tensor.shape, tensor.constant) for tensor in operands)

        sought = {form(o) for o in ops}
        return frozenset(op.index for op in graph.ops if form(op.index) in sought) - graph.constant_ops

    def _by_options(self, guess: float, *, long_sums: bool) -> Iterator[Remedy]:
        """The model as it is, run in other ways."""
        for other in OTHER_OPTIONS:
            if other.worth_trying(self.case.options, long_sums):
                self.bench.progress.stage(f"remedy: {other.name}", guess)
                yield self.whole.with_options(other)

    def _timed_untouched(self) -> float:
        """Times the untouched model; gives a guess for the seconds that a remedy takes."""
        self.bench.progress.stage("the untouched model, timed", 10.0)
        self.run_ms = self.whole.untouched()
        return 5 + (self.run_ms or 0) * 4e-3

    def _plans(self, groups: Sequence[Group]) -> list[TrialPlan]:
        """The i-th rewrite that helped, for every group that has one; of the first such plan, each kind of rewrite by
        itself too, so that it shows what each is good for."""
        helped = [group for group in groups if group.mending]
        if len(helped) < len(groups) and helped:
            lacking = ", ".join(self._named(group) for group in groups if not group.mending)
            self.notes.append(f"No rewrite was found for {lacking}; remedies leave that as it is.")
        plans = []
        for i in range(min(max((len(group.mending) for group in helped), default=0), MOST_PLANS)):
            steps: dict[str, tuple[Rewrite, tuple[TensorIndex, ...]]] = {}
            for group in helped:
                rewrite = group.mending[min(i, len(group.mending) - 1)]
                ops = sorted(o for m in group.members for o in self.investigator.ops(self.culprits[m]))
                tensors = tuple(self.graph.ops[o].outputs[0] for o in ops)
                _, before = steps.get(rewrite.name, (rewrite, ()))
                steps[rewrite.name] = rewrite, (*before, *tensors)
            plans.append(TrialPlan(tuple(steps.values())))
        if plans and 1 < len(plans[0].steps) <= MOST_PLANS:
            plans += [TrialPlan((step,)) for step in plans[0].steps]
        return plans

    def _named(self, group: Group) -> str:
        return ", ".join(f"{self.culprits[m].record.title} {self.culprits[m].record.number}" for m in group.members)


def _ending(trial: Trial) -> str:
    return f"{trial.ending}, {trial.ratio:.3g}x" if trial.ending == "wrong" and trial.ratio < 1e30 else trial.ending
