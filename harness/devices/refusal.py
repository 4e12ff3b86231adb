"""What a runtime says when it does not take a model: its reason and the ops, out of its words and its log."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.devices.log_lines import first_match, last_match, lines_of, matches
from harness.devices.residency import MESSAGE_BYTES, refused_and_cut
from harness.graph.model import Op

# A line of an absl logger with a status, `E0000 … file.cc:478] Failed to …: INVALID_ARGUMENT: why`.
_ABSL = re.compile(r"^[EF]\d{4} .*?\] (.*)")
_STATUS = re.compile(r"\b[A-Z]{3,}(?:_[A-Z]+)*: (.+)$")
_ERROR = re.compile(r"^ERROR: (.+)$")
_PLACED = re.compile(r"^\[[^\]]*\] (.+)$")
_CUSTOM = re.compile(r"Encountered unresolved custom op: (.+)")
_DYNAMIC = re.compile(r"graph that has dynamic-sized tensors \(tensor#(-?\d{1,9}) is")
# Errors that say where the runtime gave up, and not why.
_NO_REASON = re.compile(r"Failed to (?:initialize|apply|create|modify|build|load)|Restored original execution plan")
# What the log says of parts that are missing and not needed.
_BESIDE = re.compile(r"plugin|accelerator|dlopen|shared library", re.I)

COMPLAINED = "the browser complained, so that its outputs are no result: "
"""How a refusal begins that shows only when a model runs."""

_PLAIN_CAUSES = (
    (re.compile(r"(?:Operation is not supported|Not supported op \w+)\.?"), ""),
    (re.compile(r"Tensor dimensions must be less than 5"), "rank over 4"),
    (re.compile(r"Tensor type\((\w+)\) is not supported"), r"type \1"),
    (re.compile(r"OP is supported, but tensor type/shape isn't compatible\.?"), "its type or shape"),
    (re.compile(r"tensor '(?P<tensor>.*)' has rank (\d+), over \d+", re.S), r"rank \2"),
    (re.compile(r"tensor '(?P<tensor>.*)' has (type \w+|no static shape)", re.S), r"\2"),
)


def explain_refusal(reason: str, log: str) -> tuple[str, tuple[str, ...]]:
    """The runtime's reason, sharpened by its log: (sentence without its full stop, refused ops as `OP: why`)."""
    ops, cut = refused_and_cut(log)
    if ops:
        return f"the GPU delegate refuses {refusals(ops, cut)}", ops
    custom = lacking_custom_op(log + "\n" + reason)
    if custom:
        reason = f"the runtime has no custom op '{custom}'"
        return reason, (f"CUSTOM: {reason}",)
    why = _own_reason(log)
    return (f"{reason} ({why})" if why and why not in reason else reason).rstrip("."), ()


_SHADER = re.compile(
    r"Error while parsing WGSL:[ :\d]*(?:error: )?(.+)"  # WebGPU
    r"|((?:Failed|failed) to compile (?:the )?(?:shader|kernel|program).*)"  # OpenCL, OpenGL
)


def shader_fault(log: str) -> str:
    """A sentence where a GPU program did not compile and the runtime went on regardless; empty where none says so."""
    found = first_match(_SHADER, log)
    if found is None:
        return ""
    why = (found[1] or found[2]).strip().rstrip(".")[:200]
    return f"The runtime's log holds a shader compilation error, so some ops may not have run at all: {why}."


def lacking_custom_op(said: str) -> str:
    """The custom op that a runtime says to lack; empty where it says of none."""
    found = first_match(_CUSTOM, said)
    return found[1].partition(" See instructions")[0].strip().removesuffix(".") if found else ""


def refusals(lines: Sequence[str], cut: bool) -> str:
    """Refused ops in a clause, as :func:`grouped` has them, and that there are more where a log's list was `cut`."""
    more = f" and more ops, which the log leaves out after {MESSAGE_BYTES:,} bytes" if cut else ""
    return f"{', '.join(grouped(lines))}{more}"


def may_follow(op: Op, lines: Sequence[str]) -> bool:
    """Whether a delegate's list that was cut off behind these lines can go on with an op of that kind: it is sorted."""
    kind = f"{op.name if op.custom is None else f'{op.name} {op.custom}'}:"
    if list(lines) != sorted(lines) or not lines:
        return True
    return lines[-1].startswith(kind) or lines[-1] < kind


