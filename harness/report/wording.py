"""What the terms of a run mean, in a sentence each. The page and its verdict take their words from here."""

from __future__ import annotations

from harness.localize.misreading import BEYOND, FIRST, UNTURNED
from harness.report.record import Run

CAUSES = {
    "kernel": "The kernel computes something else, and no rounding explains it: the result has little to do with the "
    "exact one, or is further off than the single rounding of such an op.",
    "accumulation": "The sum itself is kept in float16. Once it is large against the next product, that product is "
    "rounded away, so a long reduction loses far more than storing its result in float16 would.",
    "overflow": "A value beyond 65504, the largest float16, became infinity; what is computed from it is infinite, "
    "NaN or zero.",
    "underflow": "Values below float16's range became zero, and the outputs depend on them.",
    "rounding": "The result is recognizably the right one, but less precise than rounding explains.",
    "context": "By itself, on the same inputs, each op is right; the result is wrong only together with neighbours, as "
    "the delegate fuses or places them.",
    "limits": "A dispatch, a buffer or a texture would go beyond what the device takes. It is left out: nothing is "
    "written and no error is returned, so that the result is what the memory held, most often zeros.",
    "nondeterministic": "The same inputs gave different results in two runs.",
    "crash": "Running the op ends the process that runs it.",
    "hang": "The op did not finish in time.",
}

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

# After the dash in the verdict, when no signature says more. One culprit, several.
CAUSES_IN_SHORT = {
    "kernel": ("it computes something else", "they compute something else"),
    "accumulation": ("its sum is kept in float16", "their sums are kept in float16"),
    "overflow": ("its values leave float16's range", "their values leave float16's range"),
    "underflow": ("its values vanish below float16's range", "their values vanish below float16's range"),
    "rounding": (
        "its result is less precise than rounding explains",
        "their results are less precise than rounding explains",
    ),
    "context": ("wrong only together with its neighbours", "wrong only together with their neighbours"),
    "limits": ("it goes beyond a limit of the device", "they go beyond a limit of the device"),
    "nondeterministic": ("its result differs between two runs", "their results differ between two runs"),
    "crash": ("it ends the process", "they end the process"),
    "hang": ("it does not finish", "they do not finish"),
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
