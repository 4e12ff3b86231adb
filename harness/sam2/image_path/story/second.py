"""The version of the decoder that came after the one which the demo localizes: found beside it, or converted here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.progress import Say
from harness.sam2.image_path.convert import convert_decoder
from harness.sam2.image_path.ports import DECODER_PORTS, Ports
from harness.sam2.image_path.published import PublishedModels
from harness.sam2.image_path.workload import Workload
from harness.sam2.shared.contract import DecoderVariant
from harness.sam2.shared.published_files import FoundFile, later_version

FIRST_FILE = "sam2_tiny_mask_decoder_fp16.tflite"
REPOSITORY = "litert-community/SAM2.1-Hiera-Tiny-Mask-Decoder"


@dataclass(frozen=True)
class SecondDecoder:
    """A decoder of a later version, ready to run on what the first is given."""

    version: str
    model: Path
    ports: Ports
    written: str
    """How it is written, or its file, in a clause."""


@dataclass(frozen=True)
class Versions:
    """Which version of the decoder is localized, `v1` or later, and which later one is there beside it."""

    localized: str
    second: SecondDecoder | None
    note: str = ""
    """Why there is only one, in a sentence."""


def successor(first: DecoderVariant) -> DecoderVariant:
    """The first version's way of writing a decoder as the second has it: in rank 4, the batch dimension kept."""
    return replace(first, attention="rank4", batch="kept")


def versions_of(workload: Workload, convert: Callable[[], SecondDecoder]) -> Versions:
    """The versions that there are: of files those in the folder of the workload's, else the one that `convert` makes,
    which may raise `UsageError`."""
    if not workload.file:
        try:
            return Versions("v1", convert())
        except UsageError as error:
            return Versions("v1", None, f"The second version was not converted: {error.message}")
    found = FoundFile.of(workload.model_path)
    this = f"v{found.version}" if found else "v1"
    later = later_version(workload.model_path)
    if later is None:
        return Versions(this, None, _alone(workload.model_path, this))
    try:
        models = PublishedModels.of(workload.model_path.parent, later)
        _check_fit(models, workload)
    except UsageError as error:
        return Versions(this, None, f"The {later} beside it cannot be run on the same inputs: {error.message}")
    file = models.decoder_file
    second = SecondDecoder(later, models.files.decoder, file.ports, f"the file {models.files.decoder.name}")
    return Versions(this, second)


def converted_second(
    cache: Path, source: str | None, seed: int, first: DecoderVariant, tell: Say | None = None
) -> SecondDecoder:
    """The second version of a decoder that is converted here as `first`, from the same weights. Raises `UsageError`
    where it is not there and cannot be made."""
    variant = successor(first)
    made = convert_decoder(cache, source=source, seed=seed, variant=variant, progress=tell)
    return SecondDecoder(
        "v2", made.path, DECODER_PORTS, "not the published file: converted here in rank 4, the batch dimension kept"
    )


def _check_fit(models: PublishedModels, workload: Workload) -> None:
    """Raise `UsageError` unless the decoder takes the first one's image features and prompt."""
    name, file = models.files.decoder.name, models.decoder_file
    for ours, shape in file.sizes.features.items():
        if (given := workload.features[ours].shape) != shape:
            raise UsageError(f"{name} takes {ours} of shape {list(shape)}, not {list(given)}.")
    if file.tokens != 2:
        raise UsageError(f"{name} takes a prompt of {file.tokens} tokens, not 2.")


def _alone(decoder: Path, this: str) -> str:
    if this == "v1":
        return f"There is no second version: {str(decoder.parent)!r} holds {decoder.name} alone."
    return (
        f"Only the second version is there, {decoder.name}, and what follows is told of it. The first one, which the "
        f"card is about, is {FIRST_FILE} of {REPOSITORY}: put it into one folder with the others (--models FOLDER)."
    )
