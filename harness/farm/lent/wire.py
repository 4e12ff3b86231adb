"""What goes between a program and the farm's host that has its device: the frames of `harness.devices.link`.

The program asks, and each answer repeats the `id` of its request. `device` numbers the devices that it has open.

    open {device, name, phone}         -> opened {flags, kind}
    facts {device}                     -> facts {facts, state}
    has {sha256}                       -> has {present}
    put {sha256} + payload             -> put {}
    run {device, ask, inputs} + one payload for each input that `inputs` does not name
                                       -> output {} + one payload, once for each output as it arrives, then
                                          ended {state} + payload `outcome`
    celsius {device}                   -> celsius {celsius}
    stop {device}, close {device}      -> done {}
    any of them                        -> failed {kind, message, next_step}

`ask` is a `RunRequest`, `state` a `DeviceState`, `outcome` a document of UTF-8. `inputs` is as the wire of a device has
it. Data alone goes this way, and each side takes it apart strictly: nothing of it is a program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from harness.core import safe_json
from harness.core.arrays import Array
from harness.core.errors import DeviceError, HarnessError, StorageError, UsageError
from harness.core.job import (
    Completed,
    Crashed,
    Failure,
    Job,
    Lost,
    Options,
    Outcome,
    OutputPort,
    Rejected,
    Residency,
    Sample,
    TimedOut,
)
from harness.core.typed_json import read_as
from harness.devices.link import DTYPES, LinkError

MOST_OUTCOME = 256 << 20
"""Bytes of the document that ends a run: a log and a million samples have room in it."""
PIECE_BYTES = 1 << 20
"""What goes over the farm at once."""
TROUBLE = {"cpu": 41, "gpu": 42, "npu": 43}
"""How the loan's process ends where the last that it saw was device trouble, by the accelerator."""
Facts = TypeVar("Facts")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{32}")
_ERRORS: dict[str, type[HarnessError]] = {
    kind.__name__: kind for kind in (DeviceError, UsageError, StorageError, HarnessError)
}
_FAILURES: dict[str, type[Failure]] = {
    "rejected": Rejected,
    "crashed": Crashed,
    "timed out": TimedOut,
    "lost": Lost,
}


@dataclass(frozen=True)
class LoanSpec:
    """A loan: its id of 32 hexadecimal digits, and who has it, for people to see."""

    id: str
    borrower: str


@dataclass(frozen=True)
class Port:
    """An output that is wanted, as `OutputPort`."""

    name: str
    position: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class RunRequest:
    """A job without its model and inputs, as `Job`; `sha256` is the model's. `timeout` in seconds."""

    sha256: str
    options: Options
    outputs: tuple[Port, ...]
    warmup: int
    iterations: int
    timeout: float
    final: bool


@dataclass(frozen=True)
class PhoneChoices:
    """What a phone is told, as `PhoneOptions` has it, but for files of the program's own machine."""

    cool_down: float = 0.0
    fixed_performance: bool = False
    return_seconds: float | None = None


@dataclass(frozen=True)
class DeviceState:
    """What a device counts and knows of itself after a request."""

    serial: str = ""
    user: int = 0
    compiles: int = 0
    runs: int = 0
    fixed_performance: bool | None = None


@dataclass(frozen=True)
class Flags:
    """The properties of a kind of device, as `Device` has them; `no_latency` is a clause and what to do, or empty."""

    times_each: bool
    asks_again: bool
    cpu_beside: bool
    no_latency: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    """How long a job took by the clock of the machine that its device is at, in nanoseconds, and what the surroundings
    were there, as `latency.record.Conditions`."""

    wall_ns: int
    clock_mhz: float | None = None
    throttled: int | None = None
    waited: float | None = None
    foreign: float | None = None
    stolen: float | None = None


@dataclass(frozen=True)
class _Done:
    """A run that completed, but for its outputs and its log, as `Completed`."""

    residency: Residency
    samples: tuple[Sample, ...]
    compile_ns: int
    compiled: bool
    runtime: str
    adapter: str
    boot_id: str
    thermal: str


