"""A matrix file: models, devices, runtimes, precisions, commands and repetitions, read strictly.

    models = ["a.tflite", {path = "b.tflite", inputs = "b.npz"}]
    devices = ["host", "pixel8a", "gpu=mali"]
    commands = ["compare", "bench"]

What may be left out: `runtimes`, `precisions`, `repetitions`, `accelerator`, `seed`, `timeout`, `cool_down`, `quick`,
`name`.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from harness.core import safe_files
from harness.core.choices import Precision
from harness.core.errors import UsageError
from harness.devices.host.releases import NEWEST_BUILD
from harness.devices.registry import kind_of, profiles
from harness.farm.job import Command, JobSpec
from harness.graph.foreign import read_model_file
from harness.graph.verify import verify

MOST_JOBS = 100_000
MOST_MODEL = 2 << 30
MOST_MATRIX = 1 << 20
DEFAULT = "default"
PROPERTIES = ("serial", "model", "gpu", "host")
_KEYS = (
    *("name", "models", "devices", "runtimes", "precisions", "commands", "repetitions", "accelerator", "seed"),
    *("timeout", "cool_down", "quick"),
)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}"
_RELEASE = r"[0-9]+(\.[0-9]+){1,3}[A-Za-z0-9.]*"


@dataclass(frozen=True)
class ModelFile:
    """A model of the matrix with its inputs, both with their digests."""

    path: Path
    sha256: str
    inputs: Path | None
    inputs_sha256: str


@dataclass(frozen=True)
class Skipped:
    """A cell of the matrix that means nothing, and why."""

    spec: JobSpec
    reason: str


@dataclass(frozen=True)
class Matrix:
    """What a file asks for. `jobs` are in the order that the file has, the last key changing fastest."""

    name: str
    path: Path
    files: dict[str, Path]
    jobs: tuple[JobSpec, ...]
    skipped: tuple[Skipped, ...]


def read_matrix(path: Path, matrix_id: str) -> Matrix:
    """Read a matrix file and the digests of its files; `matrix_id` is what its jobs belong to, 32 hexadecimal digits.

    Raises:
        UsageError: one sentence on what is wrong with it.
    """
    try:
        table = tomllib.loads(safe_files.read(path, MOST_MATRIX).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = "its brackets are too deep" if isinstance(error, RecursionError) else error
        if isinstance(error, OSError) and error.strerror:
            why = error.strerror
        raise UsageError(f"The matrix {path} cannot be read ({why}).", "Write it as docs/farm.md shows.") from None
    read = _Table(path, table)
    models = [_model(path, entry, read) for entry in read.entries("models", None)]
    devices = [_device(path, word) for word in read.words("devices", None)]
    runtimes = read.words("runtimes", [DEFAULT])
    for release in runtimes:
        if release not in (DEFAULT, NEWEST_BUILD) and not re.fullmatch(_RELEASE, release):
            raise read.wrong("runtimes", release, "`default`, `nightly` or a release such as 2.1.5")
    precisions = read.choices("precisions", [DEFAULT], get_args(Precision))
    commands = read.choices("commands", None, get_args(Command))
    (accelerator,) = read.choices("accelerator", ["gpu"], ("cpu", "gpu", "npu"), single=True)
    repetitions = int(read.number("repetitions", 1, 1, 1000, whole=True))
    seed = int(read.number("seed", 0, 0, 2**31 - 1, whole=True))
    timeout = read.number("timeout", 3600.0, 0.1, 86400.0)
    cool_down = read.number("cool_down", 600.0, 0.0, 86400.0)
    quick = read.flag("quick")
    (name,) = read.choices("name", [re.sub("[^A-Za-z0-9._-]+", "-", path.stem)[:60] or "matrix"], None, single=True)
    if not re.fullmatch(_NAME, name):
        raise read.wrong("name", name, "a name of letters, digits, `.`, `_` and `-`")
    count = len(models) * len(devices) * len(runtimes) * len(precisions) * len(commands) * repetitions
    if count > MOST_JOBS:
        raise UsageError(f"{path} has {count:,} jobs, more than {MOST_JOBS:,}.", "Divide it into several files.")
    jobs: list[JobSpec] = []
    skipped: list[Skipped] = []
    cells = product(models, devices, runtimes, precisions, commands, range(1, repetitions + 1))
    for model, device, runtime, precision, command, repetition in cells:
        facts = (model.sha256, model.inputs_sha256, model.path.name, device, runtime, precision, accelerator, command)
        more = ("quick",) if quick and command == "bench" else ()
        digest = hashlib.sha256(repr((*facts, repetition, seed, *more)).encode()).hexdigest()[:32]
        spec = JobSpec(
            id=digest,
            matrix=matrix_id,
            model=_plain_name(model.path),
            sha256=model.sha256,
            inputs=model.inputs_sha256,
            device=device,
            runtime=runtime,
            precision=_as(precision),
            accelerator=_as(accelerator),
            command=_as(command),
            repetition=repetition,
            seed=seed,
            timeout=timeout,
            cool_down=cool_down if command == "bench" else 0.0,
            quick=bool(more),
        ).check()
        why = _means_nothing(spec)
        if why:
            skipped.append(Skipped(spec, why))
        else:
            jobs.append(spec)
    if len({job.id for job in jobs}) < len(jobs):
        raise UsageError(f"{path} asks for the same thing twice.", "Name each model, device and choice once.")
    files = {model.sha256: model.path for model in models}
    files |= {model.inputs_sha256: model.inputs for model in models if model.inputs is not None}
    return Matrix(name, path, files, tuple(jobs), tuple(skipped))


def needs(device: str) -> tuple[str, ...]:
    """The resources that a worker must offer for a device of the matrix, as `serial:X` or `gpu:mali`; sorted."""
    return tuple(sorted(_need(word) for word in device.split(",")))


def _need(word: str) -> str:
    key, equals, value = word.partition("=")
    if equals:
        return f"{key}:{value}"
    if kind_of(word).name in ("host", "planted"):
        return "kind:host"
    return f"model:{word}" if word in profiles() else f"serial:{word}"


def is_host(device: str) -> bool:
    """Whether it is the host's own CPU and GPU that a device of the matrix means."""
    return "kind:host" in needs(device)


