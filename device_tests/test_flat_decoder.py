"""The SAM 2.1 mask decoder as a converter of one flat input writes it: the input is longer than a WebGPU dispatch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from device_tests.test_decoder import long_reductions
from device_tests.without_app import compiles_each_time
from harness.api.on_device import OnDevice
from harness.core.arrays import Array
from harness.graph.model import Model, Port
from harness.graph.rebuild import Rebuild
from harness.localize.base.result import Localization
from harness.sam2.image_path.workload import Workload

# The explanation of four culprits takes minutes on a software GPU.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class _Flat(Rebuild):
    """A model whose inputs are cut out of one, in their order, by RESHAPE and SLICE."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        shapes = [self.shape(port.tensor) for port in self.graph.inputs]
        self.flat = self.tensor("flat", (1, sum(int(np.prod(shape)) for shape in shapes)))
        row, start = self.reshape(self.flat, (1, 1, 1, self.shape(self.flat)[1])), 0
        for port, shape in zip(self.graph.inputs, shapes, strict=True):
            size = (1, 1, 1, int(np.prod(shape)))
            feeds = [self.constant(np.asarray(part, np.int32)) for part in ((0, 0, 0, start), size)]
            cut = self.op("SLICE", [row, *feeds], size, schema.SliceOptionsT())
            self.replace(port.tensor, self.reshape(cut, shape))
            start += size[3]
        self._inputs = [("flat", self.flat)]
        self.graph = replace(self.graph, inputs=(Port("flat", self.flat),))
        for op in self.graph.ops:
            self.keep(op)


@pytest.fixture(scope="module")
def flat(decoder: Workload, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Array]]:
    model = Model.load(decoder.model_path)
    path = tmp_path_factory.mktemp("flat") / "decoder.tflite"
    path.write_bytes(_Flat(model).finish().to_bytes())
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
