"""A phone blames the ops that the host blames; a module of its own, for one device has a phone at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_tests.corpus import REPORTED, Bug
from harness.api.on_device import OnDevice
from harness.devices.android.device import PhoneOptions
from tests.standin.phone import Phone

BROKEN = [bug for bug in REPORTED if "host" in bug.broken]


def each(bug: Bug) -> object:
    """The first two of them, and all in the slow tests: what the app answers with is the same bits for every model of
    the corpus (`test_android.py`), and what is made of these is the host's."""
    return pytest.param(bug, id=bug.name, marks=() if bug in BROKEN[:2] else pytest.mark.slow)


@pytest.mark.gpu
@pytest.mark.parametrize("bug", [each(bug) for bug in BROKEN])
def test_the_same_ops_are_blamed(phone: Phone, apk: Path, tmp_path: Path, bug: Bug) -> None:
    answer = OnDevice(phone.serial, tmp_path, 120, PhoneOptions(apk)).localize(bug.build())
    assert tuple((c.record.index, c.record.op, c.cause) for c in answer.culprits) == bug.culprits
