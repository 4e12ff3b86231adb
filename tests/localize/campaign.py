"""Faults planted all over the small decoder: which ones, which of them do harm, and what a localizer makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.core.arrays import Array
from harness.core.job import Options
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph.inputs import random_inputs
from harness.graph.model import Graph, Model
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.host_runs import run_ideal
from tests.localize.planted import EVERY_FAULT, Fault, Half, Remembering, applies

# A plant is a tensor of the model and the fault at the op that makes it.
Plant = tuple[int, Fault]


@dataclass(frozen=True)
class Trial:
    """One device to localize: where its faults sit (op indices, none for a healthy one) and the seed of the inputs."""

    kind: str
    plants: tuple[Plant, ...]
    seed: int

    def ops(self, graph: Graph) -> frozenset[int]:
        """The faulty ops."""
        return frozenset(graph.producer[t] for t, _ in self.plants)

    def name(self, graph: Graph) -> str:
        """For a person to read."""
        at = [f"{graph.ops[graph.producer[t]].name} #{graph.producer[t]} {fault.name}" for t, fault in self.plants]
        return " + ".join(at) or f"healthy, seed {self.seed}"


class Campaign:
    """Trials on one model. The host's reference runs are shared by all of them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.host = Remembering()

    @cached_property
    def graph(self) -> Graph:
        """The view of the model."""
        return self.model.graph()

    @cached_property
    def plants(self) -> dict[int, tuple[Plant, ...]]:
        """For each op that is not folded, the faults that can be planted at it."""
        found = {}
        for op in self.graph.ops:
            if op.index not in self.graph.constant_ops:
                at = op.outputs[0]
                found[op.index] = tuple((at, f) for f in EVERY_FAULT if applies(f, self.model, self.graph, at))
        return found

    def at_every_op(self, *, every_kind: bool = False) -> Iterator[Trial]:
        """A fault at every op in turn: of one kind, in rotation, or of every kind that can be."""
        for number, (op, found) in enumerate(self.plants.items()):
            for plant in found if every_kind else (found[number % len(found)],):
                yield Trial("single", (plant,), seed=op % 7)

    def pairs(self, count: int, seed: int = 0) -> Iterator[Trial]:
        """Random pairs of faults, each of which does harm by itself."""
        rng = np.random.default_rng(seed)
        every = [plant for found in self.plants.values() for plant in found]
        while count:
            first, second = (every[i] for i in rng.choice(len(every), 2, replace=False))
            if first[0] == second[0]:
                continue
            trial = Trial("pair", (first, second), seed=count % 7)
            if all(self.harms(Trial("single", (plant,), trial.seed)) for plant in trial.plants):
                count -= 1
                yield trial

    @staticmethod
    def healthy(count: int) -> Iterator[Trial]:
        """Devices without a fault, each with other inputs."""
        return (Trial("healthy", (), seed) for seed in range(count))

    def device(self, trial: Trial) -> Half:
        """The trial's device."""
        return Half(self.model, dict(trial.plants))

    def case(self, trial: Trial) -> Case:
        """The model and the trial's inputs."""
        return Case(self.model, random_inputs(self.graph, trial.seed), Options(), timeout=60, seed=trial.seed)

    def harms(self, trial: Trial) -> bool:
        """Whether the faults show in an output at all: one that averaging takes out again cannot be found, and need
        not be. Decided as `harness compare` does."""
        case = self.case(trial)
        exact = self._run(self.host, case)
        ideal = run_ideal(case, self.host, case.model, case.inputs, frozenset(), "running the ideal device")
        actual = self._run(self.device(trial), case)
        return not all(case.judge(actual[n], ideal[n], exact[n], by_channel=True).ok for n in exact)

    @staticmethod
    def _run(device: Device, case: Case) -> dict[str, Array]:
        options = case.options if isinstance(device, Half) else REFERENCE
        return completed(device, make_job(case.model, case.inputs, options, timeout=60), "running the model").outputs
