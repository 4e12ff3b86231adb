"""Models whose runs differ by themselves are told from the file: no device is to blame for that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.api.audit import audit_command
from harness.cli.render import show_audit
from harness.core.errors import UsageError
from harness.devices.shapes import shapes_at
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.repeatable import check_repeatable, varying_op
from tests.arrays import i32
from tests.merged import merged


def variable(*, counts: bool) -> GraphBuilder:
    """y = x + the variable's value; with `counts` the variable becomes y."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 2))
    options = schema.VarHandleOptionsT()
    options.container, options.sharedName = "", "total"
    handle = graph.op("VAR_HANDLE", [], (), options, dtype=np.int32)
    y = graph.binary("ADD", x, graph.op("READ_VARIABLE", [handle], (1, 2), dtype=np.float32))
    graph.output(y, "y")
    if counts:
        graph.op("ASSIGN_VARIABLE", [handle, y], (), dtype=np.int32)
    return graph


def finished(graph: GraphBuilder) -> Model:
    """With the type of a handle, and ASSIGN_VARIABLE without a result."""
    root = graph.build().root
    sub = root.subgraphs[0]
    sub.tensors[sub.operators[0].outputs[0]].type = schema.TensorType.RESOURCE
    if len(sub.operators) > 3:
        sub.operators[-1].outputs = i32([])
    return Model.from_bytes(Model(root).to_bytes())


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (False, "`run`, `compare`, `dump` and `localize` may take it with --fallback cpu"),
        (
            True,
            "`compare`, `dump` and `localize` do not, for two runs need not agree: ASSIGN_VARIABLE #3 keeps a state",
        ),
    ],
)
def test_audit_advises_no_command_that_refuses_it(
    counts: bool, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(finished(variable(counts=counts)).to_bytes())
    show_audit(audit_command(path, None, None, 60), path)
    assert said in " ".join(capsys.readouterr().out.split())


def test_a_model_that_sets_a_variable_in_each_run_is_not_compared() -> None:
    with pytest.raises(UsageError) as error:
        check_repeatable(finished(variable(counts=True)))
    assert error.value.message == (
        "Two runs of this model need not agree: ASSIGN_VARIABLE #3 keeps a state that the next run reads."
    )


def test_a_variable_that_is_only_read_is_a_constant() -> None:
    assert varying_op(finished(variable(counts=False))) == ""


@pytest.mark.parametrize("kind", ["RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL"])
def test_a_model_that_draws_random_numbers_is_not_compared(kind: str) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 2))
    drawn = graph.op(kind, [graph.constant(i32([1, 2]))], (1, 2), schema.RandomOptionsT(), dtype=np.float32)
    graph.output(graph.binary("ADD", x, drawn), "y")
    assert varying_op(graph.build()) == f"{kind} #0 draws other numbers in each run"


def test_what_a_loop_does_is_found_and_what_is_called_once_is_not() -> None:
    inner, main = variable(counts=True), GraphBuilder()
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 0, 0
    main.output(main.op("WHILE", [main.input("x", (1, 2))], (1, 2), options), "y")
    model = merged([finished(inner), main.build()], [("main", 1)])
    assert varying_op(model) == "ASSIGN_VARIABLE #3 of subgraph 0 keeps a state that the next run reads"
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 0
    main = GraphBuilder()
    called = main.op("CALL_ONCE", [], (), once, dtype=np.int32)
    main.output(main.unary("RELU", main.input("x", (1, 2))), "y")
    assert called == 0
    assert varying_op(merged([finished(inner), main.build()], [("main", 1)])) == ""


def test_the_shapes_of_a_model_with_variables_are_found() -> None:
    """The runtime's own view of a variable's handle has no memory behind it, and reading it ends the process."""
    model = finished(variable(counts=False))
    assert shapes_at(model, {})[model.graph().outputs[0].tensor] == (1, 2)
