"""The process that runs jobs on a phone by LiteRT's `run_model`: it speaks the wire as the app does, and does each job
by adb.

Each job is a process on the phone of its own, which compiles the model anew. How the tool or the phone failed is left
in a file for the launcher, and this process ends: its caller takes the end of the connection for what it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import select
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import DeviceError, UsageError
from harness.core.signals import signal_name
from harness.devices.android.adb import Adb, AdbError, Server
from harness.devices.android.apk import PUSH_SECONDS, SLOWEST_LINE
from harness.devices.android.logcat import tombstone_of
from harness.devices.android.no_app.folder import CLEAR_SECONDS, NO_SPACE
from harness.devices.android.no_app.model import PrintedOutput, ToolModel, Unprintable, tool_model
from harness.devices.android.no_app.words import (
    INPUT_TYPES,
    LEAST_SAMPLE,
    MARK,
    TOOL,
    Printed,
    flags,
    model_own,
    note,
    script,
)
from harness.devices.link import PROTOCOL, Link, LinkError, Message
from harness.devices.residency import refused_ops, residency_of
from harness.devices.worker import Refusal, Request, Worker, die_with_parent
from harness.graph.model import Model

RUN_SECONDS = 86_400.0
"""Longest run of the tool; a job's own time is kept by who asked for it, and is shorter."""
_CHUNK = 1 << 18
# Files whose sums one command of the phone's shell is asked for.
_ASKED = 256
_SIGNALLED = 128
# Exit codes of a shell that cannot start a program.
_NOT_STARTED = (126, 127)


@dataclass(frozen=True)
class Where:
    """What the launcher tells: the phone, the tools and the job's folder there, this process's own files."""

    host: str
    port: int
    serial: str
    tools: str
    job: str
    end: str
    facts: dict[str, str]

    @property
    def adb(self) -> Adb:
        """adb on that phone."""
        return Adb(Server(self.host, self.port), self.serial)


@dataclass(frozen=True)
class Ended:
    """How it ended: a sentence; `crashed` the tool, not the connection; the signal's name when it was one."""

    reason: str
    crashed: bool = False
    signal: str = ""


