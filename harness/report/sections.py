"""The sections of a report in their order: the page's links and its content are both made from this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """One section: `anchor` is the id of its element, `title` its link, `template` the file that draws it, empty where
    the one before draws it too. `shown` takes what `harness.report.page.render` gives to the templates."""

    anchor: str
    title: str
    template: str
    shown: Callable[[Mapping[str, Any]], bool]


def _has_values(values: Mapping[str, Any]) -> bool:
    """Values that were kept; or ops or outputs of which there could be some, and the command that writes them."""
    views, run = values["views"], values["run"]
    return views is not None and bool(views.shown or (run.state == "done" and run.outputs))


SECTIONS = (
    Section("story", "Story", "story.html.j2", lambda v: v["scene"] is not None and bool(v["scene"].chapters)),
    Section("masks", "Masks", "scene.html.j2", lambda v: v["scene"] is not None),
    Section("outputs", "Outputs", "outputs.html.j2", lambda v: bool(v["run"].outputs)),
    Section("culprits", "Culprits", "culprits.html.j2", lambda v: bool(v["run"].culprits)),
    Section("releases", "Releases", "releases.html.j2", lambda v: bool(v["run"].releases)),
    Section("values", "Values", "views.html.j2", _has_values),
    Section("local-error", "Local error", "chart.html.j2", lambda v: bool(v["charts"])),
    Section("ops", "Ops", "ops.html.j2", lambda v: bool(v["ops"].rows)),
    Section("run", "Device and run", "facts.html.j2", lambda v: True),
    Section("reproduce", "Reproduce", "", lambda v: bool(v["reproduction"])),
    Section("log", "Log", "log.html.j2", lambda v: bool(v["log"].text)),
)

BENCH_SECTIONS = (
    Section("validity", "Does it count?", "bench_validity.html.j2", lambda v: v["bench"].valid is not None),
    Section("times", "Times", "bench_times.html.j2", lambda v: bool(v["course"] or v["spread"] or v["bench"].parts)),
    Section("accuracy", "Outputs", "bench_outputs.html.j2", lambda v: bool(v["bench"].outputs)),
    Section("processes", "Processes", "bench_more.html.j2", lambda v: v["bench"].valid is not None),
    Section("run", "Device and run", "bench_facts.html.j2", lambda v: True),
    Section("log", "Log", "log.html.j2", lambda v: bool(v["log"].text)),
)
"""Of a benchmark's page."""
