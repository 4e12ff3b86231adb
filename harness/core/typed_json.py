"""Facts read back from JSON by the types of their fields: a document from elsewhere makes none of other types."""

from __future__ import annotations

import types
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

# JSON has no NaN and no infinities; they are written as strings.
_STRINGS = ("nan", "inf", "-inf")

Facts = TypeVar("Facts")


def read_as(kind: type[Facts], document: Any) -> Facts:
    """A dataclass from the JSON object that holds its fields. Those with a default may be missing, those that a later
    release added are passed over.

    Its fields may be `str`, `bool`, `int` of 64 bits, `float`, `Literal`, `None`, dataclasses, unions of these, tuples
    of any length and mappings from a `Literal`, each of whose values must be there.

    Raises:
        ValueError: a field is missing, or is of another type; the sentence names it.
    """
    made: Facts = _facts(kind, document, kind.__name__)
    return made


def _facts(kind: type[Any], document: Any, where: str) -> Any:
    if not isinstance(document, dict):
        raise _wrong(where, document, "an object")
    found = {}
    for field in fields(kind):
        if field.name in document:
            found[field.name] = _value(
                _hints(cast(Hashable, kind))[field.name], document[field.name], f"{where}.{field.name}"
            )
        elif field.default is MISSING:
            raise ValueError(f"{where} has no {field.name}")
    return kind(**found)


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, among = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(among, value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in among:
            raise _wrong(where, value, f"one of {', '.join(map(str, among))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(where, value, "a list")
        return tuple(_value(among[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict) or not value.keys() >= set(get_args(among[0])):
            raise _wrong(where, value, f"an object with {', '.join(get_args(among[0]))}")
        return {name: _value(among[1], value[name], f"{where}.{name}") for name in get_args(among[0])}
    return _facts(kind, value, where) if isinstance(kind, type) and is_dataclass(kind) else _plain(kind, value, where)


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    refused: ValueError | None = None
    for kind in kinds:
        if kind is not types.NoneType:
            try:
                return _value(kind, value, where)
            except ValueError as error:
                refused = refused or error
    assert refused is not None, "a union of nothing"
    raise refused


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and (value in _STRINGS if isinstance(value, str) else type(value) in (int, float)):
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    if type(value) is not kind or (kind is int and abs(value) >> 63):
        names = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}
        raise _wrong(where, value, names[kind])
    return value


def _wrong(where: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f"{where} is {str(value)[:40]!r}, not {wanted}")
