"""A device: a launcher that starts the process which owns the runtime, and the client's side of the wire.

Both kinds of device share everything here. What differs (how to start, where the log is, why it died) is behind
:class:`Launcher`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import DeviceError
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
from harness.devices.kept import KeptInputs, sent_with_run
from harness.devices.link import PROTOCOL, Link, LinkError, LinkExcess, LinkTimeout, Message, RunEnd
from harness.devices.refusal import explain_refusal, last_words
from harness.devices.residency import adapter_of, phone_gpu, residency_of

Sink = Callable[[str, Array], None]

LOG_LIMIT = 1 << 20
START_SECONDS = 60.0


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself. `gpu` is filled once a job has run on it."""

    name: str
    kind: str
    runtime: str
    gpu: str
    system: str


class Launcher(Protocol):
    """Starts and ends the process on the other side of the link."""

    def start(self) -> Link:
        """Start it and give the connected link. Raises DeviceError when that cannot be."""

    def death(self) -> tuple[str, str] | None:
        """(sentence, signal name) when the process ended by itself, waiting a moment for its end; else None."""

    def lost(self, reason: str) -> str:
        """`reason` with what can be said of the device when the connection broke and the process did not end."""

    def kill(self) -> None:
        """End it at once, whatever it does."""

    def log(self, mark: int) -> str:
        """What it logged since `mark`, at most `LOG_LIMIT` characters of the end."""

    def log_mark(self) -> int:
        """The present end of the log."""


