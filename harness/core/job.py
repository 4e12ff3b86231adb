"""What a device is asked to do, and the five ways it can end.

An :class:`Outcome` is sealed: every caller handles `Completed`, `Rejected`, `Crashed`, `TimedOut` and `Lost`, and
nobody returns None for a failure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.core.arrays import Array, OpIndex
from harness.core.choices import Accelerator, Backend, Fallback, Precision, Priority, Storage


@dataclass(frozen=True)
class Options:
    """How a model is compiled. `reference` is the host's plain CPU kernels without any delegate; `threads` 0 lets the
    runtime choose; `backend`, `storage` and `priority` are a phone's GPU's. With `fallback` the CPU runs what the GPU
    does not take; without, such a model is refused."""

    accelerator: Accelerator = "gpu"
    precision: Precision = "default"
    threads: int = 0
    backend: Backend = "default"
    storage: Storage = "default"
    priority: Priority = "default"
    fallback: Fallback = "none"

    @property
    def half(self) -> bool:
        """Whether values are stored as float16 under these options."""
        return self.accelerator in ("gpu", "npu") and self.precision != "fp32"


@dataclass(frozen=True)
class OutputPort:
    """An output that a job may want: its name, its position in the runtime's order (the subgraph's; a signature may
    have another), and what its values must be."""

    name: str
    position: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Job:
    """One model, its inputs by name, and what is wanted of it.

    The model's first signature is run; its inputs are in the runtime's order, like positions. `iterations` runs are
    timed after `warmup` ones; the values returned are those of the last run. `final` lets the device free each output
    as it is sent, and the compiled model after that.
    """

    model: bytes
    sha256: str
    inputs: dict[str, Array]
    outputs: tuple[OutputPort, ...]
    options: Options = field(default_factory=Options)
    warmup: int = 0
    iterations: int = 1
    timeout: float = 600.0
    final: bool = False


@dataclass(frozen=True)
class Residency:
    """Where the nodes ran, from the runtime: counts are None where its log gives none. `refused` are the delegate's
    lines on ops that it does not take, `cut` where the log leaves some out; `on_cpu` the ops that ran on the CPU
    beside it, None where that was not asked or cannot be told."""

    full: bool
    delegated: int | None = None
    total: int | None = None
    partitions: int | None = None
    refused: tuple[str, ...] = ()
    on_cpu: tuple[OpIndex, ...] | None = None
    cut: bool = False


@dataclass(frozen=True)
class Sample:
    """One timed iteration, in nanoseconds. `read` ends when the values are in host memory, so that write + run + read
    is the true cost: `run` alone may return when the work is only enqueued."""

    write_ns: int
    run_ns: int
    read_ns: int


@dataclass(frozen=True)
class Completed:
    """The job ran. `outputs` is empty when the caller took them through a sink."""

    outputs: dict[str, Array]
    residency: Residency
    samples: tuple[Sample, ...]
    compile_ns: int
    compiled: bool
    runtime: str
    adapter: str
    log: str
    boot_id: str = ""
    thermal: str = ""


@dataclass(frozen=True)
class Rejected:
    """The runtime refused the model or the request: `reason` is its own sentence, `ops` the refused ones."""

    reason: str
    ops: tuple[str, ...] = ()
    log: str = ""


@dataclass(frozen=True)
class Crashed:
    """The process on the device died; `signal` is its name when it was one."""

    reason: str
    signal: str = ""
    log: str = ""


@dataclass(frozen=True)
class TimedOut:
    """No answer within `seconds`; the process was killed."""

    seconds: float
    log: str = ""

    @property
    def reason(self) -> str:
        """One clause for a message."""
        return f"no answer within {self.seconds:g} s"


@dataclass(frozen=True)
class Lost:
    """The connection broke or spoke nonsense, with the process or the device still to be accounted for. `output` is the
    one that came in another size, shape or type than the model states, if that was it."""

    reason: str
    log: str = ""
    output: str = ""


Failure = Rejected | Crashed | TimedOut | Lost
Outcome = Completed | Failure