class ToolWorker(Worker):
    """A worker whose models run on a phone."""

    def __init__(self, link: Link, store: Path, where: Where) -> None:
        super().__init__(link, store)
        self._where = where
        self._adb = where.adb
        self._pushed: dict[str, str] = {}
        self._held: tuple[str, ToolModel] | None = None

    def _hello(self, message: Message) -> None:
        if message.fields.get("protocol") != PROTOCOL:
            raise Refusal(f"protocol {message.fields.get('protocol')!r} is asked for, this worker speaks {PROTOCOL}")
        self._link.send("hello", message.id, protocol=PROTOCOL, facts=self._where.facts)

    def _run(self, message: Message) -> None:
        request = Request.of(message)
        digest = str(message.fields["sha256"])
        try:
            model = self._model(message, digest)
            files = _files(model, message.payloads)
            self._push(model, files)
            self._answer(message, request, model, list(files.values()))
        except AdbError as error:
            if NO_SPACE not in error.output:
                self._end(Ended(error.message.removesuffix(".")))
            self._pushed = {}
            with suppress(AdbError):
                self._adb.shell("rm", "-rf", self._where.job, seconds=CLEAR_SECONDS)
            raise Refusal("the model cannot be stored (No space left on device)") from None

    def _model(self, message: Message, digest: str) -> ToolModel:
        if self._held is None or self._held[0] != digest:
            path = self._path(message)
            if not path.exists():
                raise Refusal(f"model {path.stem[:12]} was not sent")
            try:
                self._held = digest, tool_model(Model.from_bytes(path.read_bytes()))
            except (Unprintable, UsageError) as error:
                raise Refusal(str(error)) from None
        return self._held[1]

    def _push(self, model: ToolModel, inputs: dict[str, Array]) -> None:
        """The model and the inputs, without what is there from the job before."""
        job = self._where.job
        wanted: dict[str, bytes | memoryview] = {"model.tflite": model.data}
        wanted |= {f"in/{name}.raw": array.reshape(-1).view(np.uint8).data for name, array in inputs.items()}
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in wanted.items()}
        there = self._there(digests)
        before, self._pushed = self._pushed, {}
        if not there or set(before) != set(digests):  # the tool reads the whole folder of inputs
            self._adb.shell("rm", "-rf", job, seconds=CLEAR_SECONDS)
            self._adb.shell("mkdir", "-p", job)
            there = set()
        local = self._store / "push"
        shutil.rmtree(local, ignore_errors=True)
        lacking = {name: data for name, data in wanted.items() if name not in there}
        try:
            for name, data in lacking.items():
                path = local / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        except OSError as error:
            raise Refusal(f"the model cannot be stored ({error.strerror})") from None
        if lacking:
            what = sorted(str(path) for path in local.iterdir())
            size = sum(memoryview(data).nbytes for data in lacking.values())
            self._adb.call("push", *what, job, seconds=PUSH_SECONDS + size / SLOWEST_LINE)
        self._pushed = digests
        shutil.rmtree(local, ignore_errors=True)

    def _there(self, digests: dict[str, str]) -> set[str]:
        """Which files of the job before are what this one wants, by the phone's own sum of them: another device of this
        process may have cleared them away."""
        same = [name for name, digest in digests.items() if self._pushed.get(name) == digest][:_ASKED]
        if not same:
            return set()
        paths = {f"{self._where.job}/{name}": name for name in same}
        said = self._adb.shell("sha256sum", *paths, seconds=PUSH_SECONDS, check=False)
        found = dict(line.split("  ", 1)[::-1] for line in said.splitlines() if "  " in line)
        return {name for path, name in paths.items() if found.get(path) == digests[name]}

    def _answer(self, message: Message, request: Request, model: ToolModel, given: list[Array]) -> None:
        runs = max(1, request.warmup + request.iterations)
        wanted = bool(request.outputs)
        printed = max([LEAST_SAMPLE, *(output.count for output in model.outputs)]) if wanted else 0
        options = {"precision": "default"} | request.options
        job = self._where.job
        words = flags(
            f"{job}/model.tflite",
            options,
            inputs=f"{job}/in" if message.payloads else "",
            iterations=runs,
            printed=printed,
        )
        _log(f"{note(model.added, model.constants)}\n")
        _log(f"INFO: [harness] {TOOL} {' '.join(words)}\n")
        said = self._call(words, model, printed, given if wanted else [])
        _check_place(said.log, options, model)
        for name, position in request.outputs:
            if position >= len(model.outputs):
                raise Refusal(f"the model has no output {position}")
            values = _decoded(model.outputs[position], said.printed, position)
            if values is None:
                self._end(Ended(f"{TOOL} printed output '{name}' damaged: {said.printed.damaged or 'no such values'}"))
            self._link.send("output", message.id, payloads=[(name, values)])
        took = said.printed.run_ns(runs)
        samples = [[0, took, 0]] * request.iterations
        self._link.send(
            "completed",
            message.id,
            samples=samples,
            compile_ns=said.printed.compile_ns,
            compiled=True,
            full=options["accelerator"] == "gpu" and not model_own(refused_ops(said.log), model.constants),
        )

    def _call(self, words: list[str], model: ToolModel, sample: int, given: list[Array]) -> _Said:
        """Run the tool to its end. Raises Refusal for what it refuses itself; does not return for what is worse."""
        token = f"harness-{secrets.token_hex(8)}"
        counts = [output.count for output in model.outputs] if sample else []
        taken = sum(min(tensor.elements, 3 * sample) for _, tensor, _ in model.inputs)
        printed = Printed(counts, taken, token, given)
        log = bytearray()
        process = self._adb.started(script(self._where.tools, words, token))
        try:
            assert process.stdout is not None
            for chunk in _chunks(process.stdout.fileno(), time.monotonic() + RUN_SECONDS):
                lines = printed.feed(chunk)
                log += lines
                _log(lines)
        except TimeoutError:
            self._end(Ended(f"{TOOL} did not end within {RUN_SECONDS:g} s"))
        except OverflowError:
            self._end(Ended(f"{TOOL} said more than the values of its outputs can take"))
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        text = log.decode("utf-8", "replace")
        if printed.code is None:
            self._end(Ended(f"the connection broke while {TOOL} ran"))
        if printed.code in _NOT_STARTED:
            self._end(Ended(f"{TOOL} cannot be started: {(text.strip().splitlines() or ['no word of why'])[-1][:200]}"))
        if printed.code > _SIGNALLED:
            name = signal_name(printed.code - _SIGNALLED)
            if printed.pid is not None:
                _log(tombstone_of(self._adb, printed.pid))
            self._end(Ended(f"{TOOL} was ended by {name}", True, name))
        if printed.code == 1:
            raise Refusal(_own_words(text))
        if printed.code:
            self._end(Ended(f"{TOOL} ended with exit code {printed.code}", True))
        if printed.unwritten or printed.unprinted is not None:
            what = printed.unwritten or f"no value of input {printed.unprinted} was printed"
            self._end(Ended(f"{TOOL} did not run on the inputs that it was given: {what}"))
        return _Said(printed, text)

    def _end(self, how: Ended) -> NoReturn:
        Path(self._where.end).write_text(json.dumps(asdict(how)), encoding="utf-8")
        sys.stderr.flush()
        os._exit(0)


