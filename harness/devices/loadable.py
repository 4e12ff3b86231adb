"""Whether a file is one that the runtime can load at all, whatever a device makes of it."""

from __future__ import annotations

from harness.core.errors import UsageError
from harness.devices.refusal import first_words, lacking_custom_op
from harness.devices.shapes import Unanswered, Undecided, shapes_at
from harness.graph.model import Model
from harness.graph.ops.custom import with_builtin_ops
from harness.graph.prefix import without_ops


def check_loadable(model: Model) -> None:
    """Whether the host's plain CPU runtime prepares a model. One for which it lacks a custom op may be right.

    Raises:
        UsageError: it does not, with its reason.
    """
    try:
        shapes_at(model, {})
    except Undecided:
        return  # too slow or too large for this machine: no word on the file
    except Unanswered as error:
        if lacking_custom_op(str(error)):
            return
        raise UsageError(
            f"The runtime cannot load this file, on the CPU either: {first_words(str(error))}.",
            "Export the model again, or with another release of the converter.",
        ) from None


def up_to_what_the_cpu_has(model: Model) -> tuple[Model | None, tuple[str, ...]]:
    """The model up to the custom ops that the host's CPU has no kernels for, and their names; None where nothing is
    left. A model with all of its ops is given back itself."""
    lacking: list[str] = []
    part: Model | None = model
    while part is not None and any(op.custom is not None for op in part.graph().ops):
        try:
            shapes_at(with_builtin_ops(part), {})
            break
        except Unanswered as error:
            name = lacking_custom_op(" ".join(str(error).split()))
            ops = [op.index for op in part.graph().ops if op.custom is not None and _same(op.custom, name)]
            if not ops:
                break  # another fault, which the reference will tell
            lacking.append(name)
            part = without_ops(part, ops)
    return part, tuple(lacking)


def _same(custom: str, told: str) -> bool:
    return " ".join(custom.split()) == told
