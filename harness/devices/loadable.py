"""Whether a file is one that the runtime can load at all, whatever a device makes of it."""

from __future__ import annotations

from harness.devices.refusal import first_words
from harness.devices.shapes import Unanswered, shapes_at
from harness.errors import UsageError
from harness.graph.model import Model


def check_loadable(model: Model) -> None:
    """Whether the host's plain CPU runtime prepares a model. One with custom ops may be right and lack their kernels.

    Raises:
        UsageError: it does not, with its reason.
    """
    if any(op.custom is not None for op in model.graph().ops):
        return
    try:
        shapes_at(model, {})
    except Unanswered as error:
        raise UsageError(
            f"The runtime cannot load this file, on the CPU either: {first_words(str(error))}.",
            "Export the model again, or with another release of the converter.",
        ) from None
