"""Graphs just inside and just outside the entries on what the host's GPU refuses: those are refused, their neighbours
taken. The support matrix (docs/support) has more of them; these are what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from device_tests.corpus.ops import draw, ints, options
from device_tests.corpus.refusal import Input, put
from device_tests.form_builders import Form
from harness.core.arrays import Array
from harness.graph.build import GraphBuilder

Build = Callable[[GraphBuilder], int]
Shape = tuple[int, ...]


def _floats(*shape: int) -> Input:
    return shape, np.float32


def _numbers(*shape: int) -> Input:
    return shape, np.int32


def _single(kind: str, operands: Sequence[Input | Array], result: Shape, table: Any = None, **more: Any) -> Build:
    return lambda graph: put(graph, kind, operands, result, table, **{"dtype": np.float32, **more})


def _slopes(shape: Shape, *slopes: int) -> Build:
    return _single("PRELU", [_floats(*shape), draw(*slopes)], shape)


def _one_hot(shape: Shape, axis: int) -> Build:
    at = axis % (len(shape) + 1)
    values = [np.asarray(5, np.int32), np.asarray(2, np.float32), np.asarray(-1, np.float32)]
    table = options("OneHot", axis=axis)
    return _single("ONE_HOT", [_numbers(*shape), *values], (*shape[:at], 5, *shape[at:]), table)


def _chosen(shape: Shape, x: Input | Array, other: Input | Array) -> Build:
    return _single("SELECT_V2", [(shape, np.bool_), x, other], shape, options("SelectV2"))


def _gathered(places: Input | Array, result: Shape) -> Build:
    return _single("GATHER", [_floats(6, 8), places], result, options("Gather", axis=0))


def _updated(start: Input | Array) -> Build:
    feeds = [_floats(1, 4, 6, 8), _floats(1, 2, 3, 4), start]
    return _single("DYNAMIC_UPDATE_SLICE", feeds, (1, 4, 6, 8), options("DynamicUpdateSlice"))


REFUSED_FORMS: tuple[Form, ...] = (
    Form("refused-prelu-slopes", "one for each column", True, _slopes((3, 6, 8), 6, 1)),
    Form("refused-prelu-slopes", "places of an image, a batch of three", True, _slopes((3, 6, 8), 1, 6, 8)),
    Form("refused-prelu-slopes", "one for each row", True, _slopes((1, 4, 6, 8), 4, 1, 1)),
    Form("refused-prelu-slopes", "places of an image", False, _slopes((1, 6, 8), 1, 6, 8)),
    Form("refused-prelu-slopes", "channels", False, _slopes((3, 6, 8), 8)),
    Form("refused-prelu-slopes", "one channel", False, _slopes((8,), 1)),
    Form("refused-one-hot-axis", "the second", True, _one_hot((3, 4), 1)),
    Form("refused-one-hot-axis", "the last, counted from the left", True, _one_hot((4,), 1)),
    Form("refused-one-hot-axis", "the size of the last", False, _one_hot((1, 2), 2)),
    Form("refused-one-hot-axis", "the last", False, _one_hot((1, 2), -1)),
    Form("refused-select-values", "a row of constants", True, _chosen((6, 8), _floats(6, 8), draw(8))),
    Form("refused-select-values", "a column first", True, _chosen((6, 8), _floats(6, 1), _floats(6, 8))),
    Form("refused-select-values", "one value of rank 1", False, _chosen((6, 8), _floats(6, 8), draw(1))),
    Form("refused-gather-indices", "one place, told at run time", True, _gathered(_numbers(), (8,))),
    Form("refused-gather-indices", "a list of one", False, _gathered(ints(1), (1, 8))),
    Form("refused-update-slice-start", "at run time", False, _updated(_numbers(4))),
    Form("refused-add-n", "two", False, _single("ADD_N", [_floats(6, 8)] * 2, (6, 8), options("AddN"))),
)
