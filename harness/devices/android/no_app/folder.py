"""LiteRT's stock command-line tool in a folder that the user names, and its way to a phone.

The files of a release for android_arm64 are `run_model`, `libLiteRt.so` and, for the GPU,
`libLiteRtClGlAccelerator.so`: the three that Google's own litert-cli 0.2.1 fetches and pushes
(litert_cli/commands/run/android.py of google-ai-edge/LiteRT-CLI). They are pushed once, into a folder by their content,
and compared with it by SHA-256 at each start.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DeviceError, UsageError
from harness.core.progress import Say
from harness.devices.android.adb import Adb, AdbError
from harness.devices.android.apk import PACKAGE, PUSH_SECONDS, SLOWEST_LINE
from harness.devices.android.no_app.words import TOOL
from harness.devices.refusal import last_words

ROOT = f"/data/local/tmp/{PACKAGE}"
"""On the phone: holds the tools, and a folder for each process that runs jobs."""
JOBS = f"{ROOT}/jobs"
# As `pkill -f` takes it; the brackets keep it from matching the shell that it stands in.
OF_JOBS = f"{ROOT}/[j]obs/"
CLEAR_SECONDS = 30.0
PROBE_SECONDS = 30.0
HOW = f"Give --tools a folder with {TOOL} and its libraries, of one LiteRT release for android_arm64 (docs/phone.md)."
NO_SPACE = "No space left"

_LIBRARY = re.compile(r"lib[A-Za-z0-9_.+-]{1,100}\.so")
_ACCELERATOR = re.compile(r"libLiteRt[A-Za-z]*Accelerator\.so")
_MOST_FILES = 64
_MOST_BYTES = 2 << 30
_ELF = struct.Struct("<4sB13xH")  # magic, class, and the machine at offset 18
_ARM64 = 183
# What the tool says where it is told no model: proof that it starts, with all its libraries.
_STARTS = "Model filename is empty"


@dataclass(frozen=True)
class Tools:
    """The files of a folder: name and SHA-256 of each; `size` in bytes, of all."""

    folder: Path
    files: tuple[tuple[str, str], ...]
    size: int

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents."""
        return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in self.files).encode()).hexdigest()

    @property
    def there(self) -> str:
        """Their folder on a phone."""
        return f"{ROOT}/tools-{self.digest[:16]}"

    @property
    def has_gpu(self) -> bool:
        """Whether a GPU accelerator is among them."""
        return any(_ACCELERATOR.fullmatch(name) for name, _ in self.files)


def chosen_tools(tools: Path | None, apk: Path | None) -> Path | None:
    """The folder that is to be used in the place of an app: `--tools`, else `HARNESS_TOOLS` where no APK is named.

    Raises:
        UsageError: both are given as options.
    """
    if tools is not None and apk is not None:
        raise UsageError("--tools and --apk are two ways to run models on a phone.", "Give one of them.")
    named = os.environ.get("HARNESS_TOOLS")
    if tools is None and apk is None and named and not os.environ.get("HARNESS_APK"):
        return Path(named)
    return tools


def tools_in(folder: Path) -> Tools:
    """What a folder holds.

    Raises:
        UsageError: it cannot be read, lacks the tool, or holds one for another machine.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
        wanted = [name for name in names if name == TOOL or _LIBRARY.fullmatch(name)]
        if TOOL not in wanted:
            raise UsageError(f"{folder} holds no {TOOL}.", HOW)
        size = sum((folder / name).stat().st_size for name in wanted)
        if len(wanted) > _MOST_FILES or size > _MOST_BYTES:
            raise UsageError(f"{folder} holds {len(wanted)} libraries of {size:,} bytes: too much for a release.", HOW)
        found = [_file(folder / name) for name in wanted]
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be read ({error.strerror or error}).", HOW) from None
    return Tools(folder, tuple(found), size)


def ensure_tools(adb: Adb, tools: Tools, progress: Say | None = None) -> None:
    """Have the tools on the phone, byte for byte, and nothing that an earlier job left; the tool must start.

    Raises:
        DeviceError: the phone has no room for them, or cannot run them.
    """
    clear(adb, JOBS)
    if not _is_there(adb, tools):
        if progress:
            progress(f"pushing {TOOL} to {adb.serial} (once)")
        _push(adb, tools)
    script = f"LD_LIBRARY_PATH={tools.there} {tools.there}/{TOOL}"
    said = adb.call("shell", script, seconds=PROBE_SECONDS, check=False)
    if _STARTS not in said:
        why = last_words(said) or (said.strip().splitlines() or ["it says nothing"])[-1][:200]
        raise DeviceError(f"{TOOL} of {tools.folder} does not start on {adb.serial}: {why.rstrip('.')}.", HOW)


def clear(adb: Adb, folder: str) -> None:
    """End what runs for any job, and remove a folder under `ROOT`. Raises AdbError."""
    adb.shell("pkill", "-l", "KILL", "-f", OF_JOBS, check=False)
    adb.shell("rm", "-rf", folder, seconds=CLEAR_SECONDS)


def _file(path: Path) -> tuple[str, str]:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for
        raise UsageError(f"{path} is no file.", HOW)
    with path.open("rb") as file:
        head = file.read(_ELF.size)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if head.startswith(b"\x7fELF"):
        _, bits, machine = _ELF.unpack(head) if len(head) == _ELF.size else (b"", 0, 0)
        if bits != 2 or machine != _ARM64:
            raise UsageError(f"{path} is for another machine than a phone with arm64.", HOW)
    elif path.name == TOOL and not head.startswith(b"#!"):
        raise UsageError(f"{path} is no program.", HOW)
    return path.name, digest


def _is_there(adb: Adb, tools: Tools) -> bool:
    paths = {f"{tools.there}/{name}": digest for name, digest in tools.files}
    said = adb.shell("sha256sum", *paths, seconds=CLEAR_SECONDS, check=False)
    found = dict(line.split("  ", 1)[::-1] for line in said.splitlines() if "  " in line)
    return found == paths


def _push(adb: Adb, tools: Tools) -> None:
    part = f"{ROOT}/part"
    files = [str(tools.folder / name) for name, _ in tools.files]
    # Tools of other releases stay as long as there is room: another device of this process may be using them.
    for cleared in (part, ROOT):
        clear(adb, cleared)
        try:
            adb.shell("rm", "-rf", tools.there, seconds=CLEAR_SECONDS)
            adb.shell("mkdir", "-p", part)
            adb.call("push", *files, part, seconds=PUSH_SECONDS + tools.size / SLOWEST_LINE)
            adb.shell("chmod", "755", f"{part}/{TOOL}")
            adb.shell("mv", part, tools.there)
            break
        except AdbError as error:
            if NO_SPACE not in error.output:
                raise
        except BaseException:  # Ctrl-C
            _forget(adb, part)
            raise
    else:
        _forget(adb, part)
        raise DeviceError(f"{adb.serial} has no room for {TOOL}.", "Free space on the phone.")
    if not _is_there(adb, tools):
        raise DeviceError(f"{adb.serial} has other files than were pushed to {tools.there}.", "Try it again.")


def _forget(adb: Adb, folder: str) -> None:
    with suppress(AdbError):
        clear(adb, folder)
