"""What the terms of a run mean, in a sentence each. The page and its verdict take their words from here."""

from __future__ import annotations

from harness.localize.base.misreadings import BEYOND, FIRST, UNTURNED
from harness.report.record import Run

LOST = (
    "Rounding explains the error, on any device that stores this type: what the op stores or reads has too few digits "
    "for what the outputs are computed from."
)

_FIRST_FOR_ALL = (
    "LiteRT's parser lays a computed tensor [a, b] out with a as the batch, and a constant [a, b] with a as the width. "
    "The constant is then broadcast over the batch, whatever the precision. In rank 4, with ones in front, both are "
    "laid out alike (docs/delegate.md)."
)

# By signature: where a fault's rule is known from the delegate's source.
RULES = dict.fromkeys(FIRST.values(), _FIRST_FOR_ALL) | {
    BEYOND[
        "right"
    ]: "LiteRT's parser does not compare the batches of a BATCH_MATMUL's operands; the kernel reads beyond "
    "the smaller one (docs/delegate.md).",
    UNTURNED[
        "right"
    ]: "LiteRT's parser makes a BATCH_MATMUL whose right side is a constant of rank 2 a fully connected "
    "layer, and does not look at adj_y (docs/delegate.md).",
}

VERDICTS = {
    "culprit": "Its own arithmetic went wrong: the local error is beyond the threshold.",
    "inherited": "Its own arithmetic is right, but wrong values reached it from earlier ops.",
    "fine": "As right as the arithmetic allows, and so is what it received.",
    "unread": "Its result could not be read on the device, or the CPU ran it in the GPU's place.",
}

COMMANDS = {"localize", "compare", "dump", "run"}


def storage(run: Run) -> str:
    """The type that explains the errors to expect."""
    return "float16" if run.half else "float32"


def precision(run: Run) -> str:
    """How the device computes, in a word or two."""
    if run.accelerator not in ("gpu", "npu"):
        return "fp32"
    return {"default": "fp16", "fp16-fp32acc": "fp16 with fp32 sums"}.get(run.precision, run.precision)


def place(run: Run) -> str:
    """Where the model ran: the GPU's own name where it is known, for that is what its vendor looks for."""
    if run.accelerator == "cpu":
        return f"the CPU of {run.device}"
    if run.gpu:
        return run.gpu if run.kind in ("", "host") or run.gpu == run.device else f"{run.gpu} ({run.device})"
    return f"the {run.accelerator.upper()} of {run.device or 'an unknown device'}"


def residency(run: Run) -> str:
    """Which nodes the delegate took."""
    held = run.residency
    if held.delegated is not None and held.total is not None:
        counted = f"{held.delegated} of {held.total} nodes delegated"
        if held.partitions is not None:
            counted += f" in {held.partitions} partition{'' if held.partitions == 1 else 's'}"
        return counted
    if held.full is None:
        return ""
    return "fully delegated" if held.full else "not fully delegated"
