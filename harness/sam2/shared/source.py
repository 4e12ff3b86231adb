"""Where the weights come from, settled without importing torch.

The published checkpoint is `facebook/sam2.1-hiera-tiny`. Where it cannot be had (no network, no cached copy)
random weights of a realistic scale stand in, and every result says so through `Source.provenance`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core import safe_json
from harness.core.errors import UsageError
from harness.core.visible import visible
from harness.devices.fetched.reach import does_answer
from harness.sam2.shared.configuration import PIXEL_FILES, Configuration, check_pixels, named

PUBLISHED = "facebook/sam2.1-hiera-tiny"
RANDOM = "random"

# The published checkpoint serves the image and the video model, and names the latter in its config.json.
ARCHITECTURES = ("sam2", "sam2_video")

_WANTED_FILES = ["config.json", *PIXEL_FILES, "*.safetensors", "*.safetensors.index.json"]
# A configuration has some kB.
_MOST_CONFIG = 1 << 20
# Meta's largest has 0.9 GB and 1,032 entries, of which the pickle, names and shapes, has under 0.2 MB.
_MOST_CHECKPOINT = 2 << 30
_MOST_ENTRIES = 10_000
_MOST_PICKLE = 16 << 20
_PROBE_SECONDS = 3.0
_NEXT_STEP = f"Give a folder saved from {PUBLISHED}, Meta's .pt, a Hugging Face repository id, or {RANDOM!r}."
META_NEXT_STEP = "Give sam2.1_hiera_tiny.pt as Meta published it."


@dataclass(frozen=True)
class Source:
    """Weights that can be loaded: from `folder`, from Meta's `checkpoint`, or drawn at random from `seed` when there is
    neither."""

    folder: Path | None
    seed: int
    provenance: str
    """A sentence fragment for people, such as "random weights, seed 0 (realistic scale)"."""
    key: str
    """The same weights have the same key: a digest of the files, or the seed."""
    checkpoint: Path | None = None

    @property
    def is_random(self) -> bool:
        """Whether the weights stand in for trained ones."""
        return self.folder is None and self.checkpoint is None

    @property
    def model(self) -> str:
        """The model's name. A folder may hold another size of SAM 2, so it is not called Tiny."""
        return "SAM 2.1 Hiera-Tiny" if self.is_random or self.provenance.startswith(PUBLISHED) else "SAM 2"


def resolve(source: str | None = None, seed: int = 0) -> Source:
    """Settle which weights `source` means.

    None: the published checkpoint from the local cache or the network, and random weights where neither has
    it (a few seconds at most; none with HF_HUB_OFFLINE=1). "random": random weights. A folder: what
    `save_pretrained` wrote there, or one with a checkpoint of Meta's and no .safetensors. A file: such a checkpoint.
    Anything else: a Hugging Face repository id.
    Raises `UsageError` for a file or folder that is missing, broken or holds another architecture or another
    configuration than the models here can do, and for a repository that cannot be fetched.
    """
    if source == RANDOM:
        return _random(seed)
    if source is None:
        try:
            folder = _fetched(PUBLISHED)
        except UsageError:
            return _random(seed)
        return _from_folder(folder, seed, f"{PUBLISHED} from Hugging Face")
    folder = Path(source).expanduser()
    if folder.is_dir():
        if (checkpoint := _only_checkpoint(folder)) is not None:
            return _from_checkpoint(checkpoint, seed)
        return _from_folder(folder, seed, f"folder {source}")
    if folder.exists():
        return _from_checkpoint(folder, seed)
    if source.endswith(".pt") or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source):
        what = "file" if source.endswith(".pt") else "folder"
        raise UsageError(f"The {what} {source!r} does not exist.", _NEXT_STEP)
    return _from_folder(_fetched(source), seed, f"{source} from Hugging Face")


def _random(seed: int) -> Source:
    return Source(None, seed, f"random weights, seed {seed} (realistic scale)", f"random-{seed}")


