"""Accuracy beside latency: the outputs that were timed, against the host's plain kernels, judged as `compare` does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harness.core.arrays import Array
from harness.core.run_folder import TensorStore
from harness.devices.host.device import HostDevice
from harness.devices.scratch import scratch_folder
from harness.graph import surgery
from harness.graph.ops.repeatable import varying_op
from harness.latency.measure import Subject
from harness.latency.record import OutputError
from harness.localize.base.case import Case
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.ideals import Ideals
from harness.localize.base.outputs import judge_outputs
from harness.localize.base.reference import output_label, run_reference
from harness.localize.base.tails import Tails
from harness.numerics.fp16 import LARGEST

MOST_BYTES = 1 << 30
"""A float16 judgement looks at every intermediate's range; over this many bytes of them it is not made."""


@dataclass
class Judge:
    """Judges cells one after another; the reference of a model with its inputs is computed once."""

    timeout: float
    _known: dict[tuple[str, str, bool], _Expected] = field(default_factory=dict)

    def errors(self, subject: Subject, outputs: dict[str, Array]) -> tuple[OutputError, ...] | None:
        """How far the outputs are off, or None where that cannot be judged.

        Raises:
            DeviceError: the reference does not complete on the host.
        """
        case = Case(subject.model, subject.inputs, subject.options, self.timeout)
        graph = case.graph
        if any(not graph.tensors[port.tensor].elements for port in graph.outputs) or varying_op(subject.model):
            return None
        tensors = surgery.tappable(graph) if subject.options.half else ()
        if sum(graph.tensors[t].nbytes for t in tensors) > MOST_BYTES:
            return None
        key = (subject.cell.model_sha256, subject.cell.model, subject.options.half)
        if key not in self._known:
            self._known[key] = _expected(case, tensors)
        expected = self._known[key]
        with scratch_folder("harness-bench-") as folder:
            store = TensorStore(folder)
            for name, values in expected.exact.items():
                store.put(output_label(name), "reference", values, name)
            verdicts = judge_outputs(case, outputs, expected.ideal, store)
            if not all(verdict.judgement.ok for verdict in verdicts):
                with HostDevice() as host:
                    ideal = Tails(host, case, expected.beyond).beside(expected.ideal, verdicts, expected.exact)
                self._known[key] = replace(expected, ideal=ideal)
                verdicts = judge_outputs(case, outputs, ideal, store)
        return tuple(
            OutputError(
                name=verdict.name,
                cosine=verdict.judgement.actual.cosine,
                max_abs=verdict.judgement.actual.max_abs,
                expected_max_abs=verdict.judgement.expected.max_abs,
                nonfinite=verdict.judgement.actual.nonfinite,
                ok=verdict.ok,
            )
            for verdict in verdicts
        )


@dataclass(frozen=True)
class _Expected:
    """The reference's outputs, an ideal device's, and the tensors that one cannot hold."""

    exact: dict[str, Array]
    ideal: dict[str, Ideals]
    beyond: frozenset[int]


def _expected(case: Case, tensors: tuple[int, ...]) -> _Expected:
    with scratch_folder("harness-bench-") as folder, HostDevice() as host:
        store = TensorStore(folder)
        peaks = run_reference(host, case, store, tensors, keep=False)
        beyond = frozenset(t for t, peak in peaks.finite.items() if peak > LARGEST)
        ideal = run_ideal(case, host, case.model, case.inputs, beyond, "running the ideal device")
        exact = {port.name: store.get(output_label(port.name), "reference") for port in case.graph.outputs}
    return _Expected(exact, ideal, beyond)
