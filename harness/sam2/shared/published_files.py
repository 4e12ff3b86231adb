"""The published models: which files there are, what they are called, and which of a folder's are meant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.progress import SILENT, Progress
from harness.devices.fetched.download import digest_of
from harness.devices.fetched.reach import does_answer
from harness.devices.fetched.resumed import ResumedDownload

CONSTANTS = "prompt_encode_const.bin"
_NAME = re.compile(r"sam2_(?:tiny_)?(mask_decoder|image_encoder)((?:_[A-Za-z0-9]+)*)\.tflite")
_KINDS = {"mask_decoder": "decoder", "image_encoder": "encoder"}
_HALF = ("fp16", "float16")
_VERSION = re.compile(r"v([1-9][0-9]?)")
# For the first answer, where there is another way to go on; the files themselves may take their time.
_PROBE_SECONDS = 10.0


@dataclass(frozen=True)
class PublishedFile:
    """One file as it was published: its repository, the revision, and which bytes it must have. A file without a
    digest is never fetched."""

    repository: str
    revision: str
    name: str
    """Its path in the repository, and below the folder that it is kept in."""
    bytes: int
    sha256: str | None


PUBLISHED_FILES = (
    PublishedFile(
        "litert-community/SAM2.1-Hiera-Tiny-Image-Encoder",
        "e46fe448",
        "sam2_tiny_image_encoder_v2_fp16.tflite",
        80_278_528,
        "9f87693052c7c9bee2271f86d947420d7409ef0c2bec36c1885335afab90f6be",
    ),
    PublishedFile(
        "litert-community/SAM2.1-Hiera-Tiny-Mask-Decoder",
        "5eb2a03f",
        "sam2_tiny_mask_decoder_v2_fp16.tflite",
        16_968_160,
        "80d668b19156c548f31a8c8eb3cc1da2127de36e24e96ef923467a1e54c99e76",
    ),
    PublishedFile(
        "litert-community/SAM2.1-Hiera-Tiny-Mask-Decoder",
        "5eb2a03f",
        CONSTANTS,
        3_072,
        "c1ac798f0cc0bd5e4b0dc94efe26f2f9dfe4d1d4cec141ab0350580ce7a48588",
    ),
)
"""What can be fetched by its digest: the encoder, the decoder of rank 4 (v2), and the prompt's constants. The digest of
the first decoder (v1) is not known; it is taken from a folder."""

_TRACKER = "square-zero-labs/sam2.1-tiny-video-onnx"
TRACKER_FILES = tuple(
    PublishedFile(_TRACKER, "", name, 0, None)
    for name in (
        "onnx/vision_encoder.onnx",
        "onnx/mask_decoder.onnx",
        "onnx/memory_encoder.onnx",
        "onnx/memory_attention.onnx",
        "onnx/pointer_tpos.onnx",
        "constants.json",
    )
)
"""The tracker's graphs, by the names on their card. Neither revision nor digest of any is known: each is refused until
it has them here."""

_DIGESTS = frozenset(file.sha256 for file in PUBLISHED_FILES)


@dataclass(frozen=True)
class FoundFile:
    """A model of a folder, by what its name says."""

    path: Path
    kind: str
    version: int
    half: bool
    """Whether the name says that the weights are float16."""

    @classmethod
    def of(cls, path: Path) -> FoundFile | None:
        """What a file's name says; None for a name that is none of the published form."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            return None
        words = match[2].split("_")
        versions = [int(v[1]) for word in words if (v := _VERSION.fullmatch(word))]
        return cls(path, _KINDS[match[1]], versions[0] if versions else 1, any(word in _HALF for word in words))


@dataclass(frozen=True)
class ChosenFiles:
    """The files of one image path, and in a sentence which of several they are (empty: there were no others)."""

    decoder: Path
    encoder: Path
    constants: Path
    chosen: str = ""


def choose_files(folder: Path, wanted: str | None = None) -> ChosenFiles:
    """The models of a folder, told by their names.

    `wanted` is the decoder's version (`v1`, `v2`) or its file name; None means the newest version. The encoder is the
    newest; of two of that version, the one whose weights are stored as the decoder's.
    Raises `UsageError` when a file is missing, or when several fit.
    """
    if not folder.is_dir():
        raise UsageError(f"The folder {str(folder)!r} of models does not exist.", _step())
    # A pipe would be waited for. A link is followed: the hub's own cache consists of them.
    files = [found for path in sorted(folder.iterdir()) if path.is_file() and (found := FoundFile.of(path))]
    decoders = [file for file in files if file.kind == "decoder"]
    encoders = [file for file in files if file.kind == "encoder"]
    decoder = _decoder(folder, decoders, wanted)
    encoder = _encoder(folder, encoders, decoder)
    constants = folder / CONSTANTS
    if not constants.is_file():
        raise UsageError(f"The folder {str(folder)!r} has no {CONSTANTS}.", _step())
    others = [file.path.name for file in (*decoders, *encoders) if file not in (decoder, encoder)]
    chosen = (
        f"Taken of {str(folder)!r}: {decoder.path.name} and {encoder.path.name}, not {_and(others)}." if others else ""
    )
    return ChosenFiles(decoder.path, encoder.path, constants, chosen)


def decoder_names(folder: Path) -> tuple[str, ...]:
    """The decoders' files in a folder, the oldest version first; none where there is no such folder."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [f for path in paths if path.is_file() and (f := FoundFile.of(path)) and f.kind == "decoder"]
    return tuple(file.path.name for file in sorted(found, key=lambda file: file.version))


def first_version(folder: Path) -> str | None:
    """The oldest decoder's version in a folder, as `choose_files` takes it; None where there is no decoder."""
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    versions = [f.version for path in names if path.is_file() and (f := FoundFile.of(path)) and f.kind == "decoder"]
    return f"v{min(versions)}" if versions else None


