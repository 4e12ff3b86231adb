"""The tracker's graphs for LiteRT: what they compute on the CPU, and the loop with any of them on any backend."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from harness.core.errors import UsageError
from harness.devices.base import Device
from harness.devices.host.device import HostDevice
from harness.graph.model import Model
from harness.graph.ops.audit import audit
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import DecoderVariant
from harness.sam2.shared.image import preprocess
from harness.sam2.shared.source import Source, resolve
from harness.sam2.video.contract import MARK, REWRITTEN, REWRITTEN_PORTS, FloatArray, Rewritten
from harness.sam2.video.conversion.convert import GraphPlan, VideoModels
from harness.sam2.video.conversion.modules import attend_segments, attend_whole, coarsen
from harness.sam2.video.litert_stages import Backend, DeviceRunner, LiteRtStages, MixedStages, mixed
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import Event, motion_clip, motion_frame
from harness.sam2.video.stages import Features
from harness.sam2.video.tracker import Tracker
from harness.sam2.video.validate import follow

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

CLIP = 6
EVENTS = (Event(0, {1: Tap.at(140, 90), 2: Tap(box=(72, 118, 128, 162))}), Event(3, {1: Tap.at(218, 84)}, again=True))


# Four conversions, of minutes together: device_tests/test_video.py has them in `make test`, on the device.
CONVERTED = pytest.mark.slow


@pytest.fixture(scope="module")
def onnx(exported: Path, video_source: Source) -> OnnxStages:
    stages = OnnxStages(exported, threads=1)
    # The export of the test model was made in memory, from the very weights in the source's folder.
    stages.constants = replace(stages.constants, provenance=video_source.provenance)
    return stages


@pytest.fixture(scope="module")
def models(litert_models: VideoModels) -> VideoModels:
    return litert_models


@pytest.fixture(scope="module")
def host() -> Iterator[Device]:
    with HostDevice() as device:
        yield device


@pytest.fixture(scope="module")
def litert(host: Device, models: VideoModels, onnx: OnnxStages) -> LiteRtStages:
    return LiteRtStages(DeviceRunner(host, 600.0), models, onnx.constants, onnx.pointer_positions)


@pytest.fixture(scope="module")
def features(onnx: OnnxStages) -> Features:
    return onnx.encode(preprocess(motion_frame(0), onnx.constants.sizes.side))


def close(got: FloatArray, wanted: FloatArray) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * (1 + np.abs(wanted).max()))


@CONVERTED
def test_a_second_preparation_finds_every_graph_and_starts_nothing(
    models: VideoModels, litert_told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert litert_told == [
        "loading the weights",
        "converting vision_encoder",
        "converting memory_encoder",
        "converting memory_attention",
        "converting mask_decoder",
        "converting mask_decoder",
    ]
    monkeypatch.setattr("harness.sam2.video.conversion.convert.in_torch", pytest.fail)
    assert models.prepare({2, 3}, litert_told.append) == []


@CONVERTED
@pytest.mark.parametrize("graph", REWRITTEN)
def test_a_graph_carries_its_names_and_nothing_known_to_be_refused(models: VideoModels, graph: Rewritten) -> None:
    plan = models.plan(graph)
    found = audit(Model.load(plan.model))
    assert (found.unsupported, found.rank_over_4) == ((), 0)
    described = Model.load(plan.model).graph()
    inputs, outputs = REWRITTEN_PORTS[graph]
    assert tuple(port.name for port in described.inputs) == inputs
    assert tuple(port.name for port in described.outputs) == outputs
    card = json.loads(plan.card.read_text())
    assert (card["outputs"], card["bytes"]) == (list(outputs), plan.model.stat().st_size)


@CONVERTED
def test_no_op_takes_one_tensor_twice_where_gpus_refuse_it(models: VideoModels) -> None:
    for graph in REWRITTEN:
        ops = Model.load(models.plan(graph).model).graph().ops
        assert [op.index for op in ops if op.name == "SUB" and len(set(op.inputs)) < len(op.inputs)] == []


@CONVERTED
def test_the_encoded_frame_is_the_exported_graphs(litert: LiteRtStages, onnx: OnnxStages, features: Features) -> None:
    got = litert.encode(preprocess(motion_frame(0), onnx.constants.sizes.side))
    for name, wanted in vars(features).items():
        close(getattr(got, name), wanted)


@CONVERTED
@pytest.mark.parametrize("labels", [[1], [-1], [2, 3]])
def test_the_chosen_mask_and_the_gates_are_the_exported_graphs(
    litert: LiteRtStages, onnx: OnnxStages, features: Features, labels: list[int]
) -> None:
    points = np.array([[30, 40], [90, 80]], np.float32)[: len(labels)]
    asked = (features, features.feats2_no_mem, points, np.array(labels, np.int32))
    got, wanted = litert.decode(*asked), onnx.decode(*asked)
    assert got.iou == pytest.approx(wanted.iou, abs=1e-4)
    assert got.object_score == pytest.approx(wanted.object_score, abs=1e-3)
    close(got.low_res_mask, wanted.low_res_mask)
    close(got.high_res_mask, wanted.high_res_mask)
    close(got.pointer, wanted.pointer)
    for binarize in (True, False):
        for one, other in zip(
            litert.memorize(features, wanted, binarize=binarize),
            onnx.memorize(features, wanted, binarize=binarize),
            strict=True,
        ):
            close(one, other)


@CONVERTED
def test_a_frame_conditioned_on_a_padded_bank_is_the_exported_graphs(
    litert: LiteRtStages, onnx: OnnxStages, features: Features
) -> None:
    sizes, rng = onnx.constants.sizes, np.random.default_rng(0)
    bank = rng.normal(size=(2, sizes.memory, sizes.memory_channels)).astype(np.float32)
    unmarked = onnx.attend(features, *bank)
    bank[1, 5 * sizes.tokens : 7 * sizes.tokens, 0] = MARK
    bank[1, -6:, 0] = MARK
    wanted = onnx.attend(features, *bank)
    close(litert.attend(features, *bank), wanted)
    assert np.abs(unmarked - wanted).max() > 1e-2, "padding must have an effect"


@CONVERTED
@pytest.mark.parametrize("chosen", [*((graph,) for graph in REWRITTEN), REWRITTEN])
def test_the_loop_is_the_same_with_any_graph_on_litert(
    host: Device, models: VideoModels, onnx: OnnxStages, chosen: tuple[Rewritten, ...]
) -> None:
    backends: dict[Rewritten, Backend] = dict.fromkeys(chosen, "cpu")
    stages = mixed(onnx, host, models, backends, {2, 3}, lambda _: None)
    clip = list(motion_clip(CLIP))
    seen, wanted = (follow(Tracker(side, total=CLIP), clip, EVENTS) for side in (stages, onnx))
    for one, other in zip(seen, wanted, strict=True):
        for identity, decoded in one.objects.items():
            assert decoded.object_score == pytest.approx(other.objects[identity].object_score, abs=2e-3)
            got, exact = one.mask(identity), other.mask(identity)
            union = int((got | exact).sum())
            assert union == 0 or int((got & exact).sum()) / union >= 0.995, (chosen, one.frame, identity)


@CONVERTED
def test_only_the_chosen_graphs_run_on_the_device(host: Device, models: VideoModels, onnx: OnnxStages) -> None:
    runs: collections.Counter[tuple[str, str]] = collections.Counter()

    def count(graph: Rewritten, unit: str, _: dict[str, FloatArray]) -> None:
        runs[graph, unit] += 1

    litert = LiteRtStages(DeviceRunner(host, 600.0), models, onnx.constants, onnx.pointer_positions, seen=count)
    stages = MixedStages(onnx, litert, frozenset({"memory_encoder"}))
    follow(Tracker(stages, total=2), list(motion_clip(2)), EVENTS[:1])
    assert runs == {("memory_encoder", "cpu"): 4}


def test_another_size_is_refused(host: Device, video_source: Source, onnx: OnnxStages, tmp_path: Path) -> None:
    other = VideoModels(tmp_path, video_source, side=64)
    with pytest.raises(UsageError, match="take 128 pixels, the converted ones 64"):
        mixed(onnx, host, other, {"memory_encoder": "cpu"}, (), lambda _: None)


@pytest.mark.parametrize("keys", [[64], [1024, 512, 24]])
def test_attention_over_segments_is_attention_over_all(keys: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 40, 16, generator=generator)
    pairs = [(torch.randn(1, n, 16, generator=generator), torch.randn(1, n, 8, generator=generator)) for n in keys]
    wanted = attend_whole(query, *(torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True)))
    torch.testing.assert_close(attend_segments(query, pairs), wanted, rtol=0, atol=1e-5)


def test_long_linear_layers_on_many_rows_get_fewer_pieces_and_the_same_sums(video_model: Sam2VideoModel) -> None:
    from harness.sam2.shared.modules.sums import SplitLinear

    layer = torch.nn.Linear(1024, 512)
    split = SplitLinear(layer)
    coarse = SplitLinear(layer)
    coarsen(torch.nn.ModuleList([coarse]), 1 << 14)
    assert (split.weight.shape[0], coarse.weight.shape[0]) == (32, 4)
    given = torch.randn(1, 5, 1024)
    torch.testing.assert_close(coarse(given), layer(given), rtol=1e-4, atol=1e-5)


def test_the_trackers_graphs_have_no_compensated_sums(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The tracker's graphs have no 'compensated' way to sum"):
        GraphPlan(tmp_path, resolve("random"), "mask_decoder", variant=DecoderVariant(reductions="compensated"))


@CONVERTED
def test_graphs_of_other_weights_or_another_bank_are_refused(
    host: Device, models: VideoModels, onnx: OnnxStages
) -> None:
    kept = onnx.constants
    try:
        onnx.constants = replace(kept, provenance="other weights")
        with pytest.raises(UsageError, match="The exported graphs are of other weights, the converted ones of folder"):
            mixed(onnx, host, models, {"memory_encoder": "cpu"}, (), lambda _: None)
        onnx.constants = replace(kept, sizes=replace(kept.sizes, blocks=9))
        with pytest.raises(UsageError, match="room for 9 frame memories, the converted one for 7"):
            mixed(onnx, host, models, {"memory_attention": "cpu"}, (), lambda _: None)
    finally:
        onnx.constants = kept