def grouped(lines: Sequence[str]) -> list[str]:
    """`RESHAPE (rank over 4, 8 tensors)`, `SVDF #1, #3 (not supported)`, `SLICE`, …: refused ops, each with its reasons
    once, and each kind of op once where they are the same.

    Lines are the delegate's or an audit's, `OP: why` or `OP: why. tensor` or with the tensor in quotes; one op may be
    in several.
    """
    causes: dict[str, dict[str, int]] = {}
    for line in lines:
        op, _, text = line.partition(":")
        cause, _, tensor = text.strip().partition(". ")
        for pattern, words in _PLAIN_CAUSES:
            if matched := pattern.fullmatch(cause):
                tensor = tensor or matched.groupdict().get("tensor", "")
                cause = pattern.sub(words, cause)
                break
        of_op = causes.setdefault(op.strip(), {})
        of_op[cause.rstrip(".")] = of_op.get(cause.rstrip("."), 0) + bool(tensor)
    alike: dict[tuple[str, tuple[tuple[str, int], ...]], list[str]] = {}
    for op, of_op in causes.items():
        kind, mark, number = op.rpartition(" #")
        alike.setdefault((kind if mark else op, tuple(of_op.items())), []).append(f"#{number}" if mark else "")
    return [_with_causes(f"{op} {', '.join(numbers)}".rstrip(), dict(found)) for (op, found), numbers in alike.items()]


def _with_causes(op: str, causes: dict[str, int]) -> str:
    told = [f"{cause}, {count} tensors" if count > 1 else cause for cause, count in causes.items() if cause]
    return f"{op} ({'; '.join(told)})" if told else op


def dynamic_tensor(log: str) -> int | None:
    """The tensor because of which a delegate refused a graph with sizes that are known only when it runs; -1 where the
    runtime names none; None when that was not it."""
    found = last_match(_DYNAMIC, log)
    return int(found[1]) if found else None


def _own_reason(log: str) -> str:
    """Why, in the runtime's own words, from the most telling line of its log; empty when none tells."""
    status = [found[1] for line in matches(_ABSL, log) if line[0][0] == "E" and (found := _STATUS.search(line[1]))]
    if status:
        return status[-1].strip().rstrip(".")
    if dynamic_tensor(log) is not None:
        return "it has tensors whose size is known only when it runs"
    every = [found[1] for found in matches(_ERROR, log)]
    errors = [line for line in every if not line.startswith("[")]
    telling = [line for line in errors if not _NO_REASON.match(line)]
    if telling:
        node = len(telling) > 1 and telling[-1].startswith("Node number")  # the kernel's own words come before that
        return " ".join(telling[-2:] if node else telling[-1:]).rstrip(".")
    placed = [found[1] for line in every if (found := _PLACED.search(line)) and not _BESIDE.search(found[1])]
    return (placed or errors or [""])[-1].rstrip(".")


def last_words(log: str) -> str:
    """The last thing that sounds fatal in a log: a failed check, a fatal line or an error; empty when nothing does."""
    return next((text[:200] for line in reversed(lines_of(log)) if (text := _fatal(line))), "")


def _fatal(line: str) -> str:
    """What a line says that sounds fatal; empty where it does not."""
    logged = _ABSL.match(line)
    if logged and line[0] == "F":
        return logged[1].strip()
    if line.startswith(("ERROR: ", "FATAL: ")) and not line[7:].startswith("["):
        return line[7:].strip()
    return line.strip() if "terminate called" in line or "Check failed" in line else ""


def first_words(text: str) -> str:
    """The first two sentences of what a runtime said, without the last full stop: a cause, and what it is about.
    Runtimes join their sentences without a space."""
    between = r"\n|(?<=\.)(?=[A-Z])|(?<=[a-z]{4}\.)(?=[a-z])(?!(?:cc|h)\b)"  # not within a source file's name
    parts = [part.strip() for part in re.split(between, text) if part.strip()]
    return " ".join(parts[:2])[:300].rstrip(". ")