@dataclass(frozen=True)
class _Said:
    printed: Printed
    log: str


def _files(model: ToolModel, payloads: dict[str, Array]) -> dict[str, Array]:
    """The inputs by the tool's names, as the model takes them."""
    if not payloads:
        return {}
    if len(payloads) != len(model.inputs):
        raise Refusal(f"{len(payloads)} inputs came for a model that takes {len(model.inputs)}")
    named = {name for name, _, _ in model.inputs} == set(payloads)
    files = {}
    for (name, tensor, file), given in zip(model.inputs, payloads.values(), strict=True):
        array = payloads[name] if named else given
        if array.dtype != tensor.dtype or (tensor.shape is not None and array.shape != tensor.shape):
            shape = list(tensor.shape or ())
            raise Refusal(f"input '{name}' came as {array.dtype} {list(array.shape)}, not {tensor.dtype} {shape}")
        if array.dtype.name not in INPUT_TYPES:
            raise Refusal(f"LiteRT's {TOOL} takes no input of type {array.dtype}, which '{name}' is")
        files[file] = np.ascontiguousarray(array)
    return files


def _check_place(log: str, options: dict[str, Any], model: ToolModel) -> None:
    """That the ops which pass on bits ran on the CPU, and, without a fallback, no other one. Raises Refusal."""
    if options["accelerator"] != "gpu":
        return
    refused = refused_ops(log)
    own = model_own(refused, model.constants)
    found = residency_of(log, True, shared=True)
    if found.delegated == 0 or (found.delegated is None and not found.full):
        raise Refusal("the runtime's log shows no sign that the GPU took any of the model")
    left = None if found.delegated is None or found.total is None else found.total - found.delegated
    told = any(MARK in line for line in refused)
    if model.added and not told and (left is None or left < model.added):
        raise Refusal("the GPU took the ops that pass on the bits of outputs, which then are not theirs")
    if options.get("fallback") != "cpu" and (own or (left is not None and left > model.added + model.constants)):
        raise Refusal("the GPU delegate took only a part of the model")


def _decoded(output: PrintedOutput, printed: Printed, position: int) -> Array | None:
    if printed.damaged or position >= len(printed.values):
        return None
    try:
        return output.decoded(printed.values[position])
    except ValueError:
        return None


def _own_words(log: str) -> str:
    """The tool's last error, `E0000 … run_model.cc:500] words`; else its last line."""
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line.partition("] ")[2] for line in lines if line[:1] == "E" and "] " in line]
    return ((errors or lines or [f"{TOOL} failed without a word"])[-1])[:500].rstrip(".")


def _chunks(descriptor: int, deadline: float) -> Iterator[bytes]:
    """What comes, until it ends. Raises TimeoutError."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(1000 * left):
            raise TimeoutError
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return
        yield chunk


def _log(text: str | bytes) -> None:
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    while data:
        data = data[os.write(2, data) :]


def main() -> None:
    """Serve the descriptor named on the command line."""
    die_with_parent()
    where = Where(**json.loads(sys.argv[3]))
    with suppress(LinkError, DeviceError):
        ToolWorker(Link(socket.socket(fileno=int(sys.argv[1]))), Path(sys.argv[2]), where).serve()


if __name__ == "__main__":
    main()
