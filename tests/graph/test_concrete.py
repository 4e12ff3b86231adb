"""Which shapes a file leaves open, what is written there instead, and which results are sized by values."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.graph.concrete import (
    declared_shape,
    open_tensors,
    settled_by_shapes,
    startable,
    starting_shapes,
    still_open,
    stored_shape,
    with_shapes,
)
from harness.graph.model import Model
from tests.arrays import i32

OPERANDS = {
    "RESHAPE": "xs", "SLICE": "xss", "STRIDED_SLICE": "xsss", "PAD": "xs", "PADV2": "xsx", "MIRROR_PAD": "xs",
    "TILE": "xs", "BROADCAST_TO": "xs", "RESIZE_BILINEAR": "xs", "RESIZE_NEAREST_NEIGHBOR": "xs", "FILL": "sx",
    "RANGE": "sss", "TRANSPOSE": "xs", "EXPAND_DIMS": "xs", "SPLIT": "sx", "SPLIT_V": "xss", "TRANSPOSE_CONV": "sxxx",
    "CONV_3D_TRANSPOSE": "sxxx", "SUM": "xs", "MEAN": "xs", "REDUCE_MAX": "xs", "REDUCE_MIN": "xs", "REDUCE_PROD": "xs",
    "REDUCE_ANY": "xs", "REDUCE_ALL": "xs", "ARG_MAX": "xs", "ARG_MIN": "xs", "TOPK_V2": "xs", "ONE_HOT": "xsxx",
    "SPACE_TO_BATCH_ND": "xss", "BATCH_TO_SPACE_ND": "xss", "RFFT2D": "xs", "SPARSE_TO_DENSE": "xsxx",
    "SCATTER_ND": "xxs", "DYNAMIC_UPDATE_SLICE": "xxx", "CUMSUM": "xx", "GATHER": "xx", "GATHER_ND": "xx", "ADD": "xx",
    "RELU": "x", "CONV_2D": "xxx", "BATCH_MATMUL": "xx",
}  # fmt: skip
"""Operands in TFLite's order: the values of those marked `s` (a shape, a size, an axis, a number of results) say how
large the result is, of those marked `x` their shape alone."""


def of(kind: str, operands: str, computed: int = -1) -> tuple[Model, int, frozenset[int]]:
    """An op on constants that say its size, but for one that is computed, and inputs; its result; and the inputs."""
    graph = GraphBuilder()
    feeds = [
        graph.constant(i32([1])) if mark == "s" and i != computed else graph.input(f"i{i}", (1,), np.int32)
        for i, mark in enumerate(operands)
    ]
    made = graph.op(kind, feeds, (1,))
    graph.output(made, "y")
    model = graph.build()
    return model, made, frozenset(port.tensor for port in model.graph().inputs)


@pytest.mark.parametrize("kind", OPERANDS)
def test_a_result_is_settled_where_all_that_says_its_size_is_constant(kind: str) -> None:
    model, made, sized = of(kind, OPERANDS[kind])
    assert made in settled_by_shapes(model.graph(), sized)
    for place, mark in enumerate(OPERANDS[kind]):
        if mark == "s":
            model, made, sized = of(kind, OPERANDS[kind], place)
            assert made not in settled_by_shapes(model.graph(), sized), f"operand {place} says the size"


@pytest.mark.parametrize("kind", [kind for kind, operands in OPERANDS.items() if "x" in operands])
def test_nothing_is_settled_behind_an_input_without_a_size(kind: str) -> None:
    model, made, _ = of(kind, OPERANDS[kind])
    assert made not in settled_by_shapes(model.graph(), frozenset())


@pytest.mark.parametrize("kind", ["WHERE", "UNIQUE", "IF", "CUSTOM"])
def test_what_is_as_large_as_its_values_say_is_never_settled(kind: str) -> None:
    model, made, sized = of(kind, "x")
    assert made not in settled_by_shapes(model.graph(), sized)


@pytest.mark.parametrize(("kind", "settled"), [("SHAPE", True), ("RANK", True), ("ABS", False)])
def test_a_size_that_is_made_of_a_shape_is_one(kind: str, settled: bool) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1,), np.int32)
    size = graph.op("ADD", [graph.op(kind, [x], (1,)), graph.constant(i32([0]))], (1,))
    made = graph.op("FILL", [size, x], (1,))
    graph.output(made, "y")
    assert (made in settled_by_shapes(graph.build().graph(), frozenset({x}))) is settled


def test_what_is_made_of_constants_is_one_itself_unless_it_is_drawn() -> None:
    for kind, known in (("ADD", True), ("RANDOM_UNIFORM", False)):
        graph = GraphBuilder()
        x = graph.input("x", (1,))
        size = graph.op(kind, [graph.constant(i32([1])), graph.constant(i32([1]))], (1,), dtype=np.int32)
        made = graph.op("FILL", [size, x], (1,), dtype=np.float32)
        graph.output(made, "y")
        settled = settled_by_shapes(graph.build().graph(), frozenset({x}))
        assert size in settled  # its own size is that of its operands
        assert (made in settled) is known


def opened(shape: tuple[int, ...] | None, signature: tuple[int, ...] | None) -> Model:
    """A RELU of an input that is stored so, beside an input of fixed size; the result is as open."""
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (1, 4))), "y")
    graph.output(graph.unary("RELU", graph.input("fixed", (2, 4))), "z")
    model = graph.build()
    for tensor in model.root.subgraphs[0].tensors[:2]:
        tensor.shape = None if shape is None else np.asarray(shape, np.int32)
        tensor.shapeSignature = None if signature is None else np.asarray(signature, np.int32)
    return Model.from_bytes(Model(model.root).to_bytes())


def test_a_dimension_is_open_that_is_negative_in_either_of_the_file_s_shapes() -> None:
    model = opened((1, 4), (-1, 4))
    assert open_tensors(model) == (0, 1)
    assert (stored_shape(model, 0), declared_shape(model, 0)) == ((1, 4), [-1, 4])
    model = opened((-1, 4), None)
    assert open_tensors(model) == (0, 1)
    assert (stored_shape(model, 0), declared_shape(model, 0)) == (None, [-1, 4])
    assert open_tensors(opened((1, 4), None)) == ()


def test_a_result_of_which_the_file_says_nothing_is_open_and_a_scalar_is_not() -> None:
    model = opened((), None)
    for tensor in model.root.subgraphs[0].tensors[:2]:
        tensor.hasRank = False
    assert open_tensors(Model(model.root)) == (1,)
    assert open_tensors(opened((), None)) == ()


def test_only_what_is_used_and_is_no_constant_is_open() -> None:
    """A state, which no op makes, is used where an op reads it."""
    graph = GraphBuilder()
    x, state, unused = graph.input("x", (1, 4)), graph.tensor("s", (1, 4)), graph.tensor("u", (1, 4))
    held = graph.constant(np.ones((1, 4)))
    t = graph.binary("ADD", graph.binary("ADD", x, state), held)
    graph.output(t, "y")
    model = graph.build()
    for tensor in (state, unused, held):
        model.root.subgraphs[0].tensors[tensor].shapeSignature = i32([-1, 4])
    assert open_tensors(Model(model.root)) == (state,)


def test_a_scalar_may_be_asked_for_where_the_file_says_nothing() -> None:
    assert starting_shapes(opened(None, None), {"x": []}) == {"x": ()}


def test_an_open_input_starts_at_what_is_asked_for_else_at_what_is_stored() -> None:
    model = opened((1, 4), (-1, 4))
    assert starting_shapes(model, {}) == {"x": (1, 4)}
    assert starting_shapes(model, {"x": [3, 4]}) == {"x": (3, 4)}
    assert starting_shapes(model, {"fixed": [1, 4]}) == {"x": (1, 4), "fixed": (1, 4)}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"z": [1]}, "--shape names 'z', which is no input."),
        ({"x": [4]}, "--shape gives input 'x' [4], the file has [-1, 4]."),
        ({"x": [0, 4]}, "--shape gives input 'x' [0, 4]."),
        ({"x": [-1, 4]}, "--shape gives input 'x' [-1, 4]."),
    ],
)
def test_a_shape_that_an_input_cannot_have_is_refused(asked: dict[str, list[int]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        starting_shapes(opened((1, 4), (-1, 4)), asked)
    assert caught.value.message == message


def test_an_input_without_a_size_to_run_at_needs_one() -> None:
    with pytest.raises(UsageError) as caught:
        starting_shapes(opened((-1, 4), None), {})
    assert caught.value.message == "Input 'x' has shape [-1, 4] in the file, which stores no size to run at."
    assert caught.value.next_step == "Give one: --shape x=1,4."
    assert starting_shapes(opened((-1, 4), None), {"x": [1, 4]}) == {"x": (1, 4)}  # 1 is the least


def test_negative_sizes_become_1_and_stay_open() -> None:
    model = startable(opened((-1, 4), None))
    assert (stored_shape(model, 0), declared_shape(model, 0)) == ((1, 4), [-1, 4])
    assert open_tensors(model) == (0, 1)
    plain = opened((1, 4), (-1, 4))
    assert startable(plain) is plain


def test_shapes_that_are_written_in_are_open_no_more() -> None:
    model = opened((1, 4), (-1, 4))
    made = with_shapes(model, {0: (3, 4), 1: (3, 4)})
    assert open_tensors(made) == ()
    assert [tensor.shape for tensor in made.graph().tensors] == [(3, 4), (3, 4), (2, 4), (2, 4)]
    assert open_tensors(model) == (0, 1)  # the one given is as it was
    assert open_tensors(with_shapes(model, {0: (3, 4)})) == (1,)


def test_the_first_tensor_without_a_shape_is_the_first_in_the_graph_s_order() -> None:
    graph = opened((1, 4), None).graph()
    (x, y, fixed, z) = (tensor.index for tensor in graph.tensors)
    assert still_open(graph, {x: (1,), y: (1,)}, [x, y]) is None
    found = still_open(graph, {x: (1,), fixed: None}, [z, y, fixed])
    assert found is not None
    assert found.index == fixed
    found = still_open(graph, {fixed: (1,), x: ()}, [z, y, fixed, x])
    assert found is not None
    assert found.index == y


def test_what_comes_behind_an_unsettled_result_is_looked_at_all_the_same() -> None:
    graph = GraphBuilder()
    x, ends = graph.input("x", (4,), np.int32), graph.input("ends", (1,), np.int32)
    cut = graph.op("SLICE", [x, graph.constant(i32([0])), ends], (4,))
    other = graph.op("RELU", [x], (4,))
    graph.output(cut, "cut")
    graph.output(other, "other")
    model = graph.build()
    settled = settled_by_shapes(model.graph(), frozenset({x, ends}))
    assert cut not in settled and other in settled