def later_version(decoder: Path) -> str | None:
    """The newest decoder's version in the folder of a decoder, where it is newer than that; None where there is none,
    or the file's name tells no version."""
    this = FoundFile.of(decoder)
    others = [f for path in decoder.parent.iterdir() if path.is_file() and (f := FoundFile.of(path))]
    versions = [f.version for f in others if f.kind == "decoder"]
    return f"v{max(versions)}" if this is not None and versions and max(versions) > this.version else None


def _decoder(folder: Path, decoders: Sequence[FoundFile], wanted: str | None) -> FoundFile:
    if not decoders:
        raise UsageError(f"The folder {str(folder)!r} has no decoder (sam2_tiny_mask_decoder*.tflite).", _step())
    if wanted is None:
        fitting = _newest(decoders)
    else:
        fitting = [f for f in decoders if wanted in (f.path.name, f"v{f.version}", f"published-v{f.version}")]
        if not fitting:
            names = _and([f"{file.path.name} (v{file.version})" for file in decoders])
            raise UsageError(f"No decoder {wanted!r} is in {str(folder)!r}: it has {names}.", "Name one of these.")
    return _only(
        folder,
        fitting,
        "decoders",
        "Leave one in the folder, or name it with --variant FILE.",
    )


def _encoder(folder: Path, encoders: Sequence[FoundFile], decoder: FoundFile) -> FoundFile:
    if not encoders:
        raise UsageError(f"The folder {str(folder)!r} has no encoder (sam2_tiny_image_encoder*.tflite).", _step())
    newest = _newest(encoders)
    alike = [file for file in newest if file.half == decoder.half]
    return _only(folder, alike or newest, "encoders", "Leave one of them in the folder.")


def _newest(files: Sequence[FoundFile]) -> list[FoundFile]:
    newest = max(file.version for file in files)
    return [file for file in files if file.version == newest]


def _only(folder: Path, files: Sequence[FoundFile], what: str, step: str) -> FoundFile:
    """The one that fits; of several with the same content, the first."""
    if len(files) > 1 and len({digest_of(file.path) for file in files}) > 1:
        raise UsageError(f"Several {what} of {str(folder)!r} fit: {_and([f.path.name for f in files])}.", step)
    return files[0]


def is_published(paths: Iterable[Path]) -> bool:
    """Whether all files are known by their SHA-256."""
    return all(digest_of(path) in _DIGESTS for path in paths)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _step() -> str:
    repositories = " and ".join(dict.fromkeys(file.repository for file in PUBLISHED_FILES))
    return f"Put the files of {repositories} there, or give `published` or `own`."


def fetch_published(folder: Path, progress: Progress = SILENT, files: Sequence[PublishedFile] | None = None) -> Path:
    """The published files, by default those of the image path, in `folder`: fetched where they are not there or
    damaged, and only by their SHA-256.

    `HF_ENDPOINT` names another server than huggingface.co, and `HF_HUB_OFFLINE` keeps from asking any.
    Raises `UsageError` when a file cannot be had or its digest is not known, before any is fetched; `StorageError` when
    one cannot be written.
    """
    otherwise = "Give a folder with the files (`--models FOLDER`), or `--models own` to convert models here."
    digests: dict[PublishedFile, str] = {}
    for file in PUBLISHED_FILES if files is None else files:
        if file.sha256 is None:
            raise UsageError(
                f"{file.name} of {file.repository} cannot be fetched: its SHA-256 is not known here, and nothing is "
                "taken unchecked.",
                otherwise,
            )
        digests[file] = file.sha256
    for file, sha256 in digests.items():
        kept = folder / file.name
        if digest_of(kept) == sha256:
            continue
        address = _address(file)
        if _offline():
            raise UsageError(f"{file.name} is not in {str(folder)!r} while HF_HUB_OFFLINE is set.", otherwise)
        progress.stage(f"fetching {file.name} ({file.bytes / 1e6:.0f} MB, once)", max(file.bytes / 5e6, 0.5))
        ResumedDownload(file.name, address, sha256, file.bytes, otherwise).into(kept, progress.fraction)
    return folder


def fetched_published(folder: Path) -> bool:
    """Whether all published files are in `folder`, whole."""
    return all(digest_of(folder / file.name) == file.sha256 for file in PUBLISHED_FILES)


def have_published(folder: Path, progress: Progress = SILENT) -> bool:
    """Have the published files in `folder`, as `fetch_published`; where they cannot be had, `progress` is told why in a
    sentence. A server that does not answer is given up after ten seconds.

    Raises `StorageError` when they cannot be written.
    """
    if fetched_published(folder):
        return True
    try:
        if not _offline() and not does_answer(_address(PUBLISHED_FILES[0]), _PROBE_SECONDS):
            raise UsageError(f"{_endpoint()} does not answer.")
        fetch_published(folder, progress)
    except UsageError as error:
        progress.note(f"The published files cannot be had: {error.message}")
        return False
    return True


def _address(file: PublishedFile) -> str:
    return f"{_endpoint()}/{file.repository}/resolve/{file.revision}/{file.name}"


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _endpoint() -> str:
    told = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if "@" in told.partition("://")[2].partition("/")[0]:
        raise UsageError("HF_ENDPOINT has a user or a password in it, and none is sent.", "Give the address alone.")
    return told
