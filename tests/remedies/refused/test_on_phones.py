"""A planted phone refuses each graph in a delegate's words, and takes it, and is right, once it is written anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_tests.corpus.refused import REFUSED, Refused
from device_tests.mended import MENDED, Mended
from harness.api.on_device import OnDevice
from harness.core.job import Options, Rejected
from harness.devices.execute import make_job
from harness.devices.registry import open_device
from harness.graph.rebuild import CannotRewrite
from harness.lint.knowledge.target import target_of
from harness.lint.lint import lint
from harness.remedies import catalogue

PHONE = "planted:refusals+low-rank-constant"


@pytest.mark.parametrize("case", [case for case in MENDED if case.planted], ids=lambda case: case.name)
def test_a_refused_graph_is_taken_and_right_as_other_ops(tmp_path: Path, case: Mended) -> None:
    # The bare file: what a session opens has its constants computed already.
    with open_device(PHONE) as device:
        job = make_job(case.build(), {}, Options(), timeout=60, wanted=(), iterations=0)
        assert isinstance(device.run(job), Rejected)
    assert OnDevice(PHONE, tmp_path, 60).compare(case.written()).ok


@pytest.mark.parametrize("case", MENDED, ids=lambda case: case.name)
@pytest.mark.parametrize("target", ["host", "pixel8a", "adreno", "web"])
def test_what_is_written_anew_is_not_accused_of_anything_else(case: Mended, target: str) -> None:
    before, after = (lint(model, target_of(target)) for model in (case.build(), case.written()))
    # Its ports stay as they are, and one runtime does not gather at constant places.
    left = {"refused-web-port", "refused-gather-constant-indices"} if target == "web" else set[str]()
    assert {finding.rule for finding in after} <= left, [finding.sentence for finding in after]
    assert before or case.name == "a strided slice" or target in ("host", "web")


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.name)
def test_the_rewrite_that_an_entry_names_takes_its_finding_away(refused: Refused) -> None:
    target = target_of(refused.device)
    (found,) = (each for each in lint(refused.build(), target) if each.sure == "certain")
    if found.entry.remedy is None:
        return  # it says in words what helps
    rewrite = catalogue.BY_NAME[found.entry.remedy]
    try:
        model = rewrite.apply(refused.build(), frozenset({found.op}), {})
    except CannotRewrite as error:  # its ports are what is refused
        assert found.rule in ("refused-int64", "refused-rank"), error
        return
    assert not lint(model, target)
