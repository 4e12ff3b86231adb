"""How far a device's decoder is from the host's, on photos: the figures behind the recommended variant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import DeviceError
from harness.core.job import Options, Residency
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import RunFolder
from harness.devices.base import Device
from harness.devices.host.device import HostDevice
from harness.devices.registry import check_device, open_device
from harness.devices.scratch import scratch_folder
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench, compare_model
from harness.localize.base.reference import output_label
from harness.localize.base.result import OutputVerdict
from harness.numerics.metrics import mask_iou
from harness.sam2.image_path.pipeline import Features, ImageModels, Models, encode
from harness.sam2.image_path.ports import DECODER_PORTS, Ports
from harness.sam2.image_path.scenes import Scene, all_scenes
from harness.sam2.shared.contract import OUTPUT_NAMES, RECOMMENDED, DecoderVariant
from harness.sam2.shared.image import preprocess

PREPARE_SECONDS = 40.0
MIN_IOU = 0.995
"""What the best mask's IoU against the CPU must reach."""
MAX_ERROR_RATIO = 3.0
"""The most that the largest logit error may be of an ideal float16 device's."""


@dataclass(frozen=True)
class SceneAccuracy:
    """One decoder on one photo, the device against the host's CPU."""

    scene: str
    best_iou: float
    """IoU of the mask that the CPU's scores prefer."""
    least_iou: float
    """The smallest IoU of the candidates."""
    cosine: float
    """Of the mask logits."""
    max_error: float
    """Largest logit error."""
    ideal_max_error: float
    """What an ideal device with float16 storage shows."""
    nonfinite: int
    residency_full: bool
    ideal_iou: float = 1.0
    """The smallest IoU that ideal float16 storage gives the scene's candidates; 1 where it was not asked."""

    @property
    def error_ratio(self) -> float:
        """The largest error over the ideal device's."""
        return self.max_error / self.ideal_max_error if self.ideal_max_error else float("inf")

    @property
    def ok(self) -> bool:
        """Whether the best mask and the logits are as close as the recommended decoder has to be."""
        return self.nonfinite == 0 and self.best_iou >= MIN_IOU and self.error_ratio <= MAX_ERROR_RATIO

    def to_json(self) -> dict[str, Any]:
        """Its figures."""
        return {
            "scene": self.scene,
            "best_iou": self.best_iou,
            "least_iou": self.least_iou,
            "cosine": self.cosine,
            "max_error": self.max_error,
            "ideal_max_error": self.ideal_max_error,
            "ideal_iou": self.ideal_iou,
            "error_ratio": self.error_ratio,
            "nonfinite": self.nonfinite,
            "fully_delegated": self.residency_full,
            "ok": self.ok,
        }


@dataclass(frozen=True)
class Accuracy:
    """One decoder on several photos."""

    variant: DecoderVariant | str
    """How the decoder is written; the name of its file where nobody says."""
    device: str
    gpu: str
    runtime: str
    provenance: str
    is_random: bool
    scenes: tuple[SceneAccuracy, ...]

    @property
    def ok(self) -> bool:
        """Whether every scene is; none at all is not."""
        return bool(self.scenes) and all(scene.ok for scene in self.scenes)

    def to_json(self) -> dict[str, Any]:
        """Schema 1."""
        return {
            "schema": 1,
            "variant": str(self.variant),
            "device": {"name": self.device, "gpu": self.gpu, "runtime": self.runtime},
            "weights": self.provenance,
            "random_weights": self.is_random,
            "ok": self.ok,
            "scenes": [scene.to_json() for scene in self.scenes],
        }


