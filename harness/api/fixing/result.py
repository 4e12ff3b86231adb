"""What `lint --fix` did to a model: the rewrites, what is left and why, the check on the CPU, and on a device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness.core.arrays import OpIndex
from harness.core.job import Residency
from harness.core.visible import counted, visible
from harness.graph.model import Model
from harness.lint.finding import Finding
from harness.localize.base.result import OutputVerdict, residency_json

Ending = Literal["pass", "fail", "refused", "crashed", "silent", "lost", "reference", "unresolved"]
Word = Literal["right", "fixed", "better", "unchanged", "worse"]


@dataclass(frozen=True)
class RewrittenOp:
    """An op that was written anew: its kind, and its first result's name, by which it is `op` in the file as it was;
    None where that file has no such op, or several."""

    op: OpIndex | None
    op_name: str
    output: str

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"op": self.op, "op_name": self.op_name, "output": self.output}


@dataclass(frozen=True)
class Step:
    """One rewrite that was kept: for which entry of the catalogue, of which ops, how many ops the model had before it
    and after, and what it costs, in a sentence."""

    rule: str
    rewrite: str
    ops: tuple[RewrittenOp, ...]
    ops_before: int
    ops_after: int
    cost: str

    def to_json(self) -> dict[str, Any]:
        """One entry of `rewrites`."""
        counts = {"ops_before": self.ops_before, "ops_after": self.ops_after, "cost": self.cost}
        return {"rule": self.rule, "rewrite": self.rewrite, "ops": [op.to_json() for op in self.ops], **counts}


@dataclass(frozen=True)
class Left:
    """A finding of the model as it is now, and why nothing was done about it."""

    finding: Finding
    why: str

    def to_json(self) -> dict[str, Any]:
        """One entry of `left`."""
        found = self.finding
        return {
            "rule": found.rule,
            "effect": found.effect,
            "certain": found.sure == "certain",
            "op": found.op,
            "op_name": found.op_name,
            "output": found.output,
            "why": self.why,
        }


@dataclass(frozen=True)
class OutputCheck:
    """One output of the rewritten model against the model's own, both on the host's CPU, over all inputs that were
    tried. `float32_steps` and `float16_steps`: the largest difference in steps of that type at the value, or at the
    output's RMS where the value is smaller. `seen`: whether it had finite values, and others for other inputs; else
    that it is the same says nothing."""

    name: str
    identical: bool
    max_abs: float
    float32_steps: float
    float16_steps: float
    seen: bool

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        steps = {"float32_steps": self.float32_steps, "float16_steps": self.float16_steps}
        held = {"name": self.name, "identical": self.identical, "max_abs": self.max_abs}
        return held | steps | {"seen": self.seen}


@dataclass(frozen=True)
class CpuCheck:
    """The rewritten model on the host's CPU against the model as it was: on which inputs, and each output."""

    inputs: tuple[str, ...]
    outputs: tuple[OutputCheck, ...]

    @property
    def identical(self) -> bool:
        """Whether every value of every output is the same."""
        return all(output.identical for output in self.outputs)

    @property
    def worst(self) -> OutputCheck:
        """The output that differs most, in steps."""
        return max(self.outputs, key=lambda output: output.float32_steps)

    def to_json(self) -> dict[str, Any]:
        """`check` of a fix."""
        return {
            "inputs": list(self.inputs),
            "identical": self.identical,
            "outputs": [output.to_json() for output in self.outputs],
        }


@dataclass(frozen=True)
class Verdict:
    """What a comparison on a device ended with. `error` is its sentence where it gave no outputs, `run` the folder
    where it is kept."""

    ending: Ending
    outputs: tuple[OutputVerdict, ...] = ()
    residency: Residency | None = None
    sentence: str = ""
    run: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """`before` and `after` of a device."""
        return {
            "status": self.ending,
            "outputs": [output.to_json() for output in self.outputs],
            "residency": None if self.residency is None else residency_json(self.residency),
            "sentence": self.sentence,
            "run": None if self.run is None else str(self.run),
        }


