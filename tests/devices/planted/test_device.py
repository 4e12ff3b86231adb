"""A planted phone computes what an ideal device would, but for its bugs, and says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.api.on_device import OnDevice
from harness.core.errors import UsageError
from harness.core.job import Completed, Job, Options, Outcome, Rejected
from harness.devices.base import Device
from harness.devices.execute import make_job
from harness.devices.planted.catalogue import BUGS, bugs_of, names
from harness.devices.planted.device import GPU, PlantedDevice
from harness.devices.registry import check_device, open_device
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.surgery import tap, tappable
from harness.numerics.fp16 import oracle, rounded
from tests.arrays import Evaluate
from tests.localize.patterns import Patterns


@pytest.fixture(scope="module")
def healthy() -> Iterator[Device]:
    with open_device("planted:none") as device:
        yield device


@pytest.fixture(scope="module")
def mali() -> Iterator[Device]:
    with open_device("planted:mali") as device:
        yield device


def network() -> Model:
    graph = Patterns()
    x = graph.layer_norm(graph.dense(graph.input("x", (1, 16, 24)), 32))
    graph.output(graph.softmax(graph.block(x)), "y")
    return graph.build()


def asked(device: Device, job: Job) -> Completed:
    outcome = device.run(job)
    assert isinstance(outcome, Completed), outcome
    return outcome


def of(model: Model, options: Options | None = None) -> Job:
    return make_job(model, random_inputs(model.graph(), 0), options or Options(), timeout=60)


def test_without_a_bug_it_is_an_ideal_device_bit_by_bit(healthy: Device, evaluate: Evaluate) -> None:
    model = network()
    inputs = random_inputs(model.graph(), 0)
    half = asked(healthy, of(model)).outputs["y"]
    ideal = evaluate(oracle(model), {name: rounded(values) for name, values in inputs.items()})["y"]
    np.testing.assert_array_equal(half, ideal)
    single = asked(healthy, of(model, Options(precision="fp32"))).outputs["y"]
    np.testing.assert_array_equal(single, evaluate(model, inputs)["y"])
    assert np.abs(half - single).max() > 0


def test_reading_its_intermediates_changes_nothing(mali: Device) -> None:
    model = network()
    tapped, _ = tap(model, tappable(model.graph()))
    np.testing.assert_array_equal(asked(mali, of(tapped)).outputs["y"], asked(mali, of(model)).outputs["y"])


def test_its_cpu_has_no_bug(mali: Device) -> None:
    graph = Patterns()
    graph.output(graph.binary("ADD", graph.input("x", (4, 8)), graph.constant(graph.drawn(4, 8))), "y")
    model = graph.build()
    on_cpu, on_gpu = (asked(mali, of(model, Options(accelerator=unit))).outputs["y"] for unit in ("cpu", "gpu"))
    x = random_inputs(model.graph(), 0)["x"]
    rows = Patterns().drawn(4, 8)
    np.testing.assert_array_equal(on_cpu, x + rows)
    assert np.abs(on_gpu[1:] - (x + rows)[1:]).max() > 0.1
    np.testing.assert_allclose(on_gpu, x + rows[:1], rtol=2e-3, atol=2e-3)


def test_a_fault_stays_where_it_is_when_the_model_has_other_names(mali: Device) -> None:
    """It is the graph that has the pattern: what its tensors are called is nothing to it."""
    graph = Patterns()
    rows = graph.constant(graph.drawn(4, 8), "odd name")
    graph.output(graph.unary("RELU", graph.binary("SUB", graph.input("other", (4, 8)), rows, name="any")), "z")
    model = graph.build()
    x = random_inputs(model.graph(), 0)["other"]
    expected = np.maximum(x - Patterns().drawn(4, 8)[:1], 0)
    found = asked(mali, of(model, Options(precision="fp32"))).outputs["z"]
    np.testing.assert_array_equal(found, expected)


def test_it_says_that_it_is_planted(healthy: Device) -> None:
    done = asked(healthy, of(network()))
    facts = healthy.facts()
    assert (facts.name, facts.kind, facts.gpu) == ("planted:none", "planted", GPU)
    assert done.adapter == GPU and "no GPU" in GPU
    assert (done.residency.full, done.residency.delegated) == (True, len(network().graph().ops))
    assert healthy.described(gpu=done.adapter)["kind"] == "planted"


def test_what_it_ran_last_stays_compiled(healthy: Device) -> None:
    asked(healthy, of(network()))
    job = of(network(), Options(precision="fp32"))
    compiles = healthy.compiles
    assert [asked(healthy, job).compiled for _ in range(2)] == [True, False]
    assert healthy.compiles == compiles + 1


@pytest.mark.parametrize("options", [Options(precision="fp16-fp32acc"), Options(backend="opencl")])
def test_it_has_no_further_options(healthy: Device, options: Options) -> None:
    outcome = healthy.run(of(network(), options))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "a planted phone has float16 and float32, and no further options of a GPU"


def test_a_name_stands_for_one_bug_or_several() -> None:
    assert bugs_of("planted:mali") == BUGS
    assert bugs_of("planted:none") == ()
    first, second = BUGS[2], BUGS[0]
    assert bugs_of(f"planted:{first.name}+{second.name}") == (second, first)  # in the order of the table
    assert len(set(names())) == len(names())
    assert all(bug.says and (bug.plant or bug.refuses) for bug in BUGS)


@pytest.mark.parametrize("name", ["planted:", "planted:Mali", "planted:mali+none"])
def test_a_bug_that_there_is_not_is_said_with_those_that_there_are(name: str) -> None:
    for ask in (check_device, open_device):
        with pytest.raises(UsageError, match="There is no planted bug") as told:
            ask(name)
        assert all(bug.name in told.value.next_step for bug in BUGS)


def _beside_the_cpu(device: Device, model: Model) -> Outcome:
    return device.run(of(model, Options(fallback="cpu")))


def test_what_the_cpu_takes_is_neither_rounded_nor_planted(mali: Device, evaluate: Evaluate) -> None:
    graph = Patterns()
    x = graph.input("x", (4, 12))
    places = graph.constant(np.asarray([[3], [1], [2], [0]], np.int32))
    # The CPU's part: a constant without a leading 1, and what the GPU refuses. Three ops are left for the GPU.
    early = graph.binary("ADD", x, graph.constant(graph.drawn(4, 12)))
    moved = graph.op("GATHER_ND", [early, places], (4, 12), schema.GatherNdOptionsT())
    graph.output(moved, "cpu")
    graph.output(graph.unary("TANH", graph.unary("ABS", graph.times(moved, 0.3))), "gpu")
    model = graph.build()
    done = _beside_the_cpu(mali, model)
    assert isinstance(done, Completed)
    assert (done.residency.full, done.residency.delegated, done.residency.total) == (False, 3, 5)
    assert done.residency.refused == ("GATHER_ND: Operation is not supported.",)
    exact = evaluate(model, random_inputs(model.graph(), 0))
    np.testing.assert_array_equal(done.outputs["cpu"], exact["cpu"])
    assert 0 < np.abs(done.outputs["gpu"] - exact["gpu"]).max() < 2e-3


def test_a_model_of_which_the_gpu_takes_nothing_runs_on_the_cpu(mali: Device) -> None:
    graph = Patterns()
    places = graph.constant(np.asarray([[1], [0]], np.int32))
    graph.output(graph.op("GATHER_ND", [graph.input("x", (2, 3)), places], (2, 3), schema.GatherNdOptionsT()), "y")
    done = _beside_the_cpu(mali, graph.build())
    assert isinstance(done, Completed)
    assert (done.residency.full, done.residency.delegated, done.residency.total) == (False, 0, 1)


def test_sizes_that_are_not_known_are_refused_in_the_runtime_s_words() -> None:
    graph = Patterns()
    graph.output(graph.unary("TANH", graph.input("x", (2, 3))), "y")
    root = graph.build().root
    root.subgraphs[0].tensors[1].shapeSignature = np.asarray([-1, 3], np.int32)
    with PlantedDevice("planted:none") as device:
        job = of(graph.build())
        outcome = device.run(Job(**(vars(job) | {"model": Model(root).to_bytes(), "sha256": "0" * 64})))
    assert isinstance(outcome, Rejected)
    assert "size is known only when it runs" in outcome.reason


@pytest.mark.parametrize("name", ["planted:none", "planted:mali"])
def test_an_op_without_a_result_is_refused_in_a_sentence(name: str) -> None:
    graph = Patterns()
    x = graph.input("x", (1, 4))
    graph.output(graph.unary("ABS", x), "y")
    model = graph.build()
    silent = copy(model.root.subgraphs[0].operators[0])
    silent.outputs = np.asarray([], np.int32)
    model.root.subgraphs[0].operators.append(silent)
    changed = Model(model.root)  # the bytes of the other one are kept
    with open_device(name) as device:
        outcome = device.run(of(changed))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "a planted phone takes no op without a result, as ABS #1 is"


def test_of_its_speed_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(network().to_bytes())
    with pytest.raises(UsageError, match="its times are those of the host's plain kernels") as refused:
        OnDevice("planted:mali", tmp_path, 60).bench(path)
    assert refused.value.next_step == "Measure host, or a phone."
