"""What a runtime's log says of a limit of the device that was gone beyond.

A dispatch or a binding that is too large is logged and otherwise ignored: the run completes, and what it should have
written stays as it was. Dawn's sentences (ai-edge-litert 2.1.3 to 2.3.0, and Chromium) have the size asked for and the
largest allowed in parentheses, a texture's in each dimension:

    Validation error: Dispatch workgroup count Z (65544) exceeds max compute workgroups per dimension (65535).
    Validation error: Binding size (134217744) of [Buffer] is larger than the maximum storage buffer binding size (134217728).
    Texture size ([Extent3D width:16384, …]) exceeded maximum texture size ([Extent3D width:8192, …]).

On the host it is a line of the log and no more. A browser passes it to the page, so that the job is a refusal with that
sentence as its reason.
"""  # noqa: E501 - sentences as they come

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.devices.log_lines import DIGITS, matches
from harness.devices.refusal import COMPLAINED

_BEYOND = r"(?:exceed(?:s|ed|ing)?|is (?:larger|greater|bigger) than)"
_EXCEEDED = re.compile(rf"\S {_BEYOND} (?:the )?max(?:imum)?\b")
_NUMBER = re.compile(rf"\((\d{{1,{DIGITS}}})\)")
_PREFIX = re.compile(r"^.*(?:\w\.cc:\d+\]|[Ee]rror:)\s*")
# Who passed it on, and in which call of the API it arose.
_MORE = re.compile(r" \(and \d+ more\)$")
_SPEAKER, _WHERE = re.compile(r'^GPU\w{1,40}: "?'), re.compile(r"(?:\s|\\n)+- While\s")
_EXTENT = re.compile(rf"\b(width|height|depthOrArrayLayers):\s?(\d{{1,{DIGITS}}})\b")


@dataclass(frozen=True)
class Excess:
    """The runtime's sentence, without a full stop; the size that was asked for and the largest that the device takes,
    0 where the sentence has them in another form."""

    words: str
    asked: int = 0
    most: int = 0

    @property
    def plain(self) -> str:
        """The sentence for a reader: Dawn's own, but for textures, of which it tells all dimensions of a struct."""
        before, _, after = re.split(f"({_BEYOND})", self.words, maxsplit=1) if _EXTENT.search(self.words) else ("",) * 3
        asked, most = ([f"{int(n):,}" for side, n in _EXTENT.findall(text)][:2] for text in (before, after))
        if len(asked) != 2 or len(most) != 2:
            return self.words
        return f"a texture of {' x '.join(asked)}, where the device takes up to {' x '.join(most)}"

    @property
    def kind(self) -> str:
        """The sentence without its numbers: another size beyond the same limit has the same."""
        return re.sub(r"\d+", "N", self.words)


def limit_exceeded(log: str) -> Excess | None:
    """The first sentence of a log that names a limit of the device, if there is one."""
    return next(iter(limits_exceeded(log)), None)


def limits_exceeded(log: str) -> tuple[Excess, ...]:
    """Every sentence of a log that names a limit of the device, each once."""
    found = (_excess(match.string) for match in matches(_EXCEEDED, log))
    return tuple({excess.words: excess for excess in found}.values())


def refused_beyond(reason: str, log: str) -> tuple[Excess, ...]:
    """What a refusal says of limits: its reason's first, then the log's; nothing where the reason is another one."""
    first = limit_exceeded(reason.removeprefix(COMPLAINED)) if reason.startswith(COMPLAINED) else None
    if first is None:
        return ()
    return (first, *(other for other in limits_exceeded(log) if other.kind != first.kind))


def _excess(line: str) -> Excess:
    words = _SPEAKER.sub("", _MORE.sub("", _PREFIX.sub("", line).strip()))
    words = _WHERE.split(words)[0].split(". ")[0].strip(' ."')
    before, _, after = re.split(f"({_BEYOND})", words, maxsplit=1)
    asked, most = _NUMBER.findall(before), _NUMBER.findall(after)
    if asked and most and int(asked[-1]) > int(most[0]):
        return Excess(words, int(asked[-1]), int(most[0]))
    allowed = dict(_EXTENT.findall(after))
    sizes = [(int(n), int(allowed[side])) for side, n in _EXTENT.findall(before) if side in allowed]
    beyond = [pair for pair in sizes if pair[0] > pair[1]]
    return Excess(words, *beyond[0]) if beyond else Excess(words)
