"""The whole way from a command to its answer without an app, and beside the app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device_tests.corpus import REPORTED
from harness.api.on_device import OnDevice
from harness.core.errors import UsageError
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.android.no_app.device import ToolDevice
from harness.devices.registry import find_phone
from harness.graph.model import Model
from tests.standin.conftest import Works
from tests.standin.phone import Phone
from tests.standin.scenes import small_network


def test_the_app_and_the_tools_share_one_lock(phone: Phone, apk: Path, device: ToolDevice, works: Works) -> None:
    works()
    with AndroidDevice("app", find_phone(phone.serial), PhoneOptions(apk)) as app:
        assert isinstance(app, AndroidDevice)
        app.facts()
        locks: list[Any] = [app.launcher._lock, device.launcher._lock]
        assert locks[0].path == locks[1].path


class TestAsACommand:
    """The whole way from a command to its answer."""

    def test_compare_gives_the_figures_that_the_app_gives(
        self, phone: Phone, apk: Path, tools: Path, device: ToolDevice, tmp_path: Path
    ) -> None:
        device.stop()
        answers = [
            OnDevice(phone.serial, tmp_path / name, 120, options).compare(small_network())
            for name, options in (("app", PhoneOptions(apk)), ("tools", PhoneOptions(tools=tools)))
        ]
        app, without = answers
        assert without.outputs == app.outputs
        assert without.done.residency.full and app.done.residency.full

    @pytest.mark.gpu
    @pytest.mark.slow
    def test_localize_blames_the_same_op(self, phone: Phone, tools: Path, device: ToolDevice, tmp_path: Path) -> None:
        device.stop()
        bug = min((bug for bug in REPORTED if "host" in bug.broken), key=lambda bug: len(bug.build().to_bytes()))
        answer = OnDevice(phone.serial, tmp_path, 120, PhoneOptions(tools=tools)).localize(bug.build())
        assert tuple((c.record.index, c.record.op, c.cause) for c in answer.culprits) == bug.culprits

    def test_bench_says_that_the_tool_times_no_run(
        self, phone: Phone, tools: Path, tmp_path: Path, plus_one: Model
    ) -> None:
        with pytest.raises(UsageError, match=r"to each of several runs\. Measure it with the app: unset"):
            OnDevice(phone.serial, tmp_path, 120, PhoneOptions(tools=tools)).bench(plus_one)