def device_name(device: str, runtime: str, found: str) -> str:
    """What `--device` is given on the host for a device of the matrix: `found` is the serial of the phone there."""
    if not is_host(device):
        return found
    word = next((word for word in device.split(",") if "=" not in word), found)
    return word if runtime == DEFAULT else f"host@{runtime}"


def _means_nothing(spec: JobSpec) -> str:
    if spec.runtime != DEFAULT and not (is_host(spec.device) and "host" in spec.device.split(",")):
        return f"the runtime {spec.runtime} can be chosen for `host` alone, not for {spec.device}"
    if spec.command == "bench" and spec.device.startswith("planted:"):
        return f"{spec.device} is no device whose time means anything"
    if spec.accelerator == "cpu" and spec.precision not in (DEFAULT, "fp32"):
        return f"{spec.precision} means nothing on the CPU"
    return ""


class _Table:
    """The file's keys; what is not right is a UsageError that names it."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self._path, self._table = path, table
        unknown = [key for key in table if key not in _KEYS]
        if unknown:
            raise UsageError(f"{path} has a key {unknown[0][:40]!r}, which is none.", f"There are {', '.join(_KEYS)}.")

    def wrong(self, key: str, value: object, wanted: str) -> UsageError:
        return UsageError(f"{self._path}: {key} has {str(value)[:60]!r}, not {wanted}.", "Correct it.")

    def entries(self, key: str, default: list[Any] | None) -> list[Any]:
        found = self._table.get(key, default)
        if found is None:
            raise UsageError(f"{self._path} has no {key}.", f"Add a line {key} = [ … ].")
        if not isinstance(found, list) or not found:
            raise self.wrong(key, found, "a list with something in it")
        return found

    def words(self, key: str, default: list[str] | None) -> list[str]:
        found = self.entries(key, default)
        for word in found:
            if not isinstance(word, str) or not word:
                raise self.wrong(key, word, "a word in quotes")
            if found.count(word) > 1:
                raise self.wrong(key, word, "something that is there once")
        return found

    def choices(
        self, key: str, default: list[str] | None, among: Sequence[str] | None, *, single: bool = False
    ) -> list[str]:
        if single:
            found = [self._table.get(key, (default or [""])[0])]
            if not isinstance(found[0], str):
                raise self.wrong(key, found[0], "a word in quotes")
        else:
            found = self.words(key, default)
        for word in found:
            if among is not None and word not in among:
                raise self.wrong(key, word, f"one of {', '.join(among)}")
        return found

    def flag(self, key: str) -> bool:
        found = self._table.get(key, False)
        if not isinstance(found, bool):
            raise self.wrong(key, found, "true or false")
        return found

    def number(self, key: str, default: float, least: float, most: float, *, whole: bool = False) -> float:
        found = self._table.get(key, default)
        kinds = (int,) if whole else (int, float)
        if (
            isinstance(found, bool)
            or not isinstance(found, kinds)
            or (isinstance(found, float) and not math.isfinite(found))
            or not least <= found <= most
        ):
            quoted = isinstance(found, str) and found.strip().replace(".", "", 1).isdigit()
            wanted = f"a {'whole ' if whole else ''}number from {least:g} to {most:g}"
            raise self.wrong(key, found, wanted + (", without quotes" if quoted else ""))
        return found


def _as(word: str) -> Any:
    return word


def _plain_name(path: Path) -> str:
    """A model's name that is one on every host: letters, digits, `.`, `_` and `-`."""
    plain = re.sub("[^A-Za-z0-9._-]+", "-", path.name)[-80:].lstrip(".-_")
    return plain or "model.tflite"


