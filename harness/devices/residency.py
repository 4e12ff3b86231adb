"""Where a model's nodes run, out of what the runtime logs while it compiles.

Builds for Android log `Replacing N out of M node(s) with delegate (…)`; others say only of a model that the GPU does
not take whole how many nodes go where, and that the delegate builds its graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.core.job import Residency
from harness.devices.log_lines import NUMBER, last_match, lines_of, matches

_REPLACED = re.compile(
    rf"Replacing ({NUMBER}) out of ({NUMBER}) node\(s\) with delegate \(([^)]*)\).*?yielding ({NUMBER}) partitions"
)
_SHARED = re.compile(
    rf"({NUMBER}|No) operations will run on the GPU, and (?:the remaining|all) ({NUMBER}) operations? will run on"
)
_ENGAGED = re.compile(r"Initializing \w+-based API from graph")
_REFUSED = re.compile(r"Following operations are not supported by GPU delegate:?$")
_COUNTED = re.compile(rf"({NUMBER}|No) operations will run")
FACT_LIMIT = 200
"""Characters of what a device says of itself that are believed."""
MESSAGE_BYTES = 1023
"""Of a message that Android's log keeps."""
# What a build for Android calls its GPU delegates, and what computes there.
_BACK_ENDS = {"LITERT_CL": "OpenCL", "LITERT_OPENGL": "OpenGL", "LITERT_WEBGPU": "WebGPU"}
# A phone's log has the level on each line.
_LEVEL = re.compile(r"^(?:INFO|WARNING|ERROR): ")


def residency_of(log: str, full: bool, *, shared: bool = False) -> Residency:
    """Node counts where the runtime's log gives them.

    `full` is the runtime's own word that one accelerator took everything. Where the CPU may take the rest (`shared`) it
    says that of both together, so the log alone counts: without a sign there that the GPU was used, it was not `full`.
    """
    refused, cut = refused_and_cut(log)
    found = [m for m in matches(_REPLACED, log) if not shared or "XNN" not in m[3].upper()]
    if found:
        last = found[-1]
        delegated, total, partitions = int(last[1]), int(last[2]), int(last[4])
        return Residency(delegated == total if shared else full, delegated, total, partitions, refused, cut=cut)
    if not shared:
        return Residency(full)
    counted = last_match(_SHARED, log)
    if counted:
        delegated = 0 if counted[1] == "No" else int(counted[1])
        return Residency(False, delegated, delegated + int(counted[2]), 1 if delegated else 0, refused)
    return Residency(full and last_match(_ENGAGED, log) is not None)


def backend_of(log: str) -> str:
    """`OpenCL`, `OpenGL` or `WebGPU`: what the log's last GPU delegate computes with; empty where it has none."""
    named = [_BACK_ENDS[m[3]] for m in matches(_REPLACED, log) if m[3] in _BACK_ENDS]
    return named[-1] if named else ""


def other_backend(log: str, asked: str, adapter: str = "") -> str:
    """A sentence where OpenGL computed and `asked`, an option's word, is not that; empty where all is as it was asked.
    `adapter` is what a phone's GPU was called, in case the log is of a later run of a compiled model.

    Android's builds take OpenCL first and go over to OpenGL without a word where it does not load.
    """
    if asked == "opengl" or (backend_of(log) or ("OpenGL" if "OpenGL" in adapter.split(", ") else "")) != "OpenGL":
        return ""
    return (
        "OpenGL computed in OpenCL's place (the runtime's log has LITERT_OPENGL): its kernels and its speed are "
        "others. These figures are OpenGL's alone."
    )


def refused_ops(log: str) -> tuple[str, ...]:
    """The delegate's lines on ops that it does not take, `OP: why`, as the log's last block of them has it. Of one that
    is cut off, those that are whole."""
    return refused_and_cut(log)[0]


def refused_and_cut(log: str) -> tuple[tuple[str, ...], bool]:
    """As :func:`refused_ops`, and whether the log ends its last list before the runtime did."""
    lines = [_LEVEL.sub("", line).strip() for line in lines_of(log)]
    starts = [i for i, line in enumerate(lines) if _REFUSED.search(line)]
    if not starts:
        return (), False
    after = lines[starts[-1] + 1 :]
    counted = next((i for i, line in enumerate(after) if _COUNTED.match(line)), None)
    if counted is not None:
        return tuple(after[:counted]), False
    # The whole list is one message. What is in the log once it is full is another one's.
    left = MESSAGE_BYTES - len(lines[starts[-1]].encode())
    for i, line in enumerate(after):
        left -= 1 + len(line.encode())
        if left <= 0:
            return tuple(after[:i]), True
    return tuple(after), False


_ADAPTER = re.compile(r"Selected adapter: (.*?), arch=.*?backend=(\w+), adapterType=(.*)$")


def adapter_of(log: str) -> str:
    """Name and kind of the GPU that the runtime's log names, or an empty string."""
    found = last_match(_ADAPTER, log)
    if found is None:
        return ""
    name, backend, kind = found.groups()
    return f"{name}, {backend}, {'software' if 'CPU' in kind else 'hardware'}"


def phone_gpu(hello: Mapping[str, Any], log: str) -> str:
    """`Mali-G715, OpenCL, driver v1.r44p1-01eac0`: the GPU of a phone's own word, what computed on it by the runtime's
    log, and its driver's version, which OpenGL ES states and OpenCL shares. Empty until a log names what computed."""
    backend = backend_of(log)
    renderer, version = (str(hello.get(key) or "")[:FACT_LIMIT] for key in ("gl_renderer", "gl_version"))
    driver = version.removeprefix("OpenGL ES ").partition(" ")[2]
    told = driver and not renderer.startswith("ANGLE")  # which states its own version, of no driver
    return ", ".join(filter(None, (renderer, backend, f"driver {driver}" if told else ""))) if backend else ""
