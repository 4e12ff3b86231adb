"""The entries, out of `entries/`: one TOML file each, as `entry.schema.json` beside them has its form."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from harness.lint.knowledge.entry import Entry, Evidence, Place, Signs, braces
from harness.lint.knowledge.expression import Expression, ExpressionError
from harness.lint.knowledge.functions import FUNCTIONS
from harness.lint.knowledge.pattern import GRAPH, OpPattern, Pattern, TensorPattern

FOLDER = files("harness.lint.knowledge") / "entries"


class EntryError(ValueError):
    """A file that is no entry: which, and why."""


@cache
def entries() -> tuple[Entry, ...]:
    """Every entry, in the order of the files' names. Raises EntryError, which is a defect of ours."""
    found = []
    for file in sorted(FOLDER.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".toml"):
            found.append(entry(file.name.removesuffix(".toml"), tomllib.loads(file.read_text("utf-8"))))
    return tuple(sorted(found, key=lambda each: each.name))


def entry(name: str, table: Mapping[str, Any]) -> Entry:
    """One entry, out of its table. Raises EntryError."""
    try:
        made = _entry(name, table)
        _check(made)
    except (KeyError, TypeError, ValueError, re.error) as error:
        raise EntryError(f"{name}: {type(error).__name__}: {error}") from None
    return made


def _entry(name: str, table: Mapping[str, Any]) -> Entry:
    signs = table.get("known", {})
    return Entry(
        name=name,
        title=table["title"],
        effect=table["effect"],
        about=table["about"],
        sentence=table["sentence"],
        why=table["why"],
        helps=table["helps"],
        pattern=_pattern(table["pattern"]),
        places=tuple(_place(each) for each in table["where"]),
        evidence=tuple(_evidence(each) for each in table["evidence"]),
        signs=Signs(
            frozenset(signs.get("causes", ())),
            tuple(re.compile(each) for each in signs.get("signatures", ())),
            signs.get("none", False),
        ),
        remedy=table.get("remedy"),
        listed=table.get("listed", True),
        half_only=table.get("half_only", False),
        helps_of=table.get("helps_of", {}),
    )


def _place(table: Mapping[str, Any]) -> Place:
    held = dict(table)
    return Place(families=frozenset(held.pop("families", ())), **held)


def _evidence(table: Mapping[str, Any]) -> Evidence:
    held: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Evidence(**held)


def _pattern(table: Mapping[str, Any]) -> Pattern:
    return Pattern(
        ops=tuple(
            OpPattern(
                name=each.get("name", f"op{place}" if place else "op"),
                kinds=frozenset(each.get("kinds", ())),
                reads=tuple(each.get("reads", ("...",))),
                makes=tuple(each.get("makes", ("...",))),
                either_order=each.get("either_order", False),
                touches=each.get("touches", ""),
            )
            for place, each in enumerate(table["ops"])
        ),
        tensors={
            name: TensorPattern(
                *(frozenset(each[key]) if key in each else None for key in ("roles", "types", "ranks")),
            )
            for name, each in table.get("tensors", {}).items()
        },
        let={name: Expression(each) for name, each in table.get("let", {}).items()},
        where=tuple(Expression(each) for each in table.get("where", ())),
    )


def _check(made: Entry) -> None:
    """That all names are there: tensors, ops, shorthands, functions; and that further ops hang on those before them."""
    pattern = made.pattern
    known: set[str] = set()
    for place, op in enumerate(pattern.ops):
        if place and not known & op.named():
            raise EntryError(f"op '{op.name}' hangs on no op before it")
        known |= op.named()
    for name in pattern.tensors.keys() - known:
        raise EntryError(f"no op names tensor '{name}'")
    if made.about not in known:
        raise EntryError(f"it is about '{made.about}', which no op names")
    names = known | {op.name for op in pattern.ops} | {GRAPH}
    if len(names) != len(known) + len(pattern.ops) + 1:
        raise EntryError("two of its names are the same")
    expressions = [*pattern.where]
    for name, expression in pattern.let.items():
        _check_names(expression, names)
        names |= {name}
    for kind in made.helps_of.keys() - pattern.ops[0].kinds:
        raise EntryError(f"it says what helps for {kind}, which it does not accuse")
    for text in (made.sentence, made.helps, *made.helps_of.values()):
        expressions += braces(text)
    for expression in expressions:
        _check_names(expression, names)


def _check_names(expression: Expression, names: set[str]) -> None:
    unknown = (expression.names - names) | (expression.functions - FUNCTIONS.keys())
    if unknown:
        raise ExpressionError(f"'{expression.text}' reads {', '.join(sorted(unknown))}, which is not there")
