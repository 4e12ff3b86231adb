"""From weights to a decoder on disk, once: the result is kept and found again by everything that determines
it.

The conversion itself runs in a process of its own (`worker`). Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.sam2.contract import INPUT_NAMES, OUTPUT_NAMES, LayerNormKind, Progress, WeightKind
from harness.sam2.files import make_folder
from harness.sam2.prompt import PromptConstants
from harness.sam2.source import Source, resolve

_PACKAGES = ("torch", "litert-torch", "transformers", "ai-edge-litert")
_CODE = Path(__file__).parent
_DECODER_CODE = ("decoder.py", "tflite.py", "weights.py")
_CONSTANTS_CODE = ("prompt.py", "weights.py")


@dataclass(frozen=True)
class ConvertedDecoder:
    """A decoder ready to run, and what the host needs to feed it."""

    path: Path
    """The .tflite; a .json of the same name beside it says what it is."""
    prompt_constants: Path
    """The .npz for `PromptConstants.load`."""
    provenance: str
    """A sentence fragment for people; says so when the weights are random."""
    is_random: bool
    cached: bool
    """Whether it was there already."""


def convert_decoder(
    cache_dir: Path,
    *,
    source: str | None = None,
    seed: int = 0,
    layernorm: LayerNormKind = "safe",
    weights: WeightKind = "float32",
    progress: Progress | None = None,
) -> ConvertedDecoder:
    """The rewritten decoder as a .tflite under `cache_dir`, converted only if it is not there yet.

    `source` and `seed` choose the weights as `harness.sam2.source.resolve` has it, `layernorm` the kind of
    LayerNorm, and `weights` how they are stored. Inputs and outputs carry the names in `INPUT_NAMES` and
    `OUTPUT_NAMES`, in that order. `progress` is told in words what is being done. Needs about 1 GB of memory
    and 20 s where it has to convert.
    Raises `UsageError` for unusable weights, or when a conversion is needed and its packages are not
    installed.
    """
    settled = resolve(source, seed)
    plan = DecoderPlan(make_folder(cache_dir), settled, layernorm, weights)
    cached = plan.is_there()
    if not cached:
        from harness.sam2.worker import run_worker

        run_worker(plan.request(), progress or _silent)
    return plan.result(cached)


@dataclass(frozen=True)
class DecoderPlan:
    """Which files a decoder consists of, named by a digest of everything that determines their content."""

    cache_dir: Path
    source: Source
    layernorm: LayerNormKind
    weights: WeightKind

    def __post_init__(self) -> None:
        if self.layernorm not in ("safe", "plain"):
            raise UsageError(f"There is no {self.layernorm!r} LayerNorm.", "Choose 'safe' or 'plain'.")
        if self.weights not in ("float32", "float16"):
            raise UsageError(f"Weights cannot be stored as {self.weights!r}.", "Choose 'float32' or 'float16'.")

    @property
    def model(self) -> Path:
        """Where the .tflite is or will be."""
        key = digest(self.source.key, self.layernorm, self.weights, *versions(), code(_DECODER_CODE))
        return self.cache_dir / f"sam2-decoder-{self.layernorm}-{self.weights}-{key}.tflite"

    @property
    def card(self) -> Path:
        """The .json beside the model."""
        return self.model.with_suffix(".json")

    @property
    def constants(self) -> Path:
        """Where the prompt constants are or will be."""
        return self.cache_dir / f"sam2-prompt-{digest(self.source.key, code(_CONSTANTS_CODE))}.npz"

    def is_there(self) -> bool:
        """Whether all files are there and whole."""
        try:
            card = json.loads(self.card.read_text())
            content = self.model.read_bytes()
            PromptConstants.load(self.constants)
        except (OSError, ValueError):
            return False
        return isinstance(card, dict) and card.get("sha256") == hashlib.sha256(content).hexdigest()

    def request(self) -> dict[str, Any]:
        """What the worker is asked to make."""
        return {
            "source": {
                "folder": None if self.source.folder is None else str(self.source.folder),
                "seed": self.source.seed,
                "provenance": self.source.provenance,
                "key": self.source.key,
            },
            "constants": str(self.constants),
            "decoder": {
                "path": str(self.model),
                "card": str(self.card),
                "layernorm": self.layernorm,
                "weights": self.weights,
            },
        }

    def result(self, cached: bool) -> ConvertedDecoder:
        """The decoder these files make up."""
        return ConvertedDecoder(self.model, self.constants, self.source.provenance, self.source.is_random, cached)


def require_packages() -> None:
    """Raise `UsageError` when a package that converts models is missing."""
    modules = {"torch": "torch", "litert-torch": "litert_torch", "transformers": "transformers"}
    missing = [package for package, module in modules.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UsageError(
            f"Making the SAM 2.1 decoder needs {', '.join(missing)}, which this Python lacks.",
            "Install the project with its 'sam2' extra.",
        )


def versions() -> list[str]:
    """The packages whose release may change a conversion, as name==version."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package}=={importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} absent")
    return found


def code(names: Sequence[str]) -> str:
    """A digest of source files of this package, so that a change in them makes the results anew."""
    return digest(*(hashlib.sha256((_CODE / name).read_bytes()).hexdigest() for name in names))


def digest(*parts: str) -> str:
    """Sixteen hexadecimal digits that stand for `parts`."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def model_card(source: Source, layernorm: LayerNormKind, weights: WeightKind, content: bytes) -> str:
    """The .json beside a model: what it is, from which weights, made by which releases."""
    card = {
        "schema": 1,
        "model": "SAM 2.1 Hiera-Tiny mask decoder",
        "provenance": source.provenance,
        "is_random": source.is_random,
        "layernorm": layernorm,
        "weights": weights,
        "inputs": list(INPUT_NAMES),
        "outputs": list(OUTPUT_NAMES),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "made_by": [*versions(), f"Python {platform.python_version()}"],
    }
    return json.dumps(card, indent=2) + "\n"


def _silent(_: str) -> None:
    pass
