"""Commands that read and change files of the phone."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

from tests.standin.system.state import APK, PACKAGE, say, unknown

TOOLS = f"/data/local/tmp/{PACKAGE}"


def cat(words: list[str]) -> int:
    if words != ["/proc/sys/kernel/random/boot_id"]:
        unknown()
    return say(Path(words[0]).read_text("ascii"))


def timeout(words: list[str]) -> int:
    """`timeout SECONDS cat`, to the end of the standard input or of the time."""
    if len(words) != 2 or not words[0].isdecimal() or words[1] != "cat":
        unknown()
    deadline = time.monotonic() + int(words[0])
    while True:
        ready, _, _ = select.select([0], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return 143
        if not (piece := os.read(0, 4096)):
            return 0
        sys.stdout.buffer.write(piece)


def rm(words: list[str]) -> int:
    match words:
        case ["-f", path] if path.startswith("/data/local/tmp/"):
            Path(path).unlink(missing_ok=True)
        case ["-rf", path] if is_of_tools(path):
            import shutil

            shutil.rmtree(path, ignore_errors=True)
        case _:
            unknown()
    return 0


def is_of_tools(path: str) -> bool:
    return (path == TOOLS or path.startswith(f"{TOOLS}/")) and ".." not in path.split("/")


def mkdir(words: list[str]) -> int:
    if len(words) != 2 or words[0] != "-p" or not is_of_tools(words[1]):
        unknown()
    try:
        Path(words[1]).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"mkdir: '{words[1]}': {error.strerror}\n")
        return 1
    return 0


def mv(words: list[str]) -> int:
    if len(words) != 2 or not all(map(is_of_tools, words)) or Path(words[1]).exists():
        unknown()
    Path(words[0]).rename(words[1])
    return 0


def chmod(words: list[str]) -> int:
    if len(words) != 2 or words[0] != "755" or not is_of_tools(words[1]):
        unknown()
    Path(words[1]).chmod(0o755)
    return 0


def sha256sum(words: list[str]) -> int:
    import hashlib

    if words != [str(APK)] and not (words and all(map(is_of_tools, words))):
        unknown()
    lacking = [path for path in words if not Path(path).is_file()]
    for path in words:
        if path in lacking:
            sys.stderr.write(f"sha256sum: {path}: No such file or directory\n")
        else:
            say(f"{hashlib.sha256(Path(path).read_bytes()).hexdigest()}  {path}\n")
    return 1 if lacking else 0
