"""A model that takes a device too long in one piece: run in parts, one after another, each fed with what the ones
before it made.

LiteRT waits 120 s for a GPU's output and then gives up, which a software GPU reaches with the largest graphs. Values
that go from part to part are float32 on the host; those of a float16 run are float16 values there and back, so nothing
is rounded twice. What a compiler would have fused across a cut is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.core.arrays import Array, TensorIndex
from harness.core.job import Residency
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph import surgery
from harness.graph.model import Model
from harness.graph.ops.cuts import Cut, parts
from harness.graph.ops.work import work
from harness.sam2.shared.unit import Unit, options

PART_WORK = 15_000_000_000
"""Products in one part where the GPU may be a software one. The slowest seen made half a billion of them a second, two
cores without AVX-512: that is a quarter of LiteRT's 120 s."""


@dataclass(frozen=True)
class Part:
    """One part of a model as a model of its own, and where it lies in the whole."""

    model: Model
    cut: Cut

    @property
    def name(self) -> str:
        """Which ops of the whole it is."""
        return f"ops {self.cut.ops[0]} to {self.cut.ops[-1]}"


@dataclass(frozen=True)
class Ran:
    """What a model gave, whole or in parts. `residency` is of all parts together."""

    outputs: dict[str, Array]
    residency: Residency
    adapter: str
    """The GPU; empty on the CPU."""
    parts: int = 1
    """In how many it ran."""


Seen = Callable[[Part, dict[str, Array]], None]
"""Told of every part before it runs, with its inputs."""


def parts_needed(model: Model) -> int:
    """In how many parts a software GPU is asked for `model`: the fewest of which none has more than `PART_WORK`, or,
    where an op or a stretch without a place to cut has more, those with the smallest largest part."""
    graph = model.graph()
    done = {op.index: work(graph, op) for op in graph.ops if op.index not in graph.constant_ops}
    least = max(1, -(-sum(done.values()) // PART_WORK))
    largest = {}
    for count in range(least, 2 * least + 1):
        largest[count] = max((sum(done[o] for o in one.ops) for one in parts(graph, count)), default=0)
        if largest[count] <= PART_WORK:
            return count
    return min(largest, key=lambda count: (largest[count], count))


def parts_of(model: Model, count: int) -> list[Part]:
    """`model` in at most `count` parts, in the order they run; none where an output is a constant: no part makes it."""
    graph = model.graph()
    if any(graph.producer.get(port.tensor) in graph.constant_ops for port in graph.outputs):
        return []
    found = parts(graph, count)
    return [Part(surgery.extract(model, one.results, one.feeds).model, one) for one in found]


def run(
    device: Device,
    model: Model,
    inputs: Mapping[str, Array],
    unit: Unit,
    count: int,
    *,
    timeout: float,
    doing: str,
    seen: Seen | None = None,
) -> Ran:
    """Run `model` on the `unit` of `device` in at most `count` parts, `timeout` seconds for each; in one, as it is.

    Raises:
        DeviceError: a part that the device does not complete.
    """
    graph = model.graph()
    found = parts_of(model, count) if count > 1 else []
    if len(found) < 2:
        job = make_job(model, dict(inputs), options(unit), timeout=timeout)
        done = completed(device, job, doing)
        return Ran(done.outputs, done.residency, done.adapter if unit == "gpu" else "")
    values: dict[TensorIndex, Array] = {port.tensor: inputs[port.name] for port in graph.inputs}
    residencies, adapter = [], ""
    for part in found:
        feeds = {port.name: values[surgery.tensor_of(port.name)] for port in part.model.graph().inputs}
        if seen is not None:
            seen(part, feeds)
        job = make_job(part.model, feeds, options(unit), timeout=timeout)
        done = completed(device, job, f"{doing}, {part.name}")
        values |= {surgery.tensor_of(name): array for name, array in done.outputs.items()}
        residencies.append(done.residency)
        adapter = done.adapter if unit == "gpu" else ""
    outputs = {port.name: values[port.tensor] for port in graph.outputs}
    return Ran(outputs, _together(residencies), adapter, len(found))


def _together(found: list[Residency]) -> Residency:
    """Of all parts: counts are sums, and None where one part's is."""

    def total(counts: list[int | None]) -> int | None:
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    return Residency(
        all(one.full for one in found),
        total([one.delegated for one in found]),
        total([one.total for one in found]),
        total([one.partitions for one in found]),
        tuple(line for one in found for line in one.refused),
        cut=any(one.cut for one in found),
    )
