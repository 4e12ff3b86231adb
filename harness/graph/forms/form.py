"""A form: one op (or a few that belong together) written in one way, as a graph that can be built again and again.

A form of one op is data alone: its operands, of which some come at run time and some are held in the file, its
results, and the fields of its options table. Its label says all of that, and its id is made from the label: a form
that does not change keeps its id.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, TensorIndex
from harness.graph.build import GraphBuilder

Shape = tuple[int, ...]
Family = Literal["op", "pair", "pattern"]

SEED = 11
NAMES = "xyzwuvst"
"""What the inputs of a form are called, in order."""

_WORDS = {
    "padding": schema.Padding,
    "fusedActivationFunction": schema.ActivationFunctionType,
    "mode": schema.MirrorPadMode,
    "outputType": schema.TensorType,
    "outType": schema.TensorType,
    "inDataType": schema.TensorType,
    "outDataType": schema.TensorType,
}

# A label shows a constant's values up to as many, so that axes and widths can be read in it.
_SHOWN = 8


@dataclass(frozen=True)
class Grid:
    """The grid of a quantized tensor: one scale, or one for each place along an axis."""

    scales: tuple[float, ...]
    zero: int = 0
    axis: int = 0


class Operand:
    """What an op reads."""

    @property
    def words(self) -> str:
        """It in a label."""
        raise NotImplementedError


@dataclass(frozen=True)
class Given(Operand):
    """A tensor that comes at run time. `values` says how it is drawn (`DRAWN`)."""

    shape: Shape
    values: str = "normal"
    dtype: str = "float32"
    grid: Grid | None = None

    @property
    def words(self) -> str:
        """`[4,6,8]`, with its type and how it is drawn where they are not the usual ones."""
        more = "" if self.values in ("normal", "whole", "bytes", "flags") else f" {self.values}"
        return f"{_type(self.dtype)}{_brackets(self.shape)}{more}"


@dataclass(frozen=True, eq=False)
class Held(Operand):
    """A constant of the file."""

    array: Array
    grid: Grid | None = None
    how: str = ""

    @property
    def words(self) -> str:
        """`const[6,8]`, or the values of a short one of whole numbers."""
        if self.array.dtype.kind == "i" and self.array.size <= _SHOWN and not self.how:
            return f"{_type(str(self.array.dtype))}({','.join(map(str, self.array.reshape(-1).tolist()))})"
        grids = "" if self.grid is None or len(self.grid.scales) == 1 else " by channel"
        how = f" {self.how}" if self.how else ""
        return f"const {_type(str(self.array.dtype))}{_brackets(self.array.shape)}{how}{grids}"


Build = Callable[[GraphBuilder, Sequence[TensorIndex]], Sequence[TensorIndex]]


@dataclass(frozen=True)
class Result:
    """What an op gives."""

    shape: Shape
    dtype: str = "float32"
    grid: Grid | None = None


@dataclass(frozen=True, eq=False)
class Form:
    """One way to write an op. `build` is given the handles of `inputs` and returns its results; of a pair and a pattern
    all but the last are results on the way. `base` marks a form that stands for its op in the contexts."""

    op: str
    label: str
    inputs: tuple[Given, ...]
    build: Build
    family: Family = "op"
    base: bool = False

    @cached_property
    def id(self) -> str:
        """Short, and the same as long as the form says the same."""
        digest = hashlib.sha256(f"{self.op}\n{self.label}".encode()).hexdigest()
        return f"{self.op.split(',')[0].lower()}-{digest[:8]}"

    @property
    def ops(self) -> tuple[str, ...]:
        """The kinds of op that it is about."""
        return tuple(word.strip() for word in self.op.split(","))

    @property
    def dtype(self) -> str:
        """The type of what comes at run time: of the first input that is no table of places."""
        return next((i.dtype for i in self.inputs if i.dtype != "int32"), self.inputs[0].dtype)

    @property
    def far(self) -> bool:
        """Whether its values are far from one, so that what depends on values may be met."""
        return any(given.values in _FAR for given in self.inputs)

    @property
    def rank(self) -> int:
        """The highest rank of its inputs."""
        return max(len(i.shape) for i in self.inputs)


def single(
    op: str,
    operands: Sequence[Operand | None],
    results: Result | Shape | Sequence[Result],
    options: str = "",
    *,
    base: bool = False,
    version: int = 1,
    **fields: Any,
) -> Form:
    """A form of one op; None is an operand that is left out. `options` names the schema's options table, of which
    `fields` are set; a result that is a plain shape is float32."""
    made = _results(results)
    given = tuple(o for o in operands if isinstance(o, Given))

    def build(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
        left = iter(feeds)
        handles = [held(graph, o) if isinstance(o, Held) else -1 if o is None else next(left) for o in operands]
        told = table(options, **fields) if options else None
        if len(made) > 1:
            outs = graph.several(op, handles, [(r.shape, np.dtype(r.dtype)) for r in made], told)
        else:
            outs = [graph.op(op, handles, made[0].shape, told, dtype=np.dtype(made[0].dtype), version=version)]
        for handle, result in zip(outs, made, strict=True):
            if result.grid is not None:
                graph.with_scales(handle, result.grid.scales, result.grid.zero, result.grid.axis)
        return outs

    return Form(op, _label(operands, made, fields), given, build, base=base)


def held(graph: GraphBuilder, operand: Held) -> TensorIndex:
    """A constant in a graph."""
    handle = graph.constant(operand.array)
    if operand.grid is not None:
        graph.with_scales(handle, operand.grid.scales, operand.grid.zero, operand.grid.axis)
    return handle


def put_input(graph: GraphBuilder, name: str, given: Given) -> TensorIndex:
    """An input in a graph."""
    handle = graph.input(name, given.shape, np.dtype(given.dtype))
    if given.grid is not None:
        graph.with_scales(handle, given.grid.scales, given.grid.zero, given.grid.axis)
    return handle


def table(kind: str, **fields: Any) -> Any:
    """The schema's options table of that name, its fields set."""
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        assert hasattr(made, name), f"{kind}Options has no field {name}"
        setattr(made, name, _stored(name, value))
    return made


