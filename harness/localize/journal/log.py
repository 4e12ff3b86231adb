"""The journal of a run: every probe of the device is written down before it runs, and its outcome once it is in.

`<run>/journal/log` grows line by line, each line a checksum and one JSON object; `<run>/journal/<probe>.safetensors`
holds the outputs of a finished probe. A line is on the disk before the next step begins, and a probe's outputs are
before the line that says so: whatever ends the process or the machine, a probe that is marked finished is whole. What
does not match its checksum counts as never written.

A line that starts a probe and is followed by no line that ends it was cut short: by a kill, which says nothing of the
probe, or by the machine going down, which the boot id of the next session tells. The latter counts as a crash.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.core import safe_files, safe_json
from harness.core.errors import StorageError, UsageError
from harness.core.run_folder import writing
from harness.devices.scratch import try_lock

SCHEMA = 1
FOLDER = "journal"
# A line holds figures and the end of a log, never tensors.
MOST_LINE = 1 << 20
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
        path = self.folder / "log"
        with writing(path):
            self.folder.mkdir(exist_ok=True)
            safe_files.check_folder(self.folder)
            if os.path.lexists(path) and not safe_files.is_file(path):  # a pipe would be waited for
                raise OSError(errno.EINVAL, "it is no file but a link, a folder or a device")
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        if not (held := try_lock(self._file)):
            os.close(self._file)
            if held is None:
                raise StorageError(
                    f"Run {run} is on a file system without locks, where two commands could write one journal.",
                    "Choose a folder on a disk of this machine with --out.",
                )
            raise UsageError(f"Run {run} is still being worked on.", "Wait for its end, or stop it.")
        try:
            self._end = self._load(run, identity)
            if not self._end:
                self.append("run", schema=SCHEMA, identity=asdict(identity))
            self.append("session", boot=boot_id(), pid=os.getpid())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have it."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

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
        body = json.dumps(line, allow_nan=True).encode()
        raw = b"%08x %s\n" % (zlib.crc32(body), body)
        with writing(self.folder / "log"):
            try:
                done = os.pwrite(self._file, raw, self._end)
                if done < len(raw):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._end += len(raw)
        self._take(line)

    def drop_outputs(self) -> None:
        """Remove the outputs: the answer is in, and nobody will continue this run."""
        for path in [*self.folder.glob("*.safetensors"), *self.folder.glob("*.part")]:
            with suppress(OSError):  # what cannot be removed, such as a folder of that name, is none of its files
                path.unlink(missing_ok=True)

    def _load(self, run: Path, identity: Identity) -> int:
        """Read what is there; the offset behind its last whole line."""
        size = os.fstat(self._file).st_size
        if not size:
            return 0
        if size > MOST_BYTES:
            raise UsageError(f"The journal of {run} is {size >> 20} MiB large.", "Start anew with --fresh.")
        raw = os.pread(self._file, size, 0)
        end = raw.rfind(b"\n") + 1
        os.ftruncate(self._file, end)  # a last line without its end was never written
        if not end:
            return 0
        lines = list(_lines(raw))
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
        return end

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
    """Each line's object; None for one that is damaged. A last line without its end was never written."""
    for line in raw.split(b"\n")[:-1]:
        head, _, body = line.partition(b" ")
        try:
            whole = len(line) <= MOST_LINE and int(head, 16) == zlib.crc32(body)
            found = safe_json.loads(body) if whole else None
        except ValueError:
            found = None
        yield found if isinstance(found, dict) and _is_entry(found) else None


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
