"""What is said to LiteRT's `run_model` and what it says: its command line, and its words as they come.

Flags, all in litert/tools/run_model.cc of google-ai-edge/LiteRT, read at v2.1.4, v2.1.5, v2.1.6 and v2.2.0, and on the
main branch of August 2026:

    --graph=FILE             the model
    --accelerator=gpu,cpu    the CPU takes what the GPU does not; from v2.1.5 on `gpu` alone means the same
    --gpu_precision=fp16|fp32  from v2.1.5 on
    --input_dir=DIR          a file NAME.raw for each input of the signature (litert/tools/tensor_utils.cc)
    --iterations=N           runs; at least 1
    --print_tensors          size and type of inputs and outputs
    --compare_numerical      and their values, in samples of
    --sample_size=N          from the beginning, the middle and the end

No flag writes outputs to a file, at any of these releases. `benchmark_model`, of litert/tools/benchmark_litert_model.h,
has `--model_runtime_info_output_file`, and takes no inputs and gives no outputs; where the nodes ran is told by
`run_model`'s own log as well: `Replacing N out of M node(s)`, which tflite/minimal_logging_android.cc writes to
standard error too. Builds for Android keep the flags' names (`ABSL_FLAGS_STRIP_NAMES=0` in
litert/build_common/litert_build_defs.bzl).

A line of the tool's own is `I0000 00:00:SECONDS.MICROSECONDS THREAD FILE:LINE] WORDS`, as absl logs before its logging
is set up.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.devices.log_lines import LONGEST, NUMBER, first_match

TOOL = "run_model"
MARK = "harness_bits"
"""Begins the name of each tensor that is added to a model, to have its outputs printed bit by bit."""
# Of a printed value with its line's beginning: 48 + 20 + 4 + 11 in the worst case, thread and line number included.
VALUE_BYTES = 128
MOST_LOG = 8 << 20
"""Bytes of anything else that is read."""

INPUT_TYPES = frozenset(("float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"))
"""What `FillBufferWithCustomData` of litert/tools/tensor_utils.h takes at v2.1.4 to v2.2.0; later it takes more."""

_ABSL = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:(\d{1,12})\.(\d{6}) +\d+ [^\]]{1,200}\] (.*)", re.S)
_VALUE = re.compile(rb" {4}(\d{1,10}): (-?\d{1,10})")
_GIVEN = re.compile(rb" {4}(\d{1,10}): (\S{1,32})")
LEAST_SAMPLE = 64
"""Values from the beginning, the middle and the end of an input that are looked at, at least."""
# Of a float32 that is printed with six digits.
_SIX_DIGITS = 1e-5
_BUFFER = re.compile(rb"(Input|Output) buffer (\d{1,4}):")
_NOTE = re.compile(rf"^INFO: \[harness\] ({NUMBER}) ops are added to pass on bits .*; ({NUMBER}) compute constants$")
_TOOK = re.compile(rf"(First run|Slowest run|Fastest run|All runs) took (?:average )?({NUMBER}) microseconds")


def flags(
    model: str,
    options: dict[str, Any],
    *,
    inputs: str = "",
    iterations: int = 1,
    printed: int = 0,
) -> list[str]:
    """The tool's words. `inputs` is a folder on the phone, without which it makes up values; `printed` the elements of
    the largest output to print, 0 for none."""
    accelerator = "gpu,cpu" if options["accelerator"] == "gpu" else options["accelerator"]
    words = [f"--graph={model}", f"--accelerator={accelerator}", f"--iterations={iterations}"]
    if options["accelerator"] == "gpu" and options["precision"] != "default":
        words.append(f"--gpu_precision={options['precision']}")
    if inputs:
        words.append(f"--input_dir={inputs}")
    if printed:
        words += ["--print_tensors=true", "--compare_numerical=true", f"--sample_size={printed}"]
    return words


def note(added: int, constants: int) -> str:
    """The line of the log that says what the model was made into; see :func:`noted`."""
    return f"INFO: [harness] {added} ops are added to pass on bits ({MARK}…); {constants} compute constants"


def noted(log: str) -> tuple[int, int]:
    """(ops added, ops that compute constants) by the first such line, which comes ahead of all of the tool's own."""
    found = first_match(_NOTE, log)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def model_own(refused: Sequence[str], constants: int) -> tuple[str, ...]:
    """A delegate's lines on refused ops without those on ops that were added, and without a reasonless one on
    DEQUANTIZE: of a model that it takes in part it says so of float16 weights, which it takes as they are."""
    lines = [line for line in refused if MARK not in line]
    return tuple(line for line in lines if not (constants and line.strip() == "DEQUANTIZE:"))


