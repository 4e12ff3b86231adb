"""The journal of a run: every probe of the device is written down before it runs, and its outcome once it is in.

`<run>/journal/log` grows line by line, each line a checksum and one JSON object; `<run>/journal/<probe>.safetensors`
holds the outputs of a finished probe. A line is on the disk before the next step begins, and a probe's outputs are
before the line that says so: whatever ends the process or the machine, a probe that is marked finished is whole. What
does not match its checksum counts as never written.

A line that starts a probe and is followed by no line that ends it was cut short: by a kill, which says nothing of the
probe, or by the machine going down, which the boot id of the next session tells. The latter counts as a crash.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.core import safe_files
from harness.core.errors import UsageError
from harness.localize.probe.journal.lines import MOST_LINE, CheckedLines, parsed

SCHEMA = 1
FOLDER = "journal"
MOST_BYTES = 1 << 30

Ending = Literal["completed", "rejected", "crashed", "hung", "lost"]
FINISHED: frozenset[Ending] = frozenset({"completed", "rejected"})
# What a line of each kind has, and what one that ends a probe has besides.
_ENTRIES: dict[str, dict[str, type]] = {
    "session": {"boot": str},
    "start": {"probe": str, "boot": str},
    "end": {"probe": str, "ending": str},
}
_ENDINGS: dict[str, dict[str, type]] = {
    "completed": {"outcome": dict},
    "rejected": {"outcome": dict},
    "crashed": {"reason": str},
    "hung": {"reason": str},
    "lost": {},
}


@dataclass(frozen=True)
class Identity:
    """What a run asked of whom. Another one's probes answer none of its questions. `inputs` is a digest."""

    model: str
    inputs: str
    device: str
    kind: str
    runtime: str
    system: str
    accelerator: str
    precision: str
    threads: int
    fallback: str = "none"

    def differences(self, other: Identity) -> list[str]:
        """What differs from `other`, in clauses: mine, then the other's."""
        mine, others = asdict(self), asdict(other)
        return [
            f"{name} {_short(mine[name])}, not {_short(others[name])}" for name in mine if mine[name] != others[name]
        ]


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else repr(text[:60]) if isinstance(value, str) else text


@dataclass(frozen=True)
class RecordedFailure:
    """One time that a probe took the device down."""

    cause: Literal["crash", "hang"]
    reason: str


@dataclass
class History:
    """What the journal knows of one probe. `end` is the line of its finished outcome."""

    starts: int = 0
    open_since: str | None = None
    end: dict[str, Any] | None = None
    failures: list[RecordedFailure] = field(default_factory=list)


