"""A phone that is none: what its GPU would compute, by the host's plain CPU kernels, with bugs planted.

A job for the GPU is answered in two steps. The model is written anew: results, inputs and constants of float32 are
rounded to float16 where values are stored so, and an op in which a bug shows gives what the bug makes of it. Then the
host's interpreter runs that. Everything that is not planted is thus as exact as an ideal device; constants beyond
float16's range stay as they are. Other accelerators are the host's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.job import Completed, Job, Options, Outcome, Rejected, Residency
from harness.core.progress import Say
from harness.devices.base import DeviceFacts, Sink
from harness.devices.execute import make_job
from harness.devices.host.device import HostDevice
from harness.devices.planted.bug import Bug
from harness.devices.planted.catalogue import bugs_of
from harness.devices.planted.planting import Planting
from harness.devices.refusal import explain_refusal
from harness.devices.residency import residency_of
from harness.graph.model import Graph, Model
from harness.graph.ops.partition import half_weights, subsets
from harness.graph.surgery import isolate

GPU = "planted bugs, no GPU"
_REFUSED = "Failed to compile model"
_LOG = "INFO: Replacing {} out of {} node(s) with delegate (PLANTED) node, yielding {} partitions for subgraph 0.\n"
_DYNAMIC = (
    "WARNING: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized "
    "tensors (tensor#{} is a dynamic-sized tensor).\n"
)


class PlantedDevice(HostDevice):
    """The host's worker, asked for what a phone with these bugs would give."""

    no_latency = "is no phone: its times are those of the host's plain kernels", "Measure host, or a phone."

    def __init__(self, name: str, *, progress: Say | None = None) -> None:
        self.bugs = bugs_of(name)
        super().__init__(progress=progress)
        self.name, self.kind = name, "planted"
        self._adapter = GPU
        self._compiled: tuple[tuple[str, Options], Compiled | Rejected] | None = None

    def facts(self) -> DeviceFacts:
        """As the host's, under its own name and kind."""
        return replace(super().facts(), gpu=GPU)

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        """Run a job; as :meth:`Device.run`."""
        chosen = job.options
        if chosen.accelerator != "gpu":
            return super().run(job, sink)
        if chosen.precision == "fp16-fp32acc" or {chosen.backend, chosen.storage, chosen.priority} != {"default"}:
            return Rejected("a planted phone has float16 and float32, and no further options of a GPU")
        key = job.sha256, chosen
        if self._compiled is None or self._compiled[0] != key:
            self._compiled = key, compiled(Model.from_bytes(job.model), self.bugs, chosen)
        made = self._compiled[1]
        if isinstance(made, Rejected):
            return made
        done = super().run(self._on_host(job, made.model), sink)
        if not isinstance(done, Completed):
            return done
        return replace(done, residency=made.residency, log=made.log + done.log)

    @staticmethod
    def _on_host(job: Job, model: Model) -> Job:
        return make_job(
            model,
            job.inputs,
            Options(accelerator="reference", threads=job.options.threads),
            timeout=job.timeout,
            wanted=tuple(port.name for port in job.outputs),
            warmup=job.warmup,
            iterations=job.iterations,
            final=job.final,
        )


@dataclass(frozen=True)
class Compiled:
    """A model with bugs, and what a runtime says of it."""

    model: Model
    residency: Residency
    log: str


def compiled(model: Model, bugs: Sequence[Bug], options: Options) -> Compiled | Rejected:
    """The model as a phone with these bugs takes it for its GPU."""
    model = isolate(model)
    graph = model.graph()
    late = [t.index for op in graph.ops for t in (graph.tensors[o] for o in op.outputs) if t.shape is None]
    if late:
        return Rejected(*explain_refusal(_REFUSED, log := _DYNAMIC.format(late[0])), log)
    silent = next((op for op in graph.ops if not op.outputs), None)
    if silent is not None:
        return Rejected(f"a planted phone takes no op without a result, as {silent.name} #{silent.index} is")
    refused = _refused(graph, bugs)
    shared = options.fallback == "cpu"
    taken, parts = _division(graph, frozenset(refused))
    log = _said(refused, len(taken), len(graph.ops))
    if refused and not shared:
        return Rejected(*explain_refusal(_REFUSED, log), log)
    log += _LOG.format(len(taken), len(graph.ops), parts)
    planted = Planting(model, bugs, taken, half=options.half).written()
    return Compiled(planted, residency_of(log, not refused, shared=shared), log)


def _refused(graph: Graph, bugs: Sequence[Bug]) -> dict[int, str]:
    """The delegate's words on each op that it does not take."""
    found = {}
    for op in graph.ops:
        words = next((said for bug in bugs if bug.refuses and (said := bug.refuses(graph, op)) is not None), None)
        if words is not None:
            found[op.index] = f"{op.name}: {words}"
    return found


def _said(refused: dict[int, str], taken: int, every: int) -> str:
    if not refused:
        return ""
    head = "ERROR: Following operations are not supported by GPU delegate:"
    lines = sorted(
        set(refused.values())
    )  # one for all ops that are refused in the same words, as the delegate sorts them
    rest = f"{taken or 'No'} operations will run on the GPU, and "
    rest += f"the remaining {every - taken}" if taken else f"all {every}"
    return "\n".join([head, *lines, f"{rest} operations will run on the CPU.\n"])


def _division(graph: Graph, refused: frozenset[int]) -> tuple[frozenset[int], int]:
    """The ops that the GPU takes, of several largest subsets the first, and how many partitions there are."""
    if not refused:
        return frozenset(op.index for op in graph.ops), 1
    found = subsets(graph, refused | half_weights(graph))
    largest: tuple[int, ...] = max(found, key=lambda part: len(part), default=())
    return frozenset(largest), min(len(found), 1)
