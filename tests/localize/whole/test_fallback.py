"""`--fallback cpu` on the host's own GPU: a model that it takes in part runs as apps ship it, and only its part is
blamed. The fault is google-ai-edge/LiteRT #9272: PAD of rank 3 on an axis that is not the last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.api.on_device import OnDevice
from harness.core.errors import EXIT_DEVICE, EXIT_MISUSE, EXIT_OK
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import normal
from tests.cli.conftest import Cli, cli  # noqa: F401 - a fixture

pytestmark = pytest.mark.gpu


@pytest.fixture
def host(tmp_path: Path) -> OnDevice:
    return OnDevice("host", tmp_path, 120)


def through_rank_5(graph: GraphBuilder, x: int) -> int:
    """Three ops that the GPU refuses; they swap parts of the last axis."""
    *front, last = graph.shape(x)
    wide = graph.reshape(x, (*front, 2, 2, last // 4))
    return graph.reshape(graph.transpose(wide, (0, 1, 3, 2, 4)), (*front, last))


def layers(graph: GraphBuilder, x: int, count: int) -> int:
    rng = np.random.default_rng(0)
    for _ in range(count):
        x = graph.unary("TANH", graph.fully_connected(x, rng.normal(0, 0.3, (16, graph.shape(x)[-1]))))
    return x


def padded(graph: GraphBuilder, x: int) -> int:
    return graph.pad(x, [(0, 0), (3, 5), (0, 0)])


def fault_on_the_gpu() -> Model:
    """CPU #0 to #2, GPU #3 to #10 with the PAD as #4, CPU #11 to #13, of which the last is an output."""
    graph = GraphBuilder()
    x = graph.unary("TANH", through_rank_5(graph, graph.input("x", (4, 50, 16))))
    graph.output(through_rank_5(graph, layers(graph, padded(graph, x), 3)), "y")
    return graph.build()


def fault_left_to_the_cpu() -> Model:
    """The PAD as #0 is in the smaller piece, which the CPU runs with #1 to #3."""
    graph = GraphBuilder()
    x = through_rank_5(graph, padded(graph, graph.input("x", (4, 50, 16))))
    graph.output(layers(graph, x, 3), "y")
    return graph.build()


def test_the_gpu_s_culprit_is_named_between_the_cpu_s_ops(host: OnDevice) -> None:
    answer = host.localize(fault_on_the_gpu(), {"x": normal((4, 50, 16))}, fallback="cpu")
    assert [(c.record.op, c.record.first, c.record.index, c.cause) for c in answer.culprits] == [
        ("PAD", 4, 4, "kernel")
    ]
    assert answer.certified
    held = answer.residency
    assert (held.delegated, held.total, held.on_cpu) == (8, 14, (0, 1, 2, 11, 12, 13))
    judged = {record.index for record in answer.records if record.local is not None}
    assert judged == set(range(3, 11))
    assert answer.notes[-1].startswith("The GPU ran 8 of 14 ops; the CPU ran #0 to #2, #11 to #13. The GPU delegate ")


def test_an_op_that_the_cpu_runs_is_right_there(host: OnDevice) -> None:
    found = host.compare(fault_left_to_the_cpu(), {"x": normal((4, 50, 16))}, fallback="cpu")
    assert found.ok
    assert found.to_json()["residency"] == {
        "delegated": 6, "total": 10, "partitions": 1, "full": False, "on_cpu": [0, 1, 2, 3]
    }  # fmt: skip


def test_an_ideal_device_stores_in_float16_only_what_the_gpu_holds(host: OnDevice) -> None:
    """10,000 and its neighbours, told apart on the CPU: float16's step there is 8."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 2, 2, 2, 2))
    difference = graph.binary("SUB", x, graph.constant(np.full((1, 2, 2, 2, 2), 10_000.0)))
    y = layers(graph, graph.reshape(difference, (1, 16)), 2)
    graph.output(y, "y")
    values = {"x": (10_000 + np.arange(16) / 16).astype(np.float32).reshape(1, 2, 2, 2, 2)}
    found = host.compare(graph.build(), values, fallback="cpu")
    assert found.ok
    assert found.outputs[0].judgement.expected.max_abs < 0.01


def test_without_the_fallback_the_same_model_is_refused(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "model.tflite"
    path.write_bytes(fault_left_to_the_cpu().to_bytes())
    refused = cli("compare", path)
    assert refused.code == EXIT_DEVICE
    assert "the GPU delegate refuses RESHAPE (rank over 4, 2 tensors)" in refused.sentence
    audited = cli("audit", path, "--json")
    assert (audited.code, audited.json["fallback"]) == (EXIT_DEVICE, True)
    told = cli("compare", path, "--fallback", "cpu", "--json")
    assert told.code == EXIT_OK
    assert told.json["notes"][0].startswith("The GPU ran 6 of 10 ops; the CPU ran #0 to #3. ")


def test_the_cpu_is_nobody_else_s_fallback(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    refused = cli("run", tmp_path / "m.tflite", "--accelerator", "cpu", "--fallback", "cpu")
    assert refused.code == EXIT_MISUSE
    assert refused.sentence.startswith("--fallback cpu goes with --accelerator gpu, not cpu.")
