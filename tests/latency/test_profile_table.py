"""The runtime's profiler on screen and on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from harness.core.typed_json import read_as
from harness.latency.profile_record import (
    Cost,
    Profile,
    ProfileRow,
    Spread,
    Unprofiled,
    profile_to_json,
)
from harness.latency.table import MOST_ROWS, profile_line, profile_table

SOME = Spread(40.0, 38.0, 61.4)
ROWS = (
    ProfileRow("delegate", "Fully Connected (NC, F32) GEMM", 0, 0, 1, SOME),
    ProfileRow("op", "REVERSE_V2", 4, None, 1, Spread(0.0, 0.0, 1.0)),
)
PROFILE = Profile(
    "CompiledModel with XNNPACK", 12, 11, 1, 48, ROWS, Spread(100.0, 90.0, 250.0), SOME, SOME, Cost(1.31, 1.305, 1.32)
)


@dataclass(frozen=True)
class Held:
    """Where a run keeps it."""

    profile: Profile | Unprofiled | None


def shown(found: Any) -> str:
    stream = StringIO()
    Console(file=stream, width=500).print(found)
    return stream.getvalue()


def test_the_line_says_what_the_profiler_costs_and_what_the_delegate_took() -> None:
    assert shown(profile_line(PROFILE)).strip() == (
        "the runtime's profiler, 48 inferences of CompiledModel with XNNPACK; one delegate node of 11 of the 12 ops, "
        "timed as 1 operator of its own, not mapped to ops; run 100 [90, 250] µs with it, "
        "40 [38, 61] without, in turns in one process: +31% [+30%, +32%]; outside of all rows 40 [38, 61] µs"
    )


def test_without_a_delegate_the_line_speaks_of_none() -> None:
    assert "delegate" not in profile_line(replace(PROFILE, nodes=0, delegated=0, rows=ROWS[1:]))


def test_a_node_that_is_timed_as_a_whole_is_not_split() -> None:
    whole = ProfileRow("node", "TfLiteXNNPackDelegate", 12, 0, 1, SOME)
    line = profile_line(replace(PROFILE, rows=(whole,)))
    assert "one delegate node of 11 of the 12 ops; run" in line
    assert "node 0 " in shown(profile_table(replace(PROFILE, rows=(whole,))))


def test_the_table_names_a_row_as_the_runtime_does() -> None:
    lines = shown(profile_table(PROFILE)).splitlines()
    assert lines[0].split() == ["profiled", "µs", "p50", "[p10,", "p90]", "share", "what"]
    assert lines[1].split()[:8] == ["node", "0,", "its", "0", "40", "[38,", "61]", "40%"]
    assert lines[2].split() == ["op", "4", "<1", "[<1,", "1]", "0%", "REVERSE_V2"]


def test_the_longest_come_first_and_the_others_are_counted() -> None:
    rows = tuple(ProfileRow("op", "ADD", i, None, 1, Spread(float(i), 0.0, 0.0)) for i in range(MOST_ROWS + 5))
    lines = shown(profile_table(replace(PROFILE, rows=rows))).splitlines()
    assert len(lines) == MOST_ROWS + 2
    assert lines[1].startswith(f"op {MOST_ROWS + 4} ")
    assert lines[-1].split() == ["5", "more", "in", "run.json"]


@pytest.mark.parametrize("profile", [None, Unprofiled("No [bold]profiler[/]."), PROFILE])
def test_it_comes_back_from_disk_as_it_was(profile: Profile | Unprofiled | None) -> None:
    document = {"profile": json.loads(json.dumps(profile_to_json(profile)))}
    assert read_as(Held, document) == Held(profile)


def test_a_reason_is_no_markup() -> None:
    assert shown(profile_line(Unprofiled("No [bold]profiler[/]."))).strip() == "No [bold]profiler[/]."


@pytest.mark.parametrize("spoil", [{"rows": 7}, {"cost": {}}, {"bare": None}, {"rows": [{"kind": "guess"}]}])
def test_what_is_no_profile_is_refused(spoil: dict[str, Any]) -> None:
    document = profile_to_json(PROFILE)
    assert document is not None
    with pytest.raises(ValueError, match=r"^Held\.profile\.(rows|cost|bare)"):
        read_as(Held, {"profile": document | spoil})
