"""A journal that another version of the harness wrote, or somebody by hand: read as far as it is understood, the rest
asked again."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.localize.probe.journal import log
from tests.localize.frail import CHAIN, FAULTS, Frail, Killed, search
from tests.localize.planted import Half

# None stands for a field that is not there; the others are of a type or size that no version writes there.
OTHER: tuple[Any, ...] = (None, "x", -1, 1.5, True, [], [[]], {}, {"x": 1}, 1 << 70, [1, "x"])


def lines(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.partition(b" ")[2]) for line in raw.splitlines()]


def written(entries: list[dict[str, Any]]) -> bytes:
    bodies = [json.dumps(entry).encode() for entry in entries]
    return b"".join(b"%08x %s\n" % (zlib.crc32(body), body) for body in bodies)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a line, those in it included."""
    if way:
        yield way
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*way, name))


def changed(entry: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(entry)
    at = made
    for name in way[:-1]:
        at = at[name]
    if value is None:
        del at[way[-1]]
    else:
        at[way[-1]] = value
    return made


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Other:
    """A search that was cut short after its third probe."""
    root = tmp_path_factory.mktemp("other")
    answer, _ = search(root / "whole", Half(CHAIN, FAULTS))
    with pytest.raises(Killed):
        search(root / "cut", Frail(4))
    (run,) = (root / "cut").iterdir()
    return Other(run, answer)


class Other:
    """The run that was cut short, whose journal is changed again and again, and what its answer is to be."""

    def __init__(self, run: Path, whole: dict[str, Any]) -> None:
        self.run, self.whole = run, whole
        self.entries = lines((run / log.FOLDER / "log").read_bytes())
        kinds = {entry["entry"]: number for number, entry in enumerate(self.entries)}
        assert set(kinds) == {"run", "session", "start", "end"}
        self.places = [(number, way) for number in kinds.values() for way in places(self.entries[number])]
        self.files = {path: path.read_bytes() for path in (self.run / log.FOLDER).iterdir()}
        self.files[self.run / "run.json"] = (self.run / "run.json").read_bytes()

    def check(self, number: int, way: tuple[Any, ...], value: Any) -> None:
        """The right answer, or a sentence that says why the run is not continued, with that value in that place."""
        for path, content in self.files.items():
            path.write_bytes(content)
        entry = self.entries[number]
        where = f"{entry['entry']}: {'.'.join(way)} = {value!r}"
        (self.run / log.FOLDER / "log").write_bytes(
            written([*self.entries[:number], changed(entry, way, value), *self.entries[number + 1 :]])
        )
        try:
            answer, _ = search(self.run.parent, Half(CHAIN, FAULTS), self.run)
        except UsageError:
            # Another question, another version's, or another GPU.
            assert entry["entry"] == "run" or way in (("entry",), ("outcome", "adapter")), where
        else:
            assert answer["culprits"] == self.whole["culprits"], where


def test_a_field_that_is_missing_costs_a_probe_and_no_answer(other: Other) -> None:
    for number, way in other.places:
        other.check(number, way, None)


@pytest.mark.slow
def test_a_field_of_another_kind_costs_a_probe_and_no_answer(other: Other) -> None:
    for number, way in other.places:
        for value in OTHER[1:]:
            other.check(number, way, value)
