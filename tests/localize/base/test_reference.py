"""The reference of a model whose file states other shapes than the runtime computes, and of one that ends it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.api.compare import compare_command
from harness.api.localize import localize_command
from harness.api.session import ModelRequest
from harness.core.choices import Precision
from harness.core.errors import DeviceError, NoReference, UsageError
from harness.core.job import Crashed, Job, Options, Outcome
from harness.core.run_folder import TensorStore
from harness.devices.base import Sink
from harness.devices.host.device import HostDevice
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.reference import (
    MOST_TENSORS,
    budgeted,
    label_of,
    output_label,
    run_device,
    run_reference,
)
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess
from tests.localize.probe.test_control import Ends


def stating(shape: tuple[int, ...], op: int) -> Model:
    """Three ops on [1, 4, 16]; the file states another shape for the result of one."""
    graph = GraphBuilder()
    x = graph.binary("MUL", graph.unary("TANH", graph.input("x", (1, 4, 16))), graph.constant([2.0]))
    graph.output(graph.unary("TANH", x), "y")
    model = graph.build()
    model.root.subgraphs[0].tensors[model.graph().ops[op].outputs[0]].shape = np.asarray(shape, np.int32)
    return Model.from_bytes(Model(model.root).to_bytes())


@pytest.mark.parametrize(("shape", "op"), [((1, 4, 8), 1), ((1, 4, 32), 1), ((4, 16), 1), ((1, 4, 8), 2)])
@pytest.mark.parametrize("budget", [1 << 20, 1])
def test_a_tensor_of_another_shape_than_the_file_states_is_named(
    shape: tuple[int, ...], op: int, budget: int, tmp_path: Path
) -> None:
    model = stating(shape, op)
    graph = model.graph()
    case = Case(model, random_inputs(graph, 0), Options(), timeout=240)
    tensor = graph.tensors[graph.ops[op].outputs[0]]
    said = re.escape(
        f"The model states shape {list(shape)} for tensor '{tensor.name}', and the runtime computes another"
    )
    with HostDevice() as host, pytest.raises(UsageError, match=said):
        run_reference(host, case, TensorStore(tmp_path), surgery.tappable(graph), budget=budget)


ENDED = Crashed("the worker was ended by SIGABRT", "SIGABRT", "malloc_consolidate(): invalid chunk size\n")
SAID = (
    "The plain CPU kernels of this release end their process on the model: the worker was ended by SIGABRT, so nothing"
)


def test_plain_kernels_that_do_not_survive_the_model_are_no_fault_of_the_device(tmp_path: Path) -> None:
    model = chain("RELU", "TANH")
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    with pytest.raises(NoReference, match=SAID) as raised:
        run_reference(Ends(ENDED), case, TensorStore(tmp_path), surgery.tappable(case.graph))
    assert raised.value.log == ENDED.log


def test_a_reference_that_was_ended_from_outside_is_worth_another_try(tmp_path: Path) -> None:
    """As a system does that has no memory left."""
    model = chain("RELU", "TANH")
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    killed = Crashed("the worker was ended by SIGKILL", "SIGKILL")
    with pytest.raises(DeviceError, match="crashed while running the reference") as raised:
        run_reference(Ends(killed), case, TensorStore(tmp_path), surgery.tappable(case.graph))
    assert not isinstance(raised.value, NoReference)


def test_a_run_without_a_reference_is_not_to_be_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = HostDevice.run

    def ends_plain_kernels(self: HostDevice, job: Job, sink: Sink | None = None) -> Outcome:
        return ENDED if job.options == REFERENCE else run(self, job, sink)

    monkeypatch.setattr(HostDevice, "run", ends_plain_kernels)
    path = tmp_path / "model.tflite"
    path.write_bytes(chain("RELU", "TANH").to_bytes())
    with pytest.raises(NoReference, match=SAID) as raised:
        localize_command(ModelRequest(path, options=Options("cpu"), out=tmp_path / "runs"))
    assert "--resume" not in str(raised.value)


@pytest.mark.parametrize(("precision", "rows", "step"), [("fp16", 1 << 12, True), ("fp32", 1 << 21, False)])
def test_an_id_that_rounding_takes_beyond_its_table_is_told_as_such(
    precision: Precision, rows: int, step: bool, tmp_path: Path
) -> None:
    """4,095 is 4,096 in float16, and the table ends before that; the host ran the model, and no device is at fault. An
    ideal float32 device is granted 20 bits."""
    graph = GraphBuilder()
    cast, gather = schema.CastOptionsT(), schema.GatherOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.FLOAT32, schema.TensorType.INT32
    ids = graph.op("CAST", [graph.input("ids", (1,))], (1,), cast, dtype=np.int32)
    table = graph.constant(np.arange(rows, dtype=np.float32)[:, None])
    graph.output(graph.op("GATHER", [table, ids], (1, 1), gather, dtype=np.float32), "y")
    path = tmp_path / "ids.tflite"
    path.write_bytes(graph.build().to_bytes())
    options = Options(precision=precision)
    request = ModelRequest(path, options=options, out=tmp_path, given={"ids": np.asarray([rows - 1], np.float32)})
    said = r"once they are rounded as a GPU stores them: .*gather index out of bounds"
    with pytest.raises(NoReference, match=said) as raised:
        compare_command(request)
    assert ("--precision fp32" in str(raised.value)) is step


def test_files_are_named_by_op_and_by_place_where_it_has_several_results() -> None:
    graph = GraphBuilder()
    count = graph.constant(np.asarray(4, np.int32))
    best = graph.op("TOPK_V2", [graph.unary("ABS", graph.input("x", (1, 8))), count], (1, 4), schema.TopKV2OptionsT())
    order = graph.tensor("order", (1, 4), np.int32)
    graph.output(best, "y")
    model = graph.build()
    model.root.subgraphs[0].operators[1].outputs = np.asarray([best, order], np.int32)
    view = Model.from_bytes(Model(model.root).to_bytes()).graph()
    assert [label_of(view, t) for op in view.ops for t in op.outputs] == [
        "0000-ABS", "0001-TOPK_V2.0", "0001-TOPK_V2.1"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "begins", "plain"),
    [
        ("y", "output-y", True),
        ("a.b_C9", "output-a.b_C9", True),
        ("y" * 64, "output-" + "y" * 64, True),
        ("y" * 65, "output-" + "y" * 64 + "-", False),
        ("a/b:0", "output-a_b_0-", False),
        ("a-b", "output-a_b-", False),
    ],
)
def test_an_output_s_files_have_its_name_as_far_as_a_file_can(name: str, begins: str, plain: bool) -> None:
    label = output_label(name)
    assert label.startswith(begins)
    assert len(label) == len(begins) + (0 if plain else 8)


def test_names_that_look_alike_as_files_stay_apart() -> None:
    assert len({output_label(name) for name in ("a/b", "a:b", "a_b")}) == 3


CHAIN = chain("ABS", "NEG", "ABS", "NEG", "ABS")
MADE = [op.outputs[0] for op in CHAIN.graph().ops]
BYTES = 32  # of eight float32 values


@pytest.mark.parametrize(
    ("budget", "parts"),
    [
        (0, [1, 1, 1, 1, 1]),  # larger than the budget: a part of its own
        (2 * BYTES - 1, [1, 1, 1, 1, 1]),
        (2 * BYTES, [2, 2, 1]),
        (5 * BYTES - 1, [4, 1]),
        (5 * BYTES, [5]),
    ],
)
def test_tensors_are_read_in_parts_that_fit_a_budget_in_their_order(budget: int, parts: list[int]) -> None:
    found = list(budgeted(CHAIN.graph(), MADE, budget))
    assert [len(part) for part in found] == parts
    assert [t for part in found for t in part] == MADE
    assert list(budgeted(CHAIN.graph(), [], budget)) == []


@pytest.mark.parametrize(("more", "parts"), [(0, [MOST_TENSORS]), (1, [MOST_TENSORS, 1])])
def test_a_part_has_no_more_tensors_than_one_answer_carries(more: int, parts: list[int]) -> None:
    found = budgeted(CHAIN.graph(), [MADE[0]] * (MOST_TENSORS + more), 1 << 30)
    assert [len(part) for part in found] == parts


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("budget", [BYTES, 1 << 20])
def test_intermediates_are_kept_where_they_are_asked_for_and_outputs_in_any_case(
    keep: bool, budget: int, tmp_path: Path
) -> None:
    case = Case(CHAIN, {"x": f32([[-3, 2, 1, 0, 1, 2, 3, 4]])}, Options(), timeout=60)
    store, host = TensorStore(tmp_path), InProcess()
    peaks = run_reference(host, case, store, MADE, keep=keep, budget=budget)
    assert peaks.finite == dict.fromkeys(MADE, 4.0)
    assert peaks.unbounded == frozenset()
    np.testing.assert_array_equal(store.get("output-y", "reference"), np.abs(case.inputs["x"]))
    assert [store.has(label_of(CHAIN.graph(), t), "reference") for t in MADE] == [keep] * 5
    assert len(host.jobs) == (1 if budget > BYTES else 6)
    assert all(job.options == REFERENCE and job.final for job in host.jobs)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_the_largest_magnitude_is_that_of_what_is_finite(odd: float, tmp_path: Path) -> None:
    case = Case(chain("NEG"), {"x": f32([[odd, 2, -3, 0, 0, 0, 0, 0]])}, Options(), timeout=60)
    (made,) = (op.outputs[0] for op in case.graph.ops)
    peaks = run_reference(InProcess(), case, TensorStore(tmp_path), [made])
    assert (peaks.finite, peaks.unbounded) == ({made: 3.0}, frozenset({made}))
    case = Case(chain("NEG"), {"x": np.full((1, 8), odd, np.float32)}, Options(), timeout=60)
    assert run_reference(InProcess(), case, TensorStore(tmp_path), [made]).finite == {made: 0.0}


def test_the_device_runs_the_untouched_model_under_the_options_that_are_under_test() -> None:
    case = Case(CHAIN, {"x": f32(np.zeros((1, 8)))}, Options("gpu", precision="fp32"), timeout=7)
    device = InProcess()
    run_device(device, case)
    run_device(device, case, warmup=3, iterations=5)
    assert [(j.warmup, j.iterations, j.timeout, j.options) for j in device.jobs] == [
        (0, 1, 7, case.options), (3, 5, 7, case.options)
    ]  # fmt: skip
    assert all(job.model == CHAIN.to_bytes() for job in device.jobs)
