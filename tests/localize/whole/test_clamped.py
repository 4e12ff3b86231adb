"""A GPU on which a sum that leaves float16's range stays at 65504, where others make it infinite."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.api.on_device import OnDevice
from harness.devices.planted import catalogue
from harness.devices.planted.bug import Bug
from harness.graph.build import GraphBuilder
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.numerics.fp16 import LARGEST
from tests.arrays import normal

TERMS = 256


def clamped(rebuild: Rebuild, op: Op) -> int | None:
    """A mean of a sum that is clamped to float16's range."""
    if op.name != "MEAN":
        return None
    shape = rebuild.shape(op.outputs[0])
    ones = np.ones((1,) * len(shape), np.float32)
    terms = math.prod(rebuild.shape(op.inputs[0])) // math.prod(shape)
    total = rebuild.op("SUM", op.inputs, shape, rebuild.options(op))
    for kind, most in (("MINIMUM", LARGEST), ("MAXIMUM", -LARGEST)):
        feeds = [total, rebuild.constant(ones * np.float32(most))]
        total = rebuild.op(kind, feeds, shape, schema.MaximumMinimumOptionsT(), dtype=np.float32)
    return rebuild.binary("MUL", total, rebuild.constant(ones / np.float32(terms)))


def model(scale: float) -> Model:
    """tanh of a thousandth of the mean magnitude of rows that differ by e or so."""
    graph = GraphBuilder()
    rows = graph.constant(np.exp(normal((1, 64, 1), seed=5)) * np.float32(scale))
    large = graph.unary("ABS", graph.binary("MUL", graph.input("x", (1, 64, TERMS)), rows))
    mean = graph.reduce("MEAN", large, 2)
    graph.output(graph.unary("TANH", graph.binary("MUL", mean, graph.constant([1 / 1024]))), "y")
    return graph.build()


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnDevice:
    bug = Bug("clamped-sums", "a mean's sum stays at 65504", clamped, half_only=True)
    monkeypatch.setattr(catalogue, "BUGS", (*catalogue.BUGS, bug))
    return OnDevice("planted:clamped-sums", tmp_path, 240)


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("scale", [300.0, 3000.0])
def test_is_told_as_a_range_that_was_left(phone: OnDevice, scale: float, explain: bool) -> None:
    (culprit,) = phone.localize(model(scale), {"x": normal((1, 64, TERMS), seed=3)}, explain=explain).culprits
    assert (culprit.record.op, culprit.cause) == ("MEAN", "overflow")
    assert culprit.signature == "no result is over 255.9: the sum of 256 stays at float16's 65504"
    if explain and scale == 300:  # of larger values the pieces leave the range as well
        assert "split the sum into pieces, added pairwise" in [r.name for r in culprit.remedies if r.ok]


def test_sums_within_the_range_are_right_there(phone: OnDevice) -> None:
    assert phone.localize(model(10.0), {"x": normal((1, 64, TERMS), seed=3)}).status == "pass"
