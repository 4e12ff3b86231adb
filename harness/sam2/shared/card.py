"""What a made model is known by: a name from a digest of all that determines it, and the card beside it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core import safe_json
from harness.core.errors import UsageError, in_a_clone, install_extra
from harness.sam2.shared.source import Source

_PACKAGES = ("torch", "litert-torch", "transformers", "ai-edge-litert")
_CONVERTING = {"torch": "torch", "litert-torch": "litert_torch", "transformers": "transformers"}
_FOLDER = Path(__file__).parents[1]
_PLACES = ("folder", "checkpoint")

MAX_TOKENS = 64
"""The longest prompt that a decoder is made for, in tokens."""


class ModelPlan:
    """Where a .tflite is or will be, with a .json beside it that says what it is."""

    @property
    def model(self) -> Path:
        """The .tflite."""
        raise NotImplementedError

    @property
    def card(self) -> Path:
        """The .json beside the model."""
        return self.model.with_suffix(".json")

    def is_there(self) -> bool:
        """Whether all files are there and whole."""
        return is_whole(self.model, self.card)


def source_request(source: Source) -> dict[str, Any]:
    """The weights as the worker is told of them."""
    places = {kind: None if (place := getattr(source, kind)) is None else str(place) for kind in _PLACES}
    return {**places, "seed": source.seed, "provenance": source.provenance, "key": source.key}


def requested_source(request: dict[str, Any]) -> Source:
    """The weights that a request names, as `convert.source_request` wrote them."""
    entry = request["source"]
    folder, checkpoint = (None if (place := entry.get(kind)) is None else Path(place) for kind in _PLACES)
    return Source(folder, entry["seed"], entry["provenance"], entry["key"], checkpoint)


def is_whole(model: Path, card: Path) -> bool:
    """Whether the model is there, with the content that its card says."""
    try:
        said = json.loads(card.read_text())
        with model.open("rb") as stream:
            digest_now = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("sha256") == digest_now


def missing_packages() -> list[str]:
    """The packages that convert models and are not installed."""
    return [package for package, module in _CONVERTING.items() if importlib.util.find_spec(module) is None]


def require_packages() -> None:
    """Raise `UsageError` when a package that converts models is missing."""
    if missing := missing_packages():
        how = (
            "`make demo`, which installs them with torch's CPU build"
            if in_a_clone()
            else f"`{install_extra('sam2')}`: 6.9 GB with torch's build for GPUs, which nothing here uses, so install "
            "torch's CPU build first (`uv pip install torch --torch-backend cpu`)"
        )
        raise UsageError(
            f"Making the SAM 2.1 models needs {', '.join(missing)}, which this Python lacks.",
            f"Take the published files instead (`--models published`, or a folder with them), or run {how}.",
        )


def releases() -> str:
    """Eight hexadecimal digits that stand for `versions`: the end of a made file's name."""
    return digest(*versions())[:8]


def newest_made(folder: Path, stem: str, suffix: str, is_good: Callable[[Path], bool]) -> Path | None:
    """The newest good file that some releases made under that `stem`; None where there is none."""
    made = [path for path in folder.glob(f"{stem}-{'[0-9a-f]' * 8}{suffix}") if path.is_file()]
    return next(filter(is_good, sorted(made, key=lambda path: path.stat().st_mtime, reverse=True)), None)


def torch_of(card: Path) -> str:
    """Which torch made the model of a card, as in `torch 2.13.0`; `another torch` where it does not say."""
    try:
        said = safe_json.loads(card.read_bytes())
        made_by = said["made_by"]
        return next(str(word).replace("==", " ") for word in made_by if str(word).startswith("torch=="))
    except (OSError, ValueError, TypeError, KeyError, StopIteration):
        return "another torch"


def versions() -> list[str]:
    """The packages whose release may change a conversion, as name==version."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package}=={importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} absent")
    return found


@functools.cache
def code(names: tuple[str, ...]) -> str:
    """A digest of files under harness/sam2, so that a change in them makes the results anew. Taken once: a change
    under a running process must not give one model two names."""
    return digest(*(hashlib.sha256((_FOLDER / name).read_bytes()).hexdigest() for name in names))


def digest(*parts: str) -> str:
    """Sixteen hexadecimal digits that stand for `parts`."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def card(
    source: Source,
    model: str,
    how: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
    content: bytes,
) -> str:
    """The .json beside a model: what it is, from which weights, made by which releases. `how` is what its maker was
    told."""
    said = {
        "schema": 1,
        "model": model,
        "provenance": source.provenance,
        "is_random": source.is_random,
        **how,
        "inputs": list(inputs),
        "outputs": list(outputs),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "made_by": [*versions(), f"Python {platform.python_version()}"],
    }
    return json.dumps(said, indent=2) + "\n"
