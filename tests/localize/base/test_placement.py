"""What can be told of the GPU's ops where the CPU runs a part of the model."""

from __future__ import annotations

import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.job import Completed, Crashed, Job, Options, Outcome, Rejected, Residency
from harness.devices.base import Sink
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base import placement
from harness.localize.base.placement import Placement, find_placement, not_placed
from tests.arrays import i32, normal
from tests.chains import chain
from tests.localize.planted import InProcess


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


class Partial(InProcess):
    """A GPU that compiles `whole` in part, as its log says, and of other models takes those without ops of a kind that
    it refuses."""

    def __init__(self, whole: Model, said: Residency, refuses: str, alone: Outcome | None = None) -> None:
        super().__init__("partial")
        self.whole, self.said, self.refuses = whole.sha256, said, refuses
        self.alone = alone or Rejected("the GPU delegate refuses it", (f"{refuses}: no",))
        self.parts: list[list[str]] = []

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        assert (job.iterations, job.outputs) == (0, ()), "it is to be compiled, not run"
        if job.sha256 == self.whole:
            return Completed({}, self.said, (), 1, True, "2.3.0", "in process", "")
        self.parts.append([op.name for op in Model.from_bytes(job.model).graph().ops])
        if self.refuses in self.parts[-1]:
            return self.alone
        return Completed({}, Residency(True), (), 1, True, "2.3.0", "in process", "")


def placed(model: Model, device: Partial) -> Placement:
    return find_placement(device, model, Options(fallback="cpu"), 60)


def counted(delegated: int | None, total: int = 4, *refused: str) -> Residency:
    return Residency(False, delegated, total, 1, refused or ("TANH: not supported",))


MIXED = chain("RELU", "TANH", "RELU", "ABS")


def test_an_op_that_is_named_and_refused_by_itself_stays_on_the_cpu_with_what_the_rule_gives_it() -> None:
    device = Partial(MIXED, counted(2), "TANH")
    found = placed(MIXED, device)
    assert (found.unsupported, found.on_cpu) == (frozenset({1}), frozenset({0, 1}))
    assert device.parts == [["TANH"]]  # no other kind was named
    assert found.counted == Residency(False, 2, 4, 1, ("TANH: not supported",), (0, 1))


@pytest.mark.parametrize("said", [counted(3), counted(1), counted(2, 5), counted(None)])
def test_where_the_rule_does_not_give_the_numbers_of_the_log_nothing_is_known(said: Residency) -> None:
    assert placed(MIXED, Partial(MIXED, said, "TANH")) == Placement(said, None, None)


def test_of_two_pieces_of_one_size_either_may_be_the_cpu_s() -> None:
    model = chain("RELU", "TANH", "ABS")
    assert placed(model, Partial(model, counted(1, 3), "TANH")).on_cpu is None


def test_a_kind_that_is_taken_by_itself_is_not_what_was_refused() -> None:
    """So the rule would give the GPU all four, and the log has two."""
    assert placed(MIXED, Partial(MIXED, counted(2), "EXP")).on_cpu is None


@pytest.mark.parametrize("alone", [Crashed("the worker was ended by SIGSEGV"), Rejected("no room on the disk")])
def test_an_op_that_gives_no_answer_by_itself_leaves_it_open(alone: Outcome) -> None:
    assert placed(MIXED, Partial(MIXED, counted(2), "TANH", alone)).unsupported is None


def test_a_model_that_is_whole_on_one_side_is_asked_about_no_op() -> None:
    for said, cpu in ((Residency(True, 4, 4, 1), frozenset[int]()), (counted(0), frozenset(range(4)))):
        device = Partial(MIXED, said, "TANH")
        assert placed(MIXED, device) == Placement(said, cpu, cpu)
        assert device.parts == []


def test_ops_of_one_form_are_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain("TANH", "TANH", "RELU", "RELU", "RELU", "TANH")
    device = Partial(model, counted(3, 6), "TANH")
    assert placed(model, device).on_cpu == frozenset({0, 1, 5})
    assert device.parts == [["TANH"]]
    monkeypatch.setattr(placement, "MOST_COMPILES", 1)
    assert placed(model, device).on_cpu == frozenset({0, 1, 5})
    monkeypatch.setattr(placement, "MOST_COMPILES", 0)
    assert placed(model, device).on_cpu is None


def test_the_same_op_on_another_shape_is_asked_about_too() -> None:
    graph = GraphBuilder()
    for name, shape in (("x", (1, 8)), ("y", (8, 1)), ("z", (1, 8))):
        graph.output(graph.unary("TANH", graph.input(name, shape)), f"of {name}")
    model = graph.build()
    device = Partial(model, counted(1, 3), "TANH")
    placed(model, device)
    assert device.parts == [["TANH"], ["TANH"]]


