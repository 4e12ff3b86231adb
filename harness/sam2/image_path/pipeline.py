"""Photo to masks on a device: pixels, encoder once, prompt, decoder for each tap. No files but the models' cache.

The encoder runs whole, or in halves where a device is so slow that the runtime would give up on the whole: LiteRT waits
120 s for a result, and a software GPU on two cores needs that long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.core.job import Completed, Options, Residency
from harness.core.progress import Say
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.devices.registry import kind_of
from harness.graph.model import Model
from harness.numerics.fp16 import LARGEST
from harness.sam2.image_path.convert import DecoderPlan, EncoderPlan, make_missing
from harness.sam2.image_path.ports import Ports
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import (
    ENCODER_OUTPUTS,
    RECOMMENDED,
    DecoderVariant,
    EncoderPart,
    LayerNormKind,
    LongSums,
    WeightKind,
)
from harness.sam2.shared.files import make_folder
from harness.sam2.shared.prompt import PromptConstants, is_stable
from harness.sam2.shared.source import Source, resolve
from harness.sam2.shared.unit import Unit, options

Features = dict[str, NDArray[np.float32]]


class ModelOnDisk(Protocol):
    """A .tflite, and what its inputs and outputs are called."""

    @property
    def model(self) -> Path:
        """The file."""

    @property
    def ports(self) -> Ports:
        """The names of its inputs and outputs by ours."""


class ImageModels(Protocol):
    """An encoder, decoders and prompt constants of one set of weights: converted here (`Models`), or files that are
    there already (`published.PublishedModels`)."""

    @property
    def provenance(self) -> str:
        """A sentence fragment for people; says so when the weights are random."""

    @property
    def is_random(self) -> bool:
        """Whether the weights are known to be random."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def written(self) -> DecoderVariant | str:
        """How the decoder is written; the name of its file where nobody says."""

    @property
    def gives_single(self) -> bool:
        """Whether the decoder gives the mask for asking a single one, before the three candidates."""

    def parts(self, device: str, unit: Unit) -> int:
        """In how many parts the encoder is best run there."""

    def check(self, taps: Sequence[Tap]) -> None:
        """Raise `UsageError` for a tap that the models cannot be asked."""

    def prepare(self, taps: Sequence[Tap], parts: int | None, progress: Say) -> None:
        """Have what these taps need on disk: decoders by number of tokens, and the encoder in `parts` unless that is
        None."""

    def decoder(self, tokens: int) -> ModelOnDisk:
        """The decoder for prompts of that many tokens."""

    def encoder(self, parts: int) -> Sequence[ModelOnDisk]:
        """The encoder in one part or two, in the order they run."""

    def constants(self) -> PromptConstants:
        """The prompt encoder's constants, once what they come from is on disk."""


