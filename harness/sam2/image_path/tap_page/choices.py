"""What the page offers to switch between: decoders of one set of weights, and back ends that run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.core.errors import UsageError
from harness.core.job import Options
from harness.sam2.image_path.pipeline import ImageModels, Models
from harness.sam2.image_path.published import PublishedModels
from harness.sam2.shared.clicks import MAX_POINTS, Tap
from harness.sam2.shared.contract import PRESETS, RECOMMENDED, DecoderVariant
from harness.sam2.shared.published_files import decoder_names

OWN_DECODERS = ("published-v1", "card", "recommended")
"""What is offered of models that are converted here, in the order of their history."""


@dataclass(frozen=True)
class BackEnd:
    """Which unit of which device runs the decoder, and how."""

    device: str
    accelerator: Literal["gpu", "cpu"]
    precision: Literal["default", "fp32"] = "default"

    @property
    def key(self) -> str:
        """Its name in requests."""
        return f"{self.device}/{self.accelerator}" + ("" if self.precision == "default" else f"/{self.precision}")

    @property
    def label(self) -> str:
        """Its name for people."""
        if self.accelerator == "cpu":
            return f"{self.device}: CPU"
        return f"{self.device}: GPU, {'float16' if self.precision == 'default' else 'float32'}"

    @property
    def options(self) -> Options:
        """How a job runs on it."""
        return Options(accelerator=self.accelerator, precision=self.precision)


def back_ends(devices: Sequence[str]) -> tuple[BackEnd, ...]:
    """GPU in float16, GPU in float32 and CPU of each device."""
    kinds: tuple[tuple[Literal["gpu", "cpu"], Literal["default", "fp32"]], ...]
    kinds = (("gpu", "default"), ("gpu", "fp32"), ("cpu", "default"))
    return tuple(BackEnd(device, *kind) for device in dict.fromkeys(devices) for kind in kinds)


@dataclass(frozen=True)
class DecoderChoice:
    """A decoder that can be chosen; all share the encoder, and so what a photo is encoded to."""

    key: str
    label: str
    models: ImageModels

    def to_json(self) -> dict[str, Any]:
        """As the page's state has it. `why_not`: by tool, in a sentence, what the decoder cannot be asked."""
        tools = {
            "more": Tap(((0, 0), (1, 1))),
            "negative": Tap(((0, 0),), ((1, 1),)),
            "box": Tap(box=(0, 0, 1, 1)),
        }
        return {
            "key": self.key,
            "label": self.label,
            "why_not": {name: why for name, tap in tools.items() if (why := self._refusal(tap))},
            "most_points": MAX_POINTS,
        }

    def _refusal(self, tap: Tap) -> str:
        try:
            self.models.check([tap])
        except UsageError as error:
            return str(error)
        return ""


def own_decoders(models: Models, named: Sequence[str]) -> tuple[DecoderChoice, ...]:
    """Decoders converted from the weights of `models`: those `named`, else all of `OWN_DECODERS`."""
    variants = {name: DecoderVariant.named(name) for name in named or OWN_DECODERS}
    known = {variant: name for name, variant in PRESETS.items()}
    return tuple(
        DecoderChoice(name, known.get(variant, str(variant)), replace(models, variant=variant))
        for name, variant in variants.items()
    )


def published_decoders(folder: Path, named: Sequence[str]) -> tuple[DecoderChoice, ...]:
    """The decoders among a folder's files, those `named` by version or file, else all. Raises `UsageError` as
    `PublishedModels.of`."""
    choices = []
    for word in named or decoder_names(folder) or ("",):
        models = PublishedModels.of(folder, word or None)
        file = models.files.decoder.name
        choices.append(DecoderChoice(file, file.removesuffix(".tflite"), models))
    return tuple({choice.key: choice for choice in choices}.values())


def first_choice(choices: Sequence[DecoderChoice], *, named: bool) -> str:
    """Which decoder the page begins with: the first that was named, else the recommended one, else the first."""
    recommended = next((c.key for c in choices if getattr(c.models, "variant", None) == RECOMMENDED), None)
    return choices[0].key if named or recommended is None else recommended
