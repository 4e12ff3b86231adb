"""A photo and a tap, made ready: a decoder on disk and the four arrays to run it with.

Everything costly is kept under the cache folder, so a second call with the same photo and weights imports no
torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.progress import Say
from harness.devices.host.device import HostDevice
from harness.devices.scratch import scratch_folder
from harness.sam2.image_path.convert import DecoderPlan, in_torch
from harness.sam2.image_path.pipeline import Features, ImageModels, encode
from harness.sam2.image_path.ports import DECODER_PORTS, Ports
from harness.sam2.shared import image
from harness.sam2.shared.card import code, digest, missing_packages, newest_made, releases, source_request, torch_of
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import INPUT_NAMES, DecoderVariant, LayerNormKind, WeightKind
from harness.sam2.shared.files import make_folder, read_arrays
from harness.sam2.shared.prompt import PromptConstants
from harness.sam2.shared.source import resolve

_FEATURES_CODE = ("shared/image.py", "shared/meta_checkpoint.py", "shared/weights.py")
_FEATURES = ("image_embeddings", "feat_s1", "feat_s0")


@dataclass(frozen=True)
class Workload:
    """What one run of the decoder needs."""

    model_path: Path
    inputs: dict[str, NDArray[np.float32]]
    """By the model's own names, those of `ports`."""
    photo: image.Photo
    at: tuple[float, float]
    """The tap, (x, y) in photo pixels."""
    provenance: str
    """A sentence fragment for people; says so when the weights are random."""
    is_random: bool
    ports: Ports = DECODER_PORTS
    """What the model's inputs and outputs are called."""
    file: str = ""
    """The name of the published file that the decoder is; empty for one that was converted here."""
    features: Features = field(default_factory=dict)
    """The decoder's image inputs, by our names."""
    prompt: PromptConstants | None = None
    """What taps are encoded with."""

    def inputs_at(self, tap: Tap, ports: Ports | None = None) -> dict[str, NDArray[np.float32]]:
        """The inputs of this decoder, or of one of these `ports`, for another tap on the photo. Raises as
        `Tap.check`."""
        if self.prompt is None:
            raise RuntimeError("a workload without prompt constants cannot be asked another tap")
        sparse = tap.encode(self.photo.shape, self.prompt)
        return (ports or self.ports).feed({**self.features, "sparse_prompt": sparse})


def workload_of(
    models: ImageModels,
    *,
    photo: image.Photo | None = None,
    at: tuple[float, float] | None = None,
    timeout: float = 600.0,
    progress: Say | None = None,
) -> Workload:
    """Files' decoder and its inputs for a tap, as `prepare` has it; the image features come from the files' encoder on
    the host's CPU. Needs no torch.

    Raises `UsageError` for a photo of another kind or a tap outside it, `DeviceError` when the encoder does not run.
    """
    tell = progress or (lambda _: None)
    photo, at = _photo_and_tap(photo, at)
    tap = Tap.at(*at)
    models.check([tap])
    constants = models.constants()
    sparse = tap.encode(photo.shape, constants)
    tell("running the image encoder on the CPU")
    with HostDevice() as host:
        features = encode(host, models, image.preprocess(photo, constants.image_size), "cpu", 1, timeout).features
    decoder = models.decoder(tap.tokens)
    inputs = decoder.ports.feed({**features, "sparse_prompt": sparse})
    where = models.provenance, models.is_random
    kept = features, constants
    return Workload(decoder.model, inputs, photo, at, *where, decoder.ports, str(models.written), *kept)


def prepare(
    cache_dir: Path,
    *,
    photo: image.Photo | None = None,
    at: tuple[float, float] | None = None,
    source: str | None = None,
    seed: int = 0,
    layernorm: LayerNormKind = "safe",
    variant: DecoderVariant | None = None,
    weights: WeightKind = "float32",
    progress: Say | None = None,
    note: Say | None = None,
) -> Workload:
    """The decoder and its inputs for a tap `at` (x, y) in the pixels of `photo`, uint8 [H, W, 3].

    Without a photo: the sample portrait, tapped on the face. With a photo but no tap: its middle. The weights
    are chosen as in `convert.convert_decoder`, which also says what `variant` and `weights` mean; without a
    `variant` it is the card's with the `layernorm` given.
    `progress` is told in words what is being done; it stays silent when everything is there already.
    Where no model can be made, for want of a package, the newest that other releases made of the same is taken, and
    `note` is told in a sentence which torch that was.
    Raises `UsageError` for a photo of another kind, a tap outside it, unusable weights or missing packages.
    """
    photo, at = _photo_and_tap(photo, at)
    settled = resolve(source, seed)
    plan = DecoderPlan(make_folder(cache_dir), settled, variant or DecoderVariant(layernorm), weights)
    content = hashlib.sha256(repr(photo.shape).encode() + photo.tobytes()).hexdigest()
    stem = f"sam2-features-{digest(content, settled.key, code(_FEATURES_CODE))}"
    features_path = cache_dir / f"{stem}-{releases()}.npz"
    earlier = None
    if lacking := missing_packages():
        earlier = plan.newest()
        features_path = newest_made(cache_dir, stem, ".npz", lambda path: _read(path) is not None) or features_path

    request: dict[str, Any] = {"source": source_request(settled)}
    if earlier is None and not plan.is_there():
        request["models"] = [plan.request()]
    features = _read(features_path)
    if features is None or len(request) > 1:
        with scratch_folder("harness-sam2-") as folder:
            if features is None:
                np.save(folder / "photo.npy", photo, allow_pickle=False)
                request["features"] = {"photo": str(folder / "photo.npy"), "path": str(features_path)}
            in_torch(request, progress or (lambda _: None))
        features = _read(features_path)
        if features is None:
            raise RuntimeError(f"the image features just written to {features_path} cannot be read")

    if earlier is not None and note is not None:
        made = torch_of(earlier.with_suffix(".json"))
        note(f"The decoder was converted earlier, with {made}; this Python has no {', '.join(lacking)}.")
    constants = PromptConstants.load(plan.constants)
    arrays = {**features, "sparse_prompt": Tap.at(*at).encode(photo.shape, constants)}
    inputs = {name: arrays[name] for name in INPUT_NAMES}
    where = settled.provenance, settled.is_random
    return Workload(earlier or plan.model, inputs, photo, at, *where, features=features, prompt=constants)


def _photo_and_tap(
    photo: image.Photo | None, at: tuple[float, float] | None
) -> tuple[image.Photo, tuple[float, float]]:
    if photo is None:
        photo, at = image.sample_photo(), image.SAMPLE_FACE if at is None else at
    image.check_photo(photo)
    height, width = photo.shape[:2]
    x, y = (width / 2, height / 2) if at is None else at
    Tap.at(x, y).check(photo.shape)
    return photo, (float(x), float(y))


def _read(path: Path) -> dict[str, NDArray[np.float32]] | None:
    """The features kept in `path`, or None when they have to be made (again)."""
    try:
        return read_arrays(path, _FEATURES)
    except (OSError, ValueError):
        return None
