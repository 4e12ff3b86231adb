"""From weights to a decoder or an encoder on disk, once: the result is kept and found again by everything that
determines it.

The conversion itself runs in a process of its own (`worker`). Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError
from harness.core.progress import Say
from harness.sam2.image_path.ports import DECODER_PORTS, Ports
from harness.sam2.shared.card import (
    MAX_TOKENS,
    ModelPlan,
    card,
    code,
    digest,
    is_whole,
    newest_made,
    releases,
    source_request,
    versions,
)
from harness.sam2.shared.contract import (
    CARD,
    ENCODER_PORTS,
    INPUT_NAMES,
    OUTPUT_NAMES,
    DecoderVariant,
    EncoderPart,
    LayerNormKind,
    LongSums,
    WeightKind,
)
from harness.sam2.shared.files import make_folder
from harness.sam2.shared.process import TIMEOUT_SECONDS, run_worker
from harness.sam2.shared.prompt import PromptConstants
from harness.sam2.shared.source import Source, resolve

_DECODER_CODE = (
    "shared/modules/attention.py",
    "shared/contract.py",
    "shared/meta_checkpoint.py",
    "shared/modules/decoder.py",
    "shared/modules/norm.py",
    "shared/modules/sums.py",
    "shared/modules/tflite.py",
    "shared/modules/upsample.py",
    "shared/weights.py",
)
_ENCODER_CODE = (
    "shared/modules/attention.py",
    "shared/contract.py",
    "shared/meta_checkpoint.py",
    "shared/modules/encoder.py",
    "shared/modules/norm.py",
    "shared/modules/sums.py",
    "shared/modules/tflite.py",
    "shared/weights.py",
)
_CONSTANTS_CODE = ("shared/meta_checkpoint.py", "shared/prompt.py", "shared/weights.py")


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


@dataclass(frozen=True)
class ConvertedEncoder:
    """An encoder, or a half of one, ready to run."""

    path: Path
    """The .tflite; a .json of the same name beside it says what it is."""
    part: EncoderPart
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
    variant: DecoderVariant = CARD,
    weights: WeightKind = "float32",
    tokens: int = 2,
    progress: Say | None = None,
) -> ConvertedDecoder:
    """The rewritten decoder as a .tflite under `cache_dir`, converted only if it is not there yet.

    `source` and `seed` choose the weights as `harness.sam2.shared.source.resolve` has it, `variant` how the decoder is
    written, `weights` how they are stored, and `tokens` for how many prompt tokens: one more than there are points, a
    box counting as two. Inputs and outputs carry the names in `INPUT_NAMES` and `OUTPUT_NAMES`, in that order.
    `progress` is told in words what is being done. Needs about 1 GB of memory and 20 s where it has to convert.
    Raises `UsageError` for unusable weights, or when a conversion is needed and its packages are not
    installed.
    """
    plan = DecoderPlan(make_folder(cache_dir), resolve(source, seed), variant, weights, tokens)
    cached = make_missing([plan], progress) == 0
    return plan.result(cached)


@dataclass(frozen=True)
class DecoderPlan(ModelPlan):
    """Which files a decoder consists of, named by a digest of everything that determines their content."""

    cache_dir: Path
    source: Source
    variant: DecoderVariant = CARD
    weights: WeightKind = "float32"
    tokens: int = 2

    def __post_init__(self) -> None:
        _check_weights(self.weights)
        if not 1 <= self.tokens <= MAX_TOKENS:
            raise UsageError(f"A prompt of {self.tokens} tokens is not possible.", f"Give 1 to {MAX_TOKENS}.")

    @property
    def stem(self) -> str:
        """The beginning of the model's name, which says all that was asked for; its end says which releases made it."""
        key = digest(self.source.key, str(self.variant), self.weights, str(self.tokens), code(_DECODER_CODE))
        tokens = "" if self.tokens == 2 else f"-{self.tokens}tokens"
        return f"sam2-decoder-{self.variant}{tokens}-{self.weights}-{key}"

    @property
    def model(self) -> Path:
        """Where the .tflite is or will be."""
        return self.cache_dir / f"{self.stem}-{releases()}.tflite"

    def newest(self) -> Path | None:
        """The newest whole model of what is asked for, whatever releases made it, where the constants are there too."""
        if not self._has_constants():
            return None
        return newest_made(self.cache_dir, self.stem, ".tflite", lambda path: is_whole(path, path.with_suffix(".json")))

    @property
    def ports(self) -> Ports:
        """The names of its inputs and outputs."""
        return DECODER_PORTS

    @property
    def constants(self) -> Path:
        """Where the prompt constants are or will be."""
        return self.cache_dir / f"sam2-prompt-{digest(self.source.key, code(_CONSTANTS_CODE))}.npz"

    def is_there(self) -> bool:
        """Whether all files are there and whole."""
        return self._has_constants() and super().is_there()

    def _has_constants(self) -> bool:
        try:
            PromptConstants.load(self.constants)
        except (OSError, ValueError):
            return False
        return True

    def request(self) -> dict[str, Any]:
        """What the worker is asked to make."""
        return {
            "kind": "decoder",
            "path": str(self.model),
            "card": str(self.card),
            "constants": str(self.constants),
            "variant": asdict(self.variant),
            "weights": self.weights,
            "tokens": self.tokens,
        }

    def result(self, cached: bool) -> ConvertedDecoder:
        """The decoder these files make up."""
        return ConvertedDecoder(self.model, self.constants, self.source.provenance, self.source.is_random, cached)


