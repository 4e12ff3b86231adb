"""The facts of every run of a results folder, read again only where a folder changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.core import safe_files, safe_json
from harness.core.run_folder import to_json
from harness.dashboard.facts import RunFacts, read_facts

# What a run's facts come from. A change of any is a change of the run.
_SOURCES = ("run.json", "samples.csv", "report.html")
_LARGEST_CACHE = 256 << 20
_NUMBERS: dict[Any, Callable[[Any], Any]] = {"float | None": float, "int | None": int, "int": int, "bool": bool}


@dataclass(frozen=True)
class Index:
    """Facts by folder name, with the stamp of what they were read from; `read` names what was read this time."""

    facts: Mapping[str, RunFacts]
    stamps: Mapping[str, str]
    read: tuple[str, ...]

    @property
    def runs(self) -> tuple[RunFacts, ...]:
        """Newest first."""
        return tuple(sorted(self.facts.values(), key=lambda run: (run.started, run.run), reverse=True))


def build_index(results: Path, before: Mapping[str, Any] | None = None) -> Index:
    """Read the run folders under `results`. `before` is `to_cache` of an earlier index, or anything: what is not
    understood of it is read anew."""
    known = _known(before)
    facts: dict[str, RunFacts] = {}
    stamps: dict[str, str] = {}
    read = []
    for folder in run_folders(results):
        stamp = _stamp(folder)
        old = known.get(folder.name)
        # A run that was going on may have ended without a word.
        if old is not None and old[0] == stamp and old[1].state != "running":
            facts[folder.name] = old[1]
        else:
            facts[folder.name] = read_facts(folder)
            if old is None or old != (stamp, facts[folder.name]):
                read.append(folder.name)
        stamps[folder.name] = stamp
    return Index(facts, stamps, tuple(read))


def run_folders(results: Path) -> list[Path]:
    """Folders that hold, or should hold, a run: those with a run.json, and those whose name starts like a run's but
    which have none."""
    found = []
    with os.scandir(results) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            path = Path(entry.path)
            if os.path.lexists(path / "run.json") or _named_like_a_run(entry.name):
                found.append(path)
    return sorted(found, key=lambda path: path.name)


def to_cache(index: Index) -> dict[str, Any]:
    """The index as JSON values."""
    runs = {name: {"stamp": index.stamps[name], "facts": asdict(facts)} for name, facts in index.facts.items()}
    return {"code": code_digest(), "runs": to_json(runs)}


SOURCES_OF_TEXT = (
    "core/fields.py",
    "localize/base/misreadings.py",
    "numerics/metrics.py",
    "numerics/tolerance.py",
    "remedies/cause.py",
)
"""What pages say that is written elsewhere."""


@cache
def code_digest() -> str:
    """Changes with the code and the templates that make the pages: a site made by another release is made anew."""
    digest = sha256()
    here = Path(__file__).parent
    for folder in (here, here.parent / "report"):
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".j2")):
            digest.update(path.read_bytes())
    for name in SOURCES_OF_TEXT:
        digest.update((here.parent / name).read_bytes())
    return digest.hexdigest()


def read_cache(path: Path) -> dict[str, Any]:
    """The document that an earlier build left, of whatever release; empty when there is none that can be read."""
    try:
        document = safe_json.loads(safe_files.read(path, _LARGEST_CACHE))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def of_this_release(document: dict[str, Any]) -> dict[str, Any]:
    """The document if this code made it, for what it holds to be used again; else an empty one."""
    return document if document.get("code") == code_digest() else {}


def _known(before: Mapping[str, Any] | None) -> dict[str, tuple[str, RunFacts]]:
    known = {}
    runs = (before or {}).get("runs")
    for name, entry in runs.items() if isinstance(runs, dict) else ():
        try:
            known[name] = (str(entry["stamp"]), _facts(entry["facts"]))
        except (KeyError, TypeError, ValueError):
            continue
    return known


def _facts(values: Mapping[str, Any]) -> RunFacts:
    """Raises KeyError, TypeError or ValueError when it is not what `to_cache` writes."""
    restored = {}
    for field in fields(RunFacts):
        value = values[field.name]
        if field.type == "tuple[str, ...]":
            value = tuple(str(word) for word in value)
        elif field.type in _NUMBERS and value is not None:
            value = _NUMBERS[field.type](value)
        elif field.type == "str" and not isinstance(value, str):
            raise TypeError(field.name)
        restored[field.name] = value
    return RunFacts(**restored)


def _stamp(folder: Path) -> str:
    """Size and time of change of each source."""
    return " ".join(safe_files.stamp_of(folder / name) or "-" for name in _SOURCES)


def _named_like_a_run(name: str) -> bool:
    return len(name) > 17 and name[:8].isdigit() and name[8] == "T" and name[9:15].isdigit() and name[15:17] == "Z-"