def read_loan(document: str) -> LoanSpec:
    """A `LoanSpec` from its JSON document. Raises UsageError."""
    try:
        found = read_as(LoanSpec, safe_json.loads(document))
        if not _ID.fullmatch(found.id) or len(found.borrower) > 200:
            raise ValueError(f"{found.id[:60]!r} is no id")
    except ValueError as error:
        raise UsageError(f"What came over the farm is no loan ({error}).", "Use one release on all hosts.") from None
    return found


def request_of(job: Job) -> dict[str, Any]:
    """The field `ask` of a job."""
    ports = tuple(Port(port.name, port.position, port.dtype.name, port.shape) for port in job.outputs)
    asked = RunRequest(job.sha256, job.options, ports, job.warmup, job.iterations, job.timeout, job.final)
    return asdict(asked)


def read_request(ask: Any) -> RunRequest:
    """The other way. Raises LinkError."""
    found = _read(RunRequest, ask)
    sane = 0 <= found.warmup < 1 << 20 and 0 <= found.iterations < 1 << 20 and 0 < found.timeout < 1e9
    if not sane or not _DIGEST.fullmatch(found.sha256) or not {port.dtype for port in found.outputs} <= set(DTYPES):
        raise LinkError("a job came with a digest, a number or a type that none has")
    return found


def job_of(asked: RunRequest, model: bytes, inputs: dict[str, Array]) -> Job:
    """The job, once its model and inputs are there."""
    ports = tuple(OutputPort(port.name, port.position, DTYPES[port.dtype], port.shape) for port in asked.outputs)
    return Job(
        model, asked.sha256, inputs, ports, asked.options, asked.warmup, asked.iterations, asked.timeout, asked.final
    )


def outcome_document(outcome: Outcome, round: Round) -> Array:
    """The payload `outcome`; outputs went before it."""
    if isinstance(outcome, Completed):
        kind, log = "completed", outcome.log
        facts = asdict(
            _Done(
                outcome.residency,
                outcome.samples,
                outcome.compile_ns,
                outcome.compiled,
                outcome.runtime,
                outcome.adapter,
                outcome.boot_id,
                outcome.thermal,
            )
        )
    else:
        kind, log = next(word for word, made in _FAILURES.items() if isinstance(outcome, made)), outcome.log
        facts = {name: value for name, value in asdict(outcome).items() if name != "log"}
    document = {"outcome": kind, "facts": facts, "log": log, "round": asdict(round)}
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


def read_outcome(payload: Array, outputs: dict[str, Array]) -> tuple[Outcome, Round]:
    """The other way, with the outputs that came. Raises LinkError."""
    try:
        document = safe_json.loads(payload.tobytes())
        kind, log, facts = document["outcome"], str(document["log"]), dict(document["facts"])
        round = read_as(Round, document["round"])
        if kind == "completed":
            done = read_as(_Done, facts)
            return Completed(outputs=outputs, log=log, **vars(done)), round
        return read_as(_FAILURES[kind], facts | {"log": log}), round
    except (ValueError, KeyError, TypeError) as error:
        raise LinkError(f"a run ended with a document that is none ({error})") from None


def error_fields(error: HarnessError) -> dict[str, str]:
    """The fields of `failed`."""
    kind = next(name for name, made in _ERRORS.items() if isinstance(error, made))
    return {"kind": kind, "message": error.message[:4000], "next_step": error.next_step[:1000]}


def error_of(fields: Mapping[str, Any]) -> HarnessError:
    """The other way."""
    made = _ERRORS.get(str(fields.get("kind")), DeviceError)
    return made(str(fields.get("message")), str(fields.get("next_step", "")))


def read_state(fields: Mapping[str, Any]) -> DeviceState:
    """The field `state`. Raises LinkError."""
    return _read(DeviceState, fields.get("state"))


def read_flags(fields: Mapping[str, Any]) -> Flags:
    """The field `flags`. Raises LinkError."""
    flags = _read(Flags, fields.get("flags"))
    if len(flags.no_latency) not in (0, 2):
        raise LinkError("a device gives no reason why its times say nothing")
    return flags


def _read(kind: type[Facts], document: Any) -> Facts:
    try:
        return read_as(kind, document)
    except ValueError as error:
        raise LinkError(str(error)) from None