@dataclass(frozen=True)
class Models:
    """The converted models of one set of weights, made as they are needed."""

    cache_dir: Path
    source: Source
    variant: DecoderVariant = RECOMMENDED
    layernorm: LayerNormKind = "safe"
    """The encoder's; the decoder's is in `variant`."""
    reductions: LongSums = "split"
    """The encoder's; likewise."""
    weights: WeightKind = "float32"

    @classmethod
    def of(
        cls,
        cache_dir: Path,
        source: str | None = None,
        seed: int = 0,
        variant: DecoderVariant = RECOMMENDED,
        weights: WeightKind = "float32",
    ) -> Models:
        """The models of the weights that `source` and `seed` mean. Raises `UsageError` for unusable ones."""
        return cls(make_folder(cache_dir), resolve(source, seed), variant, weights=weights)

    @property
    def provenance(self) -> str:
        """A sentence fragment for people; says so when the weights are random."""
        return self.source.provenance

    @property
    def is_random(self) -> bool:
        """Whether the weights stand in for trained ones."""
        return self.source.is_random

    @property
    def name(self) -> str:
        """The model's name."""
        return self.source.model

    @property
    def written(self) -> DecoderVariant | str:
        """How the decoder is written."""
        return self.variant

    @property
    def gives_single(self) -> bool:
        """As the variant says."""
        return self.variant.candidates == "four"

    def parts(self, device: str, unit: Unit) -> int:
        """Two where the GPU may be a software one, else one."""
        return default_parts(device, unit)

    def check(self, taps: Sequence[Tap]) -> None:
        """Nothing: every tap has a decoder of its own."""

    def prepare(self, taps: Sequence[Tap], parts: int | None, progress: Say) -> None:
        """Convert what is missing for these taps, in one go."""
        decoders = [self.decoder(tokens) for tokens in sorted({tap.tokens for tap in taps} or {2})]
        if self.decoder(2).constants != decoders[0].constants:
            raise RuntimeError("the prompt constants depend on the decoder")
        make_missing([*decoders, *(self.encoder(parts) if parts else ())], progress)

    def decoder(self, tokens: int) -> DecoderPlan:
        """The decoder for prompts of that many tokens."""
        return DecoderPlan(self.cache_dir, self.source, self.variant, self.weights, tokens)

    def encoder(self, parts: int) -> list[EncoderPlan]:
        """The encoder in one part or two, in the order they run."""
        names: dict[int, tuple[EncoderPart, ...]] = {1: ("whole",), 2: ("first", "second")}
        if parts not in names:
            raise UsageError(f"The encoder cannot be run in {parts} parts.", "Choose 1 or 2.")
        kinds = (self.layernorm, self.reductions, self.weights)
        return [EncoderPlan(self.cache_dir, self.source, part, *kinds) for part in names[parts]]

    def constants(self) -> PromptConstants:
        """The prompt encoder's constants, once any decoder is made."""
        return PromptConstants.load(self.decoder(2).constants)


@dataclass(frozen=True)
class Encoded:
    """The decoder's image inputs, from a device. `millis` is writing, running and reading, without compiling."""

    features: Features
    unit: Unit
    residency: tuple[Residency, ...]
    """One for each part."""
    millis: float
    runtime: str
    gpu: str


@dataclass(frozen=True)
class Decoded:
    """What the decoder says to one tap."""

    tap: Tap
    masks: NDArray[np.float32]
    """Logits [3, h, w], or [1, h, w] where a single mask was asked for; above 0 is the object."""
    scores: NDArray[np.float32]
    """The model's own estimate of each mask's IoU, [3] or [1]."""
    unit: Unit
    residency: Residency
    millis: float
    runtime: str
    gpu: str

    @property
    def best(self) -> int:
        """The mask with the highest score; one that is not a number never wins."""
        return int(np.argmax(np.where(np.isnan(self.scores), -np.inf, self.scores)))

    @property
    def nonfinite(self) -> int:
        """How many logits and scores are NaN or infinite."""
        return sum(int(values.size - np.isfinite(values).sum()) for values in (self.masks, self.scores))


def encode(
    device: Device, models: ImageModels, pixels: NDArray[np.float32], unit: Unit, parts: int, timeout: float
) -> Encoded:
    """Run the encoder on `pixels` [1, 3, S, S]. Raises `DeviceError` when the device does not complete."""
    values: Features = {"image": pixels}
    done: list[Completed] = []
    for plan in models.encoder(parts):
        job = make_job(Model.load(plan.model), plan.ports.feed(values), options(unit), timeout=timeout)
        done.append(completed(device, job, "running the image encoder"))
        values |= plan.ports.named(done[-1].outputs)
    return Encoded(
        {name: values[name] for name in ENCODER_OUTPUTS},
        unit,
        tuple(part.residency for part in done),
        sum(millis(part) for part in done),
        done[-1].runtime,
        done[-1].adapter if unit == "gpu" else "",
    )


