"""A phone whose log keeps 1,023 bytes of what the delegate refuses, as Android's does."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api.audit import audit_command
from harness.core.job import Options
from harness.devices.android.device import AndroidDevice
from harness.devices.host.device import HostDevice
from harness.localize.base.placement import find_placement
from tests.long_list import ON_CPU, long_list
from tests.standin.phone import Phone


@pytest.mark.gpu
def test_audit_lists_what_the_host_s_gpu_refuses_though_the_log_cuts_it_off(
    phone: Phone, apk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_APK", str(apk))
    path = tmp_path / "model.tflite"
    path.write_bytes(long_list().to_bytes())
    host, there = audit_command(path, None, "host", 120), audit_command(path, None, phone.serial, 120)
    assert (host.asked_alone, host.cut) == ((), "")
    assert sorted(there.unsupported) == sorted(host.unsupported)
    assert {"RESHAPE", "TANH"} <= {line.partition(":")[0] for line in there.asked_alone}
    assert len(there.asked_alone) < len(there.unsupported)
    assert there.cut.startswith("The phone's log cuts that list off after 1,023 bytes. Not in it, and refused when ")


@pytest.mark.gpu
def test_where_the_cpu_takes_the_rest_the_ops_are_known_as_on_the_host(pixel: AndroidDevice) -> None:
    shared = Options(fallback="cpu")
    found = find_placement(pixel, long_list(), shared, 120)
    with HostDevice() as host:
        there = find_placement(host, long_list(), shared, 120)
    assert there.on_cpu is not None and there.on_cpu >= ON_CPU
    assert found.on_cpu == there.on_cpu
    assert sorted(found.residency.refused) == sorted(there.residency.refused)
