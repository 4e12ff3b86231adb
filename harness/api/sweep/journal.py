"""What a sweep has asked already, in a file to which each answer is added as it comes.

A line is an answer or the device; one that a cut left unfinished is passed over. An answer belongs to a model's
digest: a form that was changed is asked again, and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.api.sweep.judging import Judged
from harness.core import safe_files, safe_json
from harness.core.errors import UsageError
from harness.core.run_folder import writing
from harness.dashboard.support.document import OUTCOMES

SCHEMA = 1
MOST_BYTES = 64 << 20
Place = tuple[str, str, str]
"""A form's id, a context, and the digest of the model that the two are."""


@dataclass(frozen=True)
class Kept:
    """An answer, and how long it took."""

    judged: Judged
    seconds: float


class Journal:
    """The answers of one device in one file. A context manager; what is in the file is read when it is opened.

    Raises:
        UsageError: the file is another device's, or not a journal. StorageError: it cannot be written.
    """

    def __init__(self, path: Path, device: Mapping[str, str]) -> None:
        self.path = path
        self.answers: dict[Place, Kept] = {}
        self.gpu = ""
        self._device = dict(device)
        self._read()
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                raise UsageError(f"{path} is a link, which is not written to.", "Choose another folder with --out.")
            whole = not path.exists() or not path.stat().st_size or path.read_bytes().endswith(b"\n")
            self._file = path.open("a", encoding="utf-8")
            if not whole:
                self._file.write("\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, place: Place, kept: Kept) -> None:
        """Write an answer. Raises StorageError."""
        self.answers[place] = kept
        judged = kept.judged
        ratio = "inf" if judged.ratio is not None and math.isinf(judged.ratio) else judged.ratio
        form, context, digest = place
        self._write(
            {
                "form": form, "context": context, "digest": digest, "outcome": judged.outcome, "words": judged.words,
                "ratio": ratio, "unsteady": judged.unsteady, "seconds": round(kept.seconds, 3),
            }
        )  # fmt: skip

    def says_gpu(self, gpu: str) -> None:
        """Write the GPU's name, once it is known."""
        if gpu and gpu != self.gpu:
            self.gpu = gpu
            self._write({"schema": SCHEMA, "device": self._device | {"gpu": gpu}})

    def _write(self, line: dict[str, Any]) -> None:
        with writing(self.path):
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            lines = safe_files.read(self.path, MOST_BYTES).splitlines()
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read ({error}).", "Choose another folder with --out.") from None
        for line in lines:
            try:
                told = safe_json.loads(line)
            except ValueError:
                continue  # cut short
            self._take(told)

    def _take(self, told: Any) -> None:
        if not isinstance(told, dict):
            raise UsageError(f"{self.path} is no journal of a sweep.", "Choose another folder with --out.")
        if "device" in told:
            device = told["device"]
            if told.get("schema") != SCHEMA or any(
                device.get(k) != self._device[k] for k in ("name", "kind", "runtime")
            ):
                raise UsageError(
                    f"{self.path} has answers of {device.get('name')} {device.get('runtime')}.",
                    "Choose another folder with --out.",
                )
            self.gpu = str(device.get("gpu", ""))
            return
        try:
            ratio = None if told["ratio"] is None else float(told["ratio"])
            if told["outcome"] not in OUTCOMES:
                raise ValueError(told["outcome"])
            judged = Judged(told["outcome"], str(told["words"]), ratio, bool(told["unsteady"]))
            place = (str(told["form"]), str(told["context"]), str(told["digest"]))
            self.answers[place] = Kept(judged, float(told["seconds"]))
        except (KeyError, TypeError, ValueError):
            raise UsageError(f"{self.path} is no journal of a sweep.", "Choose another folder with --out.") from None
