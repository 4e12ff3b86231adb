"""A phone blames the ops that the host blames; a module of its own, for one device has a phone at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_tests.corpus import REPORTED, Bug
from harness.api.on_device import OnDevice
from harness.devices.android.device import PhoneOptions
from tests.standin.phone import Phone

BROKEN = [bug for bug in REPORTED if "host" in bug.broken]


@pytest.mark.gpu
@pytest.mark.parametrize("bug", BROKEN, ids=lambda bug: bug.name)
def test_the_same_ops_are_blamed(phone: Phone, apk: Path, tmp_path: Path, bug: Bug) -> None:
    answer = OnDevice(phone.serial, tmp_path, 120, PhoneOptions(apk)).localize(bug.build())
    assert tuple((c.record.index, c.record.op, c.cause) for c in answer.culprits) == bug.culprits
