"""What is known of a case's tensors when culprits are looked into: exact values, the device's, the sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.arrays import Array, TensorIndex
from harness.core.run_folder import Side, TensorStore
from harness.devices.base import Device
from harness.localize.base.case import Case
from harness.localize.base.reference import label_of, output_label, run_reference
from harness.numerics import fp16, fp32


@dataclass(frozen=True)
class TensorValues:
    """Tensors of a case. `peaks` has the largest finite magnitude of each in the exact run, `unbounded` those that hold
    NaN or infinity there; `read` holds what was read on the device, `computed` what the host computed."""

    case: Case
    computed: TensorStore
    read: TensorStore
    peaks: Mapping[TensorIndex, float]
    unbounded: frozenset[TensorIndex]

    @classmethod
    def collect(cls, host: Device, case: Case, read: TensorStore, scratch: Path) -> TensorValues:
        """One host run that keeps every tensor with a static shape under `scratch`."""
        graph = case.graph
        tensors = [
            t for op in graph.ops if op.index not in graph.constant_ops for t in op.outputs if graph.tensors[t].nbytes
        ]
        computed = TensorStore(scratch / "tensors")
        peaks = run_reference(host, case, computed, tensors)
        return cls(case, computed, read, peaks.finite, peaks.unbounded)

    @property
    def beyond(self) -> frozenset[TensorIndex]:
        """Tensors whose exact values leave the range of what the device stores."""
        largest = fp16.LARGEST if self.case.options.half else fp32.LARGEST
        found = frozenset(t for t, peak in self.peaks.items() if peak > largest)
        return found if self.case.options.half else found | self.unbounded

    def outputs(self) -> dict[str, Array]:
        """The model's exact outputs."""
        return {port.name: self.computed.get(output_label(port.name), "reference") for port in self.case.graph.outputs}

    def exact(self, t: TensorIndex) -> Array | None:
        """A tensor's exact values as the device can hold them: what float16 flushes is not the next op's fault."""
        values = self._value(t, self.computed, "reference")
        return fp16.rounded(values) if values is not None and self.case.options.half else values

    def on_device(self, t: TensorIndex) -> Array | None:
        """A tensor's values as read on the device, where they were kept."""
        return self._value(t, self.read, "device")

    def _value(self, t: TensorIndex, store: TensorStore, side: Side) -> Array | None:
        graph = self.case.graph
        for port in graph.inputs:
            if port.tensor == t:
                return self.case.inputs[port.name]
        labels = [label_of(graph, t)] if t in graph.producer else []
        labels += [output_label(port.name) for port in graph.outputs if port.tensor == t]
        return next((store.get(label, side) for label in labels if store.has(label, side)), None)
