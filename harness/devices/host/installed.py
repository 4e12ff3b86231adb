"""Whether the files of an environment are still those that were installed.

A record of every file is made once, right after the installation, and lies beside the environment, where no package
that is installed writes. It finds damage: a file that was cut short, changed, lost or added. It is no protection from
somebody who may write to the folder, and so may write the record too.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.core import safe_files, safe_json

_MOST_RECORD = 64 << 20
# What file browsers and network file systems leave in any folder; Python imports none of it.
_BY_THE_WAY = (".DS_Store", ".nfs")


def record(folder: Path, into: Path) -> None:
    """Write down every file and link of `folder`, with size and SHA-256 or with where it leads. Raises OSError."""
    into.write_text(json.dumps(_facts(folder, dict(_entries(folder))), indent=0) + "\n", encoding="utf-8")


def damage(folder: Path, recorded: Path) -> str:
    """What is not as `record` found it, as the end of a sentence; empty where nothing is.

    Compiled code that was added is passed over: Python writes it where the code is run with other options.
    """
    try:
        known = safe_json.loads(safe_files.read(recorded, _MOST_RECORD))
    except FileNotFoundError:
        return "there is no record of its files"
    except (OSError, ValueError) as error:
        return f"the record of its files cannot be read ({error})"
    if not isinstance(known, dict):
        return "the record of its files is none"
    try:
        found = dict(_entries(folder))
        for name in sorted(known.keys() - found.keys()):
            return f"{name} is missing"
        for name in sorted(found.keys() - known.keys()):
            if not name.endswith(".pyc") and not Path(name).name.startswith(_BY_THE_WAY):
                return f"{name} was not installed with it"
        facts = _facts(folder, {name: entry for name, entry in found.items() if name in known})
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    return next((f"{name} is not as it was installed" for name in sorted(facts) if facts[name] != known[name]), "")


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Each file, link or other thing below `folder` that is no folder, by its path from there. No link is followed."""
    above = len(str(folder)) + 1
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    yield entry.path[above:], entry.stat(follow_symlinks=False)


def _facts(folder: Path, entries: dict[str, os.stat_result]) -> dict[str, str]:
    return {name: _fact(folder / name, entry) for name, entry in entries.items()}


def _fact(path: Path, entry: os.stat_result) -> str:
    if stat.S_ISLNK(entry.st_mode):
        path.stat()  # a link that leads nowhere is no better than a lost file
        return f"link {path.readlink()}"
    if not stat.S_ISREG(entry.st_mode):
        return f"no file but {stat.filemode(entry.st_mode)}"
    with path.open("rb") as file:
        return f"{entry.st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
