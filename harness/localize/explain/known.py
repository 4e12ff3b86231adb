"""Whether what a localization found is known: each culprit looked up in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.devices.planted.catalogue import PREFIX, bugs_of
from harness.lint.knowledge.lookup import Known, Seen, look_up
from harness.lint.knowledge.target import Target, target_of_device
from harness.localize.base.case import Case
from harness.localize.base.result import Culprit, Localization


def target_of_run(device: Mapping[str, str]) -> Target | None:
    """What the catalogue takes a device for, by what a run says of it; None for a device of another kind."""
    name = device.get("name", "")
    planted = frozenset(bug.name for bug in bugs_of(name)) if name.startswith(PREFIX) else frozenset[str]()
    return target_of_device(device, planted)


def known(case: Case, device: Mapping[str, str], culprit: Culprit) -> Known:
    """What the catalogue says of a culprit."""
    options = case.options
    target = target_of_run(device) if options.accelerator == "gpu" else None
    record = culprit.record
    seen = Seen(
        record.first,
        record.index,
        culprit.cause,
        culprit.signature,
        explained=bool(culprit.trials),
        half=options.half,
    )
    return look_up(case.model, seen, target)


def with_known(case: Case, answer: Localization) -> Localization:
    """The answer with all its culprits looked up."""
    culprits = (replace(each, known=known(case, answer.device, each)) for each in answer.culprits)
    return replace(answer, culprits=tuple(culprits))
