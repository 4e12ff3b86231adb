"""The SAM 2.1 mask decoder: fully delegated, wrong in float16, and which ops make it so."""

import pytest

from device_tests.without_app import compiles_each_time
from harness.api.on_device import OnDevice
from harness.devices.cache import cache_folder
from harness.graph.model import Graph, Model
from harness.graph.ops.audit import audit
from harness.graph.ops.work import reduction_length
from harness.localize.base.result import Localization
from harness.sam2.image_path.workload import Workload, prepare
from harness.sam2.shared.contract import PUBLISHED_V1, DecoderVariant

# The first test waits until the decoder is converted, and localizing takes minutes on a software GPU.
pytestmark = pytest.mark.timeout(900)

TOKENS = 4096


@pytest.fixture(scope="module")
def answer(on_device: OnDevice, decoder: Workload) -> Localization:
    return on_device.localize(decoder.model_path, decoder.inputs)


def long_reductions(graph: Graph) -> list[int]:
    """The BATCH_MATMULs that sum over all image tokens: attention of the prompt's tokens to the image, times V."""
    found = []
    for op in graph.ops:
        shapes = [graph.tensors[t].shape or () for t in op.inputs]
        output = graph.tensors[op.outputs[0]].shape or ()
        if op.name == "BATCH_MATMUL" and reduction_length(op.name, shapes, output) == TOKENS:
            found.append(op.index)
    return found


def test_no_op_is_known_to_be_refused(decoder: Workload) -> None:
    found = audit(Model.load(decoder.model_path))
    assert found.unsupported == ()
    assert found.rank_over_4 == 0


def test_the_op_histogram_is_the_published_one(decoder: Workload) -> None:
    graph = Model.load(decoder.model_path).graph()
    counts = {name: sum(op.name == name for op in graph.ops) for name in ("BATCH_MATMUL", "SOFTMAX", "GELU", "CONV_2D")}
    assert counts == {"BATCH_MATMUL": 15, "SOFTMAX": 7, "GELU": 2, "CONV_2D": 2}


def test_it_is_fully_delegated(answer: Localization) -> None:
    assert answer.residency.full


def test_in_float32_the_gpu_is_right(on_device: OnDevice, decoder: Workload) -> None:
    found = on_device.compare(decoder.model_path, decoder.inputs, precision="fp32")
    assert found.ok


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="ADD reads row 0 of a constant of rank 2 for every row")
@pytest.mark.parametrize("variant", [DecoderVariant(batch="dropped"), PUBLISHED_V1], ids=str)
def test_in_float32_the_gpu_is_right_without_the_batch_dimension_too(
    on_device: OnDevice, variant: DecoderVariant
) -> None:
    made = prepare(cache_folder() / "sam2", variant=variant)
    found = on_device.compare(made.model_path, made.inputs, precision="fp32")
    assert found.ok


@pytest.mark.xfail(strict=True, reason="float16 sums over 4096 products; see the culprits")
def test_in_float16_the_gpu_is_right(answer: Localization) -> None:
    assert all(output.ok for output in answer.outputs)


def test_the_culprits_are_the_sums_over_all_image_tokens(
    answer: Localization, on_device: OnDevice, decoder: Workload
) -> None:
    expected = long_reductions(Model.load(decoder.model_path).graph())
    assert len(expected) == 3
    assert [c.record.index for c in answer.culprits] == expected
    assert {c.record.op for c in answer.culprits} == {"BATCH_MATMUL"}
    assert {c.cause for c in answer.culprits} == {"accumulation"}
    assert answer.certified
    assert compiles_each_time(on_device) or answer.device_compiles <= 3


def test_the_culprits_alone_account_for_what_the_device_shows(answer: Localization) -> None:
    assert {impact.output for impact in answer.explained} == {output.name for output in answer.outputs}
    for impact in answer.explained:
        (seen,) = [output for output in answer.outputs if output.name == impact.output]
        assert impact.judgement.actual.relative_rms == pytest.approx(seen.judgement.actual.relative_rms, rel=0.15)
