"""The process that owns the runtime: `python -m harness.devices.worker FD STORE` serves the wire on descriptor FD.

It imports the wire and the runtime and nothing else of the harness, so that any ai-edge-litert release can host it.
The delegate logs from C++ to descriptor 2; whoever launches the worker points that at a file and reads it there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.devices.link import DTYPES, PROTOCOL, KeptPayloads, Link, LinkError, Message

PRECISIONS = ("default", "fp16", "fp32", "fp16-fp32acc")
GPU_CHOICES = ("backend", "storage", "priority")

# How a refusal begins when an output could not be read: another time it may.
NO_READING = "the runtime gave up waiting for an output"


class Refusal(Exception):
    """The request cannot be carried out; the sentence goes back to the host."""


class Compiled:
    """A model behind LiteRT's CompiledModel, on one accelerator; the CPU beside it only where that is asked for."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        from ai_edge_litert import compiled_model as cm

        accelerator = options["accelerator"]
        precision = options["precision"]
        if accelerator not in ("cpu", "gpu"):
            raise Refusal(f"this device has no accelerator '{accelerator}'")
        if accelerator == "gpu" and precision == "fp16-fp32acc":
            raise Refusal("this runtime's Python API has no fp16 with fp32 accumulation")
        if accelerator == "cpu":
            _only_single_precision(precision)
        try:
            self._model = _compiled(cm, path, options)
        except RuntimeError as error:
            raise Refusal(_plain(error)) from None
        # Releases that cannot be asked refuse a model that the GPU does not take whole.
        asked = getattr(self._model, "is_fully_accelerated", None)
        self.full = accelerator == "gpu" and (asked is None or asked())
        if accelerator == "gpu" and not self.full and options.get("fallback") != "cpu":
            raise Refusal("the GPU delegate took only a part of the model")
        signature = self._model.get_signature_by_index(0)
        self._names: list[str] = signature["inputs"]
        self._takes: dict[str, Any] = self._model.get_input_tensor_details(signature["key"])
        known = getattr(self._model, "get_output_tensor_details", None)  # from 2.1.5
        by_name = known(signature["key"]) if known else _output_details(path, signature["key"])
        self._details = [by_name[name] for name in signature["outputs"]]
        self._outputs: list[str] = signature["outputs"]
        self._ins = self._model.create_input_buffers(0)
        self._outs = self._model.create_output_buffers(0)

    def write(self, inputs: dict[str, Array]) -> None:
        """Copy the inputs to their buffers, by name, or by position for a model without names in common."""
        if len(inputs) != len(self._ins):
            raise Refusal(f"{len(inputs)} inputs came for a model that takes {len(self._ins)}")
        if set(self._names) != set(inputs) and not set(self._names).isdisjoint(inputs):
            raise Refusal(f"inputs {', '.join(inputs)} came for a model that takes {', '.join(self._names)}")
        named = [inputs[n] for n in self._names] if set(self._names) == set(inputs) else list(inputs.values())
        for name, buffer, array in zip(self._names, self._ins, named, strict=True):
            # A shorter array would leave the rest of the buffer as it was.
            shape, dtype = list(self._takes[name]["shape"]), str(self._takes[name]["dtype"])
            if (list(array.shape) != shape and min(shape, default=0) >= 0) or (dtype != array.dtype.name in DTYPES):
                raise Refusal(f"input '{name}' came as {array.dtype} {list(array.shape)}, not {dtype} {shape}")
            # As bytes: the binding lacks 64-bit and half types, up to 2.1.4 uint8 too, and copies bytes as they are.
            buffer.write(np.ascontiguousarray(array).reshape(-1).view(np.int8))

    def run(self) -> None:
        """Enqueue one inference; reading an output waits for it."""
        self._model.run_by_index(0, self._ins, self._outs)

    def read(self, index: int) -> Array:
        """The values of one output."""
        if index >= len(self._details):
            raise Refusal(f"the model has no output {index}")
        detail = self._details[index]
        shape, dtype = tuple(detail["shape"]), np.dtype(detail["dtype"])
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        try:
            raw: Array = np.asarray(self._outs[index].read(count, np.int8))
        except RuntimeError as error:
            # Up to 2.2.0 the runtime waits 20 s for the GPU, cold shaders included; the output is lost then.
            raise Refusal(f"{NO_READING} ({_plain(error)})") from None
        return np.asarray(raw.view(dtype)).reshape(shape)

    def release(self, index: int) -> None:
        """Free one output's buffers, once its values are sent and no further run will come."""
        self._outs[index].destroy()

    def position(self, name: str) -> int:
        """Position of a named output in the runtime's order."""
        return self._outputs.index(name) if name in self._outputs else -1


