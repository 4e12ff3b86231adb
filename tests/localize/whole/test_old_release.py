"""ai-edge-litert 2.1.5 for real: a direct tap reads garbage where a copy tap is right; a negated one stands in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus import OLD, broadcast_add_8593
from harness.api.on_device import OnDevice
from harness.core.job import Options
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.graph import surgery
from harness.graph.inputs import random_inputs
from harness.numerics.metrics import compare

KINDS: tuple[surgery.TapKind, ...] = ("direct", "copy", "negated")


@pytest.mark.gpu
def test_a_direct_tap_lies_on_2_1_5_and_the_answer_does_not_rest_on_it(tmp_path: Path) -> None:
    model = broadcast_add_8593()
    graph = model.graph()
    inputs = random_inputs(graph, 0)
    product = graph.ops[0].outputs[0]
    exact = inputs["q"] @ np.swapaxes(inputs["k"], 1, 2)
    seen = {}
    with HostDevice(OLD) as device:
        for kind in KINDS:
            tapped, names = surgery.tap(model, [product], kind)
            outputs = completed(device, make_job(tapped, inputs, Options(), timeout=120), "tapping").outputs
            values = outputs[names[product]]
            seen[kind] = compare(-values if kind == "negated" else values, exact)
    assert seen["direct"].nonfinite or seen["direct"].cosine < 0.5
    assert seen["copy"].cosine > 0.9999
    assert seen["negated"].cosine > 0.9999
    answer = OnDevice(OLD, tmp_path, 120).localize(model)
    assert [(c.record.first, c.record.index, c.record.op) for c in answer.culprits] == [(1, 1, "ADD")]
    assert answer.certified