def test_an_op_of_constants_is_not_compiled_by_itself_and_those_behind_it_are() -> None:
    model = added(prepared=True)
    device = Partial(model, counted(1, 3, "NEG: no", "TANH: no"), "TANH")
    found = placed(model, device)
    assert (found.unsupported, found.on_cpu) == (frozenset({0, 1}), frozenset({0, 1}))
    assert device.parts == [["TANH"]]


def test_what_is_made_of_constants_alone_goes_with_the_op_that_is_asked_about() -> None:
    """The delegate may take the op for the very reason that this operand is a constant."""
    model = added(prepared=True)
    device = Partial(model, counted(1, 3, "ADD: no"), "ADD")
    placed(model, device)
    assert device.parts == [["NEG", "ADD"]]


def widened(*amounts: int) -> Model:
    """PADs of the last axis, one behind another."""
    graph = GraphBuilder()
    t = graph.input("x", (1, 4))
    for amount in amounts:
        t = graph.pad(t, [(0, 0), (amount, 2 - amount)])
        feeds = [t, graph.constant(i32([0, 0])), graph.constant(i32([1, 4]))]
        t = graph.op("SLICE", feeds, (1, 4), schema.SliceOptionsT())
    graph.output(t, "y")
    return graph.build()


def test_a_small_constant_is_part_of_an_op_s_form() -> None:
    """It may be why the op is refused, as a padding is."""
    model = widened(1, 2, 1)
    device = Partial(model, counted(1, 6, "PAD: no"), "PAD")
    placed(model, device)
    assert device.parts == [["PAD"], ["PAD"]]


@pytest.mark.parametrize(("named", "on_cpu"), [("CUSTOM MyOp", {0, 1}), ("MyOp", {0, 1}), ("MyOther", None)])
def test_a_custom_op_that_is_named_is_not_compiled_by_itself(named: str, on_cpu: set[int] | None) -> None:
    graph = GraphBuilder()
    t = graph.unary("RELU", graph.input("x", (1, 8)))
    t = graph.op("CUSTOM", [t], (1, 8), custom="MyOp")
    graph.output(graph.unary("ABS", graph.unary("RELU", t)), "y")
    model = graph.build()
    device = Partial(model, counted(2, 4, f"{named}: not supported"), "CUSTOM")
    assert placed(model, device).on_cpu == on_cpu
    assert device.parts == []


def test_a_builtin_op_is_named_by_its_whole_name() -> None:
    """RELU6 is no RELU."""
    model = chain("RELU6", "TANH", "ABS", "ABS")
    device = Partial(model, counted(2, 4, "RELU: no", "TANH: no"), "TANH")
    assert placed(model, device).on_cpu == frozenset({0, 1})
    assert device.parts == [["TANH"]]


MADE = [op.outputs[0] for op in MIXED.graph().ops]
HALVED = Placement(counted(2), frozenset({1}), frozenset({0, 1}))


def kept(tensors: list[int], said: Residency, where: Placement = HALVED) -> bool:
    """Whether the ops of the model are where they were once these tensors are copied out."""
    tapped, _ = surgery.tap(MIXED, tensors, "copy")
    return where.kept_by(MIXED.graph(), tapped.graph(), said)


def test_a_copy_that_joins_the_gpu_s_piece_moves_no_op() -> None:
    assert kept([MADE[2]], counted(3, 5))
    for other in (counted(2, 5), counted(3, 4), counted(4, 5)):
        assert not kept([MADE[2]], other)


def test_copies_that_make_the_other_piece_the_larger_one_move_the_ops() -> None:
    """#0 with its copy is as large as #2 and #3; with two of them it is the GPU's instead."""
    assert not kept([MADE[0]], counted(2, 5))
    assert not kept([MADE[0], MADE[0]], counted(3, 6))


def test_a_model_that_was_whole_on_the_gpu_stays_so_where_the_log_says_that() -> None:
    whole = Placement(Residency(True, 4, 4, 1), frozenset(), frozenset())
    assert kept([MADE[0]], Residency(True, 5, 5, 1), whole)
    assert not kept([MADE[0]], counted(4, 5), whole)


def test_what_was_never_known_is_not_kept() -> None:
    assert not kept([MADE[2]], counted(3, 5), Placement(counted(2), None, None))
    assert not kept([MADE[2]], counted(3, 5), Placement(counted(2), frozenset({1}), None))