def _compiled(cm: Any, path: str, options: dict[str, Any]) -> Any:
    """GPU without CPU, unless asked for: the runtime itself refuses a model that it cannot delegate whole."""
    accelerators, on_gpu = cm.HardwareAccelerator, options["accelerator"] == "gpu"
    hardware = accelerators.GPU if on_gpu else accelerators.CPU
    if options.get("fallback") == "cpu":
        hardware |= accelerators.CPU
    if not hasattr(cm, "Options"):  # up to 2.1.4
        if on_gpu and options["precision"] == "fp32":
            raise Refusal("this release's Python API has no options for the GPU")
        return cm.CompiledModel.from_file(path, hardware)
    if on_gpu:
        chosen = cm.Options(hardware, gpu_options=cm.GpuOptions(enforce_f32=options["precision"] == "fp32"))
    else:
        chosen = cm.Options(hardware, cpu_options=cm.CpuOptions(num_threads=options["threads"]))
    return cm.CompiledModel.from_file(path, options=chosen)


def _output_details(path: str, key: str) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    details: dict[str, Any] = Interpreter(path).get_signature_runner(key).get_output_details()
    return details


class Reference:
    """The Interpreter with its plain kernels and no delegate."""

    full = False

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        _only_single_precision(options["precision"])
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        threads = options["threads"] or os.cpu_count()
        try:
            self._model = Interpreter(path, experimental_op_resolver_type=plain, num_threads=threads)
            self._model.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise Refusal(_plain(error)) from None
        signatures = self._model.get_signature_list()
        if signatures:
            # A live runner would keep `invoke` from running; its details are all that is wanted of it.
            runner = self._model.get_signature_runner(next(iter(signatures)))
            self._inputs = {name: int(d["index"]) for name, d in runner.get_input_details().items()}
            self._outputs = {name: int(d["index"]) for name, d in runner.get_output_details().items()}
            del runner
        else:
            self._inputs = {d["name"]: int(d["index"]) for d in self._model.get_input_details()}
            self._outputs = {d["name"]: int(d["index"]) for d in self._model.get_output_details()}
        self._positions = list(self._outputs)

    def write(self, inputs: dict[str, Array]) -> None:
        """Copy the inputs."""
        lacking = set(self._inputs) - set(inputs)
        if lacking:
            raise Refusal(f"input '{', '.join(sorted(lacking))}' did not come")
        for name, array in inputs.items():
            if name not in self._inputs:
                raise Refusal(f"the model has no input '{name}'")
            self._model.set_tensor(self._inputs[name], array)

    def run(self) -> None:
        """One inference."""
        try:
            self._model.invoke()
        except RuntimeError as error:
            raise Refusal(_plain(error)) from None

    def read(self, index: int) -> Array:
        """The values of one output."""
        if index >= len(self._positions):
            raise Refusal(f"the model has no output {index}")
        return np.asarray(self._model.get_tensor(self._outputs[self._positions[index]]))

    def release(self, index: int) -> None:
        """Nothing to free: the interpreter owns one arena."""

    def position(self, name: str) -> int:
        """Position of a named output, or -1."""
        return self._positions.index(name) if name in self._outputs else -1


