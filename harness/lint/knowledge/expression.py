"""The conditions of a pattern: a small language of numbers, shapes and comparisons, in Python's notation.

    x.rank == 3 and widths.values[0] > 0
    len(broadcast(x.shape, c.shape)) <= 4

It has names, attributes, whole numbers, strings and tuples, `+ - * // %`, comparisons, `in`, `and`, `or`, `not`, `a
if b else c`, places and slices, and the functions that it is given; nothing else. What the file does not tell (an
open shape, a constant that cannot be read), a place that is not there and a division by zero are UNKNOWN, and so is
what depends on them: `and` is false where one side is false, `or` true where one side is true, whatever the other is.
A condition holds where it is true, and only there, so nothing is ever concluded from what is not known.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final


class Unknown:
    """What the file does not tell. It is neither true nor false."""

    def __bool__(self) -> bool:
        raise TypeError("what is not known is neither true nor false")

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()
Names = Mapping[str, Any]
Function = Callable[..., Any]
MOST_LETTERS = 500
# Products of sizes stay far below; without a bound a product of constants could take any memory.
LARGEST = 1 << 64

_ARITHMETIC: dict[type[ast.operator], Function] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Function] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}
# What an operand that does not fit raises.
_NOT_DEFINED = (TypeError, ValueError, IndexError, ZeroDivisionError, AttributeError, KeyError, OverflowError)


class Described:
    """What an expression may read attributes of: an op, a tensor, a graph."""


class ExpressionError(ValueError):
    """A text that is no expression of the language."""


class Expression:
    """One condition or value. `names` are those that it reads, functions left out.

    Raises:
        ExpressionError: the text is none of the language.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MOST_LETTERS:
            raise ExpressionError(f"an expression of {len(text)} letters is over {MOST_LETTERS}")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ExpressionError(f"'{text}' is no expression") from None
        self.text, self.names, self.functions = text, set[str](), set[str]()
        self._check(self._tree)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def value(self, names: Names, functions: Mapping[str, Function]) -> Any:
        """Its value, or UNKNOWN. A name that is not among `names` is UNKNOWN too."""
        return _value(self._tree, names, functions)

    def holds(self, names: Names, functions: Mapping[str, Function]) -> bool:
        """Whether it is known to be true."""
        return self.value(names, functions) is True

    def _check(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name):
                self.names.add(name)
            case ast.Constant(value=bool() | int() | float() | str()):
                pass
            case ast.Attribute(value=held, attr=attribute):
                if attribute.startswith("_"):
                    raise ExpressionError(f"'{self.text}' reads '{attribute}'")
                self._check(held)
            case ast.Subscript(value=held, slice=place):
                self._check(held)
                self._check(place)
            case ast.Slice(lower=lower, upper=upper, step=None):
                for bound in (lower, upper):
                    if bound is not None:
                        self._check(bound)
            case ast.Tuple(elts=parts) | ast.BoolOp(values=parts):
                for part in parts:
                    self._check(part)
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                self._check(operand)
            case ast.IfExp(test=test, body=body, orelse=other):
                for part in (test, body, other):
                    self._check(part)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                self._check(left)
                self._check(right)
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
                for part in (left, *others):
                    self._check(part)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                self.functions.add(name)
                for part in args:
                    self._check(part)
            case _:
                raise ExpressionError(f"'{self.text}' has {type(node).__name__}, which the language has not")


def _value(node: ast.AST, names: Names, functions: Mapping[str, Function]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names.get(name, UNKNOWN)
        case ast.BoolOp(op=op, values=parts):
            return _either(isinstance(op, ast.Or), [_value(part, names, functions) for part in parts])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            held = _value(operand, names, functions)
            return not held if isinstance(held, bool) else UNKNOWN
        case ast.UnaryOp(operand=operand):
            return _apply(operator.neg, [_value(operand, names, functions)])
        case ast.IfExp(test=test, body=body, orelse=other):
            holds = _value(test, names, functions)
            return _value(body if holds else other, names, functions) if isinstance(holds, bool) else UNKNOWN
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_value(part, names, functions) for part in (left, *others)]
            pairs = zip(ops, sides, sides[1:], strict=False)
            return _either(False, [_apply(_COMPARISONS[type(op)], [a, b]) for op, a, b in pairs])
        case ast.BinOp(left=left, op=op, right=right):
            return _bounded(_apply(_ARITHMETIC[type(op)], [_value(side, names, functions) for side in (left, right)]))
        case ast.Tuple(elts=parts):
            return _apply(lambda *held: held, [_value(part, names, functions) for part in parts])
        case ast.Slice(lower=lower, upper=upper):
            bounds = [None if bound is None else _value(bound, names, functions) for bound in (lower, upper)]
            return _apply(slice, bounds)
        case ast.Subscript(value=held, slice=place):
            return _apply(operator.getitem, [_value(held, names, functions), _value(place, names, functions)])
        case ast.Attribute(value=held, attr=attribute):
            one = _value(held, names, functions)
            return _apply(lambda: getattr(one, attribute), []) if isinstance(one, Described) else UNKNOWN
        case ast.Call(func=ast.Name(id=name), args=args):
            return _apply(functions[name], [_value(part, names, functions) for part in args])
    raise AssertionError(f"{type(node).__name__} passed the check")


def _apply(function: Function, operands: list[Any]) -> Any:
    if any(operand is UNKNOWN for operand in operands):
        return UNKNOWN
    try:
        found = function(*operands)
    except _NOT_DEFINED:
        return UNKNOWN
    return UNKNOWN if found is None else found


def _either(dominant: bool, sides: list[Any]) -> Any:
    """`or` with True, `and` with False as the value that one side is enough for."""
    if any(side is dominant for side in sides):
        return dominant
    return (not dominant) if all(isinstance(side, bool) for side in sides) else UNKNOWN


def _bounded(value: Any) -> Any:
    """No tuple or text grows by arithmetic, and no number without end."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if -LARGEST < value < LARGEST else UNKNOWN
    return UNKNOWN
