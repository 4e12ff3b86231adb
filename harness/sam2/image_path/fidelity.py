"""The model card's fidelity table, measured anew for any weights: rewritten and converted models against
`transformers`, on the CPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.core.arrays import Array
from harness.core.choices import Accelerator
from harness.core.job import Options
from harness.core.progress import SILENT, Progress
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.devices.scratch import scratch_folder
from harness.graph.model import Model
from harness.graph.ops.audit import Audit, audit
from harness.numerics.metrics import compare, mask_iou
from harness.sam2.image_path.convert import in_torch
from harness.sam2.image_path.pipeline import ImageModels, Models, decode, encode
from harness.sam2.image_path.scenes import Scene, portrait
from harness.sam2.shared.card import source_request
from harness.sam2.shared.contract import CARD, ENCODER_OUTPUTS, OUTPUT_NAMES, DecoderVariant, WeightKind
from harness.sam2.shared.files import read_arrays
from harness.sam2.shared.image import preprocess

PUBLISHED_OPS = {"BATCH_MATMUL": 15, "SOFTMAX": 7, "GELU": 2, "CONV_2D": 2}
"""What the card counts in its decoder."""

EAGER_COSINE = 0.9999999
LOGIT_COSINE = 0.999999
MASK_IOU = 0.9996
PROMPT_ERROR = 3.7e-7
"""Against upstream's formula in float64: upstream's own float32 result is off by more, and differently on each CPU."""
HALF_DECODER_MB = 17.0


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, and the goal where there is one."""

    name: str
    value: float
    unit: str = "1"
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def ok(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


@dataclass(frozen=True)
class Scores:
    """The IoU-score head: `transformers`' three numbers and a converted decoder's."""

    weights: WeightKind
    reference: tuple[float, ...]
    got: tuple[float, ...]


@dataclass(frozen=True)
class FileFacts:
    """One converted model: its size and what is in it."""

    name: str
    size: int
    """Bytes of the file."""
    audit: Audit


@dataclass(frozen=True)
class Fidelity:
    """The whole table."""

    variant: DecoderVariant | str
    """How the decoder is written; the name of its file where nobody says."""
    provenance: str
    is_random: bool
    scene: str
    figures: tuple[Figure, ...]
    scores: tuple[Scores, ...]
    files: tuple[FileFacts, ...]
    against: str = "transformers"
    """What the reference is."""

    @property
    def histogram_ok(self) -> bool | None:
        """Whether the decoder has the published op counts; None for a variant that was not published."""
        if self.variant != CARD:
            return None
        (decoder,) = [file for file in self.files if file.name == "decoder float32"]
        return all(decoder.audit.ops.get(op) == count for op, count in PUBLISHED_OPS.items())

    @property
    def ok(self) -> bool:
        """Whether every goal is met and no file holds an op that a GPU is known to refuse."""
        clean = all(not file.audit.unsupported for file in self.files)
        return clean and self.histogram_ok is not False and all(figure.ok is not False for figure in self.figures)

    def to_json(self) -> dict[str, Any]:
        """Schema 1."""
        return {
            "schema": 1,
            "variant": str(self.variant),
            "weights": self.provenance,
            "random_weights": self.is_random,
            "scene": self.scene,
            "against": self.against,
            "ok": self.ok,
            "figures": [
                {"name": f.name, "value": f.value, "unit": f.unit, "goal": f.goal, "better": f.better, "ok": f.ok}
                for f in self.figures
            ],
            "iou_scores": [{"weights": s.weights, "reference": s.reference, "got": s.got} for s in self.scores],
            "files": [{"name": f.name, "bytes": f.size, "audit": f.audit.to_json()} for f in self.files],
            "histogram_as_published": self.histogram_ok,
        }


def fidelity(
    *,
    cache_dir: Path,
    source: str | None = None,
    seed: int = 0,
    variant: DecoderVariant = CARD,
    scene: Scene | None = None,
    models: ImageModels | None = None,
    timeout: float = 600.0,
    progress: Progress = SILENT,
) -> Fidelity:
    """Measure the table for the weights that `source` and `seed` mean, on `scene` (default: the sample portrait).

    With `models`, files that are there, the reference is no other network but these very files, run by plain kernels.
    Everything runs on the host's CPU; nothing here needs a GPU. Converts what is missing, in float32 and float16.
    Raises `UsageError` for unusable weights or missing packages, `DeviceError` when a model does not run.
    """
    chosen = portrait() if scene is None else scene
    if models is not None:
        return _of_files(models, chosen, timeout, progress)
    of: dict[WeightKind, Models] = {
        "float32": Models.of(cache_dir, source, seed, variant, "float32"),
        "float16": Models.of(cache_dir, source, seed, variant, "float16"),
    }

    def tell(what: str) -> None:
        progress.stage(what, 40.0)

    for models in of.values():
        models.prepare([chosen.tap], 1, tell)
    wanted = _references(of["float32"], chosen, tell)
    figures = _eager(wanted)
    scores, files = [], []
    pixels = preprocess(chosen.photo, of["float32"].constants().image_size)
    for kind, models in of.items():
        tell(f"running the {kind} models on the CPU")
        with HostDevice() as host:
            encoded = encode(host, models, pixels, "cpu", 1, timeout)
            found = decode(host, models, encoded.features, chosen.tap, chosen.photo.shape, "cpu", timeout)
        masks, reference = found.masks[None], wanted["masks.0"]
        best = int(np.argmax(wanted["scores.0"][0]))
        for name in ENCODER_OUTPUTS:
            figures.append(Figure(f"{kind} {name} cosine", compare(encoded.features[name], wanted[name]).cosine))
        figures += [
            Figure(f"{kind} mask-logit cosine", compare(masks, reference).cosine, goal=LOGIT_COSINE),
            Figure(f"{kind} mask IoU", mask_iou(masks[0, best], reference[0, best]), goal=MASK_IOU),
        ]
        scores.append(Scores(kind, _floats(wanted["scores.0"]), _floats(found.scores)))
        decoder, encoder = models.decoder(chosen.tap.tokens).model, models.encoder(1)[0].model
        for which, path in (("decoder", decoder), ("encoder", encoder)):
            files.append(FileFacts(f"{which} {kind}", path.stat().st_size, audit(Model.load(path))))
        size = decoder.stat().st_size / 1e6
        goal = HALF_DECODER_MB if kind == "float16" and variant == CARD else None
        figures.append(Figure(f"{kind} decoder size", size, "MB", goal, "lower"))
    first = of["float32"].source
    return Fidelity(
        variant, first.provenance, first.is_random, chosen.name, tuple(figures), tuple(scores), tuple(files)
    )


def _of_files(models: ImageModels, scene: Scene, timeout: float, progress: Progress) -> Fidelity:
    """Files end to end in the CPU's optimized kernels, held to the same in its plain ones."""
    models.check([scene.tap])
    (encoder,), decoder = models.encoder(1), models.decoder(scene.tap.tokens)
    constants = models.constants()
    sparse = scene.tap.encode(scene.photo.shape, constants)
    given: dict[str, Array] = {"image": preprocess(scene.photo, constants.image_size), "sparse_prompt": sparse}

    def both(accelerator: Accelerator) -> dict[str, Array]:
        values = dict(given)
        for which, file in (("image encoder", encoder), ("mask decoder", decoder)):
            progress.stage(f"running the {which} on the CPU ({accelerator})", 40.0)
            options = Options(accelerator=accelerator)
            job = make_job(Model.load(file.model), file.ports.feed(values), options, timeout=timeout)
            with HostDevice() as host:
                values |= file.ports.named(completed(host, job, f"running the {which}").outputs)
        return values

    wanted, got = both("reference"), both("cpu")
    masks, scores = OUTPUT_NAMES
    best = int(np.argmax(wanted[scores][0]))
    size = decoder.model.stat().st_size / 1e6
    figures = [Figure(f"{name} cosine", compare(got[name], wanted[name]).cosine) for name in ENCODER_OUTPUTS]
    figures += [
        Figure("mask-logit cosine", compare(got[masks], wanted[masks]).cosine, goal=LOGIT_COSINE),
        Figure("mask IoU", mask_iou(got[masks][0, best], wanted[masks][0, best]), goal=MASK_IOU),
        Figure("decoder size", size, "MB"),
    ]
    loaded = {which: Model.load(file.model) for which, file in (("decoder", decoder), ("encoder", encoder))}
    files = [
        FileFacts(which, file.model.stat().st_size, audit(loaded[which]))
        for which, file in (("decoder", decoder), ("encoder", encoder))
    ]
    return Fidelity(
        models.written,
        models.provenance,
        models.is_random,
        scene.name,
        tuple(figures),
        (Scores(_stored(loaded["decoder"]), _floats(wanted[scores]), _floats(got[scores])),),
        tuple(files),
        "the same files in the CPU's plain kernels: whether the weights are the checkpoint's, only torch can tell",
    )


def _stored(model: Model) -> WeightKind:
    """How a model stores its weights."""
    halves = any(tensor.constant and tensor.type == "FLOAT16" for tensor in model.graph().tensors)
    return "float16" if halves else "float32"


def _references(models: Models, scene: Scene, tell: Any) -> dict[str, np.ndarray[Any, Any]]:
    names = [*ENCODER_OUTPUTS, *(f"eager.{name}" for name in ENCODER_OUTPUTS), "prompt.0", "eager.prompt.0"]
    names += [f"{way}{what}.0" for way in ("", "eager.") for what in ("masks", "scores")]
    with scratch_folder("harness-sam2-") as folder:
        photo, made = folder / "photo.npy", folder / "references.npz"
        np.save(photo, scene.photo, allow_pickle=False)
        wanted = {
            "photo": str(photo),
            "path": str(made),
            "taps": [scene.tap.to_json()],
            "variant": asdict(models.variant),
        }
        in_torch({"source": source_request(models.source), "references": wanted}, tell)
        return read_arrays(made, names)


def _eager(wanted: dict[str, np.ndarray[Any, Any]]) -> list[Figure]:
    figures = [
        Figure(f"eager {name} cosine", compare(wanted[f"eager.{name}"], wanted[name]).cosine, goal=EAGER_COSINE)
        for name in ENCODER_OUTPUTS
    ]
    logits = compare(wanted["eager.masks.0"], wanted["masks.0"]).cosine
    prompt = compare(wanted["eager.prompt.0"], wanted["prompt.0"]).max_abs
    figures.append(Figure("eager mask-logit cosine", logits, goal=EAGER_COSINE))
    figures.append(Figure("prompt encoding, largest error", prompt, goal=PROMPT_ERROR, better="lower"))
    return figures


def _floats(values: np.ndarray[Any, Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values.reshape(-1))
