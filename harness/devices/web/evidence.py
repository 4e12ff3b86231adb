"""What a browser says when a result is none: the GPU's own complaints and the runtime's, in stderr and the console.

LiteRT.js gives outputs, and says that it was fully accelerated, where the GPU took none of its commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.devices.log_lines import lines_of
from harness.devices.refusal import COMPLAINED

SHORTEST = 300
"""Characters of a complaint that are quoted."""

# The page's own word for what no error scope of the runtime's took.
_UNCAPTURED = re.compile(r"^ERROR: uncaptured GPU error: (.+)$")
# Chromium's log of errors in WebGPU commands; what it says of drivers and adapters when it starts is not meant.
_VALIDATION = re.compile(
    r"^\[[\d:/.]+:ERROR:[\w/.]*(?:webgpu|dawn)[\w/.]*[:(]\d+\)?\] "
    r'(GPU\w{1,40}: ".+|.*?(?: - While |[Vv]alidation error).*)$'
)
_FAILED = re.compile(r"^ERROR: .{0,300}?\b([Ff]ailed to (?:allocate|invoke|run)\b.*)$")
_CONSEQUENCE = "is invalid due to a previous error"
_SPEAKER = re.compile(r'^GPU\w{1,40}: "?')
_WHERE = re.compile(r"\s-\sWhile\s")


@dataclass(frozen=True)
class Evidence:
    """Against the values that came with a log: what was complained of, each once and in order."""

    complaints: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """A clause on the first complaint, empty where there is none."""
        if not self.complaints:
            return ""
        more = f" (and {len(self.complaints) - 1} more)" if len(self.complaints) > 1 else ""
        return f"{COMPLAINED}{self.complaints[0]}{more}"


def evidence_in(log: str) -> Evidence:
    """What a job's log holds against its result."""
    found: dict[str, None] = {}
    for line in lines_of(log):
        for pattern in (_UNCAPTURED, _VALIDATION, _FAILED):
            if told := pattern.search(line):
                found[_plain(told[1])] = None
                break
    causes = [said for said in found if not said.endswith(_CONSEQUENCE)]
    return Evidence(tuple(causes or found))


def _plain(said: str) -> str:
    """A complaint without who passed it on, and where in the API it arose: stderr and the page then say the same."""
    text = _SPEAKER.sub("", said.replace("\\n", " "))
    return _WHERE.split(text)[0].strip(' ."')[:SHORTEST]
