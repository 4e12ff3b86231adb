"""The process that asks the runtime's own profiler, through LiteRT's C library: one request as JSON on stdin, one
answer as JSON on stdout.

It imports the standard library alone, so that the Python of any ai-edge-litert release can run it as a file. The Python
API has no profiler. The signatures are those of litert/c; what a release changed is said where it is called.

Request: `model` (a path), `inputs` (pairs of name and path of the raw values), `threads` (0: the runtime's choice),
`plain` (without XNNPACK), `samples` and `seconds` (whichever comes first, after `LEAST_ROUNDS`), `timeout` (the seconds
that the process may take).

Answer: `{"error": sentence}`, or `events` (kind, name, index, subgraph of each event of an inference), and for each
round `us` (for each inference, the microseconds of each event), `profiled_ns` and `bare_ns` (the run of each inference
with the profiler and without, by this process's clock).
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

LEAST_ROUNDS = 8
IN_ROUND = 4
"""Inferences of each kind in a round; the first finds the other's weights in the caches and does not count."""

MOST_EVENTS = 8192
MOST_FIGURES = 1 << 20
"""Events in an inference, and over all inferences: the answer has a size."""

KINDS = {1 << 1: "op", 1 << 3: "delegate"}
"""OPERATOR_INVOKE_EVENT has the time of a node, DELEGATE_PROFILED_OPERATOR_INVOKE_EVENT that of an operator in a
delegate that profiles itself; the node then has no event. All else is around or inside of these, or no time at all."""

CPU = 1
WRITE = 1
TENSOR_TYPE_BYTES = 72
"""sizeof(LiteRtRankedTensorType), asserted in litert/c/litert_model_types.h."""

# litert/c's handles are pointers, and their indices are size_t.
_OUT = POINTER(c_void_p)
_SIZE = POINTER(c_size_t)
_TAKES: dict[str, tuple[Any, ...]] = {
    "LiteRtCreateEnvironment": (c_int, c_void_p, _OUT),
    "LiteRtCreateOptions": (_OUT,),
    "LiteRtSetOptionsHardwareAccelerators": (c_void_p, c_int),
    "LiteRtCreateOpaqueOptions": (c_char_p, c_void_p, c_void_p, _OUT),
    "LiteRtAddOpaqueOptions": (c_void_p, c_void_p),
    "LiteRtCreateCompiledModel": (c_void_p, c_void_p, c_void_p, _OUT),
    "LiteRtCompiledModelGetProfiler": (c_void_p, _OUT),
    "LiteRtGetModelSignature": (c_void_p, c_size_t, _OUT),
    "LiteRtGetNumSignatureInputs": (c_void_p, _SIZE),
    "LiteRtGetNumSignatureOutputs": (c_void_p, _SIZE),
    "LiteRtGetSignatureInputName": (c_void_p, c_size_t, POINTER(c_char_p)),
    "LiteRtGetSignatureInputTensorByIndex": (c_void_p, c_size_t, _OUT),
    "LiteRtGetSignatureOutputTensorByIndex": (c_void_p, c_size_t, _OUT),
    "LiteRtGetRankedTensorType": (c_void_p, c_void_p),
    "LiteRtGetCompiledModelInputBufferRequirements": (c_void_p, c_size_t, c_size_t, _OUT),
    "LiteRtGetCompiledModelOutputBufferRequirements": (c_void_p, c_size_t, c_size_t, _OUT),
    "LiteRtCreateManagedTensorBufferFromRequirements": (c_void_p, c_void_p, c_void_p, _OUT),
    "LiteRtGetTensorBufferPackedSize": (c_void_p, _SIZE),
    "LiteRtLockTensorBuffer": (c_void_p, _OUT, c_int),
    "LiteRtUnlockTensorBuffer": (c_void_p,),
    "LiteRtRunCompiledModel": (c_void_p, c_size_t, c_size_t, c_void_p, c_size_t, c_void_p),
    "LiteRtStartProfiler": (c_void_p,),
    "LiteRtStopProfiler": (c_void_p,),
    "LiteRtGetNumProfilerEvents": (c_void_p, POINTER(c_int)),
    "LiteRtGetProfilerEvents": (c_void_p, c_int, c_void_p),
}


class _Event(ctypes.Structure):
    """ProfiledEventData; its two LiteRtMemoryUsage are three sizes each."""

    _fields_ = (
        ("tag", c_char_p),
        ("type", c_int),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("memory", c_size_t * 6),
        ("index", c_uint64),
        ("subgraph", c_uint64),
        ("source", c_int),
    )


class ProfilerFailure(Exception):
    """The profiler cannot be had; the sentence goes back."""


