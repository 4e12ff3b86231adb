"""A culprit as a card shows it: the graph around it, the files that were made of it, and all that is known as JSON."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.core.errors import UsageError
from harness.core.run_folder import to_json
from harness.report import verdict
from harness.report.command import quote as shell_quote
from harness.report.drawn.around import Around, around
from harness.report.drawn.graph import KeptGraph, read_graph
from harness.report.drawn.views import Views
from harness.report.record import CulpritFacts, Run
from harness.report.tables import OpRow

_FOLDERS = ("releases", "remedies", "reproducers")
_LONGEST_JSON = 20_000


@dataclass(frozen=True)
class Card:
    """A culprit with its place in the table of ops and among the values that are shown, what is around it, its JSON
    (empty where it is too long to be of use), and the command that shows it again by itself."""

    culprit: CulpritFacts
    row: int | None
    view: int | None
    around: Around | None
    document: str
    command: str


@dataclass(frozen=True)
class Group:
    """Culprits of one op, cause and signature."""

    cause: str
    signature: str
    members: tuple[Card, ...]


@dataclass(frozen=True)
class Cards:
    """All of a run's, and why there is no graph around them."""

    groups: tuple[Group, ...]
    no_graph: str = ""


def cards(
    folder: Path, run: Run, most: int, rows: Sequence[OpRow], shown: Views | None, record: Mapping[str, Any]
) -> Cards:
    """The cards of the first `most` culprits. `rows` are those of the page's table of ops, `record` is run.json."""
    culprits = run.culprits[:most]
    if not culprits:
        return Cards(())
    graph, problem = _graph(folder)
    result = record.get("result")
    documents = result.get("culprits") if isinstance(result, dict) else None
    known = {culprit: documents[at] for at, culprit in enumerate(culprits)} if isinstance(documents, list) else {}

    def card(culprit: CulpritFacts) -> Card:
        return Card(
            culprit=culprit,
            row=row_of(culprit, rows),
            view=shown.of_op(culprit.last) if shown else None,
            around=around(graph, culprit.first, culprit.last, rows) if graph else None,
            document=_document(known.get(culprit), {"remedies"} if run.remedies else set()),
            command=_command(folder, culprit.reproducer),
        )

    groups = [Group(g[0].cause, g[0].signature, tuple(map(card, g))) for g in verdict.group(culprits)]
    return Cards(tuple(groups), problem)


def row_of(culprit: CulpritFacts, rows: Sequence[OpRow]) -> int | None:
    """Where the table of ops has a culprit."""
    for place, row in enumerate(rows):
        if (row.index, row.output, row.verdict) == (culprit.last, culprit.output, "culprit"):
            return place
    return None


def address(folder: Path, path: str) -> str:
    """The address, from the page beside run.json, of a file or folder that the run made; empty where it is not there,
    or not of the run folder."""
    parts = path.split("/")
    if len(parts) < 2 or parts[0] not in _FOLDERS or any(part in ("", ".", "..") or "\0" in part for part in parts):
        return ""
    here, mode = folder, 0
    try:
        for part in parts:
            here = here / part
            mode = os.lstat(here).st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):  # a link, for one
                return ""
    except (OSError, ValueError):
        return ""
    return quote(path.encode("utf-8", "surrogateescape")) + ("/" if stat.S_ISDIR(mode) else "")


def _graph(folder: Path) -> tuple[KeptGraph | None, str]:
    try:
        graph = read_graph(folder)
    except UsageError as error:
        return None, error.message
    if graph is None:
        return None, "This run has no graph.json, which says what reads what, so no graph is drawn."
    return graph, ""


def _document(known: Any, told_once: Set[str]) -> str:
    """A culprit as run.json has it, without what all of them share, which the page tells once."""
    if not isinstance(known, dict):
        return ""
    own = {name: value for name, value in known.items() if name not in told_once}
    text = json.dumps(to_json(own), indent=1, ensure_ascii=False)
    return text if len(text) <= _LONGEST_JSON else ""


def _command(folder: Path, reproducer: str) -> str:
    """What runs a reproducer, from the run folder; empty where it is not there."""
    at = f"{reproducer}/reproduce.py"
    return f"python {shell_quote(at)}" if reproducer and address(folder, at) else ""
