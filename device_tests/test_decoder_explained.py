"""The SAM 2.1 mask decoder explained: why its three culprits are wrong, the least that shows it, and what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_tests.conftest import cannot
from device_tests.test_decoder import long_reductions
from device_tests.without_app import compiles_each_time
from harness.api.on_device import OnDevice
from harness.graph.model import Model
from harness.localize.base.result import Localization
from harness.sam2.image_path.workload import Workload
from tests.bare import bare_python, run_script

SPLIT = "split the sum into pieces, added pairwise"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def explained(on_device: OnDevice, decoder: Workload) -> Localization:
    if decoder.file:
        cannot(decoder.file, "is explained by `harness demo --models`")
    return on_device.localize(decoder.model_path, decoder.inputs, explain=True)


def test_all_three_culprits_lose_precision_in_their_sums_and_fail_by_themselves(
    explained: Localization, decoder: Workload
) -> None:
    assert [c.record.index for c in explained.culprits] == long_reductions(Model.load(decoder.model_path).graph())
    assert {c.cause for c in explained.culprits} == {"accumulation"}
    assert all(c.isolated for c in explained.culprits)
    trials = {trial.what: trial.ending for trial in explained.culprits[0].trials}
    assert trials["the same in float32"] == "right"
    assert trials["with the sum split into pieces"] == "right"


def test_a_model_of_one_op_shows_it_where_nothing_of_this_package_is(explained: Localization, tmp_path: Path) -> None:
    python = bare_python(tmp_path / "bare")
    for path in {c.reproducer for c in explained.culprits}:
        assert path is not None
        assert [op.name for op in Model.load(Path(path) / "model.tflite").graph().ops] == ["BATCH_MATMUL"]
        done = run_script(python, Path(path) / "reproduce.py")
        assert (done.returncode, "WRONG" in done.stdout) == (1, True), done.stderr[-2000:]


def test_splitting_the_sums_makes_the_masks_right_in_float16_at_a_known_cost(
    explained: Localization, on_device: OnDevice, decoder: Workload
) -> None:
    (remedy,) = [remedy for remedy in explained.culprits[0].remedies if remedy.name == SPLIT]
    assert remedy.ok
    assert remedy.iou >= 0.995
    assert remedy.run_ms
    assert explained.explanation is not None
    assert explained.explanation.run_ms
    assert remedy.path
    again = on_device.compare(remedy.path, decoder.inputs)
    assert again.ok
    assert again.done.residency.full
    (masks,) = [output for output in again.outputs if output.name == "pred_masks"]
    assert masks.iou >= 0.995


def test_finding_the_culprits_costs_no_more_for_being_explained(explained: Localization, on_device: OnDevice) -> None:
    assert compiles_each_time(on_device) or explained.device_compiles <= 3
