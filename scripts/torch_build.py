"""Which build of PyTorch pip would install, as the report of `pip install --dry-run --report FILE` tells: cpu, cuda, or
none where nothing is to be installed. A build for CUDA is one that requires NVIDIA's packages here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

NVIDIA = ("nvidia-", "cuda-")


def build_of(report: dict[str, Any]) -> str:
    """The word for a report, whose form pip documents. Raises `KeyError` for one without PyTorch's requirements."""
    packages = report["install"]
    if not packages:
        return "none"
    wanted = [Requirement(line) for line in packages[0]["metadata"].get("requires_dist", [])]
    here = [need.name for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    return "cuda" if any(name.lower().startswith(NVIDIA) for name in here) else "cpu"


if __name__ == "__main__":
    sys.stdout.write(build_of(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))) + "\n")
