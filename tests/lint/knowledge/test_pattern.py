"""Where a graph has a pattern, against a search that tries everything; and what a pattern must not look at."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from harness.graph.build import GraphBuilder
from harness.graph.model import Model, Op
from harness.lint.knowledge.expression import Expression
from harness.lint.knowledge.functions import FUNCTIONS
from harness.lint.knowledge.pattern import OpPattern, Pattern, TensorPattern
from harness.lint.knowledge.scene import Scene

KINDS = ("ADD", "MUL", "SUB")
UNARY = ("RELU", "ABS")
_OPTIONS = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT, "SUB": schema.SubOptionsT}
# Names that every pattern below has.
NAMES = ("a", "b", "c", "d")


@st.composite
def graphs(draw: st.DrawFn) -> Model:
    """Up to six ops of one or two operands, on inputs, constants and each other; some results are outputs."""
    graph = GraphBuilder()
    held = [graph.input(f"x{i}", (1, 4)) for i in range(2)]
    held.append(graph.constant([1.0, 2.0, 3.0, 4.0]))
    made: list[int] = []
    for _ in range(draw(st.integers(1, 6))):
        feeds = st.sampled_from(held + made)
        kind = draw(st.sampled_from(KINDS + UNARY))
        operands = [draw(feeds) for _ in range(1 if kind in UNARY else 2)]
        made.append(graph.op(kind, operands, (1, 4), _OPTIONS[kind]() if kind in _OPTIONS else None))
    graph.output(made[-1], "last")
    for place in draw(st.sets(st.sampled_from(range(len(made))), max_size=2)):
        if place != len(made) - 1:
            graph.output(made[place], f"y{place}")
    return graph.build()


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """One to three ops, each after the first by a tensor that one before it names."""
    ops: list[OpPattern] = []
    known: list[str] = []
    for place in range(draw(st.integers(1, 3))):
        kinds = frozenset(draw(st.sets(st.sampled_from(KINDS + UNARY), max_size=3)))
        reads = tuple(draw(st.lists(st.sampled_from(("", *NAMES)), min_size=1, max_size=2)))
        makes = (draw(st.sampled_from(("", *NAMES))),)
        if place and not set(known) & {*reads, *makes}:
            reads = (draw(st.sampled_from(known)), *reads[1:]) if known else reads
        ops.append(OpPattern(f"op{place}", kinds, reads, makes, draw(st.booleans())))
        known += [name for name in (*reads, *makes) if name]
    if len(ops) > 1 and not ops[0].named():
        ops = ops[:1]
    some = sorted({name for op in ops for name in op.named()})
    tensors = {
        name: TensorPattern(roles=frozenset({draw(st.sampled_from(["constant", "runtime"]))})) for name in some[:1]
    }
    where: tuple[Expression, ...] = ()
    conditioned = draw(st.booleans())
    if some and conditioned:
        where = (Expression(f"{some[0]}.is_output or {some[-1]}.readers > 1"),)
    return Pattern(tuple(ops), tensors, {}, where)


def everywhere(pattern: Pattern, scene: Scene) -> set[int]:
    """The accused ops, by trying every way to give ops and operands their names."""
    found = set()
    for chosen in permutations(scene.graph.ops, len(pattern.ops)):
        for bound in ways(pattern, chosen, scene):
            tensors = {name: scene.tensor(t) for name, t in bound.items()}
            names = {f"op{i}": scene.op(op) for i, op in enumerate(chosen)} | tensors
            fits = all(
                pattern.tensors[name].fits(tensor) for name, tensor in tensors.items() if name in pattern.tensors
            )
            if fits and all(condition.holds(names, FUNCTIONS) for condition in pattern.where):
                found.add(chosen[0].index)
    return found


def ways(pattern: Pattern, chosen: tuple[Op, ...], scene: Scene) -> Iterator[dict[str, int]]:
    orders = []
    for wanted, op in zip(pattern.ops, chosen, strict=True):
        if wanted.kinds and op.name not in wanted.kinds:
            return
        both = [op.inputs, op.inputs[::-1]] if wanted.either_order else [op.inputs]
        orders.append([(*order, *op.outputs) for order in both])
    for given_tensors in product(*orders):
        bound: dict[str, int] = {}
        for wanted, tensors in zip(pattern.ops, given_tensors, strict=True):
            names = (*wanted.reads, *wanted.makes)
            if len(names) != len(tensors):
                break
            if any(name and bound.setdefault(name, t) != t for name, t in zip(names, tensors, strict=True)):
                break
        else:
            yield bound


@given(graphs(), patterns())
def test_a_pattern_is_found_where_a_search_of_everything_finds_it(model: Model, pattern: Pattern) -> None:
    scene = Scene(model, model.graph())
    found = [match.op.index for match in pattern.matches(scene)]
    assert found == sorted(everywhere(pattern, scene))


@given(graphs(), patterns())
def test_names_of_tensors_are_nothing_to_a_pattern(model: Model, pattern: Pattern) -> None:
    before = [match.op.index for match in pattern.matches(Scene(model, model.graph()))]
    for place, tensor in enumerate(model.root.subgraphs[0].tensors):
        tensor.name = f"renamed {place}"
    after = [match.op.index for match in pattern.matches(Scene(model, model.graph()))]
    assert before == after


def test_an_absent_operand_is_none_to_a_name() -> None:
    graph = GraphBuilder()
    graph.output(graph.fully_connected(graph.input("x", (1, 4)), np.ones((2, 4), np.float32)), "y")
    model = graph.build()
    scene = Scene(model, model.graph())

    def found(*reads: str) -> bool:
        return any(Pattern((OpPattern("op", frozenset(), reads),)).matches(scene))

    assert found("x", "w", "-") and found("x", "w", "") and found("x", "...")
    assert not found("x", "w", "bias") and not found("x", "w") and not found("x", "-", "...")


def test_a_tensor_that_an_op_touches_may_be_its_result() -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (1, 4))), "y")
    model = graph.build()
    pattern = Pattern((OpPattern("op", frozenset(), touches="t"),), where=(Expression("t.is_output"),))
    (match,) = pattern.matches(Scene(model, model.graph()))
    assert match.tensors["t"].tensor.name == "relu_0"


def test_operands_are_exchanged_where_the_pattern_says_so_and_nowhere_else() -> None:
    graph = GraphBuilder()
    graph.output(graph.binary("SUB", graph.constant([1.0]), graph.input("x", (1, 4))), "y")
    model = graph.build()
    scene = Scene(model, model.graph())
    tensors = {"c": TensorPattern(roles=frozenset({"constant"}))}

    def found(*, either_order: bool) -> bool:
        op = OpPattern("op", frozenset({"SUB"}), ("x", "c"), either_order=either_order)
        return any(Pattern((op,), tensors).matches(scene))

    assert found(either_order=True) and not found(either_order=False)