def script(tools: str, words: Sequence[str], token: str) -> str:
    """For the phone's shell: runs the tool, both its streams as one, and says the tool's process id and exit code on
    lines that begin with `token`."""
    command = shlex.join([f"{tools}/{TOOL}", *words])
    start = f"LD_LIBRARY_PATH={shlex.quote(tools)} {command} 2>&1 &"
    return f"{start} echo {token} pid $!; wait $!; code=$?; echo; echo {token} exit $code"


def unable(options: dict[str, Any], inputs: dict[str, str]) -> str:
    """Why the tool cannot do a job with these options and types of inputs; empty where it can."""
    accelerator, precision = options["accelerator"], options["precision"]
    if accelerator not in ("cpu", "gpu"):
        return f"LiteRT's {TOOL} is driven here for the CPU and the GPU, not for '{accelerator}'"
    if accelerator == "cpu" and precision not in ("default", "fp32"):
        return f"the CPU computes in single precision, not {precision}"
    if precision not in ("default", "fp16", "fp32"):
        return f"LiteRT's {TOOL} has no precision {precision}"
    chosen = [name for name in ("backend", "storage", "priority") if options.get(name, "default") != "default"]
    if chosen:
        return f"LiteRT's {TOOL} has no choice of {', '.join(chosen)}"
    if options["threads"]:
        return f"LiteRT's {TOOL} has no choice of threads"
    for name, kind in inputs.items():
        if kind not in INPUT_TYPES:
            return f"LiteRT's {TOOL} takes no input of type {kind}, which '{name}' is"
    return ""


