"""Which build of PyTorch pip would install, from what `pip index versions torch` printed, on stdin.

`there`: one that suits is installed, or its file is named; `cpu`: a build marked so; `unmarked`: any other. No wheel is
fetched for it: one for CUDA has half a gigabyte, and says so in its requirements alone.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version


def build_of(wanted: Requirement, installed: str | None, offered: str) -> str:
    """The word for a requirement. Raises `ValueError` where nothing that is offered suits."""
    if wanted.url is not None or (installed is not None and wanted.specifier.contains(installed)):
        return "there"
    line = re.search(r"^Available versions: (.+)$", offered, re.MULTILINE)
    suiting = list(wanted.specifier.filter(map(Version, line[1].split(", ")))) if line else []
    if not suiting:
        raise ValueError(f"no {wanted} is offered")
    return "cpu" if (max(suiting).local or "").startswith("cpu") else "unmarked"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main(words: str, offered: str) -> str:
    """The word for what was asked: a requirement, or a wheel's path or address, which names its build itself."""
    try:
        asked = Requirement(words)
    except InvalidRequirement:
        if not words.endswith(".whl"):
            raise
        return "there"
    return build_of(asked, _installed(asked.name), offered)


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], sys.stdin.read()) + "\n")