@dataclass(frozen=True)
class EncoderPlan(ModelPlan):
    """Which files an encoder, or a half of one, consists of, named likewise."""

    cache_dir: Path
    source: Source
    part: EncoderPart = "whole"
    layernorm: LayerNormKind = "safe"
    reductions: LongSums = "split"
    weights: WeightKind = "float32"

    def __post_init__(self) -> None:
        _check_weights(self.weights)
        if self.part not in ENCODER_PORTS:
            raise UsageError(f"There is no part {self.part!r} of the encoder.", f"Choose {', '.join(ENCODER_PORTS)}.")
        DecoderVariant(layernorm=self.layernorm)  # complains of an unknown word
        if self.reductions not in ("whole", "split"):
            raise UsageError(f"The encoder has no {self.reductions!r} way to sum.", "Choose 'whole' or 'split'.")

    @property
    def model(self) -> Path:
        """Where the .tflite is or will be."""
        how = f"{self.part}-{self.layernorm}-{self.reductions}-{self.weights}"
        key = digest(self.source.key, how, *versions(), code(_ENCODER_CODE))
        return self.cache_dir / f"sam2-encoder-{how}-{key}.tflite"

    @property
    def ports(self) -> Ports:
        """The names of its inputs and outputs."""
        return Ports.ours(*ENCODER_PORTS[self.part])

    def request(self) -> dict[str, Any]:
        """What the worker is asked to make."""
        return {
            "kind": "encoder",
            "path": str(self.model),
            "card": str(self.card),
            "part": self.part,
            "layernorm": self.layernorm,
            "reductions": self.reductions,
            "weights": self.weights,
        }

    def result(self, cached: bool) -> ConvertedEncoder:
        """The encoder in these files."""
        return ConvertedEncoder(self.model, self.part, self.source.provenance, self.source.is_random, cached)


def make_missing(plans: Sequence[DecoderPlan | EncoderPlan], progress: Say | None = None) -> int:
    """Convert those models of `plans`, all of the same weights, that are not there yet, in one process that loads the
    weights once. Returns how many there were to make. Raises as `convert_decoder`."""
    missing = [plan for plan in plans if not plan.is_there()]
    if missing:
        request = {"source": source_request(missing[0].source), "models": [plan.request() for plan in missing]}
        in_torch(request, progress or _silent)
    return len(missing)


def in_torch(request: dict[str, Any], progress: Say, timeout: float = TIMEOUT_SECONDS) -> None:
    """Have what `worker.perform` can do done in a process of its own. Raises as `run_worker`."""
    run_worker(request, progress, "harness.sam2.image_path.worker", timeout)


def _check_weights(kind: WeightKind) -> None:
    if kind not in ("float32", "float16"):
        raise UsageError(f"Weights cannot be stored as {kind!r}.", "Choose 'float32' or 'float16'.")


def model_card(source: Source, wanted: dict[str, Any], content: bytes) -> str:
    """The .json beside a model: what it is, from which weights, made by which releases. `wanted` is its request."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    if wanted["kind"] == "decoder":
        inputs, outputs = INPUT_NAMES, OUTPUT_NAMES
        how = {**wanted["variant"], "tokens": wanted["tokens"]}
    else:
        inputs, outputs = ENCODER_PORTS[wanted["part"]]
        how = {"part": wanted["part"], "layernorm": wanted["layernorm"], "reductions": wanted["reductions"]}
    model = f"{source.model} {'mask decoder' if wanted['kind'] == 'decoder' else 'image encoder'}"
    return card(source, model, {**how, "weights": wanted["weights"]}, inputs, outputs, content)


def _silent(_: str) -> None:
    pass
