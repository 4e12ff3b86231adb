"""What can be told of the GPU's ops where the CPU runs a part of the model."""

from __future__ import annotations

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.job import Residency
from harness.localize.placement import Placement, not_placed
from tests.arrays import normal


def added(*, prepared: bool) -> Model:
    """TANH of x plus a constant, which is the result of an op, or stored as it is."""
    graph = GraphBuilder()
    table = graph.constant(normal((1, 8)))
    if prepared:
        table = graph.unary("NEG", table)
    graph.output(graph.binary("ADD", graph.unary("TANH", graph.input("x", (1, 8))), table), "y")
    return graph.build()


def on_cpu(model: Model, *ops: int) -> Placement:
    total = len(model.graph().ops)
    return Placement(Residency(False, total - len(ops), total, 1), frozenset(ops), frozenset(ops))


def test_no_op_is_blamed_that_reads_a_constant_which_the_cpu_prepares_unseen() -> None:
    """The reference has its true values; what the CPU made of them may be wrong, and no tap reads it."""
    model = added(prepared=True)
    said = not_placed(on_cpu(model, 0), model.graph())
    assert said is not None
    assert said.startswith("The GPU's ops read constants that the CPU prepares at run time (NEG #0), and these cannot")


def test_other_ops_on_the_cpu_do_not_forbid_an_answer() -> None:
    assert not_placed(on_cpu(added(prepared=True), 0, 2), added(prepared=True).graph()) is None
    assert not_placed(on_cpu(added(prepared=False), 0), added(prepared=False).graph()) is None
