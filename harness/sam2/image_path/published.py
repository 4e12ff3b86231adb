"""The image path of files that are there already: nothing is converted, and no torch is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.progress import Say
from harness.graph.model import Model
from harness.sam2.image_path.ports import BoundModel, Ports, bind_decoder, bind_encoder
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import DecoderVariant
from harness.sam2.shared.prompt import PromptConstants
from harness.sam2.shared.published_files import ChosenFiles, choose_files, is_published
from harness.sam2.shared.unit import Unit


@dataclass(frozen=True)
class ModelFile:
    """A model on disk, and what its inputs and outputs are called."""

    model: Path
    ports: Ports


@dataclass(frozen=True)
class PublishedModels:
    """An encoder, a decoder and the prompt's constants, as files of the published names; an `ImageModels`."""

    files: ChosenFiles
    prompt: PromptConstants
    decoder_file: BoundModel
    encoder_file: BoundModel

    @classmethod
    def of(cls, folder: Path, wanted: str | None = None) -> PublishedModels:
        """The models in `folder`; `wanted` as in `published_files.choose_files`.

        Raises `UsageError` when a file is missing, several fit, or inputs and outputs are not the published ones or do
        not fit each other.
        """
        files = choose_files(folder, wanted)
        decoder = bind_decoder(Model.load(files.decoder), files.decoder.name)
        encoder = bind_encoder(Model.load(files.encoder), files.encoder.name)
        for name, shape in encoder.sizes.features.items():
            if (other := decoder.sizes.features[name]) != shape:
                raise UsageError(
                    f"The encoder {files.encoder.name!r} gives {name} of shape {list(shape)}, and the decoder "
                    f"{files.decoder.name!r} takes {list(other)}.",
                    "Give an encoder and a decoder of one model.",
                )
        constants = PromptConstants.published(files.constants, decoder.sizes.channels, encoder.sizes.image)
        return cls(files, constants, decoder, encoder)

    @cached_property
    def _known(self) -> bool:
        return is_published((self.files.decoder, self.files.encoder, self.files.constants))

    @property
    def provenance(self) -> str:
        """A sentence fragment for people."""
        known = "by SHA-256 as published" if self._known else "by SHA-256 not those known as published"
        return f"the files {self.files.decoder.name} and {self.files.encoder.name}, {known}"

    @property
    def is_random(self) -> bool:
        """False: files are taken for trained, as nothing in them tells."""
        return False

    @property
    def name(self) -> str:
        """The model's name. A folder may hold another size of SAM 2, so it is not called Tiny."""
        return "SAM 2.1 Hiera-Tiny" if self._known else "SAM 2"

    @property
    def written(self) -> DecoderVariant | str:
        """How the decoder is written: nobody says, so its file stands for it."""
        return self.files.decoder.name

    @property
    def gives_single(self) -> bool:
        """False: the published decoders give the three candidates alone."""
        return False

    def parts(self, device: str, unit: Unit) -> int:
        """One: a published encoder is whole."""
        return 1

    def check(self, taps: Sequence[Tap]) -> None:
        """Raise `UsageError` for a tap that this decoder and these constants cannot be asked."""
        takes = self.decoder_file.tokens
        for tap in taps:
            self.prompt.check_labels(tap.labels)
            if tap.tokens != takes:
                raise UsageError(
                    f"The decoder {self.files.decoder.name!r} takes a prompt of {takes} tokens, which is "
                    f"{_points(takes - 1)} on the object, not {len(tap.labels)}.",
                    "Ask so, or convert models of your own (`--models own`).",
                )

    def prepare(self, taps: Sequence[Tap], parts: int | None, progress: Say) -> None:
        """Check the taps; there is nothing to make."""
        self.check(taps)

    def decoder(self, tokens: int) -> ModelFile:
        """The decoder, for prompts as long as it takes. Raises `UsageError` for others."""
        if tokens != self.decoder_file.tokens:
            raise UsageError(
                f"The decoder {self.files.decoder.name!r} takes {self.decoder_file.tokens} tokens, not {tokens}."
            )
        return ModelFile(self.files.decoder, self.decoder_file.ports)

    def encoder(self, parts: int) -> list[ModelFile]:
        """The encoder. Raises `UsageError` for more than one part."""
        if parts != 1:
            raise UsageError(f"The encoder {self.files.encoder.name!r} cannot be run in {parts} parts.", "Choose 1.")
        return [ModelFile(self.files.encoder, self.encoder_file.ports)]

    def constants(self) -> PromptConstants:
        """The prompt encoder's constants."""
        return self.prompt


def _points(count: int) -> str:
    return "one point" if count == 1 else f"{count} points"
