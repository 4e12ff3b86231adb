"""LiteRT's `run_model` on the stand-in: the flags that the harness uses and no other, over this machine's runtime.

Written after litert/tools/run_model.cc and tensor_utils.h of google-ai-edge/LiteRT v2.2.0: what it says, in what order,
to which stream, and its exit codes. An unknown flag ends it as absl does, and is noted in unknown.log. `tool.json` of
the phone's state may tell it to fail: {"do": "crash", "signal": 11}, "hang", "short", "wild", "late", "flood"; and
"unwritten" or "unread", what v2.1.6 goes on after without a word: an input's buffer cannot be written, or its file not
be read to the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

FLAGS = {
    "graph": "",
    "accelerator": "cpu",
    "gpu_precision": "auto",
    "input_dir": "",
    "iterations": "1",
    "print_tensors": "false",
    "compare_numerical": "false",
    "sample_size": "5",
}
STATE = Path(os.environ["STANDIN"])
ELEMENT_TYPES = {"float32": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9, "float16": 10}


def log(words: str, level: str = "I", place: str = "run_model.cc:400") -> None:
    """As absl logs before it is set up."""
    print_raw(f"{level}0000 00:00:{time.time():.6f} {os.getpid():7} {place}] {words}\n")


def print_raw(text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(2, data) :]


def failed(words: str) -> NoReturn:
    log(words, "E")
    sys.exit(1)


def parsed(words: list[str]) -> dict[str, str]:
    found = dict(FLAGS)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals or name not in FLAGS:
            with (STATE / "unknown.log").open("a") as unknown:
                unknown.write(f"run_model {word}\n")
            sys.stderr.write(f"ERROR: Unknown command line flag '{name}'\n")
            sys.exit(1)
        found[name] = value
    return found


def main() -> int:
    libraries = [Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part]
    if not any((folder / "libLiteRt.so").is_file() for folder in libraries):
        sys.stderr.write(
            f'CANNOT LINK EXECUTABLE "{sys.argv[0]}": library "libLiteRt.so" not found: needed by main executable\n'
        )
        return 1
    flags = parsed(sys.argv[1:])
    if not flags["graph"]:
        failed("Model filename is empty. Use --graph to provide it.")
    assert flags["graph"].startswith("/data/local/tmp/"), "a phone's shell has no other place to write to"
    told = STATE / "tool.json"
    fault = json.loads(told.read_text("utf-8")) if told.exists() else {}
    log(f"Model: {flags['graph']}")
    has_gpu = any((folder / "libLiteRtClGlAccelerator.so").is_file() for folder in libraries)
    model = compiled(flags, has_gpu)
    log("Signature index: 0")
    log("Prepare input buffers")
    signature = model.get_signature_by_index(0)
    takes = model.get_input_tensor_details(signature["key"])
    inputs = model.create_input_buffers(0)
    for name, buffer in zip(signature["inputs"], inputs, strict=True):
        fill(name, takes[name], buffer, flags["input_dir"], fault)
    printing = flags["print_tensors"] == "true"
    if printing:
        for i, (name, buffer) in enumerate(zip(signature["inputs"], inputs, strict=True)):
            show("Input", i, takes[name], buffer, flags, {})
    log("Prepare output buffers")
    outputs = model.create_output_buffers(0)
    count = int(flags["iterations"])
    if count <= 0:
        failed("iterations should be large than zero.")
    log(f"Run model for {count} times")
    if fault.get("do") == "crash":
        sys.stderr.write("F0000 about to end\n")
        os.kill(os.getpid(), fault["signal"])
        signal.pause()
    if fault.get("do") == "hang":
        while True:
            signal.pause()
    if fault.get("do") == "flood":
        while True:
            print_raw("ERROR: the same again and again\n" * 4096)
    timers = []
    gives = model.get_output_tensor_details(signature["key"])
    for _ in range(count):
        begin = time.perf_counter_ns()
        model.run_by_index(0, inputs, outputs)
        timers.append((time.perf_counter_ns() - begin) // 1000)
    log(f"First run took {timers[0]} microseconds")
    log(f"Slowest run took {max(timers)} microseconds")
    log(f"Fastest run took {min(timers)} microseconds")
    log(f"All runs took average {sum(timers) // len(timers)} microseconds")
    if printing:
        for i, (name, buffer) in enumerate(zip(signature["outputs"], outputs, strict=True)):
            show("Output", i, gives[name], buffer, flags, fault)
    log("Model run completed")
    return 0


def compiled(flags: dict[str, str], has_gpu: bool) -> Any:
    from ai_edge_litert import compiled_model as cm

    named = flags["accelerator"].split(",")
    # As v2.1.4 has it; from v2.1.5 on the CPU is there whether it is named or not.
    hardware = cm.HardwareAccelerator.CPU if "cpu" in named else cm.HardwareAccelerator.NONE
    gpu = None
    if "gpu" in named:
        if has_gpu:
            hardware |= cm.HardwareAccelerator.GPU
        else:
            sys.stderr.write("WARNING: [gpu_registry.cc:140] GPU accelerator could not be loaded and registered\n")
        precision = flags["gpu_precision"]
        if precision not in ("auto", "fp16", "fp32"):
            failed("Invalid gpu_precision flag value.")
        gpu = cm.GpuOptions(enforce_f32=precision == "fp32")
    sys.stderr.flush()
    options = cm.Options(hardware) if gpu is None else cm.Options(hardware, gpu_options=gpu)
    try:
        return cm.CompiledModel.from_file(flags["graph"], options=options)
    except RuntimeError as error:
        failed(str(error).splitlines()[0])


def fill(name: str, about: dict[str, Any], buffer: Any, folder: str, fault: dict[str, Any]) -> None:
    import numpy as np

    size = int(np.prod(about["shape"], dtype=np.int64)) * np.dtype(about["dtype"]).itemsize
    if folder:
        path = Path(folder) / f"{name}.raw"
        if not path.exists():
            failed(f"Failed to find input file {path}.")
        data = path.read_bytes()
        if len(data) != size:
            failed(f"Mismatched input size, input data size: {len(data)} bytes != model buffer size: {size} bytes.")
        kept = {"unwritten": 0, "unread": size // 2}.get(str(fault.get("do")), size)
        data = data[:kept] + bytes(size - kept)
    else:
        data = bytes(size)
    buffer.write(np.frombuffer(data, np.int8))


def show(
    kind: str, index: int, about: dict[str, Any], buffer: Any, flags: dict[str, str], fault: dict[str, Any]
) -> None:
    import numpy as np

    dtype = np.dtype(about["dtype"])
    total = int(np.prod(about["shape"], dtype=np.int64))
    log(f"{kind} buffer {index}:")
    log(f"  Size: {total * dtype.itemsize} bytes")
    log(f"  ElementType: {ELEMENT_TYPES[dtype.name]}")
    log("  BufferType: 1")
    log("  Dimensions: [")
    for size in about["shape"]:
        log(f"    {size}")
    log("  ]")
    log(f"  Total logical elements: {total}")
    if flags["compare_numerical"] != "true":
        return
    raw = np.asarray(buffer.read(total * dtype.itemsize, np.int8))
    values = raw.view(dtype if dtype.name in ("float32", "int32") else np.uint8)[:total]
    spelled = [f"{v:.6g}" for v in values.tolist()] if dtype.name == "float32" else [str(v) for v in values.tolist()]
    if fault.get("do") == "short":
        spelled = spelled[:-1]
    if fault.get("do") == "wild":
        spelled[0] = "9999999999"
    log("  Stats:", place="tensor_utils.h:120")
    sample = int(flags["sample_size"])
    for words, first, count in samples(len(spelled), sample):
        log(f"  {words}:", place="tensor_utils.h:160")
        begins = 1 if fault.get("do") == "late" else 0
        stamp = f"I0000 00:00:{time.time():.6f} {os.getpid():7} tensor_utils.h:157]"
        print_raw("".join(f"{stamp}     {i}: {spelled[i]}\n" for i in range(first + begins, first + count)))


def samples(total: int, size: int) -> list[tuple[str, int, int]]:
    found = []
    begin = min(size, total)
    if begin:
        found.append((f"Beginning {begin} elements", 0, begin))
    if total > 2 * size:
        middle = total // 2 - size // 2
        found.append((f"Middle {size} elements (starting at {middle})", middle, min(size, total - middle)))
    if total > size:
        end = total - min(size, total)
        found.append((f"Ending {total - end} elements", end, total - end))
    return found


if __name__ == "__main__":
    sys.exit(main())