class ReadDecoder:
    """A decoder for prompts of so many tokens, read once: what a tap costs besides its run is the prompt. `chosen` says
    how it runs; the device that runs one tap after another keeps it compiled."""

    def __init__(
        self,
        models: ImageModels,
        tokens: int,
        chosen: Options,
        timeout: float,
        *,
        warmup: int = 0,
        single: bool = False,
    ) -> None:
        plan = models.decoder(tokens)
        self.model = plan.model
        self._ports = plan.ports
        self._constants = models.constants()
        self._gives_single, self._single = models.gives_single, single
        # Inputs travel in the runtime's order, which is looked up once.
        blank = dict.fromkeys(plan.ports.inputs.values(), np.zeros(0, np.float32))
        self._job = make_job(Model.load(plan.model), blank, chosen, timeout=timeout, warmup=warmup)

    @property
    def sha256(self) -> str:
        """Hex digest of the model."""
        return self._job.sha256

    def inputs(self, features: Features, tap: Tap, photo_shape: tuple[int, ...]) -> Features:
        """The model's inputs by its own names. Raises `UsageError` for a tap outside the photo."""
        fed = self._ports.feed({**features, "sparse_prompt": tap.encode(photo_shape, self._constants)})
        return {name: fed[name] for name in self._job.inputs}

    def decode(self, device: Device, features: Features, tap: Tap, photo_shape: tuple[int, ...]) -> Decoded:
        """Run it for one tap. Raises `UsageError` for a tap outside the photo, `DeviceError` when the device does not
        complete."""
        job = replace(self._job, inputs=self.inputs(features, tap, photo_shape))
        done = completed(device, job, "running the mask decoder")
        outputs = self._ports.named(done.outputs)
        masks, scores = outputs["pred_masks"][0], outputs["iou_scores"][0]
        if self._gives_single:
            chosen = single_mask(masks, scores, self._constants) if self._single else slice(1, None)
            masks, scores = masks[chosen], scores[chosen]
        unit: Unit = "gpu" if job.options.accelerator == "gpu" else "cpu"
        gpu = done.adapter if unit == "gpu" else ""
        return Decoded(tap, masks, scores, unit, done.residency, millis(done), done.runtime, gpu)


def decode(
    device: Device,
    models: ImageModels,
    features: Features,
    tap: Tap,
    photo_shape: tuple[int, ...],
    unit: Unit,
    timeout: float,
    *,
    warmup: int = 0,
    single: bool = False,
) -> Decoded:
    """Run the decoder for one tap, for its three candidates or its `single` mask. Raises `UsageError` for a tap outside
    the photo, `DeviceError` when the device does not complete."""
    tap.check(photo_shape)
    decoder = ReadDecoder(models, tap.tokens, options(unit), timeout, warmup=warmup, single=single)
    return decoder.decode(device, features, tap, photo_shape)


def single_mask(masks: NDArray[np.float32], scores: NDArray[np.float32], constants: PromptConstants) -> slice:
    """Which of a decoder's four masks [4, h, w] upstream gives where a single one is asked for: the first, or the best
    of the others where that is not stable."""
    best = 1 + int(np.argmax(np.nan_to_num(scores[1:], nan=-np.inf)))
    chosen = 0 if is_stable(masks[0], constants.delta, constants.stable) else best
    return slice(chosen, chosen + 1)


def millis(done: Completed) -> float:
    """Milliseconds of the fastest iteration: writing, running and reading."""
    return min(s.write_ns + s.run_ns + s.read_ns for s in done.samples) / 1e6


def default_parts(device: str, unit: Unit) -> int:
    """Two where the GPU may be a software one, else one."""
    return 2 if unit == "gpu" and kind_of(device).in_parts else 1


def best_mask(decoded: Decoded) -> NDArray[np.float32]:
    """The logits of the best mask, [h, w], finite: NaN is outside, and infinities become float16's largest values."""
    logits = decoded.masks[decoded.best]
    finite: NDArray[np.float32] = np.nan_to_num(logits, nan=-1.0, posinf=LARGEST, neginf=-LARGEST)
    return finite
