"""Typed access to a run.json, whose strings come from model files and whose shape may come from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.errors import UsageError

_NUMBERS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


@dataclass(frozen=True)
class Fields:
    """One JSON object. What is absent or null reads as None or empty; what is of another type is a UsageError."""

    values: Mapping[str, Any] = field(default_factory=dict)
    where: str = "run.json"

    def text(self, key: str) -> str:
        """A string; empty when absent."""
        value = self.values.get(key)
        return "" if value is None else str(self._checked(key, value, str))

    def number(self, key: str) -> float | None:
        """A number; `"nan"`, `"inf"` and `"-inf"` are numbers too."""
        value = self.values.get(key)
        return None if value is None else _number(value, f"{self.where}: {key}")

    def count(self, key: str) -> int | None:
        """A whole number."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >> 63:
            raise _wrong(f"{self.where}: {key}", value, "a whole number")
        return value

    def flag(self, key: str) -> bool | None:
        """True or false."""
        value = self.values.get(key)
        return None if value is None else bool(self._checked(key, value, bool))

    def child(self, key: str) -> Fields:
        """An object; one without members when absent."""
        value = self.values.get(key)
        return Fields({} if value is None else self._checked(key, value, dict), f"{self.where}: {key}")

    def children(self, key: str) -> list[Fields]:
        """The objects of a list."""
        where = f"{self.where}: {key}"
        entries = self.entries(key)
        for entry in entries:
            if not isinstance(entry, dict):
                raise _wrong(where, entry, "an object")
        return [Fields(entry, f"{where}[{i}]") for i, entry in enumerate(entries)]

    def numbers(self, key: str) -> tuple[float, ...]:
        """The numbers of a list."""
        return tuple(_number(entry, f"{self.where}: {key}") for entry in self.entries(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """The strings of a list."""
        entries = self.entries(key)
        for entry in entries:
            if not isinstance(entry, str):
                raise _wrong(f"{self.where}: {key}", entry, "a string")
        return tuple(entries)

    def entries(self, key: str) -> list[Any]:
        """The entries of a list, whatever they are."""
        value = self.values.get(key)
        return [] if value is None else list(self._checked(key, value, list))

    def _checked(self, key: str, value: Any, kind: type) -> Any:
        if not isinstance(value, kind):
            names = {str: "a string", bool: "true or false", dict: "an object", list: "a list"}
            raise _wrong(f"{self.where}: {key}", value, names[kind])
        return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, str) and value in _NUMBERS:
        return _NUMBERS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(where, value, "a number")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _wrong(where: str, value: Any, wanted: str) -> UsageError:
    return UsageError(f"{where} is {str(value)[:40]!r}, not {wanted}.", "Run the command again.")
