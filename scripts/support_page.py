"""Writes what docs/support.md shows of the kept support matrices: `python -m scripts.support_page`."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from harness.dashboard.support import markdown
from harness.dashboard.support.differences import differences
from harness.dashboard.support.document import Support, read

ROOT = Path(__file__).resolve().parent.parent
PAGE, KEPT = ROOT / "docs" / "support.md", ROOT / "docs" / "support"


def kept() -> list[Support]:
    """The matrices that are kept, a device's releases oldest first."""
    found = [read(path) for path in sorted(KEPT.glob("*.json"))]
    return sorted(found, key=lambda s: (s.device["kind"], [int(n) for n in re.findall(r"\d+", s.device["runtime"])]))


def filled(page: str, supports: list[Support]) -> str:
    """The page with each part between `<!-- NAME -->` and `<!-- end -->` written anew."""
    hosts = [support for support in supports if support.device["kind"] == "host"]
    parts = {
        "totals": markdown.totals(supports),
        "changes": "\n\n".join(markdown.changes(differences(one, other)) for one, other in pairwise(hosts)),
        "finds": markdown.finds(hosts[-1]),
    }
    for name, text in parts.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page = block.sub(lambda found, text=text: f"{found[1]}\n{text}\n{found[2]}", page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8"), kept()), encoding="utf-8")
