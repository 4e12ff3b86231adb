"""Which release the tree is: `python -m scripts.version [VERSION]` prints it, and fails where a file or VERSION says
another.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def versions(root: Path) -> dict[str, str]:
    """What each file that states the version says; empty where it says none."""

    def found(path: str, pattern: str) -> str:
        stated = re.search(pattern, (root / path).read_text(encoding="utf-8"), re.MULTILINE)
        return stated[1] if stated else ""

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "pyproject.toml": project["version"],
        "CITATION.cff": found("CITATION.cff", r"^version: (\S+)$"),
        "harness/__init__.py": found("harness/__init__.py", r'^__version__ = "(\S+)"$'),
        "android_app/gradle.properties": found("android_app/gradle.properties", r"^appVersion=(\S+)$"),
    }


def main(words: list[str]) -> None:
    """Raises SystemExit with a sentence where they differ."""
    said = versions(ROOT) | ({"the tag": words[0]} if words else {})
    if len(set(said.values())) > 1:
        raise SystemExit("Not one version: " + ", ".join(f"{where} says {what}" for where, what in said.items()) + ".")
    print(said["pyproject.toml"])


if __name__ == "__main__":
    main(sys.argv[1:])