class Journal:
    """One run's journal, open for this process alone.

    Raises:
        StorageError: it cannot be written. UsageError: another process has it, or it is of another run.
    """

    def __init__(self, run: Path, identity: Identity) -> None:
        self.folder = run / FOLDER
        self.probes: dict[str, History] = {}
        self.damaged = 0
        self.adapter = ""
        self.sessions = 0
        self._lines = CheckedLines(self.folder / "log", run)
        try:
            if not self._load(run, identity):
                self.append("run", schema=SCHEMA, identity=asdict(identity))
            self.append("session", boot=boot_id(), pid=os.getpid())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have it."""
        self._lines.close()

    @property
    def finished(self) -> int:
        """Probes whose outcome is in."""
        return sum(history.end is not None for history in self.probes.values())

    def of(self, probe: str) -> History:
        """What is known of a probe."""
        return self.probes.setdefault(probe, History())

    def begin(self, probe: str, **what: Any) -> None:
        """A probe is about to run."""
        self.append("start", probe=probe, boot=boot_id(), **what)

    def finish(self, probe: str, ending: Ending, **outcome: Any) -> None:
        """A probe came to an end."""
        self.append("end", probe=probe, ending=ending, **outcome)

    def append(self, entry: str, **fields: Any) -> None:
        """Write one line, to the disk. Raises StorageError, and leaves no part of the line then."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"entry": entry, "utc": now, **fields}
        self._lines.append(line)
        self._take(line)

    def drop_outputs(self) -> None:
        """Remove the outputs: the answer is in, and nobody will continue this run."""
        for path in [*self.folder.glob("*.safetensors"), *self.folder.glob("*.part")]:
            with suppress(OSError):  # what cannot be removed, such as a folder of that name, is none of its files
                path.unlink(missing_ok=True)

    def _load(self, run: Path, identity: Identity) -> bool:
        """Read what is there; whether there was a whole line."""
        lines = [_entry(line) for line in self._lines.load(MOST_BYTES)]
        if not lines:
            return False
        found = None if lines[0] is None else _identity_of(lines[0])
        if found is None:
            raise UsageError(f"The journal of {run} cannot be read.", "Start anew with --fresh.")
        differences = found.differences(identity)
        if differences:
            raise UsageError(f"Run {run} was begun with {'; '.join(differences)}.", "Start anew with --fresh.")
        self.damaged = sum(line is None for line in lines)
        for line in lines:
            if line is not None:
                self._take(line)
        return True

    def _take(self, line: dict[str, Any]) -> None:
        match line["entry"]:
            case "session":
                self.sessions += 1
                for history in self.probes.values():
                    if history.open_since not in (None, line["boot"]):
                        history.failures.append(RecordedFailure("crash", "the machine restarted while it ran"))
                    history.open_since = None
            case "start":
                history = self.of(line["probe"])
                history.starts += 1
                history.open_since = line["boot"] or None
            case "end":
                history = self.of(line["probe"])
                history.open_since = None
                ending = line["ending"]
                if ending in FINISHED:
                    history.end = line
                    adapter = line["outcome"].get("adapter")
                    self.adapter = adapter if adapter and isinstance(adapter, str) else self.adapter
                elif ending in ("crashed", "hung"):
                    cause: Literal["crash", "hang"] = "crash" if ending == "crashed" else "hang"
                    history.failures.append(RecordedFailure(cause, line["reason"]))


def read_identity(run: Path) -> Identity | None:
    """What a run with a journal was about; None for any other folder."""
    try:
        first, end, _ = safe_files.head(run / FOLDER / "log", MOST_LINE).partition(b"\n")
    except OSError:
        return None
    line = next(_lines(first + end), None)
    return None if line is None else _identity_of(line)


def starts_after_finish(run: Path) -> tuple[int, int]:
    """(finished probes, how many of them were begun again afterwards): the second is to be 0."""
    done: set[str] = set()
    again: Counter[str] = Counter()
    for line in _lines(safe_files.read(run / FOLDER / "log")):
        if line is None:
            continue
        if line["entry"] == "end" and line["ending"] in FINISHED:
            done.add(line["probe"])
        if line["entry"] == "start" and line["probe"] in done:
            again[line["probe"]] += 1
    return len(done), again.total()


def boot_id() -> str:
    """Changes when the machine restarts; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _lines(raw: bytes) -> Iterator[dict[str, Any] | None]:
    """Each line's entry; None for one that is damaged."""
    return map(_entry, parsed(raw))


def _entry(line: dict[str, Any] | None) -> dict[str, Any] | None:
    return line if line is not None and _is_entry(line) else None


def _is_entry(line: dict[str, Any]) -> bool:
    """Whether a line has what its kind of entry has: its checksum vouches for a whole line, not for who wrote it."""
    kind = line.get("entry")
    wanted: dict[str, type] = _ENTRIES.get(kind, {}) if isinstance(kind, str) else {}
    if kind == "end":
        wanted = wanted | _ENDINGS.get(str(line.get("ending")), {"": str})
    return kind == "run" or (bool(wanted) and all(isinstance(line.get(name), of) for name, of in wanted.items()))


def _identity_of(line: dict[str, Any]) -> Identity | None:
    if line.get("entry") != "run" or line.get("schema") != SCHEMA:
        return None
    try:
        return Identity(**line["identity"])
    except (KeyError, TypeError):
        return None