class Worker:
    """Answers requests until `bye` or the end of the stream; keeps the last compiled model."""

    def __init__(self, link: Link, store: Path) -> None:
        self._link = link
        self._store = store
        self._key: tuple[Any, ...] = ()
        self._kept = KeptPayloads()
        self._engine: Compiled | Reference | None = None
        self._answers: dict[str, Callable[[Message], None]] = {"hello": self._hello, "has": self._has}
        self._answers |= {"put": self._put, "run": self._run}

    def serve(self) -> None:
        """The session loop."""
        while True:
            try:
                message = self._link.receive()
            except LinkError:
                return
            if message.type == "bye":
                return
            answer = self._answers.get(message.type)
            try:
                if answer is None:
                    raise Refusal(f"unknown request '{message.type}'")
                answer(message)
            except LinkError:
                return
            except Refusal as refusal:
                self._link.send("failed", message.id, kind="rejected", reason=str(refusal))
            except (MemoryError, RuntimeError, ValueError) as error:
                # The runtime's bindings raise these for whatever they will not do.
                self._link.send("failed", message.id, kind="rejected", reason=_plain(error) or type(error).__name__)

    def _hello(self, message: Message) -> None:
        if message.fields.get("protocol") != PROTOCOL:
            raise Refusal(f"protocol {message.fields.get('protocol')!r} is asked for, this worker speaks {PROTOCOL}")
        # The daily builds of the runtime are another package.
        known = (d for name in ("", "-nightly") for d in importlib.metadata.distributions(name=f"ai-edge-litert{name}"))
        facts = {"runtime": next(known).version, "python": platform.python_version()}
        cpu = platform.processor() or platform.machine()
        facts |= {"system": platform.platform(), "cpu": cpu, "boot_id": _boot_id()}
        self._link.send("hello", message.id, protocol=PROTOCOL, facts=facts, abilities=["inputs-by-digest"])

    def _path(self, message: Message) -> Path:
        digest = message.fields.get("sha256")
        if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise Refusal(f"{digest!r} is not a sha256")
        return self._store / f"{digest}.tflite"

    def _has(self, message: Message) -> None:
        present = self._path(message).exists() or message.fields["sha256"] in self._kept
        self._link.send("has", message.id, present=present)

    def _put(self, message: Message) -> None:
        path = self._path(message)
        what = "input" if "input" in message.payloads else "model"
        data = message.payloads[what].tobytes() if what in message.payloads else b""
        if hashlib.sha256(data).hexdigest() != message.fields["sha256"]:
            raise Refusal(f"the {what}'s bytes do not have the announced sha256")
        if what == "input":
            self._kept.put(message.fields["sha256"], data)
            return self._link.send("put", message.id)
        partial = path.with_suffix(".part")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise Refusal(f"the model cannot be stored ({error.strerror})") from None
        self._link.send("put", message.id)

    def _run(self, message: Message) -> None:
        request = Request.of(message)
        if not self._kept.fill(message):
            return self._link.send("failed", message.id, kind="missing", reason="an input is not kept here")
        try:
            self._iterate(message, request)
        finally:
            if request.final:  # whatever became of it: its outputs may be gone
                self._engine, self._key = None, ()

    def _iterate(self, message: Message, request: Request) -> None:
        started = time.perf_counter_ns()
        compiled = self._compile(self._path(message), request)
        compile_ns = time.perf_counter_ns() - started if compiled else 0
        engine = self._engine
        assert engine is not None
        samples = []
        for i in range(runs := request.warmup + request.iterations):
            begin = time.perf_counter_ns()
            engine.write(message.payloads)
            written = time.perf_counter_ns()
            engine.run()
            ran = time.perf_counter_ns()
            read_ns = 0
            for name, position in request.outputs:
                index = position if (named := engine.position(name)) < 0 else named
                before = time.perf_counter_ns()
                values = engine.read(index)
                read_ns += time.perf_counter_ns() - before
                if i == runs - 1:
                    self._link.send("output", message.id, payloads=[(name, values)])
                    if request.final:
                        engine.release(index)
            if i >= request.warmup:
                samples.append([written - begin, ran - written, read_ns])
        told: dict[str, Any] = {"samples": samples, "compile_ns": compile_ns}
        told |= {"compiled": compiled, "full": engine.full}
        self._link.send("completed", message.id, **told)

    def _compile(self, path: Path, request: Request) -> bool:
        key = (path, *sorted(request.options.items()))
        if key == self._key:
            return False
        if not path.exists():
            raise Refusal(f"model {path.stem[:12]} was not sent")
        # The old model goes first: two compiled ones at once would double the peak.
        self._engine, self._key = None, ()
        kind = Reference if request.options["accelerator"] == "reference" else Compiled
        self._engine = kind(str(path), request.options)
        self._key = key
        return True


