"""Whether a file is one that the runtime can load at all, whatever a device makes of it."""

from __future__ import annotations

from harness.devices.refusal import first_words
from harness.devices.shapes import Unanswered, Undecided, shapes_at
from harness.errors import UsageError
from harness.graph.model import Model


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
        if "unresolved custom op" in str(error):
            return
        raise UsageError(
            f"The runtime cannot load this file, on the CPU either: {first_words(str(error))}.",
            "Export the model again, or with another release of the converter.",
        ) from None