@pytest.mark.parametrize(
    ("cpu", "ranges"),
    [
        ({5}, "#5"),
        ({0, 1, 2, 3, 6}, "#0 to #3, #6"),
        ({1, 3, 4}, "#1, #3 to #4"),
        (set(range(0, 16, 2)), "#0, #2, #4, #6, #8, #10, #12, #14"),
        ({*range(0, 16, 2), 20, 21, 30}, "#0, #2, #4, #6, #8, #10, #12, #14 and 3 more"),
    ],
)
def test_ops_on_the_cpu_are_told_in_runs(cpu: set[int], ranges: str) -> None:
    where = Placement(Residency(False, 9, 40, 1, ("TANH: no",)), frozenset(cpu), frozenset(cpu))
    assert where.sentence(MIXED.graph()) == (
        f"The GPU ran 9 of 40 ops; the CPU ran {ranges}. The GPU delegate refuses TANH (no)."
    )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (Residency(True, 4, 4, 1), "The GPU took every op, and the CPU none."),
        (Residency(False), "The runtime does not say how many ops the GPU took."),
        (Residency(False, 0, 4, 0), "The CPU ran all 4 ops, and the GPU none."),
        (Residency(False, 3, 4, 1), "The GPU ran 3 of 4 ops; which ones the CPU ran cannot be told."),
    ],
)
def test_what_ran_where_is_said_as_far_as_it_is_known(said: Residency, sentence: str) -> None:
    assert Placement(said, None, None).sentence(MIXED.graph()) == sentence


def test_no_op_of_the_gpu_is_named_where_it_ran_none_or_it_is_not_known_which() -> None:
    graph = MIXED.graph()
    assert not_placed(None, graph) is None
    assert not_placed(Placement(Residency(True), frozenset(), frozenset()), graph) is None
    every = frozenset(range(4))
    said = not_placed(Placement(counted(0), every, every), graph)
    assert said == "No op ran on the GPU, so none of its ops is at fault."
    said = not_placed(Placement(counted(2), None, None), graph)
    assert said == "Which ops ran on the GPU cannot be told, so none is named."


def test_what_the_cpu_prepares_for_itself_is_no_reason_to_be_silent() -> None:
    """NEG #0 of a constant feeds ADD #2, and all three are the CPU's or none is."""
    model = added(prepared=True)
    assert not_placed(on_cpu(model), model.graph()) is None
    assert not_placed(on_cpu(model, 0, 1, 2), model.graph()) is not None  # nothing is left for the GPU
    assert not_placed(on_cpu(model, 1), model.graph()) is None


@pytest.mark.parametrize(("unsupported", "cpu"), [(None, frozenset({0})), (frozenset({0}), None), (None, None)])
def test_where_one_of_the_two_is_not_known_nothing_is_kept(
    unsupported: frozenset[int] | None, cpu: frozenset[int] | None
) -> None:
    where = Placement(Residency(False, 2, 4, 1), unsupported, cpu)
    assert not where.kept_by(MIXED.graph(), MIXED.graph(), Residency(False, 2, 4, 1))
    assert where.counted.on_cpu == (None if cpu is None else (0,))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (Residency(False, 2, 4, 1), True),
        (Residency(False, 3, 4, 1), False),
        (Residency(False, 1, 4, 1), False),
        (Residency(False, 2, 5, 1), False),
        (Residency(True, 4, 4, 1), False),
    ],
)
def test_a_model_is_divided_as_before_where_its_own_log_has_the_same_numbers(said: Residency, kept: bool) -> None:
    where = Placement(Residency(False, 2, 4, 1), frozenset({1}), frozenset({0, 1}))
    assert where.kept_by(MIXED.graph(), MIXED.graph(), said) is kept


def test_ops_on_the_cpu_are_counted_in_order() -> None:
    assert Placement(Residency(False, 2, 4, 1), frozenset(), frozenset({3, 1})).counted.on_cpu == (1, 3)


@pytest.mark.parametrize(("most", "known"), [(1, False), (2, True)])
def test_so_many_forms_are_asked_about_and_no_more(most: int, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """TANH of two shapes, both taken by themselves, so that both would be the GPU's."""
    monkeypatch.setattr(placement, "MOST_COMPILES", most)
    graph = GraphBuilder()
    graph.output(graph.unary("TANH", graph.input("x", (1, 8))), "a")
    graph.output(graph.unary("TANH", graph.input("z", (1, 4))), "b")
    model = graph.build()
    device = Partial(model, Residency(False, 2, 2, 1, ("TANH: not supported",)), "NONE")
    assert (placed(model, device).unsupported is not None) is known
    assert len(device.parts) == most


def test_what_the_delegate_gives_no_reason_for_is_no_answer() -> None:
    refused = Rejected("out of memory", ())
    assert placed(MIXED, Partial(MIXED, counted(2), "TANH", refused)).on_cpu is None
