"""A search whose process is killed at a probe of its choice, and continued."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.core.job import Job, Options, Outcome
from harness.core.run_folder import RunFolder
from harness.devices.base import Device, Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.find.localizer import localize
from harness.localize.probe.journal.device import Journaled
from harness.localize.probe.journal.resume import Resume, identity_of, open_run
from tests.localize.planted import SHIFTED, Half, InProcess, noisy

Moment = Literal["before", "within", "after"]


class Killed(BaseException):
    """The process ends here."""


def chain() -> Model:
    """7 ops one after another."""
    rng = np.random.default_rng(2)
    graph = GraphBuilder()
    x = graph.input("x", (4, 16))
    for i in range(7):
        weights = (rng.standard_normal((16, 16)) / 4).astype(np.float32)
        x = graph.fully_connected(x, weights) if i % 2 == 0 else graph.unary("TANH", x)
    graph.output(x, "y")
    return graph.build()


CHAIN = chain()
RESULTS = [op.outputs[0] for op in CHAIN.graph().ops]
FAULTS = {RESULTS[1]: SHIFTED, RESULTS[4]: noisy(0.5, 3)}
CASE = Case(CHAIN, random_inputs(CHAIN.graph(), 0), Options(), timeout=60)


class Frail(Half):
    """Half, and the process that asks is killed at its `at`th job; `does` decides what other jobs come to."""

    def __init__(self, at: int = 0, moment: Moment = "before") -> None:
        super().__init__(CHAIN, FAULTS)
        self.at, self.moment = at, moment
        self.begun = 0
        self.does: Callable[[Job], Outcome | None] = lambda job: None

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.begun += 1
        fatal = self.begun == self.at
        if fatal and self.moment == "before":
            raise Killed
        forced = self.does(job)
        if forced is not None:
            self.jobs.append(job)
            return forced

        def dying(name: str, values: Any) -> None:
            raise Killed

        outcome = super().run(job, dying if fatal and self.moment == "within" else sink)
        if fatal:
            raise Killed
        return outcome


@contextmanager
def opened(root: Path, device: Device, resume: Resume = "auto", **budget: int) -> Iterator[Workbench]:
    """A bench whose device is journaled, as the command makes it. A kill leaves the folder as it is."""
    make = lambda: RunFolder.create(root, "localize", "chain", device.name)  # noqa: E731
    run, journal = open_run(resume, root, identity_of(device, CASE), make)
    try:
        yield Workbench(Journaled(device, journal, **budget), InProcess(), run)
    finally:
        journal.close()


def search(root: Path, device: Device, resume: Resume = "auto", **budget: int) -> tuple[dict[str, Any], Path]:
    """The answer, without what may differ: times, and what was compiled anew."""
    with opened(root, device, resume, **budget) as bench:
        answer = localize(bench, CASE).to_json()
        bench.run.save(status="done")
    return {name: v for name, v in answer.items() if name not in ("seconds", "device_compiles")}, bench.run.path
