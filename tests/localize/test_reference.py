"""The reference of a model whose file states other shapes than the runtime computes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.devices.host import HostDevice
from harness.errors import UsageError
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.inputs import random_inputs
from harness.job import Options
from harness.localize.baseline import Case, run_reference
from harness.results import TensorStore


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