def _from_folder(folder: Path, seed: int, provenance: str) -> Source:
    config = folder / "config.json"
    if not config.is_file():
        raise UsageError(f"{str(folder)!r} is not a model folder: it has no config.json.", _NEXT_STEP)
    content = read_configuration(config)
    architecture = content.get("model_type")
    if architecture not in ARCHITECTURES:
        raise UsageError(f"{str(folder)!r} holds a model of type {architecture!r}, not SAM 2.", _NEXT_STEP)
    said = Configuration.of(content)
    said.check(repr(str(config)), video=False)
    for name in PIXEL_FILES:
        if (file := folder / name).is_file():
            check_pixels(read_configuration(file), repr(str(file)))
    # A pipe would be waited for. A link is followed: the hub's own cache consists of them.
    weights = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if not weights:
        raise UsageError(f"{str(folder)!r} has no weights: no .safetensors file.", _NEXT_STEP)
    digest = hashlib.sha256()
    for file in (config, *weights):
        digest.update(file.name.encode() + b"\0")
        digest.update(_content(file))
    if said.unknown:
        provenance += f", keys of the configuration unknown here and not used: {named(said.unknown)}"
    return Source(folder, seed, provenance, digest.hexdigest())


def read_configuration(file: Path) -> dict[str, Any]:
    """The object in a configuration's file. Raises `UsageError` for a file that is none."""
    try:
        if (size := file.stat().st_size) > _MOST_CONFIG:
            raise ValueError(f"it has {size:,} bytes")
        content = safe_json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(file)!r} is not a model's configuration ({error}).", _NEXT_STEP) from error
    return content


def _only_checkpoint(folder: Path) -> Path | None:
    """Meta's checkpoint in a folder without weights of transformers, if there is one."""
    if any(folder.glob("*.safetensors")):
        return None
    found = sorted(file for file in folder.glob("*.pt") if file.is_file())
    if len(found) > 1:
        files = named(tuple(file.name for file in found))
        raise UsageError(f"{str(folder)!r} has {len(found)} checkpoints: {files}.", "Name one of them.")
    return found[0] if found else None


def _from_checkpoint(file: Path, seed: int) -> Source:
    check_archive(file)
    return Source(None, seed, f"Meta's checkpoint {visible(file.name)}", f"meta-{_content(file).hex()}", file)


def check_archive(file: Path) -> None:
    """Raise `UsageError` unless `file` is an archive as `torch.save` writes it, of no more than it takes to hold SAM 2:
    what is in it is believed only then."""
    try:
        if not file.is_file():
            raise ValueError("it is no file")
        if (size := file.stat().st_size) > _MOST_CHECKPOINT:
            raise ValueError(f"it has {size:,} bytes, and Meta's largest 0.9 GB")
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES:
            raise ValueError(f"it has {len(entries):,} entries")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its entries are compressed, and torch.save's are not")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its entries claim more bytes than it has")
        pickles = [entry.file_size for entry in entries if entry.filename.endswith("data.pkl")]
        if len(pickles) != 1 or pickles[0] > _MOST_PICKLE:
            raise ValueError("it is not what torch.save writes")
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UsageError(f"{str(file)!r} is not a checkpoint of Meta's ({error}).", META_NEXT_STEP) from error


def _content(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _fetched(repository: str) -> Path:
    """The folder of a repository's files, from the local cache or the network. Raises `UsageError` with the
    reason."""
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise UsageError("There is no huggingface-hub package to fetch weights with.", _NEXT_STEP) from error
    with contextlib.suppress(OSError, ValueError):
        folder = Path(snapshot_download(repository, local_files_only=True, allow_patterns=_WANTED_FILES))
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
    absent = f"There is no folder {repository!r}, and the Hugging Face repository of that name is not cached"
    if constants.HF_HUB_OFFLINE:
        raise UsageError(f"{absent} while HF_HUB_OFFLINE is set.", _NEXT_STEP)
    if not does_answer(f"{constants.ENDPOINT}/{repository}/resolve/main/config.json", _PROBE_SECONDS):
        raise UsageError(f"{absent} and {constants.ENDPOINT} does not answer.", _NEXT_STEP)
    try:
        return Path(snapshot_download(repository, allow_patterns=_WANTED_FILES))
    except Exception as error:  # the client lets its transport's errors through
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{absent} and cannot be fetched ({reason}).", _NEXT_STEP) from error
