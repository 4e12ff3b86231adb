"""A device whose kernels are broken by kind: wherever an op of that kind runs, in whatever model, the fault shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.job import Crashed, Job, Outcome, TimedOut
from harness.devices.base import Sink
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.numerics.fp16 import oracle, rounded
from tests.localize.planted import InProcess

Fault = Callable[[Rebuild, Op], int | None]
"""What an op gives instead of its own result; None leaves it as it is."""


class Broken(InProcess):
    """An ideal float16 device but for one fault; `in_float32` says whether that shows in float32 too."""

    def __init__(self, fault: Fault, *, in_float32: bool = True) -> None:
        super().__init__("broken")
        self.fault, self.in_float32 = fault, in_float32

    def prepared(self, job: Job) -> bytes:
        model = Model.from_bytes(job.model)
        if job.options.accelerator == "gpu" and (job.options.half or self.in_float32):
            rebuild = Rebuild(model)
            for op in rebuild.graph.ops:
                rebuild.keep(op)
                made = self.fault(rebuild, op)
                if made is not None:
                    rebuild.replace(op.outputs[0], made)
            model = rebuild.finish()
        return (oracle(model) if job.options.half else model).to_bytes()

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        stored = {name: rounded(values) if job.options.half else values for name, values in job.inputs.items()}
        return super().run(Job(**(vars(job) | {"inputs": stored})), sink)


class Deadly(InProcess):
    """An ideal float16 device that does not survive models for which `dies` says so."""

    def __init__(self, dies: Callable[[Model], bool], outcome: Crashed | TimedOut) -> None:
        super().__init__("deadly")
        self.dies, self.outcome = dies, outcome

    def prepared(self, job: Job) -> bytes:
        return oracle(Model.from_bytes(job.model)).to_bytes() if job.options.half else job.model

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        if job.options.accelerator == "gpu" and self.dies(Model.from_bytes(job.model)):
            return self.outcome
        return super().run(job, sink)


def rolled(kind: str) -> Fault:
    """Ops of a kind give their result shifted by one along its first axis that is longer than one."""

    def fault(rebuild: Rebuild, op: Op) -> int | None:
        shape = rebuild.shape(op.outputs[0])
        axis = next((i for i, d in enumerate(shape) if d > 1), None)
        if op.name != kind or axis is None:
            return None
        options = schema.GatherOptionsT()
        options.axis = axis
        order = rebuild.constant(np.roll(np.arange(shape[axis], dtype=np.int32), 1))
        return rebuild.op("GATHER", [op.outputs[0], order], shape, options)

    return fault


def in_rank(rank: int, fault: Fault) -> Fault:
    """The fault in results of one rank only."""
    return lambda rebuild, op: fault(rebuild, op) if len(rebuild.shape(op.outputs[0])) == rank else None


def behind(kind: str, fault: Fault) -> Fault:
    """The fault only where the op reads, directly, what an op of a kind made."""

    def within(rebuild: Rebuild, op: Op) -> int | None:
        makers = [rebuild.graph.producer.get(t) for t in op.inputs]
        return fault(rebuild, op) if any(m is not None and rebuild.graph.ops[m].name == kind for m in makers) else None

    return within


def unsteady(kind: str) -> Fault:
    """Ops of a kind give their result off by other amounts each time that a model is made ready."""
    rng = np.random.default_rng(9)

    def fault(rebuild: Rebuild, op: Op) -> int | None:
        if op.name != kind:
            return None
        noise = 1 + 0.2 * rng.uniform(-1, 1, rebuild.shape(op.outputs[0]))
        return rebuild.binary("MUL", op.outputs[0], rebuild.constant(noise.astype(np.float32)))

    return fault


def zeroed(kind: str) -> Fault:
    """Ops of a kind give zeros."""

    def fault(rebuild: Rebuild, op: Op) -> int | None:
        return (
            rebuild.binary("MUL", op.outputs[0], rebuild.constant(np.zeros(1, np.float32))) if op.name == kind else None
        )

    return fault


def imprecise(kind: str, amount: float) -> Fault:
    """Ops of a kind lose precision: each result is off by up to `amount` of itself, by as much each time."""

    def fault(rebuild: Rebuild, op: Op) -> int | None:
        if op.name != kind:
            return None
        noise = 1 + amount * np.random.default_rng(3).uniform(-1, 1, rebuild.shape(op.outputs[0]))
        return rebuild.binary("MUL", op.outputs[0], rebuild.constant(noise.astype(np.float32)))

    return fault


def long_sums(limit: int) -> Fault:
    """BATCH_MATMULs over more than `limit` products lose precision: each result is off by up to 5 % of itself."""
    lossy = imprecise("BATCH_MATMUL", 0.05)

    def fault(rebuild: Rebuild, op: Op) -> int | None:
        if op.name != "BATCH_MATMUL" or rebuild.shape(op.inputs[0])[-1] <= limit:
            return None
        return lossy(rebuild, op)

    return fault
