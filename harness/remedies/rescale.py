"""Pre-scaling: values that leave float16's range are carried along times a power of two until that can be undone.

The ops that break get operands times a power of two, so that their results lie in the middle of float16's range. The
factor travels on through ops that are homogeneous (f(s·x) = s^d·f(x)) and is taken out at the first result that
float16 can hold: for the variance of a LayerNorm that is the RSQRT, for a logarithm the logarithm itself. Powers of
two round nothing. The scale follows the values seen in one run: inputs that are larger by orders of magnitude need
another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph.model import Model, Op
from harness.graph.rebuild import CannotRewrite, Rebuild

# Largest finite values of a tensor that float16 holds without harm, and where scaled ones are put.
LEAST_PEAK, MOST_PEAK, AIM = 2.0**-9, 2.0**15, 10

_MOVES = ("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SQUEEZE", "EXPAND_DIMS", "PAD", "GATHER", "TILE")
_REDUCES = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESIZE_BILINEAR")
_LINEAR = frozenset((*_MOVES, *_REDUCES, "BROADCAST_TO", "ABS", "NEG", "RELU", "LEAKY_RELU", "DEPTH_TO_SPACE"))
_SAME = frozenset(("ADD", "SUB", "CONCATENATION", "MAXIMUM", "MINIMUM"))
_PRODUCTS = frozenset(("MUL", "BATCH_MATMUL", "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"))
_SQUARES = frozenset(("SQUARED_DIFFERENCE", "SQUARE"))
_ROOTS = {"SQRT": 0.5, "RSQRT": -0.5}


def rescale(model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
    """The model with the results of `ops` scaled. `peaks`: largest finite magnitude of each tensor in the exact run.

    Raises:
        CannotRewrite: an op is not homogeneous, or a result that float16 cannot hold is needed as it is.
    """
    return _scaled(_Scaling(Rebuild(model), ops, peaks))


def rescale_up_to_a_normalization(model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
    """The same with the factor carried along until it cancels, as it does where values are divided by their own size.
    Nothing multiplies it out again: a delegate that joins such a product with the op before would have the large values
    back.

    Raises:
        CannotRewrite: as `rescale`, and where it does not cancel everywhere.
    """
    scaling = _Scaling(Rebuild(model), ops, peaks, on=True)
    made = _scaled(scaling)
    if scaling.products:
        raise CannotRewrite("no normalization follows in which the factor would cancel")
    return made


def _scaled(scaling: _Scaling) -> Model:
    for op in scaling.rebuild.graph.ops:
        scaling.pass_on(op)
    for port in scaling.rebuild.graph.outputs:
        if scaling.exponent(port.tensor):
            scaling.undo(port.tensor)
    return scaling.rebuild.finish()


def holds(peak: float) -> bool:
    """Whether float16 holds values of that largest magnitude without harm."""
    return LEAST_PEAK <= peak <= MOST_PEAK


def smaller(peak: float) -> bool:
    """Whether results of that largest magnitude would be scaled down."""
    return peak > 0 and _exponent(peak) < 0


def _exponent(peak: float) -> int:
    """A multiple of 4, so that roots of it are whole."""
    return 4 * round((AIM - math.log2(peak)) / 4)


@dataclass
class _Scaling:
    """Tensor t of the model is held as t·2^exponents[t]. `on`: also where float16 would hold t itself again; `products`
    counts the run-time values that were multiplied to change their factor."""

    rebuild: Rebuild
    ops: frozenset[OpIndex]
    peaks: Mapping[TensorIndex, float]
    on: bool = False
    exponents: dict[TensorIndex, int] = field(default_factory=dict)
    products: int = 0

    def exponent(self, t: TensorIndex) -> int:
        return self.exponents.get(t, 0)

    def pass_on(self, op: Op) -> None:
        """Copy one op; where it is to be scaled, or reads scaled tensors, so that it stays right."""
        given = [self.exponent(t) for t in op.inputs if t >= 0]
        if op.index in self.ops:
            wanted = self._wanted(op.outputs[0])
            self._emit(op, self._operands_for(op, wanted), wanted)
        elif any(given):
            exponents, result = self._result(op)
            self._emit(op, exponents, result)
        else:
            self.rebuild.keep(op)

    def undo(self, t: TensorIndex) -> None:
        """From now on the tensor is held unscaled."""
        self.rebuild.replace(self.rebuild.now(t), self._at(t, 0))
        self.exponents.pop(t)

    def _emit(self, op: Op, exponents: list[int], result: int) -> None:
        """The op with its operands at these exponents; its result is then at `result`."""
        options = self.rebuild.options(op)
        fused = getattr(options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
        if fused not in (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU):
            raise CannotRewrite(f"{op.name} #{op.index} has a fused activation that no factor passes")
        if len(op.outputs) != 1:
            raise CannotRewrite(f"{op.name} #{op.index} has {len(op.outputs)} results")
        t = op.outputs[0]
        feeds = [self._at(i, e) if i >= 0 else i for i, e in zip(op.inputs, exponents, strict=True)]
        made = self.rebuild.like(op, feeds, shape=self.rebuild.shape(t))
        if op.name == "LOG":
            shift = math.log(2.0) * exponents[0]
            made = self.rebuild.binary("SUB", made, self.rebuild.constant(np.asarray([shift], np.float32)))
        self.rebuild.replace(t, made)
        self.exponents[t] = result
        if result and self._holds(t) and not self.on:
            self.undo(t)

    def _result(self, op: Op) -> tuple[list[int], int]:
        """(exponent of each operand, exponent of the result) for an op that reads scaled tensors."""
        e = [self.exponent(t) if t >= 0 else 0 for t in op.inputs]
        if op.name in _LINEAR:
            return [e[0], *[0] * (len(e) - 1)], e[0]
        if op.name in _SAME or op.name == "SQUARED_DIFFERENCE":
            common = min((x for x in e if x), key=abs) if all(x == 0 or self._bendable(x, e) for x in e) else e[0]
            return [common] * len(e), common * (2 if op.name in _SQUARES else 1)
        if op.name == "SQUARE":
            return e, 2 * e[0]
        if op.name in _PRODUCTS:
            return [e[0], e[1], *[e[0] + e[1]] * (len(e) - 2)], e[0] + e[1]
        if op.name == "DIV":
            return e, e[0] - e[1]
        if op.name in _ROOTS:
            even = 2 * (e[0] // 2)
            return [even], int(even * _ROOTS[op.name])
        if op.name == "LOG":
            return e, 0
        return [0] * len(e), 0

    @staticmethod
    def _bendable(x: int, e: list[int]) -> bool:
        return all(y in (0, x) for y in e)

    def _operands_for(self, op: Op, wanted: int) -> list[int]:
        """Exponents of the operands that put the result at `wanted`, a multiple of 4."""
        e = [self.exponent(t) if t >= 0 else 0 for t in op.inputs]
        if op.name in _LINEAR:
            return [wanted, *[0] * (len(e) - 1)]
        if op.name in _SAME:
            return [wanted] * len(e)
        if op.name in _SQUARES:
            return [wanted // 2] * len(e)
        if op.name in _PRODUCTS:
            if self.rebuild.values(op.inputs[1]) is not None:
                pair = [e[0], wanted - e[0]]
            elif self.rebuild.values(op.inputs[0]) is not None:
                pair = [wanted - e[1], e[1]]
            else:
                pair = [wanted // 2, wanted - wanted // 2]
            return [*pair, *[wanted] * (len(e) - 2)]
        if op.name == "DIV":
            return [wanted + e[1], e[1]]
        if op.name in _ROOTS:
            return [int(wanted / _ROOTS[op.name])]
        raise CannotRewrite(f"{op.name} lets no factor through")

    def _wanted(self, t: TensorIndex) -> int:
        peak = self.peaks.get(t, 0.0)
        if not peak:
            raise CannotRewrite("nothing is known of the size of its result")
        return _exponent(peak)

    def _holds(self, t: TensorIndex) -> bool:
        """Whether float16 holds the unscaled values."""
        return holds(self.peaks.get(t, 0.0))

    def _at(self, t: TensorIndex, exponent: int) -> TensorIndex:
        """What stands for a tensor, times 2^exponent."""
        have = self.exponent(t)
        if have == exponent:
            return self.rebuild.now(t)
        values = self.rebuild.values(t)
        if values is not None:
            if values.dtype != np.float32:
                raise CannotRewrite("a parameter is no float")
            return self.rebuild.constant(values * np.float32(2.0**exponent))
        if exponent == 0 and not self._holds(t):
            name = self.rebuild.graph.tensors[t].name
            raise CannotRewrite(f"'{name}' is needed unscaled, and float16 does not hold it")
        self.products += 1
        factor = self.rebuild.constant(np.asarray([2.0 ** (exponent - have)], np.float32))
        return self.rebuild.binary("MUL", self.rebuild.now(t), factor)