class Device:
    """Runs jobs one after another; starts the process when needed and again after it died."""

    own_process = False
    """Whether each opened device has a process of its own on this machine, in which its model stays compiled."""
    times_each = True
    """Whether each of a job's iterations is timed by itself; else a job has one at most."""
    no_latency: tuple[str, str] | None = None
    """Why its times say nothing of latency, as a clause, and what to do instead; None where they do."""
    asks_again = False
    """Whether it asks by itself again where the runtime gave up waiting for an output."""
    cpu_beside = False
    """Whether the runtime is always allowed the CPU beside the GPU, so that its log tells of both."""
    elsewhere = False
    """Whether it computes on another machine: this one has cores and memory for the host's part meanwhile."""
    keeps_inputs = True
    """Whether large inputs are sent once and named from then on: over a cable bytes count. A host's worker has them
    sooner than their digest is known, so it is spared that unless the same ones come again and again."""
    narrow = False
    """Whether float32 outputs may travel as float16 where nothing is lost by that: over a cable bytes count."""

    def __init__(self, name: str, kind: str, launcher: Launcher) -> None:
        self.name = name
        self.kind = kind
        self.compiles = 0
        self.runs = 0
        self._launcher = launcher
        self._link: Link | None = None
        self._ident = 0
        self._hello: dict[str, Any] = {}
        self._held: tuple[str, Options] | None = None
        self._keeping = KeptInputs()
        self._adapter = ""
        self._residency = Residency(False)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and whatever it kept."""
        self.stop()

    def stop(self) -> None:
        """End the process so that its memory is free; the next job starts it again."""
        link, self._link = self._link, None  # another thread may have it, and let it go meanwhile
        if link is not None:
            with suppress(LinkError):
                link.send("bye", 0, time.monotonic() + 1)
            link.close()
        self._launcher.kill()

    def start_anew(self) -> None:
        """From now on be a process of its own from its beginning, and no copy of another: for times, which differ
        between processes by how their memory is laid out."""

    @property
    def pid(self) -> int | None:
        """The process on this machine that runs models, if it is one and it is there."""
        return None

    @property
    def beside(self) -> tuple[int, ...]:
        """Further processes on this machine that work for that one."""
        return ()

    @property
    def sent_bytes(self) -> int:
        """Bytes sent to the process that runs now."""
        return 0 if self._link is None else self._link.sent_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes received from it."""
        return 0 if self._link is None else self._link.received_bytes

    @property
    def serial(self) -> str:
        """A phone's own serial number, once it is known; empty for what has none."""
        return ""

    @property
    def user(self) -> int:
        """The number of the user on a phone for whom its jobs run; 0, the first, for what has none."""
        return 0

    @property
    def fixed_performance(self) -> bool | None:
        """Whether the clocks are pinned by a mode of the device's own; None where nobody asked for that."""
        return None

    @property
    def host(self) -> str:
        """The host of a farm that it is at; empty for a device of this machine's own."""
        return ""

    def clocked_there(self) -> Mapping[str, float | None] | None:
        """How long the last job took by the clock of the machine that the device is at, `wall_ns`, and what that
        machine's surroundings were, as `latency.record.Conditions`; None where that machine is this one."""
        return None

    def celsius(self) -> float | None:
        """The device's temperature, in degrees Celsius; None where it does not tell."""
        return None

    def described(self, runtime: str = "", gpu: str = "") -> dict[str, str]:
        """The device as documents have it, with the runtime and the GPU where they are known."""
        said = {"name": self.name, "kind": self.kind, "runtime": runtime, "gpu": gpu}
        more = {"serial": self.serial, "user": str(self.user or ""), "host": self.host}
        return said | {name: value for name, value in more.items() if value}

    def facts(self) -> DeviceFacts:
        """Start the process if needed and tell what it is. Raises DeviceError when it does not start."""
        self._connected()
        hello = self._hello
        return DeviceFacts(
            self.name, self.kind, str(hello.get("runtime", "")), self._adapter, str(hello.get("system", ""))
        )

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        """Run a job. With `sink`, each output goes there as it arrives and `Completed.outputs` stays empty.

        Raises:
            DeviceError: the device cannot be reached at all. Everything that happens later is an outcome.
        """
        mark = self._launcher.log_mark()
        link = self._connected()
        deadline = time.monotonic() + job.timeout
        outputs: dict[str, Array] = {}
        take = sink or outputs.__setitem__
        try:
            # What completed the last job is still compiled there: it need not be offered again.
            held, self._held = self._held, None
            known = held == (job.sha256, job.options)
            # The inputs before the model: where the device has no room for both, it is the model that stays.
            kept = self._keeping.keep(job.inputs, lambda *input: self._offer(link, deadline, "input", *input) is None)
            model = np.frombuffer(job.model, np.uint8)
            refused = None if known else self._offer(link, deadline, "model", job.sha256, model)
            done = self._exchange(link, job, kept, deadline, take) if refused is None else refused
        except LinkTimeout:
            self._drop()
            return TimedOut(job.timeout, self._launcher.log(mark))
        except LinkError as error:
            return self._post_mortem(error, mark)
        except BaseException:
            self._drop()  # the sink's own fault, or Ctrl-C: what is still on its way belongs to no later job
            raise
        log = self._launcher.log(mark)
        if isinstance(done, Message):
            reason, ops = explain_refusal(str(done.fields.get("reason", "")), log)
            return Rejected(reason, ops, log)
        if not job.final:
            self._held = job.sha256, job.options
        self.runs += job.warmup + job.iterations
        self.compiles += done.compiled
        self._adapter = adapter_of(log) or phone_gpu(self._hello, log) or self._adapter
        if done.compiled or job.options.fallback == "none":
            self._residency = residency_of(log, done.full, shared=self.cpu_beside or job.options.fallback == "cpu")
        return Completed(
            outputs=outputs,
            residency=self._residency,  # of the compile, where this run had none
            samples=tuple(Sample(*row) for row in done.samples),
            compile_ns=done.compile_ns,
            compiled=done.compiled,
            runtime=str(self._hello.get("runtime", "")),
            adapter=self._adapter,
            log=log,
            boot_id=str(self._hello.get("boot_id", "")),
            thermal=done.thermal,
        )

    def _connected(self) -> Link:
        if self._link is not None and self._link.ended():
            self._drop()  # it ended while nothing was asked of it: the job that comes now has no part in that
        if self._link is None:
            link = self._launcher.start()
            try:
                reply = self._ask(link, time.monotonic() + START_SECONDS, "hello", protocol=PROTOCOL)
            except LinkError as error:
                why = self._launcher.death()
                self._launcher.kill()
                link.close()
                tail = self._launcher.log(0).strip().splitlines()[-1:]
                raise DeviceError(
                    f"Device '{self.name}' did not start: {why[0] if why else error}. {' '.join(tail)}".strip(),
                    "Run `harness doctor`.",
                ) from None
            facts = reply.fields.get("facts")
            if reply.type != "hello" or reply.fields.get("protocol") != PROTOCOL or not isinstance(facts, dict):
                self._launcher.kill()
                link.close()
                raise DeviceError(
                    f"Device '{self.name}' speaks another protocol: {reply.fields.get('reason', reply.fields)}.",
                    "Install the same release of the harness on both sides.",
                )
            self._hello = facts
            self._held = None
            self._keeping = KeptInputs(reply if self.keeps_inputs else None)
            self._link = link
        return self._link

    def _ask(self, link: Link, deadline: float, kind: str, **fields: Any) -> Message:
        self._ident += 1
        payloads, answers = fields.pop("payloads", ()), fields.pop("answers", ())
        link.send(kind, self._ident, deadline, payloads, **fields)
        return self._answer(link, deadline, answers)

    def _answer(self, link: Link, deadline: float, expected: Sequence[OutputPort]) -> Message:
        """The next message, with at most the bytes of an output that is expected (one, or none)."""
        try:
            reply = link.receive(deadline, sum(port.nbytes for port in expected))
        except LinkExcess as error:
            raise (_Unlike(f"output '{expected[0].name}': {error}", expected[0].name) if expected else error) from None
        if reply.id != self._ident:
            raise LinkError(f"answer {reply.id} came to request {self._ident}")
        return reply

    def _offer(self, link: Link, deadline: float, what: str, sha256: str, data: Array) -> Message | None:
        """Have bytes on the device by their digest, sent where they are not there; or the device's refusal."""
        reply = self._ask(link, deadline, "has", sha256=sha256)
        if reply.type == "has" and not reply.fields.get("present"):
            reply = self._ask(link, deadline, "put", sha256=sha256, payloads=[(what, data)])
        if reply.type not in ("has", "put", "failed"):
            raise LinkError(f"'{reply.type}' came where the {what} was offered")
        return reply if reply.type == "failed" else None

    def _exchange(self, link: Link, job: Job, kept: dict[str, str], deadline: float, take: Sink) -> RunEnd | Message:
        wanted = job.outputs
        fields, payloads = sent_with_run(job.inputs, kept)
        reply = self._ask(
            link,
            deadline,
            "run",
            sha256=job.sha256,
            options=_options(job.options),
            outputs=[port.name for port in wanted],
            positions=[port.position for port in wanted],
            warmup=job.warmup,
            iterations=job.iterations,
            final=job.final,
            **({"narrow": True} if self.narrow else {}),
            **fields,
            payloads=payloads,
            answers=wanted[:1],
        )
        if kept and self._keeping.missed(reply):
            return self._exchange(link, job, {}, deadline, take)
        expected = list(wanted)
        while reply.type == "output":
            if not expected:
                raise LinkError("more outputs came than were asked for")
            port = expected.pop(0)
            values = reply.payloads.get(port.name)
            if self.narrow and values is not None and values.dtype == np.float16 and port.dtype == np.float32:
                values = values.astype(np.float32)
            if values is None or values.shape != port.shape or values.dtype != port.dtype:
                came = f"output '{port.name}' came as {_seen(values)}, not {port.dtype} {list(port.shape)}"
                raise LinkError(came) if values is None else _Unlike(came, port.name)
            take(port.name, values)
            del values, reply
            reply = self._answer(link, deadline, expected[:1])
        if reply.type == "failed":
            return reply
        if reply.type != "completed" or expected:
            raise LinkError(f"'{reply.type}' came with {len(expected)} outputs still missing")
        return RunEnd.of(reply, job.iterations)

    def _post_mortem(self, error: LinkError, mark: int) -> Failure:
        death = self._launcher.death()
        reason = "" if death else self._launcher.lost(str(error))
        self._drop()
        log = self._launcher.log(mark)
        if death is None:
            return Lost(reason, log, error.output if isinstance(error, _Unlike) else "")
        said = last_words(log)
        return Crashed(f"{death[0]} ({said})" if said else death[0], death[1], log)

    def _drop(self) -> None:
        self._launcher.kill()
        link, self._link = self._link, None
        if link is not None:
            link.close()


class _Unlike(LinkError):
    """An output came in another size, shape or type than the model states."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


def _options(options: Options) -> dict[str, Any]:
    chosen = {key: value for key, value in asdict(options).items() if value not in ("default", "none")}
    return {"accelerator": options.accelerator, "precision": options.precision, "threads": options.threads} | chosen


def _seen(values: Array | None) -> str:
    return "nothing" if values is None else f"{values.dtype} {list(values.shape)}"