def ints(*values: int) -> Held:
    """A constant int32 vector."""
    return Held(np.asarray(values, np.int32))


def number(value: int) -> Held:
    """A constant int32 scalar."""
    return Held(np.asarray(value, np.int32))


def const(*shape: int, values: str = "normal", dtype: str = "float32") -> Held:
    """A constant whose values are drawn, others for another shape. One of a single element is what leaves no result the
    same everywhere."""
    how = "" if values in ("normal", "whole") else values
    if int(np.prod(shape)) == 1 and dtype == "float32" and values in _SINGLE:
        return Held(np.full(shape, _SINGLE[values], np.float32), how=how)
    return Held(draw(Given(shape, values, dtype), zlib.crc32(f"{shape} {values}".encode())), how=how)


_SINGLE = {"normal": 0.75, "nonzero": 0.75, "positive": 0.75, "halves": 0.5, "halves over 0": 1.5, "signs": 1.0}


def draw(given: Given, seed: int | np.random.Generator = SEED) -> Array:
    """Values for a tensor that comes at run time: finite, not all the same, reproducible from the seed."""
    rng = np.random.default_rng(seed)
    kind, _, told = given.values.partition(" ")
    if kind == "start":
        values: Any = [int(n) for n in told.split(",")]
    elif kind == "places":
        values = rng.permutation(np.arange(np.prod(given.shape, dtype=int)) % int(told.removeprefix("below ")))
    else:
        values = DRAWN[given.values](rng, given.shape)
    return np.asarray(values).astype(np.dtype(given.dtype)).reshape(given.shape)


def _signed(rng: np.random.Generator, shape: Shape) -> Array:
    return np.asarray(rng.uniform(0.5, 2.0, shape) * np.where(rng.random(shape) < 0.5, -1, 1))


def _wide(rng: np.random.Generator, shape: Shape) -> Array:
    """Up to 100 in magnitude, a zero among them where there is room."""
    values = np.asarray(np.clip(30 * rng.standard_normal(shape), -100, 100))
    if values.size > 1:
        values.reshape(-1)[0] = 0.0
    return values


DRAWN: dict[str, Callable[[np.random.Generator, Shape], Any]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.uniform(0.5, 2.5, shape),
    "negative": lambda rng, shape: -rng.uniform(0.5, 2.5, shape),
    "unit": lambda rng, shape: rng.uniform(-0.95, 0.95, shape),
    "nonzero": _signed,
    "near one": lambda rng, shape: rng.uniform(0.9, 1.1, shape) * np.where(rng.random(shape) < 0.5, -1, 1),
    "wide": _wide,
    "low": lambda rng, shape: -20000 + 500 * rng.standard_normal(shape),
    "hundreds": lambda rng, shape: 400 * rng.standard_normal(shape),
    "thousands": lambda rng, shape: 5000 * rng.standard_normal(shape),
    "halves": lambda rng, shape: rng.integers(-6, 7, shape) / 2,
    "halves over 0": lambda rng, shape: rng.integers(1, 7, shape) / 2,
    "signs": lambda rng, shape: rng.integers(-1, 2, shape),
    "whole": lambda rng, shape: rng.integers(-20, 21, shape),
    "whole over 0": lambda rng, shape: rng.integers(1, 9, shape),
    "flags": lambda rng, shape: rng.random(shape) < 0.5,
    "rare flags": lambda rng, shape: rng.random(shape) < 0.1,
    "many flags": lambda rng, shape: rng.random(shape) < 0.9,
    "bytes": lambda rng, shape: rng.integers(-128, 128, shape),
}
"""How values are drawn, by name. Beside these, `places below N` are whole numbers from 0 to N - 1 in no order, and
`start 1,2` is just that."""


def _stored(name: str, value: Any) -> Any:
    """An option as the schema holds it: its words are the schema's own."""
    if isinstance(value, str) and name in _WORDS:
        return getattr(_WORDS[name], value)
    return np.asarray(value, np.int32) if isinstance(value, tuple) else value


_FAR = ("low", "hundreds", "thousands")


def _results(results: Result | Shape | Sequence[Result]) -> tuple[Result, ...]:
    if isinstance(results, Result):
        return (results,)
    whole = [r for r in results if isinstance(r, int)]
    if len(whole) == len(results):
        return (Result(tuple(whole)),)
    return tuple(r for r in results if isinstance(r, Result))


def _label(operands: Sequence[Operand | None], results: Sequence[Result], fields: dict[str, Any]) -> str:
    parts = ["none" if o is None else o.words for o in operands]
    parts += [f"{name}={_value(value)}" for name, value in fields.items()]
    made = " ".join(f"{_type(r.dtype)}{_brackets(r.shape)}" for r in results)
    return f"{', '.join(parts)} -> {made}"


def _value(value: Any) -> str:
    return f"({','.join(map(str, value))})" if isinstance(value, tuple) else str(value)


def _type(dtype: str) -> str:
    return "" if dtype == "float32" else f"{dtype} "


def _brackets(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"