class Printed:
    """The tool's output as it comes: the values of its outputs, and everything else as log.

    Up to v2.2.0 the tool does not look whether an input could be written to its buffer, nor, up to v2.1.6, whether its
    file could be read to the end (litert/tools/tensor_utils.h), and runs on what is there. It prints inputs as
    it prints outputs, read back from their buffers: these must be the values that were `given`.
    """

    def __init__(self, counts: Sequence[int], inputs: int, token: str, given: Sequence[Array] = ()) -> None:
        self.values: list[list[int]] = [[] for _ in counts]
        """Of each output, one more than expected at most."""
        self.pid: int | None = None
        self.code: int | None = None
        """The tool's exit code, once it ended."""
        self.damaged = ""
        """What is wrong with the values, if they came out of order."""
        self.unwritten = ""
        """Which value of an input was another one than was given, if one was."""
        self._given = [_as_printed(array) for array in given]
        self._unseen = {place for place, values in enumerate(self._given) if values.size}
        self._from: int | None = None
        self._counts = counts
        self._token = token.encode()
        self._rest = b""
        self._into: int | None = None
        self._left = (sum(counts) + inputs) * VALUE_BYTES + MOST_LOG
        self._stamps: dict[bytes, int] = {}
        self._took: dict[str, int] = {}

    def feed(self, chunk: bytes) -> bytes:
        """Take what came; gives the lines of it that are log.

        Raises:
            OverflowError: it is more than all values and a long log can be.
        """
        self._left -= len(chunk)
        if self._left < 0:
            raise OverflowError
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST:
            lines.append(self._rest)
            self._rest = b""
        return b"".join(line + b"\n" for line in lines if self._is_log(line))

    @property
    def compile_ns(self) -> int:
        """From the line before the model is compiled to the one after it, by the tool's own clock."""
        begun, done = (self._stamps.get(words, 0) for words in (b"Model: ", b"Signature index: "))
        return max(0, done - begun) * 1000 if begun and done else 0

    def run_ns(self, runs: int) -> int:
        """Time of the last of so many runs; of over two, the mean of all but the first. 0 where the tool said none."""
        took = self._took
        if set(took) != {"First run", "Slowest run", "Fastest run", "All runs"}:
            return 0
        if runs == 1:
            return took["First run"] * 1000
        if runs == 2:
            return max(0, took["Slowest run"] + took["Fastest run"] - took["First run"]) * 1000
        return max(0, took["All runs"] * runs - took["First run"]) * 1000 // (runs - 1)

    def _is_log(self, line: bytes) -> bool:
        if line.startswith(self._token):
            self._own(line[len(self._token) :].split())
            return False
        found = _ABSL.fullmatch(line)
        if found is None:
            return bool(line)
        words = found[3]
        taken = _GIVEN.fullmatch(words) if self._from is not None else None
        if taken is not None:
            self._check(self._from, int(taken[1]), taken[2])
            return False
        value = _VALUE.fullmatch(words) if words.startswith(b"    ") else None
        if value is not None:
            self._take(int(value[1]), int(value[2]))
            return False
        if words.startswith(b"    ") and b": " in words and self._into is None and words[4:5].isdigit():
            return False  # an input's value, with a point
        buffer = _BUFFER.fullmatch(words)
        if buffer is not None:
            self._into = int(buffer[2]) if buffer[1] == b"Output" else None
            self._from = int(buffer[2]) if buffer[1] == b"Input" else None
        for begins in (b"Model: ", b"Signature index: "):
            if words.startswith(begins):
                self._stamps.setdefault(begins, int(found[1]) * 1_000_000 + int(found[2]))
        took = _TOOK.fullmatch(words.decode("utf-8", "replace"))
        if took is not None:
            self._took[took[1]] = int(took[2])
        return True

    def _own(self, words: Sequence[bytes]) -> None:
        match words:
            case [b"pid", number] if number.isdigit() and len(number) < 10 and self.pid is None:
                self.pid = int(number)
            case [b"exit", number] if number.isdigit() and len(number) < 4:
                self.code = int(number)

    @property
    def unprinted(self) -> int | None:
        """The first input that has values of which none was printed; None where there is no such one."""
        return min(self._unseen, default=None)

    def _check(self, port: int | None, place: int, printed: bytes) -> None:
        if port is None or port >= len(self._given) or place >= self._given[port].size:
            return
        self._unseen.discard(port)
        given, found = self._given[port][place], printed.decode("ascii", "replace")
        if not self.unwritten and not _reads_as(given, found):
            told = f"{given:g}" if isinstance(given, np.floating) else str(given)
            self.unwritten = f"value {place} of input {port} was {found}, not {told}"

    def _take(self, place: int, value: int) -> None:
        if self._into is None:
            return
        if self._into >= len(self.values):
            self.damaged = self.damaged or f"output {self._into} was printed, of {len(self.values)}"
            return
        values = self.values[self._into]
        if len(values) > self._counts[self._into]:
            return
        if place != len(values):
            self.damaged = self.damaged or f"value {place} of output {self._into} came after {len(values)}"
            return
        values.append(value)


def _as_printed(array: Array) -> Array:
    """The numbers that the tool prints of an input: its values, or as many of its bytes where they are of a type other
    than float32 and int32."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat if flat.dtype in (np.float32, np.int32) else flat.view(np.uint8)[: flat.size]


def _reads_as(given: Any, printed: str) -> bool:
    """Whether a printed number is that value, as far as six digits tell, or what a buffer of float16 has of it."""
    try:
        found = float(printed)
    except ValueError:
        return False
    if not isinstance(given, np.floating):
        return found == int(given)
    with np.errstate(over="ignore"):
        held = (float(given), float(np.float16(given)))
    return any(found == v or (found != found and v != v) or abs(found - v) <= _SIX_DIGITS * abs(v) for v in held)
