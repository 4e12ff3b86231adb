"""Photo to masks on a device: pixels, encoder once, prompt, decoder for each tap. No files but the models' cache.

The encoder runs whole, or in halves where a device is so slow that the runtime would give up on the whole: LiteRT waits
120 s for a result, and a software GPU on two cores needs that long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.core.job import Completed, Residency
from harness.core.progress import Say
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.devices.registry import kind_of
from harness.devices.scratch import scratch_folder
from harness.graph.model import Model
from harness.numerics.fp16 import LARGEST
from harness.sam2.image_path.convert import DecoderPlan, EncoderPlan, in_torch, make_missing
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import (
    ENCODER_OUTPUTS,
    INPUT_NAMES,
    RECOMMENDED,
    DecoderVariant,
    EncoderPart,
    LayerNormKind,
    LongSums,
    WeightKind,
)
from harness.sam2.shared.files import make_folder, read_arrays
from harness.sam2.shared.image import Photo, check_photo
from harness.sam2.shared.prompt import PromptConstants
from harness.sam2.shared.source import Source, resolve
from harness.sam2.shared.unit import Unit, options

Features = dict[str, NDArray[np.float32]]


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
    """Logits [3, h, w]; above 0 is the object."""
    scores: NDArray[np.float32]
    """The model's own estimate of each mask's IoU, [3]."""
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


def preprocessed(photo: Photo, size: int, progress: Say) -> NDArray[np.float32]:
    """`image.preprocess` in the worker process, so that no torch is imported here: float32 [1, 3, size, size]."""
    check_photo(photo)
    with scratch_folder("harness-sam2-") as folder:
        given, made = folder / "photo.npy", folder / "pixels.npz"
        np.save(given, photo, allow_pickle=False)
        in_torch({"pixels": {"photo": str(given), "path": str(made), "size": size}}, progress)
        pixels: NDArray[np.float32] = read_arrays(made, ("image",))["image"]
    return pixels


def prepare_models(models: Models, taps: Sequence[Tap], parts: int | None, progress: Say) -> None:
    """Convert what is missing for these taps, in one go: decoders by number of tokens, and the encoder in `parts`
    unless that is None."""
    decoders = [models.decoder(tokens) for tokens in sorted({tap.tokens for tap in taps} or {2})]
    if models.decoder(2).constants != decoders[0].constants:
        raise RuntimeError("the prompt constants depend on the decoder")
    make_missing([*decoders, *(models.encoder(parts) if parts else ())], progress)


def encode(
    device: Device, models: Models, pixels: NDArray[np.float32], unit: Unit, parts: int, timeout: float
) -> Encoded:
    """Run the encoder on `pixels` [1, 3, S, S]. Raises `DeviceError` when the device does not complete."""
    values: Features = {"image": pixels}
    done: list[Completed] = []
    for plan in models.encoder(parts):
        model = Model.load(plan.model)
        wanted = {port.name for port in model.graph().inputs}
        job = make_job(model, {n: v for n, v in values.items() if n in wanted}, options(unit), timeout=timeout)
        done.append(completed(device, job, "running the image encoder"))
        values |= done[-1].outputs
    return Encoded(
        {name: values[name] for name in ENCODER_OUTPUTS},
        unit,
        tuple(part.residency for part in done),
        sum(millis(part) for part in done),
        done[-1].runtime,
        done[-1].adapter if unit == "gpu" else "",
    )


def decode(
    device: Device,
    models: Models,
    features: Features,
    tap: Tap,
    photo_shape: tuple[int, ...],
    unit: Unit,
    timeout: float,
    *,
    warmup: int = 0,
) -> Decoded:
    """Run the decoder for one tap. Raises `UsageError` for a tap outside the photo, `DeviceError` when the device does
    not complete."""
    arrays = {**features, "sparse_prompt": tap.encode(photo_shape, models.constants())}
    inputs = {name: arrays[name] for name in INPUT_NAMES}
    job = make_job(Model.load(models.decoder(tap.tokens).model), inputs, options(unit), timeout=timeout, warmup=warmup)
    done = completed(device, job, "running the mask decoder")
    masks, scores = done.outputs["pred_masks"][0], done.outputs["iou_scores"][0]
    gpu = done.adapter if unit == "gpu" else ""
    return Decoded(tap, masks, scores, unit, done.residency, millis(done), done.runtime, gpu)


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