class Runtime:
    """The C library of the installed release."""

    def __init__(self) -> None:
        self.release = importlib.metadata.version("ai-edge-litert")
        found = importlib.util.find_spec("ai_edge_litert")
        folders = list(found.submodule_search_locations or ()) if found else []
        if not folders:
            raise ProfilerFailure("ai-edge-litert is not installed")
        try:
            self._library = ctypes.CDLL(str(Path(folders[0]) / "libLiteRt.so"))
        except OSError:
            raise ProfilerFailure(f"ai-edge-litert {self.release} has no C library that can be loaded here") from None
        self._free = ctypes.CDLL(None).free
        self._malloc = ctypes.CDLL(None).malloc
        self._malloc.argtypes, self._malloc.restype = [c_size_t], c_void_p
        self.environment = self.make("LiteRtCreateEnvironment", 0, None)

    def since(self, *release: int) -> bool:
        """Whether this release is that one or later."""
        return tuple(int(part) for part in self.release.split(".")[:3] if part.isdecimal()) >= release

    def function(self, name: str, *takes: Any) -> Callable[..., None]:
        """A function that raises Failure for any status but 0."""
        try:
            call = getattr(self._library, name)
        except AttributeError:
            raise ProfilerFailure(f"the C library of ai-edge-litert {self.release} has no {name}") from None
        call.argtypes, call.restype = takes or _TAKES[name], c_int

        def checked(*values: Any) -> None:
            status = call(*values)
            if status != 0:
                raise ProfilerFailure(f"{name} gave status {status}")

        return checked

    def make(self, name: str, *values: Any, takes: tuple[Any, ...] = ()) -> c_void_p:
        """What a function writes to its last parameter."""
        made = c_void_p()
        self.function(name, *takes)(*values, byref(made))
        return made

    def count(self, name: str, handle: c_void_p) -> int:
        """A size that a function writes."""
        found = c_size_t()
        self.function(name)(handle, byref(found))
        return found.value

    def load(self, path: str) -> c_void_p:
        """A model, which may be compiled more than once."""
        name, file = "LiteRtCreateModelFromFile", os.fsencode(path)
        if self.since(2, 1, 6):
            return self.make(name, self.environment, file, takes=(c_void_p, c_char_p, _OUT))
        return self.make(name, file, takes=(c_char_p, _OUT))

    def options(self, threads: int, plain: bool, profiled: bool) -> c_void_p:
        """Compilation options for the CPU. Each part is TOML under the name that the runtime finds it by."""
        options = self.make("LiteRtCreateOptions")
        self.function("LiteRtSetOptionsHardwareAccelerators")(options, CPU)
        told = self.since(2, 1, 5)  # earlier releases take no options of the CPU, from Python neither
        if plain and not told:
            raise ProfilerFailure(f"ai-edge-litert {self.release} cannot be told to leave XNNPACK out")
        cpu = f"num_threads = {threads}\n" * bool(threads and told) + 'kernel_mode = "builtin"\n' * plain
        for name, toml in (("xnnpack", cpu), ("runtime_options_string", "enable_profiling = true\n" * profiled)):
            if toml:
                raw = toml.encode() + b"\0"
                text = self._malloc(len(raw))  # the runtime frees it
                ctypes.memmove(text, raw, len(raw))
                free = ctypes.cast(self._free, c_void_p)
                opaque = self.make("LiteRtCreateOpaqueOptions", name.encode(), text, free)
                self.function("LiteRtAddOpaqueOptions")(options, opaque)
        return options


class ProfiledModel:
    """A compiled model with its buffers, the inputs in them."""

    def __init__(self, runtime: Runtime, model: c_void_p, options: c_void_p, inputs: list[tuple[str, bytes]]) -> None:
        self._runtime = runtime
        self.handle = runtime.make("LiteRtCreateCompiledModel", runtime.environment, model, options)
        self._signature = runtime.make("LiteRtGetModelSignature", model, 0)
        takes = runtime.count("LiteRtGetNumSignatureInputs", self._signature)
        gives = runtime.count("LiteRtGetNumSignatureOutputs", self._signature)
        if takes != len(inputs):
            raise ProfilerFailure(f"{len(inputs)} inputs came for a model that takes {takes}")
        ins = [self._buffer("Input", i) for i in range(takes)]
        outs = [self._buffer("Output", i) for i in range(gives)]
        names, by_name = [self._name(i) for i in range(takes)], dict(inputs)
        named = set(names) == set(by_name)
        for i, buffer in enumerate(ins):
            self._write(buffer, by_name[names[i]] if named else inputs[i][1])
        run = runtime.function("LiteRtRunCompiledModel")
        packed = (c_void_p * max(takes, 1))(*ins), (c_void_p * max(gives, 1))(*outs)
        self._run: Callable[[], None] = lambda: run(self.handle, 0, takes, packed[0], gives, packed[1])

    def run(self) -> int:
        """One inference; nanoseconds."""
        began = time.perf_counter_ns()
        self._run()
        return time.perf_counter_ns() - began

    def _name(self, index: int) -> str:
        name = c_char_p()
        self._runtime.function("LiteRtGetSignatureInputName")(self._signature, index, byref(name))
        return (name.value or b"").decode("utf-8", "replace")

    def _buffer(self, side: str, index: int) -> c_void_p:
        make = self._runtime.make
        tensor = make(f"LiteRtGetSignature{side}TensorByIndex", self._signature, index)
        kind = (ctypes.c_uint8 * TENSOR_TYPE_BYTES)()
        self._runtime.function("LiteRtGetRankedTensorType")(tensor, kind)
        wanted = make(f"LiteRtGetCompiledModel{side}BufferRequirements", self.handle, 0, index)
        return make("LiteRtCreateManagedTensorBufferFromRequirements", self._runtime.environment, kind, wanted)

    def _write(self, buffer: c_void_p, values: bytes) -> None:
        room = self._runtime.count("LiteRtGetTensorBufferPackedSize", buffer)
        if room != len(values):
            raise ProfilerFailure(f"an input came with {len(values)} bytes, and takes {room}")
        place = c_void_p()
        self._runtime.function("LiteRtLockTensorBuffer")(buffer, byref(place), WRITE)
        ctypes.memmove(place, values, room)
        self._runtime.function("LiteRtUnlockTensorBuffer")(buffer)