def decoder_accuracy(
    device: str = "host",
    *,
    cache_dir: Path,
    source: str | None = None,
    seed: int = 0,
    variant: DecoderVariant = RECOMMENDED,
    scenes: Sequence[Scene] | None = None,
    models: ImageModels | None = None,
    timeout: float = 600.0,
    progress: Progress = SILENT,
) -> Accuracy:
    """The decoder on the GPU of `device` against the host's CPU, by default on `scenes.all_scenes()`. Both sides get
    the image features of the CPU's encoder. `models` stands in for `cache_dir`, `source`, `seed` and `variant`.

    Raises `UsageError` for unusable weights, `DeviceError` when the device does not complete.
    """
    if models is None:
        models = Models.of(cache_dir, source, seed, variant)
    chosen = all_scenes() if scenes is None else tuple(scenes)
    models.check([scene.tap for scene in chosen])
    check_device(device, lambda what: progress.stage(what, 20.0))
    prepared = [(scene, scene_features(models, scene, timeout, progress)) for scene in chosen]
    rows, gpu, runtime = [], "", ""
    with bench(device, "sam2 accuracy", progress) as at:
        for scene, features in prepared:
            case = decoder_case(models, scene, features, timeout)
            progress.stage(f"{scene.name} on {device}", 10.0)
            found = compare_model(at, case)
            names = models.decoder(scene.tap.tokens).ports
            masks = found.ideal[names.outputs[OUTPUT_NAMES[0]]]
            rows.append(scene_accuracy(scene.name, found.outputs, found.done.residency, at.run, masks, names))
            gpu, runtime = found.done.adapter, found.done.runtime
    return Accuracy(models.written, device, gpu, runtime, models.provenance, models.is_random, tuple(rows))


def scene_accuracy(
    name: str,
    outputs: Sequence[OutputVerdict],
    residency: Residency,
    run: RunFolder,
    ideal: Sequence[Array] = (),
    ports: Ports = DECODER_PORTS,
) -> SceneAccuracy:
    """The figures of a comparison just made; the outputs of both sides are in `run`, mask logits [1, 3, H, W] of ideal
    devices in `ideal`. `ports` has the names of the decoder's outputs."""
    masks, scores = (run.tensors.get(output_label(ports.outputs[which]), "reference") for which in OUTPUT_NAMES)
    got = run.tensors.get(output_label(ports.outputs[OUTPUT_NAMES[0]]), "device")
    best = int(np.argmax(scores[0]))

    def ious_of(logits: Array) -> list[float]:
        return [mask_iou(logits[0, i], masks[0, i]) for i in range(logits.shape[1])]

    ious = ious_of(got)
    (verdict,) = [output for output in outputs if output.name == ports.outputs[OUTPUT_NAMES[0]]]
    actual = verdict.judgement.actual
    return SceneAccuracy(
        name,
        ious[best],
        min(ious),
        actual.cosine,
        actual.max_abs,
        verdict.judgement.expected_max_abs,
        sum(output.judgement.actual.nonfinite for output in outputs),
        residency.full,
        min((iou for logits in ideal for iou in ious_of(logits)), default=1.0),
    )


def scene_features(models: ImageModels, scene: Scene, timeout: float, progress: Progress) -> Features:
    """The decoder's image inputs for a scene, from the encoder on the host's CPU; converts what is missing."""

    def tell(what: str) -> None:
        progress.stage(what, PREPARE_SECONDS)

    models.prepare([scene.tap], 1, tell)
    pixels = preprocess(scene.photo, models.constants().image_size)
    with HostDevice() as host:
        return encode(host, models, pixels, "cpu", 1, timeout).features


def decoder_case(models: ImageModels, scene: Scene, features: Features, timeout: float) -> Case:
    """The decoder with its inputs for a scene, as `compare` and `localize` want it, on the GPU."""
    arrays: dict[str, Array] = {**features, "sparse_prompt": scene.tap.encode(scene.photo.shape, models.constants())}
    decoder = models.decoder(scene.tap.tokens)
    return Case(Model.load(decoder.model), decoder.ports.feed(arrays), Options(accelerator="gpu"), timeout)


@contextmanager
def bench(device: str, command: str, progress: Progress, out: Path | None = None) -> Iterator[Workbench]:
    """The device, the host for references, and a run folder under `out`, or one that vanishes."""
    with ExitStack() as stack:
        root = stack.enter_context(scratch_folder("harness-sam2-")) if out is None else out
        opened: Device = stack.enter_context(open_device(device, lambda what: progress.stage(what, 20.0)))
        host = stack.enter_context(HostDevice())
        run = stack.enter_context(RunFolder.create(root, command, "sam2-decoder", device))
        try:
            yield Workbench(opened, host, run, progress)
        except DeviceError as error:
            run.log(error.log)
            raise