def _model(path: Path, entry: Any, read: _Table) -> ModelFile:
    table = {"path": entry} if isinstance(entry, str) else entry
    if not isinstance(table, dict) or not table.keys() <= {"path", "inputs"} or "path" not in table:
        raise read.wrong("models", entry, 'a path, or {path = "…", inputs = "…"}')
    for value in table.values():
        if not isinstance(value, str) or not value:
            raise read.wrong("models", value, "a path in quotes")
    model = path.parent / table["path"]
    inputs = path.parent / table["inputs"] if "inputs" in table else None
    return ModelFile(model, _model_digest(model), inputs, "" if inputs is None else _digest(inputs))


def _model_digest(path: Path) -> str:
    try:
        data = read_model_file(path)
        verify(data)
    except ValueError as error:  # a name with a zero in it is one too
        raise UsageError(f"{path} cannot be read as a .tflite ({error}).", "Correct the matrix.") from None
    return hashlib.sha256(data).hexdigest()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(safe_files.read(path.resolve(), MOST_MODEL)).hexdigest()
    except (OSError, ValueError) as error:  # a name with a zero in it is a ValueError
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read ({why}).", "Correct the matrix.") from None


def check_device_words(where: str, text: str) -> str:
    """`pixel8a`, `gpu=mali`, or several with commas between, once they are seen to be that. Raises UsageError, whose
    sentence says `where` it stands."""
    names = 0
    for word in text.split(","):
        key, equals, value = word.partition("=")
        names += not equals
        fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:@\[\]-]{0,99}", value if equals else word)
        if not fits or (equals and key not in PROPERTIES):
            raise UsageError(
                f"{where} has {text[:60]!r}, which is neither a device nor a property.",
                f"Write a name as for --device, or one of {', '.join(f'{name}=…' for name in PROPERTIES)}.",
            )
    if names > 1:
        raise UsageError(f"{where} has {text[:60]!r}, which names two devices at once.", "Name each by itself.")
    return text


def _device(path: Path, text: str) -> str:
    check_device_words(f"{path}: devices", text)
    if any("=" not in word and kind_of(word).name in ("web", "chrome") for word in text.split(",")):
        raise UsageError(
            f"{path}: devices has {text[:60]!r}: the hosts of a farm offer phones, and their own CPU and GPU.",
            "For browsers: harness compare MODEL --device web.",
        )
    if any(word.startswith("host@") for word in text.split(",")):
        raise UsageError(f"{path}: devices has {text[:60]!r}.", 'Write devices = ["host"] and runtimes = ["…"].')
    return text
