"""What a browser says when a result is none: the GPU's own complaints and the runtime's, in stderr and the console.

LiteRT.js gives outputs, and says that it was fully accelerated, where the GPU took none of its commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.devices.log_lines import lines_of

SHORTEST = 300
"""Characters of a complaint that are quoted."""

# The page's own word for what no error scope of the runtime's took.
_UNCAPTURED = re.compile(r"^ERROR: uncaptured GPU error: (.+)$")
_LOST = re.compile(r"GPU device lost \(.*$")
# The GPU process's log of errors in WebGPU commands, captured or not.
_VALIDATION = re.compile(r"^\[[\d:/.]+:(?:ERROR|WARNING):[\w/.]*(?:webgpu|dawn)[\w/.]*[:(]\d+\)?\] (.+)$")
_ENDED = re.compile(r"^\[[\d:/.]+:ERROR:\S*gpu_process_host\S*\] (GPU process exited unexpectedly.*)$")
_FAILED = re.compile(r"^(?:ERROR: )?(?:ERROR: )?(Failed to (?:allocate|invoke|run|create|apply|modify|register)\b.*)$")


@dataclass(frozen=True)
class Evidence:
    """Against the values that came with a log: `complaints`, each once and in order, and what ended the GPU's process
    or device, if that was it."""

    complaints: tuple[str, ...] = ()
    lost: str = ""

    @property
    def reason(self) -> str:
        """A clause on the first complaint, empty where there is none."""
        if not self.complaints:
            return ""
        more = f" (and {len(self.complaints) - 1} more)" if len(self.complaints) > 1 else ""
        return f"the browser complained, so that its outputs are no result: {self.complaints[0]}{more}"


def evidence_in(log: str) -> Evidence:
    """What a job's log holds against its result."""
    found: dict[str, None] = {}
    lost = ""
    for line in lines_of(log):
        for pattern in (_UNCAPTURED, _VALIDATION, _FAILED):
            if told := pattern.search(line):
                found[told[1].strip().rstrip(".")[:SHORTEST]] = None
                break
        if told := _LOST.search(line) or _ENDED.search(line):
            lost = lost or told[0].partition("] ")[2].strip() or told[0].strip()
    return Evidence(tuple(found), lost[:SHORTEST])