@dataclass(frozen=True)
class Request:
    """A `run` request whose fields have the right types and sane values."""

    options: dict[str, Any]
    outputs: list[tuple[str, int]]
    warmup: int
    iterations: int
    final: bool

    @classmethod
    def of(cls, message: Message) -> Request:
        """Check a message. Raises Refusal."""
        fields = message.fields
        options, names, positions = (fields.get(key) for key in ("options", "outputs", "positions"))
        if isinstance(options, dict) and (chosen := [key for key in GPU_CHOICES if key in options]):
            raise Refusal(f"this runtime's Python API has no choice of {', '.join(chosen)}")
        known = {"accelerator", "precision", "threads"}
        if not isinstance(options, dict) or set(options) - {"fallback"} != known:
            raise Refusal("the options lack accelerator, precision or threads, or hold more")
        if not isinstance(options["accelerator"], str) or options["precision"] not in PRECISIONS:
            raise Refusal(f"accelerator is a word, precision one of {', '.join(PRECISIONS)}")
        if not _is_count(options["threads"], 1024):
            raise Refusal(f"{options['threads']!r} is no number of threads")
        if options.get("fallback", "none") not in ("none", "cpu"):
            raise Refusal("fallback is one of none, cpu")
        if options.get("fallback") == "cpu" and options["accelerator"] != "gpu":
            raise Refusal("the fallback is the GPU's option")
        if not isinstance(names, list) or not isinstance(positions, list) or len(names) != len(positions):
            raise Refusal("outputs and positions are two lists of one length")
        if not all(isinstance(name, str) for name in names) or not all(_is_count(p, 1 << 16) for p in positions):
            raise Refusal("outputs are names, positions are small numbers")
        if not _is_count(fields.get("warmup"), 1 << 20) or not _is_count(fields.get("iterations"), 1 << 20):
            raise Refusal("warmup and iterations are numbers below a million")
        if len(set(names)) < len(names) or (names and not fields["warmup"] + fields["iterations"]):
            raise Refusal("each output is wanted once, of a model that runs at least once")
        outputs = list(zip(names, positions, strict=True))
        return cls(options, outputs, fields["warmup"], fields["iterations"], fields.get("final") is True)


def _only_single_precision(precision: str) -> None:
    if precision not in ("default", "fp32"):
        raise Refusal(f"the CPU computes in single precision, not {precision}")


def _is_count(value: Any, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def _plain(error: Exception) -> str:
    """The runtime's sentence without its source positions and markers."""
    # The bindings fail to decode a sentence that quotes a name which is no UTF-8.
    text = error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else str(error)
    lines = [line.strip(" └\t") for line in text.splitlines()]
    return " ".join(n for n in lines if n and not n.startswith(("ERROR: [", "CompiledModel error"))) or text


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies: what hangs or takes long would outlive it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Serve the descriptor named on the command line."""
    die_with_parent()
    with socket.socket(fileno=int(sys.argv[1])) as peer:
        Worker(Link(peer), Path(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
