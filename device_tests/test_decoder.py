"""The SAM 2.1 mask decoder: fully delegated, wrong in float16, and which ops make it so."""

from pathlib import Path

import pytest

from device_tests.conftest import cannot
from device_tests.without_app import compiles_each_time
from harness.api.on_device import OnDevice
from harness.devices.cache import cache_folder
from harness.devices.registry import kind_of
from harness.graph.model import Graph, Model
from harness.graph.ops.audit import audit
from harness.graph.ops.work import reduction_length
from harness.lint.lint import lint
from harness.localize.base.result import Localization
from harness.sam2.image_path.published import PublishedModels
from harness.sam2.image_path.workload import Workload, prepare
from harness.sam2.shared.contract import PUBLISHED_V1, DecoderVariant

# The first test waits until the decoder is converted, and localizing takes minutes on a software GPU.
pytestmark = pytest.mark.timeout(900)

MISREAD = "ADD reads row 0 of a constant of rank 2 for every row"
LONG = 4096
"""Products of a sum in which a float16 accumulator loses its last digits."""


@pytest.fixture(scope="module")
def answer(on_device: OnDevice, decoder: Workload) -> Localization:
    return on_device.localize(decoder.model_path, decoder.inputs)


def long_reductions(graph: Graph) -> list[int]:
    """The BATCH_MATMULs that sum over all image tokens, where these are many: attention of the prompt's tokens to the
    image, times V."""
    found = []
    for op in graph.ops:
        shapes = [graph.tensors[t].shape or () for t in op.inputs]
        output = graph.tensors[op.outputs[0]].shape or ()
        if op.name == "BATCH_MATMUL" and reduction_length(op.name, shapes, output) == LONG:
            found.append(op.index)
    return found


def has_half_weights(path: Path) -> bool:
    return any(tensor.type == "FLOAT16" and tensor.constant for tensor in Model.load(path).graph().tensors)


@pytest.fixture(scope="module")
def expected(decoder: Workload) -> dict[int, str]:
    """Which ops are wrong in float16, and why, by the graph alone: sums over all image tokens, where these are many,
    and constants of which row 0 is read everywhere."""
    model = Model.load(decoder.model_path)
    misread = [finding.op for finding in lint(model) if finding.rule == "low-rank-constant"]
    found = dict.fromkeys(long_reductions(model.graph()), "accumulation") | dict.fromkeys(misread, "kernel")
    assert decoder.file or list(found.values()) == ["accumulation"] * 3
    return dict(sorted(found.items()))


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


@pytest.mark.slow
def test_in_float32_the_gpu_is_right(
    on_device: OnDevice, decoder: Workload, device_name: str, request: pytest.FixtureRequest, expected: dict[int, str]
) -> None:
    if decoder.file and kind_of(device_name).in_parts and has_half_weights(decoder.model_path):
        cannot(decoder.file, "has float16 weights, of which WebGPU in float32 compiles no shader")
    if "kernel" in expected.values():
        request.applymarker(pytest.mark.xfail(strict=True, reason=MISREAD))
    found = on_device.compare(decoder.model_path, decoder.inputs, precision="fp32")
    assert found.ok


@pytest.mark.slow
@pytest.mark.xfail(strict=True, raises=AssertionError, reason=MISREAD)
@pytest.mark.parametrize("variant", [DecoderVariant(batch="dropped"), PUBLISHED_V1], ids=str)
def test_in_float32_the_gpu_is_right_without_the_batch_dimension_too(
    on_device: OnDevice, variant: DecoderVariant, files: PublishedModels | None
) -> None:
    if files is not None:
        pytest.skip("it is about decoders that are converted here, and --models gives files")
    made = prepare(cache_folder() / "sam2", variant=variant)
    found = on_device.compare(made.model_path, made.inputs, precision="fp32")
    assert found.ok


def test_in_float16_the_gpu_is_right(
    answer: Localization, expected: dict[int, str], request: pytest.FixtureRequest
) -> None:
    if expected:
        request.applymarker(pytest.mark.xfail(strict=True, reason="see the culprits"))
    assert all(output.ok for output in answer.outputs)


def test_the_culprits_are_the_sums_over_all_image_tokens_and_misread_constants(
    answer: Localization, on_device: OnDevice, expected: dict[int, str]
) -> None:
    assert {c.record.index: c.cause for c in answer.culprits} == expected
    assert answer.certified or not expected
    assert compiles_each_time(on_device) or answer.device_compiles <= 3


def test_the_culprits_alone_account_for_what_the_device_shows(
    answer: Localization, decoder: Workload, expected: dict[int, str]
) -> None:
    if not expected:
        cannot(decoder.file, "has no op that float16 makes wrong")
    assert {impact.output for impact in answer.explained} == {output.name for output in answer.outputs}
    for impact in answer.explained:
        (seen,) = [output for output in answer.outputs if output.name == impact.output]
        assert impact.judgement.actual.relative_rms == pytest.approx(seen.judgement.actual.relative_rms, rel=0.15)