@dataclass(frozen=True)
class DeviceCheck:
    """The model and the rewritten one on a device, each against the host's CPU."""

    device: str
    before: Verdict
    after: Verdict

    @property
    def word(self) -> Word:
        """`fixed`: passes and did not; `right`: passed already. Of one that does not pass: `better` where no output is
        further from the exact values than before and one at less than half the distance, `worse` where one passes no
        more, is no more explained, or where a model that was refused aloud is wrong now; else `unchanged`."""
        before, after = self.before, self.after
        if after.ending == "pass":
            return "right" if before.ending == "pass" else "fixed"
        if before.ending != "fail" or after.ending != "fail":
            return "unchanged" if before.ending not in ("pass", "fail") and after.ending != "fail" else "worse"
        pairs = list(zip(before.outputs, after.outputs, strict=True))
        if any(_RANKS[now.verdict] < _RANKS[was.verdict] for was, now in pairs):
            return "worse"
        if any(_RANKS[now.verdict] > _RANKS[was.verdict] for was, now in pairs):
            return "better"
        ratios = [(was.judgement.ratio, now.judgement.ratio) for was, now in pairs]
        nearer = all(now <= was for was, now in ratios) and any(2 * now < was for was, now in ratios)
        return "better" if nearer else "unchanged"

    @property
    def ok(self) -> bool:
        """Whether the rewritten model is right there."""
        return self.after.ending == "pass"

    def to_json(self) -> dict[str, Any]:
        """`device` of a fix."""
        return {
            "name": self.device,
            "verdict": self.word,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


_RANKS = {"wrong": 0, "precision": 1, "pass": 2}


@dataclass(frozen=True, repr=False)
class Fixed:
    """A model, and what `lint --fix` made of it. `rewritten` is None where no rewrite was kept; `path` is where it was
    written. `findings` are those of the model as it was, `left` those of what it is now. `notes` are sentences on what
    the check rests on, and on what a rewrite does not keep."""

    original: Model
    rewritten: Model | None
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    left: tuple[Left, ...]
    check: CpuCheck | None = None
    device: DeviceCheck | None = None
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return visible(f"<Fixed: {self.sentence()}>")

    def noting(self, sentence: str) -> Fixed:
        """With a note more."""
        return replace(self, notes=(*self.notes, sentence))

    @property
    def model(self) -> Model:
        """The rewritten model; the model as it was where nothing was done."""
        return self.original if self.rewritten is None else self.rewritten

    @cached_property
    def ops(self) -> tuple[int, int]:
        """Ops before and after."""
        return len(self.original.graph().ops), len(self.model.graph().ops)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Bytes before and after."""
        return len(self.original.to_bytes()), len(self.model.to_bytes())

    def gone(self) -> int:
        """How many findings there are less."""
        return len(self.findings) - len(self.left)

    def sentence(self) -> str:
        """What came of it."""
        if not self.findings:
            return "Nothing to rewrite: nothing was found."
        if self.rewritten is None:
            return f"Nothing was rewritten: {counted(len(self.left), 'finding')} left."
        return f"{self.gone()} of {counted(len(self.findings), 'finding')} gone, {len(self.left)} left."

    def to_json(self) -> dict[str, Any]:
        """`fix` of a model in `lint --json`, schema 1."""
        return {
            "path": None if self.path is None else str(self.path),
            "sha256": None if self.rewritten is None else self.rewritten.sha256,
            "ops": {"before": self.ops[0], "after": self.ops[1]},
            "bytes": {"before": self.size[0], "after": self.size[1]},
            "rewrites": [step.to_json() for step in self.steps],
            "left": [left.to_json() for left in self.left],
            "check": None if self.check is None else self.check.to_json(),
            "device": None if self.device is None else self.device.to_json(),
            "notes": list(self.notes),
        }
