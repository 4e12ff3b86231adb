"""The image path on the chosen device: the image encoder, and the recommended decoder.

The card's decoder, which is wrong in float16, is in test_decoder.py. Full-size models are `slow` here: a software
GPU on two cores needs minutes for each. The reduced encoder has every part of the whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from device_tests.conftest import cannot
from harness.api.on_device import OnDevice
from harness.core.job import Options
from harness.devices.base import Device
from harness.devices.cache import cache_folder
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.devices.registry import kind_of
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.audit import audit
from harness.numerics.metrics import compare, mask_iou
from harness.sam2.image_path.accuracy import MAX_ERROR_RATIO, MIN_IOU, Accuracy, decoder_accuracy
from harness.sam2.image_path.pipeline import (
    Encoded,
    ImageModels,
    Models,
    decode,
    default_parts,
    encode,
)
from harness.sam2.image_path.published import PublishedModels
from harness.sam2.image_path.scenes import all_scenes, portrait
from harness.sam2.image_path.workload import Workload, prepare
from harness.sam2.shared import image
from harness.sam2.shared.contract import RECOMMENDED

if TYPE_CHECKING:
    from transformers import Sam2Config

# The first test waits until the models are converted; the full-size encoder takes minutes on a software GPU.
pytestmark = pytest.mark.timeout(1800)

TIMEOUT = 600.0
ENCODER_GPU_IOU = 0.995
"""The least IoU of the best mask, encoder on the GPU and decoder on the CPU, against all on the CPU.

Measured with random weights on the software GPU: 0.9994; with whole sums in the encoder 0.980."""


LARGEST_REDUCED = 512
"""Side of an image whose encoder a software GPU runs before LiteRT gives it up."""


def _reduced_config() -> Sam2Config:
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2PromptEncoderConfig, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(image_size=[256, 256], blocks_per_stage=[1, 1, 3, 1], global_attention_blocks=[3, 4])
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_feature_sizes=[[64, 64], [32, 32], [16, 16]])
    return Sam2Config(vision_config=vision, prompt_encoder_config=Sam2PromptEncoderConfig(image_size=256))


@pytest.fixture(scope="session")
def reduced(files: PublishedModels | None, device_name: str, tmp_path_factory: pytest.TempPathFactory) -> ImageModels:
    """Published widths and heads, fewer blocks, 256-pixel images, random weights; or files."""
    if files is not None:
        if kind_of(device_name).in_parts and files.constants().image_size > LARGEST_REDUCED:
            cannot(files.files.encoder.name, "cannot be run in parts, and whole it takes a software GPU too long")
        return files
    from harness.sam2.shared.weights import random_model

    folder = tmp_path_factory.mktemp("reduced") / "sam2"
    random_model(_reduced_config(), seed=5).save_pretrained(folder)
    models = Models.of(cache_folder() / "sam2", str(folder))
    models.prepare([portrait().tap], 1, lambda _: None)
    return models


@pytest.fixture(scope="session")
def recommended(files: PublishedModels | None) -> Workload:
    if files is not None:
        cannot(files.files.decoder.name, "is not the recommended decoder; test_decoder.py asks what it is")
    return prepare(cache_folder() / "sam2", variant=RECOMMENDED)


def test_the_gpu_takes_every_op_of_the_reduced_encoder(on_device: OnDevice, reduced: ImageModels) -> None:
    found = on_device.audit(reduced.encoder(1)[0].model)
    assert found.unsupported == ()
    assert (found.rank_over_4, found.max_rank) == (0, 4)


def test_the_reduced_encoder_on_the_gpu_is_the_cpus_to_float16(device: Device, reduced: ImageModels) -> None:
    pixels = image.preprocess(portrait().photo, reduced.constants().image_size)
    with HostDevice() as host:
        wanted = encode(host, reduced, pixels, "cpu", 1, TIMEOUT)
    got = encode(device, reduced, pixels, "gpu", 1, TIMEOUT)
    assert got.residency[0].full
    for name, values in wanted.features.items():
        seen = compare(got.features[name], values)
        assert not seen.nonfinite, name
        assert seen.relative_rms < 0.01, name


def test_the_devices_sum_adds_in_float32_and_what_it_loses_is_a_sum_too(device: Device) -> None:
    """What compensated sums rest on: the last digits of 4096 terms, which a float16 accumulator does not have."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 4096, 64))
    graph.output(graph.reduce("SUM", x, 1), "total")
    model = graph.build()
    graph = GraphBuilder()
    x = graph.input("x", (1, 4096, 64))
    total = graph.reduce("SUM", x, 1)
    along = schema.ConcatenationOptionsT()
    along.axis = 1
    both = graph.op("CONCATENATION", [x, graph.unary("NEG", total)], (1, 4097, 64), along)
    graph.output(graph.binary("ADD", total, graph.reduce("SUM", both, 1)), "total")
    compensated = graph.build()
    values = np.random.default_rng(0).random((1, 4096, 64)).astype(np.float16).astype(np.float32)
    exact = values.astype(np.float64).sum(axis=1, keepdims=True)
    step = np.spacing(exact.astype(np.float16)).astype(np.float64)
    for built, bound in ((model, 1.0), (compensated, 0.51)):
        job = make_job(built, {"x": values}, Options(accelerator="gpu"), timeout=TIMEOUT)
        done = completed(device, job, "adding up")
        assert done.residency.full
        assert (np.abs(done.outputs["total"] - exact) <= bound * step).all()


