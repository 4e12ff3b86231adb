"""The SAM 2.1 mask decoder as a converter of one flat input writes it: the input is longer than a WebGPU dispatch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_tests.test_decoder import long_reductions
from device_tests.without_app import compiles_each_time
from harness.api.on_device import OnDevice
from harness.core.arrays import Array
from harness.graph.model import Model
from harness.localize.base.result import Localization
from harness.sam2.image_path.workload import Workload
from tests.published_layout import Flat

# The explanation of four culprits takes minutes on a software GPU.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def flat(decoder: Workload, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Array]]:
    model = Model.load(decoder.model_path)
    path = tmp_path_factory.mktemp("flat") / "decoder.tflite"
    path.write_bytes(Flat(model).finish().to_bytes())
    rows = [decoder.inputs[port.name].reshape(1, -1) for port in model.graph().inputs]
    return path, {"flat": np.concatenate(rows, axis=1)}


@pytest.fixture(scope="module")
def explained(on_device: OnDevice, flat: tuple[Path, dict[str, Array]]) -> Localization:
    return on_device.localize(*flat, explain=True)


def test_the_reshape_of_the_long_input_is_named_beside_the_long_sums(
    explained: Localization, on_device: OnDevice, flat: tuple[Path, dict[str, Array]]
) -> None:
    named = {c.record.index: (c.record.op, c.cause) for c in explained.culprits}
    sums = long_reductions(Model.load(flat[0]).graph())
    assert named == {0: ("RESHAPE", "limits")} | dict.fromkeys(sums, ("BATCH_MATMUL", "accumulation"))
    assert explained.certified
    assert compiles_each_time(on_device) or explained.device_compiles <= 4
    reshape = explained.culprits[0]
    assert reshape.signature is not None
    assert reshape.signature.startswith("all zeros; right up to 4,194,240 elements, wrong from 4,194,241")


def test_a_remedy_makes_the_model_right(explained: Localization) -> None:
    assert explained.explanation is not None
    assert [remedy for c in explained.culprits for remedy in c.remedies if remedy.ok and remedy.path]