class Profiler:
    """The profiler of a model that was compiled with it."""

    def __init__(self, runtime: Runtime, compiled: ProfiledModel) -> None:
        self._compiled = compiled
        self._handle = runtime.make("LiteRtCompiledModelGetProfiler", compiled.handle)
        if self._handle.value is None:
            raise ProfilerFailure(f"ai-edge-litert {runtime.release} gave no profiler")
        self._start = runtime.function("LiteRtStartProfiler")
        self._stop = runtime.function("LiteRtStopProfiler")
        self._count = runtime.function("LiteRtGetNumProfilerEvents")
        self._events = runtime.function("LiteRtGetProfilerEvents")
        self.names: list[tuple[str, str, int, int]] | None = None

    def run(self) -> tuple[int, list[int]]:
        """One inference: nanoseconds by this process's clock, and the microseconds of each event."""
        self._start(self._handle)  # forgets what was there
        wall = self._compiled.run()
        self._stop(self._handle)
        count = c_int()
        self._count(self._handle, byref(count))
        if not 0 < count.value <= MOST_EVENTS:
            raise ProfilerFailure(f"an inference left {count.value} events, not 1 to {MOST_EVENTS}")
        events = (_Event * count.value)()
        self._events(self._handle, count.value, events)
        timed = [event for event in events if event.type in KINDS]
        names = [(KINDS[e.type], (e.tag or b"").decode("utf-8", "replace"), e.index, e.subgraph) for e in timed]
        if self.names is not None and names != self.names:
            raise ProfilerFailure("the events of one inference are not those of the next")
        self.names = names
        return wall, [event.elapsed_us for event in timed]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Both models in turns, whoever is first changing from round to round.

    Raises:
        Failure: the profiler cannot be had.
    """
    born = time.monotonic()
    runtime = Runtime()
    model = runtime.load(request["model"])
    inputs = [(name, Path(path).read_bytes()) for name, path in request["inputs"]]
    threads, plain = request["threads"], request["plain"]
    bare, watched = (
        ProfiledModel(runtime, model, runtime.options(threads, plain, profiled), inputs) for profiled in (False, True)
    )
    profiler = Profiler(runtime, watched)
    bare.run(), watched.run()  # the first one is no inference like the others
    pair_s = (bare.run() + watched.run()) / 1e9
    began = time.monotonic()
    count = LEAST_ROUNDS * IN_ROUND
    if began - born + count * pair_s > request["timeout"]:
        raise ProfilerFailure(
            f"{2 * count} inferences of {pair_s / 2:.3g} s do not fit into the {request['timeout']:g} s that it has"
        )
    rounds: dict[str, list[list[Any]]] = {"us": [], "profiled_ns": [], "bare_ns": []}
    while True:
        number = len(rounds["us"])
        for with_profiler in (bool(number % 2), not number % 2):
            if with_profiler:
                taken = [profiler.run() for _ in range(IN_ROUND)][1:]
                rounds["profiled_ns"].append([wall for wall, _ in taken])
                rounds["us"].append([us for _, us in taken])
            else:
                rounds["bare_ns"].append([bare.run() for _ in range(IN_ROUND)][1:])
        samples = (number + 1) * (IN_ROUND - 1)
        assert profiler.names is not None
        enough = samples >= request["samples"] or samples * len(profiler.names) >= MOST_FIGURES
        if number + 1 >= LEAST_ROUNDS and (enough or time.monotonic() - began >= request["seconds"]):
            return {"events": profiler.names, **rounds}


def main() -> None:
    """Answer, and end without the runtime's own clearing up: nothing is left to hear from it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a run that hangs would outlive its parent
    out = os.dup(1)
    os.dup2(2, 1)  # what native code may print is no part of the answer
    try:
        said = answer(json.loads(sys.stdin.buffer.read(1 << 20)))
    except ProfilerFailure as failure:
        said = {"error": str(failure)}
    with os.fdopen(out, "w", encoding="utf-8") as stream:
        json.dump(said, stream)
    os._exit(0)


if __name__ == "__main__":
    main()