@pytest.mark.slow
def test_the_recommended_decoder_is_right_in_float16(on_device: OnDevice, recommended: Workload) -> None:
    assert audit(Model.load(recommended.model_path)).unsupported == ()
    found = on_device.compare(recommended.model_path, recommended.inputs)
    assert found.done.residency.full
    assert found.ok
    (masks,) = [output for output in found.outputs if output.name == "pred_masks"]
    assert masks.judgement.actual.max_abs <= MAX_ERROR_RATIO * masks.judgement.expected_max_abs
    assert masks.iou >= MIN_IOU


@pytest.fixture(scope="session")
def accuracy(device_name: str, files: PublishedModels | None) -> Accuracy:
    if files is not None:
        cannot(files.files.decoder.name, "is not the recommended decoder; `harness sam2 accuracy` asks what it is")
    return decoder_accuracy(device_name, cache_dir=cache_folder() / "sam2")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_the_recommended_decoder_is_right_on_every_scene(accuracy: Accuracy, number: int) -> None:
    scene = accuracy.scenes[number]
    assert scene.scene == all_scenes()[number].name
    assert scene.residency_full
    assert scene.nonfinite == 0
    assert scene.best_iou >= MIN_IOU
    assert scene.error_ratio <= MAX_ERROR_RATIO


@pytest.fixture(scope="session")
def published(device_name: str, files: PublishedModels | None) -> ImageModels:
    if files is not None:
        return files
    models = Models.of(cache_folder() / "sam2")
    models.prepare([portrait().tap], default_parts(device_name, "gpu"), lambda _: None)
    models.prepare([portrait().tap], 1, lambda _: None)
    return models


@pytest.fixture(scope="session")
def both(device: Device, device_name: str, published: ImageModels) -> tuple[Encoded, Encoded]:
    """The published encoder on the device's GPU and on the host's CPU, for the portrait."""
    pixels = image.preprocess(portrait().photo, published.constants().image_size)
    with HostDevice() as host:
        wanted = encode(host, published, pixels, "cpu", 1, TIMEOUT)
    return encode(device, published, pixels, "gpu", published.parts(device_name, "gpu"), TIMEOUT), wanted


@pytest.mark.slow
def test_the_published_encoder_is_fully_delegated_and_close_to_the_cpus(both: tuple[Encoded, Encoded]) -> None:
    got, wanted = both
    assert all(part.full for part in got.residency)
    bounds = {"image_embeddings": 0.02, "feat_s1": 0.01, "feat_s0": 0.01}
    for name, bound in bounds.items():
        seen = compare(got.features[name], wanted.features[name])
        assert not seen.nonfinite, name
        assert seen.relative_rms < bound, name


@pytest.mark.slow
def test_the_encoder_on_the_gpu_with_the_decoder_on_the_cpu_is_close_to_all_on_the_cpu(
    both: tuple[Encoded, Encoded], published: ImageModels
) -> None:
    scene = portrait()
    with HostDevice() as host:
        mixed, plain = (
            decode(host, published, side.features, scene.tap, scene.photo.shape, "cpu", TIMEOUT) for side in both
        )
    assert mixed.best == plain.best
    np.testing.assert_allclose(mixed.scores, plain.scores, rtol=0, atol=0.01)
    assert mask_iou(mixed.masks[plain.best], plain.masks[plain.best]) >= ENCODER_GPU_IOU


@pytest.mark.slow
def test_nothing_in_the_published_encoder_is_known_to_be_refused(published: ImageModels) -> None:
    found = audit(Model.load(published.encoder(1)[0].model))
    assert found.unsupported == ()
    assert found.max_rank == 4
