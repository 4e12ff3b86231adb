"""Bugs known from phones, planted: in models with their patterns the op, the cause and what mends it are named, and
what comes just short of a pattern passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.api.on_device import OnDevice
from harness.devices.planted.catalogue import BUGS
from harness.localize.base.result import Localization
from tests.localize.patterns import PATTERNS, Pattern, Patterns

BROKEN = [pattern for pattern in PATTERNS if pattern.culprits]
RIGHT = [pattern for pattern in PATTERNS if not pattern.culprits]
ON_CPU = "on the CPU, between GPU parts"
SINGLE = "float32 throughout"


def asked(folder: Path, pattern: Pattern, device: str = "", *, explain: bool = False) -> Localization:
    phone = OnDevice(f"planted:{device or pattern.bug}", folder, 240)
    return phone.localize(pattern.model(), explain=explain, precision=pattern.precision)


def called(pattern: Pattern) -> str:
    return f"{pattern.bug}, {pattern.name}"


def test_every_bug_has_models_with_it_and_models_just_short_of_it() -> None:
    changing = {bug.name for bug in BUGS if bug.plant}
    assert {pattern.bug for pattern in BROKEN} == {pattern.bug for pattern in RIGHT} == changing


@pytest.mark.parametrize("pattern", RIGHT, ids=called)
def test_what_comes_just_short_of_a_pattern_passes_on_a_phone_with_every_bug(tmp_path: Path, pattern: Pattern) -> None:
    answer = asked(tmp_path, pattern, "mali")
    assert (answer.status, answer.device_compiles) == ("pass", 1)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", BROKEN, ids=called)
def test_without_the_bug_a_model_with_its_pattern_passes(tmp_path: Path, pattern: Pattern) -> None:
    others = "+".join(bug.name for bug in BUGS if bug.name != pattern.bug)
    answer = asked(tmp_path, pattern, others)
    # Sums and squares beyond 65504 are no device's fault: float16 does not hold them.
    if pattern.overflows:
        assert {culprit.cause for culprit in answer.culprits} == {"overflow"}
    else:
        assert answer.status == "pass"


@pytest.mark.slow
@pytest.mark.parametrize("pattern", BROKEN, ids=called)
def test_op_cause_and_remedies_are_named(tmp_path: Path, pattern: Pattern) -> None:
    answer = asked(tmp_path, pattern, explain=True)
    assert answer.status == "culprits"
    assert tuple(culprit.record.op for culprit in answer.culprits) == pattern.culprits
    assert tuple(culprit.cause for culprit in answer.culprits) == pattern.causes
    assert all(culprit.record.first == culprit.record.index for culprit in answer.culprits)
    # Behind NaN no op can be read: what is found there is not certified.
    assert answer.certified is not pattern.hidden
    assert answer.device_compiles <= 3 + len(answer.culprits)
    mending = {remedy.name for remedy in answer.culprits[0].remedies if remedy.ok}
    assert any(name.endswith(ON_CPU) for name in mending)
    written_anew = {name for name in mending if not name.endswith(ON_CPU) and name != SINGLE}
    assert bool(written_anew) is pattern.rewritten
    half_only = next(bug.half_only for bug in BUGS if bug.name == pattern.bug)
    assert (SINGLE in mending) is half_only
    assert answer.device["kind"] == "planted" and "no GPU" in answer.device["gpu"]


def test_a_reproducer_says_that_it_is_not_to_be_filed(tmp_path: Path) -> None:
    pattern = next(pattern for pattern in BROKEN if pattern.bug == "low-rank-constant")
    (culprit,) = asked(tmp_path, pattern, explain=True).culprits
    assert culprit.reproducer is not None
    assert "the fault was planted" in Path(culprit.reproducer, "ISSUE.md").read_text("utf-8")


@pytest.mark.parametrize("bug", ["low-rank-constant", "none"])
def test_beside_the_cpu_the_gpu_s_culprit_is_named(tmp_path: Path, bug: str) -> None:
    graph = Patterns()
    x = graph.binary("ADD", graph.input("x", (24, 16)), graph.constant(graph.drawn(24, 16)))
    places = graph.constant(np.arange(24, dtype=np.int32)[::-1].reshape(24, 1).copy())
    x = graph.op("GATHER_ND", [x, places], (24, 16), schema.GatherNdOptionsT())
    for _ in range(4):
        x = graph.unary("TANH", graph.dense(x, 16))
    graph.output(graph.binary("MUL", x, graph.constant(graph.drawn(24, 16))), "y")
    phone = OnDevice(f"planted:refusals+{bug}" if bug != "none" else "planted:refusals", tmp_path, 60)
    answer = phone.localize(graph.build(), fallback="cpu")
    # The ADD has the pattern too, and is the CPU's.
    expected = [("MUL", "kernel")] if bug != "none" else []
    assert [(culprit.record.op, culprit.cause) for culprit in answer.culprits] == expected


@pytest.mark.slow
def test_two_bugs_in_one_model_are_told_apart(tmp_path: Path) -> None:
    def build(g: Patterns) -> None:
        x = g.conv(g.enlarged(g.unary("RELU", g.conv(g.input("x", (1, 64, 64, 3)), 4)), 256, 256), 4)
        g.output(g.conv(g.binary("SUB", x, g.over("MEAN", x, (1, 2))), 2), "y")

    both = Pattern("mali", "both", build, ("RESIZE_NEAREST_NEIGHBOR", "MEAN"), ("kernel", "kernel"))
    answer = asked(tmp_path, both, "mali", explain=True)
    assert tuple(culprit.record.op for culprit in answer.culprits) == both.culprits
    assert tuple(culprit.cause for culprit in answer.culprits) == both.causes
    (best, *_) = (remedy for remedy in answer.culprits[0].remedies if remedy.ok)
    assert best.ok
