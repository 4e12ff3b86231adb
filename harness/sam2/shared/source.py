"""Where the weights come from, settled without importing torch.

The published checkpoint is `facebook/sam2.1-hiera-tiny`. Where it cannot be had (no network, no cached copy)
random weights of a realistic scale stand in, and every result says so through `Source.provenance`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from harness.core import safe_json
from harness.core.errors import UsageError

PUBLISHED = "facebook/sam2.1-hiera-tiny"
RANDOM = "random"

# The published checkpoint serves the image and the video model, and names the latter in its config.json.
ARCHITECTURES = ("sam2", "sam2_video")

_WANTED_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]
# A configuration has some kB.
_MOST_CONFIG = 1 << 20
_PROBE_SECONDS = 3.0
_NEXT_STEP = f"Give a folder saved from {PUBLISHED}, a Hugging Face repository id, or {RANDOM!r}."


@dataclass(frozen=True)
class Source:
    """Weights that can be loaded: from `folder`, or drawn at random from `seed` when there is no folder."""

    folder: Path | None
    seed: int
    provenance: str
    """A sentence fragment for people, such as "random weights, seed 0 (realistic scale)"."""
    key: str
    """The same weights have the same key: a digest of the files, or the seed."""

    @property
    def is_random(self) -> bool:
        """Whether the weights stand in for trained ones."""
        return self.folder is None

    @property
    def model(self) -> str:
        """The model's name. A folder may hold another size of SAM 2, so it is not called Tiny."""
        return "SAM 2.1 Hiera-Tiny" if self.is_random or self.provenance.startswith(PUBLISHED) else "SAM 2"


def resolve(source: str | None = None, seed: int = 0) -> Source:
    """Settle which weights `source` means.

    None: the published checkpoint from the local cache or the network, and random weights where neither has
    it (a few seconds at most; none with HF_HUB_OFFLINE=1). "random": random weights. A folder: what
    `save_pretrained` wrote there. Anything else: a Hugging Face repository id.
    Raises `UsageError` for a folder that is missing, broken or holds another architecture, and for a
    repository that cannot be fetched.
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
    if folder.exists():
        return _from_folder(folder, seed, f"folder {source}")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source):
        raise UsageError(f"The folder {source!r} does not exist.", _NEXT_STEP)
    return _from_folder(_fetched(source), seed, f"{source} from Hugging Face")


def _random(seed: int) -> Source:
    return Source(None, seed, f"random weights, seed {seed} (realistic scale)", f"random-{seed}")


def _from_folder(folder: Path, seed: int, provenance: str) -> Source:
    config = folder / "config.json"
    if not config.is_file():
        raise UsageError(f"{str(folder)!r} is not a model folder: it has no config.json.", _NEXT_STEP)
    try:
        if (size := config.stat().st_size) > _MOST_CONFIG:
            raise ValueError(f"it has {size:,} bytes")
        architecture = safe_json.loads(config.read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{str(config)!r} is not a model's configuration ({error}).", _NEXT_STEP) from error
    if architecture not in ARCHITECTURES:
        raise UsageError(f"{str(folder)!r} holds a model of type {architecture!r}, not SAM 2.", _NEXT_STEP)
    # A pipe would be waited for. A link is followed: the hub's own cache consists of them.
    weights = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if not weights:
        raise UsageError(f"{str(folder)!r} has no weights: no .safetensors file.", _NEXT_STEP)
    digest = hashlib.sha256()
    for file in (config, *weights):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return Source(folder, seed, provenance, digest.hexdigest())


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
    if not _answers(f"{constants.ENDPOINT}/{repository}/resolve/main/config.json"):
        raise UsageError(f"{absent} and {constants.ENDPOINT} does not answer.", _NEXT_STEP)
    try:
        return Path(snapshot_download(repository, allow_patterns=_WANTED_FILES))
    except Exception as error:  # the client lets its transport's errors through
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{absent} and cannot be fetched ({reason}).", _NEXT_STEP) from error


def _answers(address: str) -> bool:
    """One short look whether a server answers at all, because the hub's own client retries for much
    longer."""
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(address, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()
        except (OSError, ValueError):
            return
        answered.set()

    # Name resolution has no timeout of its own, hence the thread.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PROBE_SECONDS + 1)
    return answered.is_set()
