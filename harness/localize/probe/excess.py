"""What a runtime's log says of a limit of the device that was gone beyond.

A dispatch or a binding that is too large is logged and otherwise ignored: the run completes, and what it should have
written stays as it was. Dawn's sentences (ai-edge-litert 2.1.3 to 2.3.0, and Chromium) have the size asked for and the
largest allowed in parentheses:

    Validation error: Dispatch workgroup count Z (65544) exceeds max compute workgroups per dimension (65535).
    Validation error: Binding size (134217744) of [Buffer] is larger than the maximum storage buffer binding size (134217728).
    Texture size ([Extent3D width:16384, …]) exceeded maximum texture size ([Extent3D width:8192, …]).
"""  # noqa: E501 - sentences as they come

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.devices.log_lines import DIGITS, first_match

_BEYOND = r"(?:exceed(?:s|ed|ing)?|is (?:larger|greater|bigger) than)"
_EXCEEDED = re.compile(rf"\S {_BEYOND} (?:the )?max(?:imum)?\b")
_NUMBER = re.compile(rf"\((\d{{1,{DIGITS}}})\)")
_PREFIX = re.compile(r"^.*(?:\w\.cc:\d+\]|[Ee]rror:)\s*")


@dataclass(frozen=True)
class Excess:
    """The runtime's sentence, without a full stop; the size that was asked for and the largest that the device takes,
    0 where the sentence has them in another form."""

    words: str
    asked: int = 0
    most: int = 0


def limit_exceeded(log: str) -> Excess | None:
    """The first sentence of a log that names a limit of the device, if there is one."""
    found = first_match(_EXCEEDED, log)
    if found is None:
        return None
    words = _PREFIX.sub("", found.string).strip().split(". ")[0].rstrip(".")
    before, _, after = re.split(f"({_BEYOND})", words, maxsplit=1)
    asked, most = _NUMBER.findall(before), _NUMBER.findall(after)
    if asked and most and int(asked[-1]) > int(most[0]):
        return Excess(words, int(asked[-1]), int(most[0]))
    return Excess(words)
