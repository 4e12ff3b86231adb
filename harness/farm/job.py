"""A job of the farm, what became of it, and the command that it is: one command of the harness on one device."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Literal, TypeVar

from harness.core import safe_json
from harness.core.choices import Accelerator, Precision
from harness.core.errors import HarnessError, UsageError
from harness.core.typed_json import read_as

Command = Literal["compare", "localize", "bench"]
State = Literal["done", "timed out", "cancelled"]

MOST_FILES = 20_000
MOST_BYTES = 2 << 30
"""Of one job's run folder."""
MOST_DOCUMENT = 16 << 20
_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

Facts = TypeVar("Facts")


@dataclass(frozen=True)
class JobSpec:
    """What is asked. `device` is a word of the matrix, as `pixel8a` or `gpu=mali`; `model` the file's name and
    `sha256` its digest; `inputs` the digest of an .npz, empty for random ones; `timeout` and `cool_down` in seconds.
    `quick`: as the option of `bench`. `done_before`: another repetition of the same was done, so that a device which
    fails at it is to blame."""

    id: str
    matrix: str
    model: str
    sha256: str
    inputs: str
    device: str
    runtime: str
    precision: Precision
    accelerator: Accelerator
    command: Command
    repetition: int
    seed: int
    timeout: float
    cool_down: float
    quick: bool = False
    done_before: bool = False

    def check(self) -> JobSpec:
        """Itself, once its names are seen to be names. Raises UsageError."""
        wanted = ((_ID, self.id), (_ID, self.matrix), (_DIGEST, self.sha256), (_NAME, self.model))
        for form, value in (*wanted, *([(_DIGEST, self.inputs)] if self.inputs else [])):
            if not form.fullmatch(value):
                raise UsageError(f"{value[:60]!r} is no name that a job of a farm has.", "Write the matrix anew.")
        return self


@dataclass(frozen=True)
class StoredFile:
    """A file of a job's run folder: its path in it with `/` between folders, its digest and its bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended. `exit_code` is the command's (null where it was ended), `status` the word of its answer, `run`
    the run folder's name (empty for none), `cores_busy` how busy the host's cores were meanwhile, 0 to 1."""

    job: str
    state: State
    exit_code: int | None
    status: str
    reason: str
    run: str
    files: tuple[StoredFile, ...]
    seconds: float
    host: str
    serial: str
    cores_busy: float | None

    def check(self) -> JobOutcome:
        """Itself, once no name in it can lead out of its run folder. Raises UsageError."""
        if self.run and not _RUN.fullmatch(self.run):
            raise UsageError(f"{self.run[:60]!r} is no name of a run folder.", "Look at the worker that sent it.")
        if len(self.files) > MOST_FILES or sum(file.size for file in self.files) > MOST_BYTES:
            raise UsageError(
                f"The run folder of job {self.job} has more than {MOST_FILES:,} files or {MOST_BYTES >> 30} GiB.",
                "Run that job by hand.",
            )
        for file in self.files:
            if not is_inside(file.name) or file.size < 0 or not _DIGEST.fullmatch(file.sha256):
                raise UsageError(f"{file.name[:60]!r} is no file of a run folder.", "Look at the worker that sent it.")
        if len({file.name for file in self.files}) < len(self.files):
            raise UsageError(f"Job {self.job} has two files of one name.", "Look at the worker that sent it.")
        return self


class Asked(HarnessError):
    """Not an end of a job: it has to be asked again, here or elsewhere."""


class DeviceFailed(Asked):
    """The device did not do the job, nor the small one that it was given after it."""


class TakenOut(Asked):
    """The device was taken out after failures: it takes no jobs."""


class LacksFile(Asked):
    """The host has not got a model or inputs. The message is the digest."""


class Cancelled(Asked):
    """Whoever asked wants the job no more."""


def is_inside(name: str) -> bool:
    """Whether a name with `/` in it means a file within a folder, by its words alone."""
    parts = name.split("/")
    return (
        0 < len(name) <= 500
        and len(parts) <= 6
        and all(part not in ("", ".", "..") and len(part.encode(errors="replace")) <= 255 for part in parts)
        and not re.search(r"[\x00-\x1f\x7f\\]", name)
    )


def to_text(facts: JobSpec | JobOutcome) -> str:
    """As a JSON document."""
    return json.dumps(asdict(facts))


def from_text(kind: type[Facts], text: str) -> Facts:
    """What :func:`to_text` wrote. Raises UsageError where it is something else."""
    try:
        if len(text) > MOST_DOCUMENT:
            raise ValueError(f"more than {MOST_DOCUMENT >> 20} MiB")
        return read_as(kind, safe_json.loads(text))
    except ValueError as error:
        raise UsageError(
            f"What came over the farm is no {kind.__name__} ({error}).", "Use one release on all hosts."
        ) from None


def command_words(spec: JobSpec, device: str, model: str, inputs: str, out: str) -> list[str]:
    """The words behind `harness`. `device` is what `--device` takes on the host that runs it."""
    words = [spec.command, model, "--device", device, "--out", out, "--json", "--timeout", f"{spec.timeout:g}"]
    words += ["--accelerator", spec.accelerator, "--precision", spec.precision, "--seed", str(spec.seed)]
    words += ["--inputs", inputs] if inputs else []
    words += ["--quick"] if spec.quick else []
    words += ["--cool-down", f"{spec.cool_down:g}"] if spec.cool_down else []
    return words
